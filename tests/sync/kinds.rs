//! Every kind of entry with all its properties, over every route, and each property's change.

use crate::common::dump::{Dump, assert_same_dumps, data_ranges};
use crate::common::lab::{Lab, Route};
use crate::common::tree::{deeper_than_a_system_call, every_kind};
use crate::needs;

fn every_kind_arrives(route: Route) {
    let lab = Lab::new();
    every_kind(&lab.src);
    lab.sync_via(route, &["--numeric-ids"]).ok();
    lab.assert_synced();
}

#[test]
fn every_kind_arrives_locally() {
    every_kind_arrives(Route::Local);
}

#[test]
fn every_kind_arrives_when_pushed() {
    every_kind_arrives(Route::Push);
}

#[test]
fn every_kind_arrives_when_pulled() {
    every_kind_arrives(Route::Pull);
}

#[test]
fn every_kind_arrives_when_relayed() {
    every_kind_arrives(Route::Relay);
}

#[test]
fn every_kind_is_settled_after_one_run() {
    let lab = Lab::new();
    every_kind(&lab.src);
    lab.sync(&[]).ok();
    lab.assert_settled(&[]);
}

#[test]
fn a_path_longer_than_a_system_call_takes_arrives() {
    for route in Route::ALL {
        let lab = Lab::with_source("d .");
        deeper_than_a_system_call(&lab.src);
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
    }
}

#[test]
fn holes_are_where_they_were() {
    let lab = Lab::with_source(
        "f a hole(1M) random(64K) hole(2M) random(128K) hole(1M)\n f none hole(8M)",
    );
    for route in Route::ALL {
        lab.sync_via(route, &[]).ok();
        for name in ["a", "none"] {
            let [ours, theirs] = [&lab.src, &lab.dst].map(|root| data_ranges(&root.join(name)));
            assert_eq!(ours, theirs, "{name} by {route:?}");
        }
        std::fs::remove_dir_all(&lab.dst).unwrap();
    }
}

/// Syncs `before`, changes the source, and fails unless the change arrives without any content.
fn change_of_metadata_arrives(before: &str, change: &str) {
    let lab = Lab::with_source(before);
    lab.sync(&[]).ok();
    lab.source(change);
    let outcome = lab.sync(&["--json"]).ok();
    lab.assert_synced();
    assert_eq!(
        outcome.count("literal_bytes"),
        0,
        "after {change:?}: {outcome}"
    );
}

#[test]
fn changed_modes_arrive() {
    change_of_metadata_arrives("f a 'x' 0644 @5", "m a 04750 @5");
    change_of_metadata_arrives("d a 0755", "m a 01700");
    change_of_metadata_arrives("p a 0644", "m a 0600");
}

#[test]
fn changed_attributes_arrive() {
    let before = "f a 'x' @5 user.a=1\n d b user.b=1";
    change_of_metadata_arrives(before, "m a user.a=2 @5\n m b user.b=2");
    change_of_metadata_arrives(before, "m a user.new=\\x00\\xff @5");
}

#[test]
fn removed_attributes_are_removed() {
    let lab = Lab::with_source("f a 'x' @5 user.a=1 user.b=2");
    lab.sync(&[]).ok();
    rustix::fs::removexattr(lab.src.join("a"), "user.a").unwrap();
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn changed_acls_arrive() {
    let before = "f a 'x' @5 acl=u::rw,u:7:r,g::r,m::r,o::-\n d b";
    change_of_metadata_arrives(before, "m a acl=u::rw,u:8:rw,g::r,m::rw,o::- @5");
    change_of_metadata_arrives(before, "m b default=u::rwx,g::rx,g:9:r,m::rx,o::-");
}

#[test]
fn removed_acls_are_removed() {
    let lab = Lab::with_source("f a 'x' @5 acl=u::rw,u:7:r,g::r,m::r,o::-");
    lab.sync(&[]).ok();
    rustix::fs::removexattr(lab.src.join("a"), "system.posix_acl_access").unwrap();
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn a_default_acl_at_the_destination_does_not_leak_into_new_entries() {
    let lab = Lab::with_source("f a 'x' 0600\n d sub 0700\n f sub/b 'y' 0640");
    lab.destination("m . default=u::rwx,u:7:rwx,g::rwx,m::rwx,o::rwx");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn changed_links_arrive() {
    change_of_metadata_arrives("l a -> one @5", "r a\n l a -> two @5");
    change_of_metadata_arrives("l a -> one @5", "m a @6.000000001");
}

#[test]
fn directory_times_outlive_the_changes_in_them() {
    let lab = Lab::with_source("f a/b/c 'x'\n m a/b @5\n m a @6\n m . @7");
    lab.sync(&[]).ok();
    lab.assert_synced();
    lab.source("f a/b/new 'y'\n m a/b @5\n m a @6\n m . @7");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn names_that_were_one_file_become_two() {
    let lab = Lab::with_source("f a 'x' @5\n h b = a");
    lab.sync(&[]).ok();
    lab.source("r b\n f b 'x' @5");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn names_that_were_two_files_become_one() {
    let lab = Lab::with_source("f a 'x' @5\n f sub/b 'x' @5");
    lab.sync(&[]).ok();
    lab.source("r sub/b\n h sub/b = a\n m a @5");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn a_changed_file_stays_one_with_its_other_names() {
    for route in Route::ALL {
        let lab = Lab::with_source("f a 'old' @5\n h sub/b = a\n h c = a");
        lab.sync_via(route, &[]).ok();
        lab.source("f a 'new content' @6");
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
    }
}

#[test]
fn a_file_with_many_names_is_sent_once() {
    let names: String = (0..50).map(|n| format!("h sub/{n} = a\n")).collect();
    let lab = Lab::with_source(&format!("f a random(1M)\n{names}"));
    let outcome = lab.sync_via(Route::Push, &["--json"]).ok();
    lab.assert_synced();
    assert_eq!(outcome.count("literal_bytes"), 1 << 20, "{outcome}");
}

#[test]
fn a_device_with_another_number_replaces_the_old_one() {
    needs!(Devices);
    let lab = Lab::with_source("c a 1,3");
    lab.destination("c a 1,5");
    lab.sync(&[]).ok();
    lab.assert_synced();
}

#[test]
fn what_is_turned_off_is_neither_copied_nor_compared() {
    let lab = Lab::with_source("f a 'x' 0600 @5 user.a=1");
    lab.destination("f a 'x' 0600 @5 user.b=2\n m .");
    lab.sync(&["--no-xattrs"]).ok();
    lab.assert_settled(&["--no-xattrs"]);
    let dumps = [&lab.src, &lab.dst].map(|root| Dump::of(root).without("xattr user.a"));
    let [ours, theirs] = dumps.map(|dump| dump.without("xattr user.b"));
    assert_same_dumps(&ours, &theirs);
    let kept = rustix::fs::getxattr(lab.dst.join("a"), "user.b", &mut [0; 8]);
    assert_eq!(kept, Ok(1));
}

#[test]
fn many_small_files_arrive() {
    let text: String = (0..3000)
        .map(|n| format!("f {:02}/{n} 'content of {n}' @{n}\n", n % 37))
        .collect();
    for route in Route::ALL {
        let lab = Lab::with_source(&text);
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
    }
}

#[test]
fn a_huge_flat_directory_arrives_and_one_change_is_cheap() {
    let text: String = (0..5000).map(|n| format!("f name-{n} 'x' @5\n")).collect();
    let lab = Lab::with_source(&text);
    lab.sync_via(Route::Push, &[]).ok();
    lab.source("f name-2500 'changed' @6");
    let outcome = lab.sync_via(Route::Push, &["--json"]).ok();
    lab.assert_synced();
    let wire = outcome.count("wire_sent_bytes") + outcome.count("wire_received_bytes");
    assert!(
        wire < 100_000,
        "{wire} bytes for one of 5000 names:\n{outcome}"
    );
}

#[test]
fn a_huge_directory_is_settled_whichever_names_change_on_whichever_side() {
    let text: String = (0..1500).map(|n| format!("f name-{n} 'x' @5\n")).collect();
    for route in [Route::Push, Route::Local] {
        let lab = Lab::with_source(&text);
        lab.sync_via(route, &[]).ok();
        // Twice: from digests that were just made, and from stored ones.
        for round in 0..2 {
            lab.source(&format!(
                "f added-{round} 'x'\n f name-7 'changed {round}'\n d name-d{round}"
            ));
            std::fs::remove_file(lab.src.join(format!("name-{}", 20 + round))).unwrap();
            lab.destination(&format!("f name-9 'drifted {round}'\n f stray-{round} 'x'"));
            lab.sync_via(route, &["--delete"]).ok();
            lab.assert_synced();
            let outcome = lab.sync_via(route, &["--delete"]).ok();
            assert!(outcome.stdout.contains("nothing"), "{outcome}");
        }
    }
}
