//! Whose the entries become: by number, by name, mapped, or kept aside when not allowed.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use crate::common::dump::{Dump, assert_same, assert_same_dumps};
use crate::common::lab::{FAR, Lab, Route, text_of};
use crate::common::prerequisites::need;
use crate::common::run::{BINARY, Invocation, install};
use crate::common::tree::every_kind;
use crate::needs;

/// An unprivileged user that every Linux has.
const NOBODY: u32 = 65534;

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn owners_arrive_over_every_route() {
    needs!(Root);
    for route in Route::ALL {
        // Numbers without a name, and numbers that have one everywhere.
        let lab = Lab::with_source("f a 'x' 123456:654321\n d b 65534:0\n l c -> a 1:2");
        lab.sync_via(route, &[]).ok();
        lab.assert_synced();
    }
}

#[test]
fn a_changed_owner_arrives_without_content() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x' 04755 @5\n l b -> a @5");
    lab.sync(&[]).ok();
    lab.source("m a 7:8 04755 @5\n m b 9:9 @5");
    let outcome = lab.sync(&["--json"]).ok();
    lab.assert_synced();
    assert_eq!(outcome.count("literal_bytes"), 0);
}

#[test]
fn chown_sets_one_owner_for_all() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x' 1:2\n d b 3:4\n l c -> a 5:6");
    lab.sync(&["--chown", "77:88"]).ok();
    for name in ["a", "b", "c"] {
        assert_eq!(owner(&lab.dst.join(name)), (77, 88), "{name}");
    }
    lab.assert_settled(&["--chown", "77:88"]);
}

#[test]
fn an_owner_unknown_at_the_destination_is_named_and_no_option_is_blamed() {
    let lab = Lab::with_source("f a 'x'");
    for (options, expected) in [
        (["--chown", "no-such-user"], "no user 'no-such-user'"),
        (["--chown", ":no-such-group"], "no group 'no-such-group'"),
        (["--usermap", "*:no-such-user"], "no user 'no-such-user'"),
    ] {
        let outcome = lab.sync(&options).code(2);
        outcome.says(expected);
        assert!(!outcome.stderr.contains("map"), "{outcome}");
    }
}

#[test]
fn usermap_and_groupmap_rename_owners() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x' 1001:2001\n f b 'x' 1002:2002\n f c 'x' 5:5");
    let options = [
        "--usermap",
        "1001:3001,1000-1999:3999",
        "--groupmap",
        "2001:4001",
    ];
    lab.sync(&options).ok();
    assert_eq!(owner(&lab.dst.join("a")), (3001, 4001));
    assert_eq!(owner(&lab.dst.join("b")), (3999, 2002));
    assert_eq!(owner(&lab.dst.join("c")), (5, 5));
    lab.assert_settled(&options);
}

#[test]
fn chmod_shapes_modes() {
    let lab = Lab::with_source("f a 'x' 0644\n d b 0755\n f c 'x' 0750");
    let options = ["--chmod", "D700,F600"];
    lab.sync(&options).ok();
    for (name, mode) in [("a", 0o600), ("b", 0o700), ("c", 0o600)] {
        let meta = fs::symlink_metadata(lab.dst.join(name)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, mode, "{name}");
    }
    lab.assert_settled(&options);
}

#[test]
fn a_receiver_without_privilege_warns_once_about_owners() {
    needs!(Root);
    let text: String = (0..50).map(|n| format!("f {n} 'x' 123:456\n")).collect();
    let lab = Lab::with_source(&text);
    lab.destination("d . 65534:65534");
    let outcome = lab.sync(&[]).by_user(&lab, NOBODY).ok();
    let about_owners = |line: &&str| line.contains("owner");
    let lines: Vec<_> = outcome.stderr.lines().filter(about_owners).collect();
    assert_eq!(lines.len(), 1, "{outcome}");
    assert!(
        lines[0].contains("50") || lines[0].contains("51"),
        "a count: {lines:?}"
    );
    let [ours, theirs] = [&lab.src, &lab.dst].map(|root| Dump::of(root).without("owner"));
    assert_same_dumps(&ours, &theirs);
}

#[test]
fn a_receiver_without_privilege_is_settled_after_one_run() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x' 123:456\n d b 1:2");
    lab.destination("d . 65534:65534");
    lab.sync(&[]).by_user(&lab, NOBODY).ok();
    let outcome = lab.sync(&["--json"]).by_user(&lab, NOBODY).ok();
    assert_eq!(outcome.count("files_sent"), 0, "{outcome}");
    assert_eq!(outcome.count("literal_bytes"), 0, "{outcome}");
}

#[test]
fn the_owners_that_are_not_kept_are_counted_once_in_each_run() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x' 123:456\n f b 'x' 123:456\n m . 123:456");
    lab.destination("d . 65534:65534");
    for change in ["", "f a 'changed' 123:456", "f b 'changed too' 123:456"] {
        lab.source(&format!("{change}\n m . 123:456"));
        let outcome = lab.sync(&[]).by_user(&lab, NOBODY).ok();
        outcome.says("ownership").says("(3 entries)");
    }
}

/// All belongs to the one who receives, who has no privilege: modes bind it.
const READ_ONLY: &str = r"
    f none 'x' 0444 65534:65534 user.a=1 user.b=2
    f own 'x' 0400 65534:65534 user.a=1 acl=u::r,u:7:rw,g::r,m::rw,o::-
    d dir 0555 65534:65534 user.a=1
    f dir/child 'x' 0444 65534:65534 user.a=1
    m . 65534:65534
";

#[test]
fn read_only_entries_keep_their_attributes_without_privilege() {
    needs!(Root);
    let lab = Lab::with_source(READ_ONLY);
    lab.destination("d . 65534:65534");
    lab.sync(&[]).by_user(&lab, NOBODY).ok();
    assert_same(&lab.src, &lab.dst);
    lab.assert_settled(&[]);
}

#[test]
fn attributes_of_read_only_entries_follow_without_privilege() {
    needs!(Root);
    let options = ["--fsync=none"];
    let lab = Lab::with_source(READ_ONLY);
    lab.sync(&[]).ok();
    lab.source(
        "m none user.a=changed\n m own user.new=1\n m dir user.a=3\n m dir/child user.a=4 0640",
    );
    let path = lab.src.join("none");
    rustix::fs::removexattr(path, "user.b").unwrap();
    lab.sync(&options).by_user(&lab, NOBODY).ok();
    assert_same(&lab.src, &lab.dst);
    lab.assert_settled(&options);
}

#[test]
fn what_fake_super_stores_is_stored_with_a_read_only_entry() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x' 0444 65534:65534 @5 user.a=1\n m . 65534:65534");
    lab.destination("f a 'x' 0444 65534:65534 @5\n m . 65534:65534");
    lab.sync(&["--fake-super"]).by_user(&lab, NOBODY).ok();
    let mut value = [0; 8];
    assert_eq!(
        rustix::fs::getxattr(lab.dst.join("a"), "user.a", &mut value),
        Ok(1)
    );
}

/// `trusted.*` can only be seen by a privileged source, so the two ends are two users.
fn sync_to_nobody(lab: &Lab, verb: &str, options: &[&str]) -> Invocation {
    let agent = lab.path("agent");
    let script = lab.path("as-nobody");
    if !script.exists() {
        install(Path::new(BINARY), &agent);
        let draft = lab.path("as-nobody.draft");
        let home = lab.path("home-nobody");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        let text = format!(
            "#!/bin/sh\nshift\nexec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \
             env HOME={home} XDG_STATE_HOME={home} \"$@\"\n",
            home = home.display()
        );
        fs::write(&draft, text).unwrap();
        install(&draft, &script);
    }
    lab.cutover([verb])
        .args(options)
        .args([OsStr::new("-e"), script.as_os_str()])
        .args([OsStr::new("--agent-path"), agent.as_os_str()])
        .args(Route::Push.endpoints(FAR, &lab.src, &lab.dst))
}

#[test]
fn attributes_that_only_root_may_set_are_left_out_and_counted() {
    needs!(TrustedXattrs);
    need("setpriv");
    let lab = Lab::with_source(
        r"
        f a 'x' security.foo=1 user.u=1
        d b trusted.t=1
        f b/c 'x' user.u=2
        f b/capable 'x' security.capability=\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
    ",
    );
    lab.destination("d . 65534:65534");
    let unkept = "security and trusted namespaces are not kept";
    for round in 0..3 {
        let outcome = sync_to_nobody(&lab, "sync", &["--json"]).ok();
        if round > 0 {
            outcome.assert_sent_nothing();
        }
        let warnings = outcome.json_lines();
        let mut warnings = warnings.iter().filter(|line| {
            let message = line["message"].as_str();
            message.is_some_and(|message| message.contains(unkept))
        });
        let warning = warnings.next().unwrap_or_else(|| panic!("{outcome}"));
        assert_eq!(warning["entries"], 3, "{outcome}");
        assert!(warnings.next().is_none(), "{outcome}");
    }
    sync_to_nobody(&lab, "verify", &[]).ok();
    let mut value = [0; 8];
    let path = lab.dst.join("b/c");
    assert_eq!(rustix::fs::getxattr(path, "user.u", &mut value), Ok(1));
}

#[test]
fn fake_super_keeps_what_it_may_not_set() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x' 04755 123:456\n d b 7:8\n c null 1,3 0666 5:6");
    lab.destination("d . 65534:65534");
    lab.sync(&["--fake-super"]).by_user(&lab, NOBODY).ok();
    assert_eq!(owner(&lab.dst.join("a")), (NOBODY, NOBODY));
    let mut value = [0; 64];
    let size = rustix::fs::getxattr(lab.dst.join("a"), "user.rsync.%stat", &mut value).unwrap();
    // rsync's own form: mode, device, owner.
    assert_eq!(&value[..size], b"104755 0,0 123:456");
}

#[test]
fn what_fake_super_stores_is_compared_as_what_it_stands_for() {
    needs!(Root);
    let options = ["--fake-super", "--delete"];
    let lab =
        Lab::with_source("l link -> target @5\n p fifo 0640 1:2 @6\n c null 1,3\n f a 'x' 0:7");
    lab.sync(&options).ok();
    lab.assert_settled(&options);
    lab.source("r link\n l link -> elsewhere @7");
    lab.sync(&options).ok();
    assert_eq!(text_of(&lab.dst.join("link")), "elsewhere");
    lab.assert_settled(&options);
}

#[test]
fn what_fake_super_stored_is_restored_and_carried_on() {
    needs!(Root);
    let lab = Lab::new();
    every_kind(&lab.src);
    let (stored, carried) = (lab.path("stored"), lab.path("carried"));
    let sync = |options: &[&str], from: &Path, to: &Path| {
        lab.cutover(["sync"]).args(options).args([from, to]).ok()
    };
    sync(&["--fake-super"], &lab.src, &stored);
    let both = ["--from-fake-super", "--fake-super"];
    sync(&both, &stored, &carried);
    assert_same(&stored, &carried);
    sync(&[&both[..], &["--json"]].concat(), &stored, &carried).assert_sent_nothing();

    sync(&["--from-fake-super"], &carried, &lab.dst);
    lab.assert_synced();
    lab.cutover(["verify", "--from-fake-super"])
        .args([&stored, &lab.src])
        .ok();
}

#[test]
fn what_fake_super_stored_is_not_lost_in_silence() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x' 123:456\n d b 7:8\n f c 'x'");
    let stored = lab.path("stored");
    lab.cutover(["sync", "--fake-super"])
        .args([&lab.src, &stored])
        .ok();
    let carry_on = |options: &[&str]| {
        let outcome = lab
            .cutover(["sync"])
            .args(options)
            .args([&stored, &lab.dst])
            .ok();
        outcome.stderr
    };
    let told = carry_on(&["--fake-super"]);
    assert!(
        told.contains("not carried on") && told.contains("(2 entries)"),
        "{told}"
    );
    // A plain copy has the attributes.
    assert_eq!(carry_on(&[]), "");
    assert_eq!(carry_on(&["--fake-super", "--from-fake-super"]), "");
}
