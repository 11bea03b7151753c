//! States of a root that are kept and brought back.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use cutover::error::ErrorClass;
use cutover::protocol::errand::KeepMeans;
use cutover::session::Host;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::dump::{Dump, assert_same_dumps};
use crate::common::lab::Lab;
use crate::common::prerequisites::{LoopMount, Tmpfs};
use crate::common::tree::{Noise, deeper_than_a_system_call, every_kind, tree};
use crate::{far, far_by_user, needs, text};

const MEANS: [KeepMeans; 3] = [KeepMeans::Auto, KeepMeans::HardLink, KeepMeans::Copy];

/// What a sync and a service may do to a root.
fn change_everything(root: &Path) {
    tree(
        root,
        r"
        r plain
        f plain 'another content' 0600
        r links
        d links/new 0700
        r empty-dir
        f empty-dir 'a file now'
        r big
        f new/deep/er 'x'
        m read-only-dir 0700
        m . 0711 @7.5
        ",
    );
}

/// Fails unless the root is as it was once all that was kept of it is forgotten.
fn assert_back(host: &mut Host, root: &Path, before: &Dump, id: &str) {
    for id in [id.to_string(), format!("{id}-replaced")] {
        host.forget(text(root), &id).unwrap();
    }
    assert!(!root.join(".cutover-kept").exists());
    assert_same_dumps(before, &Dump::of(root));
}

fn every_kind_comes_back(lab: &Lab, root: &Path, means: KeepMeans) -> KeepMeans {
    let mut host = far(lab);
    every_kind(root);
    deeper_than_a_system_call(root);
    tree(root, "m . 0750 @1600000000.987654321");
    let before = Dump::of(root);
    let count = before.paths().len() as u64;
    let (used, entries) = host.keep(text(root), "before", means).unwrap();
    assert_eq!(entries, count);
    change_everything(root);
    let (entries, differing) = host.restore(text(root), "before").unwrap();
    assert_eq!((entries, differing), (count, vec![]));
    assert_back(&mut host, root, &before, "before");
    host.finish().unwrap();
    used
}

#[test]
fn every_kind_comes_back_on_disk() {
    for means in MEANS {
        let lab = Lab::new();
        every_kind_comes_back(&lab, &lab.dst, means);
    }
}

#[test]
fn every_kind_comes_back_in_memory() {
    needs!(Mount);
    for means in MEANS {
        let lab = Lab::new();
        let _tmpfs = Tmpfs::mount(&lab.dst, "size=64m");
        every_kind_comes_back(&lab, &lab.dst.join("root"), means);
    }
}

#[test]
fn reflinks_are_used_where_there_are_some() {
    needs!(Mount);
    for fs_type in ["xfs", "btrfs"] {
        let lab = Lab::new();
        let point = lab.path("mnt");
        let Some(_mount) = LoopMount::mount(fs_type, &lab.path("image"), &point) else {
            continue;
        };
        let root = point.join("root");
        let used = every_kind_comes_back(&lab, &root, KeepMeans::Auto);
        assert_eq!(used, KeepMeans::Reflink, "{fs_type}");
    }
}

#[test]
fn means_that_the_filesystem_lacks_are_refused() {
    needs!(Mount);
    let lab = Lab::new();
    let _tmpfs = Tmpfs::mount(&lab.dst, "size=1m");
    let mut host = far(&lab);
    let err = host
        .keep(text(&lab.dst), "a", KeepMeans::Reflink)
        .unwrap_err();
    assert_eq!(err.class(), ErrorClass::Refused);
    assert!(err.to_string().contains("hard links"), "{err}");
    let (used, _) = host.keep(text(&lab.dst), "a", KeepMeans::Auto).unwrap();
    assert_eq!(used, KeepMeans::HardLink);
    host.finish().unwrap();
}

#[test]
fn a_state_is_kept_once_and_restored_once() {
    let lab = Lab::new();
    lab.destination("f a 'old'");
    let mut host = far(&lab);
    let root = text(&lab.dst);
    for _ in 0..2 {
        assert_eq!(host.keep(root, "s", KeepMeans::HardLink).unwrap().1, 1);
        lab.destination("r a\n f a 'new'\n f b 'new'");
    }
    for _ in 0..2 {
        assert_eq!(host.restore(root, "s").unwrap(), (1, vec![]));
        assert_eq!(fs::read(lab.dst.join("a")).unwrap(), b"old");
        assert!(!lab.dst.join("b").exists());
    }
    assert_eq!(
        host.keep(root, "s", KeepMeans::HardLink)
            .unwrap_err()
            .class(),
        ErrorClass::Refused
    );
    // What was replaced is a state of its own.
    assert_eq!(host.restore(root, "s-replaced").unwrap(), (2, vec![]));
    assert_eq!(fs::read(lab.dst.join("b")).unwrap(), b"new");
    host.finish().unwrap();
}

#[test]
fn a_root_that_was_not_there_is_empty_again() {
    let lab = Lab::new();
    let mut host = far(&lab);
    let root = text(&lab.dst);
    assert_eq!(host.keep(root, "s", KeepMeans::Auto).unwrap().1, 0);
    assert!(!lab.dst.exists(), "keeping makes no root");
    assert_eq!(host.restore(root, "s").unwrap(), (0, vec![]));
    host.keep(root, "t", KeepMeans::Auto).unwrap();
    lab.destination("f a 'x'\n f d/b 'x'");
    assert_eq!(host.keep(root, "t", KeepMeans::Auto).unwrap().1, 0);
    for _ in 0..2 {
        assert_eq!(host.restore(root, "t").unwrap(), (0, vec![]));
        let names: Vec<_> = fs::read_dir(&lab.dst).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
    assert_eq!(host.restore(root, "t-replaced").unwrap(), (3, vec![]));
    assert!(lab.dst.join("d/b").exists());
    host.finish().unwrap();
}

#[test]
fn what_was_not_kept_cannot_be_restored() {
    let lab = Lab::new();
    lab.destination("f a 'x'");
    let mut host = far(&lab);
    let root = text(&lab.dst);
    host.keep(root, "s", KeepMeans::Auto).unwrap();
    for (root, id) in [(root, "other"), ("/no/such/root", "s")] {
        let err = host.restore(root, id).unwrap_err();
        assert_eq!(err.class(), ErrorClass::Refused, "{err}");
    }
    assert!(lab.dst.join("a").exists());
    for id in ["", "../x", "a/b", ".hidden", "a b", &"x".repeat(200)] {
        let err = host.keep(root, id, KeepMeans::Auto).unwrap_err();
        assert_eq!(err.class(), ErrorClass::Usage, "{id:?}: {err}");
    }
    host.finish().unwrap();
}

#[test]
fn metadata_that_changed_in_place_is_put_right_and_content_is_told() {
    let lab = Lab::new();
    lab.destination("f meta 'x' 0640 @5.5 user.a=1\n f d/content 'old' @6\n f same 'x' @7");
    let before = Dump::of(&lab.dst);
    let mut host = far(&lab);
    let root = text(&lab.dst);
    host.keep(root, "s", KeepMeans::HardLink).unwrap();
    lab.destination("m meta 0600 user.a=2 user.b=3\n m same @7");
    fs::write(lab.dst.join("d/content"), "changed").unwrap();
    let (entries, differing) = host.restore(root, "s").unwrap();
    assert_eq!((entries, differing), (3, vec!["d/content".to_string()]));
    assert_eq!(fs::read(lab.dst.join("d/content")).unwrap(), b"changed");
    let mtime = fs::metadata(lab.dst.join("d/content")).unwrap().mtime();
    assert_ne!(mtime, 6, "what changed must not look as if it had not");
    // Told again, though nothing is left to be done.
    assert_eq!(host.restore(root, "s").unwrap().1, ["d/content"]);
    fs::write(lab.dst.join("d/content"), "old").unwrap();
    lab.destination("m d/content @6");
    assert_back(&mut host, &lab.dst, &before, "s");
    host.finish().unwrap();
}

#[test]
fn what_is_mounted_stays_where_it_is() {
    needs!(Mount);
    let lab = Lab::new();
    lab.destination("f a 'old'\n d top\n f way/b 'old'\n d way/inner");
    let (top, inner) = (lab.dst.join("top"), lab.dst.join("way/inner"));
    let _top = Tmpfs::mount(&top, "size=64k");
    let _inner = Tmpfs::mount(&inner, "size=64k");
    for mounted in [&top, &inner] {
        fs::write(mounted.join("theirs"), "x").unwrap();
    }
    let mut host = far(&lab);
    let root = text(&lab.dst);
    let (_, entries) = host.keep(root, "s", KeepMeans::Auto).unwrap();
    assert_eq!(entries, 5, "nothing of what is mounted");
    lab.destination("r a\n f a 'new'\n r way/b\n f way/c 'new'\n m way 0711");
    host.restore(root, "s").unwrap();
    for mounted in [&top, &inner] {
        assert!(mounted.join("theirs").exists(), "{mounted:?}");
    }
    assert_eq!(fs::read(lab.dst.join("a")).unwrap(), b"old");
    assert_eq!(fs::read(lab.dst.join("way/b")).unwrap(), b"old");
    assert!(!lab.dst.join("way/c").exists());
    let mode = fs::metadata(lab.dst.join("way"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o755);
    host.finish().unwrap();
}

#[test]
fn another_users_shelf_is_not_trusted() {
    needs!(Root);
    let lab = Lab::new();
    lab.destination("f a 'x'\n d .cutover-kept 1234:1234");
    let mut host = far(&lab);
    let err = host.keep(text(&lab.dst), "s", KeepMeans::Auto).unwrap_err();
    assert_eq!(err.class(), ErrorClass::Refused, "{err}");
    host.finish().unwrap();
}

#[test]
fn a_plain_user_keeps_and_restores_what_is_theirs() {
    needs!(Root);
    for means in MEANS {
        let lab = Lab::new();
        lab.destination(
            r"
            f a 'old' 0600 1234:1234 @5 user.a=1
            f read-only 'old' 0400 1234:1234 @5
            d closed 0555 1234:1234 @6
            f closed/b 'old' 1234:1234 @7
            l link -> a 1234:1234
            m closed 0555 1234:1234 @6
            m . 0755 1234:1234 @8
            ",
        );
        let before = Dump::of(&lab.dst);
        let mut host = far_by_user(&lab, 1234);
        assert_eq!(host.facts().unwrap().uid, 1234);
        let root = text(&lab.dst);
        assert_eq!(host.keep(root, "s", means).unwrap().1, 5);
        lab.destination("r a\n r closed\n f a 'new' 1234:1234\n d closed 0500 1234:1234");
        host.restore(root, "s").unwrap();
        assert_back(&mut host, &lab.dst, &before, "s");
        host.finish().unwrap();
    }
}

#[test]
fn a_plain_user_is_told_what_cannot_be_kept() {
    needs!(Root);
    let lab = Lab::new();
    lab.destination("f a 'x' 1234:1234\n d theirs 99:99\n m . 0755 1234:1234");
    let mut host = far_by_user(&lab, 1234);
    let err = host.keep(text(&lab.dst), "s", KeepMeans::Auto).unwrap_err();
    assert_eq!(err.class(), ErrorClass::Refused, "{err}");
    assert!(err.to_string().contains("owner"), "{err}");
    let left = fs::read_dir(lab.dst.join(".cutover-kept")).unwrap();
    assert_eq!(left.count(), 0);
    host.finish().unwrap();
}

#[test]
fn entries_are_discarded_to_the_trash() {
    let lab = Lab::new();
    lab.destination("f db 'x'\n f db-wal 'stale'\n f d/e/f 'x'");
    let mut host = far(&lab);
    let root = text(&lab.dst);
    let names = ["db-wal", "d/e", "not-there"].map(str::to_string);
    for _ in 0..2 {
        host.discard(root, &names).unwrap();
    }
    let dump = Dump::of(&lab.dst);
    let paths = dump.paths();
    assert!(paths.contains(&"db") && !paths.contains(&"db-wal") && !paths.contains(&"d/e"));
    for kept in ["/db-wal", "/d/e/f"] {
        let is_kept = |path: &&str| path.starts_with(".cutover-trash/") && path.ends_with(kept);
        assert!(paths.iter().any(is_kept), "{kept}: {paths:?}");
    }
    for bad in ["", "../x", ".cutover-kept", ".cutover-trash/x"] {
        let err = host.discard(root, &[bad.to_string()]).unwrap_err();
        assert_eq!(err.class(), ErrorClass::Usage, "{bad}");
    }
    host.finish().unwrap();
}

/// Does `act` on a far host over and over until it gets to the end, while the agent is killed at
/// random moments.
fn until_it_survives<T>(
    lab: &Lab,
    noise: &mut Noise,
    act: impl Fn(&mut Host) -> Result<T, cutover::error::Error>,
) -> T {
    for attempt in 0_u64.. {
        let mut host = far(lab);
        let agent = *lab.far_pids().last().unwrap();
        let pause = Duration::from_micros(noise.number() % (2000 + 2000 * attempt));
        let outcome = thread::scope(|scope| {
            scope.spawn(move || {
                thread::sleep(pause);
                // It may be done already.
                let _ = kill_process(Pid::from_raw(agent as i32).unwrap(), Signal::KILL);
            });
            act(&mut host)
        });
        if let Ok(outcome) = outcome {
            return outcome;
        }
        lab.wait_for_agents_to_end();
    }
    unreachable!()
}

/// How often each way of keeping is put to the test; `make soak` asks for the long one.
fn rounds() -> usize {
    if std::env::var_os("CUTOVER_SOAK").is_some() {
        30
    } else {
        1
    }
}

#[test]
fn an_agent_that_is_killed_leaves_nothing_that_doing_it_again_does_not_finish() {
    let mut noise = Noise::seeded(b"kept");
    for (round, means) in MEANS.repeat(rounds()).into_iter().enumerate() {
        let lab = Lab::new();
        for n in 0..150 {
            let text = format!(
                "f d{}/f{n} 'old {n}' @{n}.5\n h d{}/h{n} = d{}/f{n}",
                n % 7,
                n % 5,
                n % 7
            );
            lab.destination(&text);
        }
        lab.destination("m . 0750 @9.5");
        let before = Dump::of(&lab.dst);
        // There already: who dies right after making it cannot put the root's time right again.
        lab.destination("d .cutover-kept 0700\n m . @9.5");
        let root = text(&lab.dst);
        until_it_survives(&lab, &mut noise, |host| host.keep(root, "s", means));
        for n in 0..150 {
            lab.destination(&format!("r d{}/f{n}\n f d{}/f{n} 'new'", n % 7, n % 7));
        }
        lab.destination("f new 'x'\n r d3");
        let after = {
            let mut host = far(&lab);
            let kept = host.restore(root, "s-replaced");
            assert!(kept.is_err(), "round {round}: nothing is restored yet");
            host.finish().unwrap();
            fs::read_dir(&lab.dst).unwrap().count()
        };
        assert!(after > 2);
        let restored = until_it_survives(&lab, &mut noise, |host| host.restore(root, "s"));
        assert_eq!(restored.1, Vec::<String>::new(), "round {round}");
        let mut host = far(&lab);
        assert_back(&mut host, &lab.dst, &before, "s");
        host.finish().unwrap();
    }
}
