//! Generations of a standby: made as a mirror makes them, through an agent behind a pipe, and asked
//! for and brought back with the command.

// As in the other black-box tests.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "common/mod.rs"]
#[allow(dead_code, reason = "not every part of the kit is needed here")]
mod common;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use cutover::error::Error;
use cutover::events::{Cancel, Silent};
use cutover::protocol::errand::{KeepMeans, Made};
use cutover::session::Host;
use cutover::transport::{RemoteOptions, RemotePath};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use common::dump::{Dump, assert_same_dumps};
use common::lab::{FAR, Lab};
use common::prerequisites::LoopMount;
use common::run::{BINARY, Invocation, install};
use common::tree::{Noise, every_kind, tree};

/// One a second, so that a test need not wait.
const RULE: &str = "10m:1s";

/// An agent on the far side, run with these words before it.
fn far(lab: &Lab, before: &str, binary: &Path) -> Host {
    let script = lab.far_options()[1].clone();
    let script = script.to_str().unwrap();
    let options = RemoteOptions {
        shell: Some(format!("{before}{script}")),
        agent_path: Some(binary.as_os_str().as_encoded_bytes().to_vec()),
        ..RemoteOptions::default()
    };
    let remote = RemotePath {
        user: None,
        host: FAR.to_string(),
        port: None,
        path: Vec::new(),
    };
    Host::reach(&remote, &options, &Silent, &Cancel::new()).unwrap()
}

fn try_make(host: &mut Host, root: &Path, rule: &str) -> Result<Option<Made>, Error> {
    host.make_generation(root.to_str().unwrap(), &rule.parse().unwrap())
}

/// Makes a generation of `root` as soon as one is due.
fn make(lab: &Lab, root: &Path) -> Made {
    let mut host = far(lab, "", Path::new(BINARY));
    make_by(&mut host, root)
}

fn make_by(host: &mut Host, root: &Path) -> Made {
    loop {
        if let Some(made) = try_make(host, root, RULE).unwrap() {
            return made;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// `cutover generations WORDS root MORE`.
fn ask(lab: &Lab, verb: &str, root: &Path, more: &[&str]) -> Invocation {
    lab.cutover(["generations", verb]).args([root]).args(more)
}

/// What is in a root but for names of ours, as it is.
fn dump(root: &Path) -> Dump {
    let aside = root.with_extension("aside");
    fs::create_dir(&aside).unwrap();
    let ours = [".cutover-kept", ".cutover-trash"];
    let before = fs::metadata(root).unwrap();
    let there: Vec<_> = ours
        .iter()
        .filter(|name| root.join(name).exists())
        .collect();
    for name in &there {
        fs::rename(root.join(name), aside.join(name)).unwrap();
    }
    let set_time = || {
        let times = fs::FileTimes::new().set_modified(before.modified().unwrap());
        fs::File::open(root).unwrap().set_times(times).unwrap();
    };
    set_time();
    let dump = Dump::of(root).without_links_to_outside();
    for name in &there {
        fs::rename(aside.join(name), root.join(name)).unwrap();
    }
    set_time();
    fs::remove_dir(&aside).unwrap();
    dump
}

/// Runs the same on a filesystem without and, where there are some, with reflinks.
fn on_each_filesystem(act: impl Fn(&Lab, &Path, &Path, KeepMeans)) {
    let lab = Lab::new();
    act(&lab, &lab.src, &lab.dst, KeepMeans::HardLink);
    needs!(Mount);
    for fs_type in ["xfs", "btrfs"] {
        let lab = Lab::new();
        let point = lab.path("mnt");
        if let Some(_mount) = LoopMount::mount(fs_type, &lab.path("image"), &point) {
            let (source, root) = (point.join("source"), point.join("root"));
            act(&lab, &source, &root, KeepMeans::Reflink);
        }
    }
}

fn sync(lab: &Lab, source: &Path, root: &Path) {
    lab.cutover(["sync", "--delete", "--max-delete", "1000"])
        .args([source, root])
        .ok();
}

#[test]
fn neither_a_deletion_nor_an_encryption_reaches_a_generation() {
    on_each_filesystem(|lab, source, root, means| {
        every_kind(source);
        for n in 0..20 {
            tree(
                source,
                &format!("f doc/{n} 'text {n}' 0640 @{n}.5 user.n={n}"),
            );
        }
        sync(lab, source, root);
        let before = dump(root);
        let made = make(lab, root);
        assert_eq!(made.generation.means, means);
        assert_eq!(made.generation.entries, before.paths().len() as u64);

        for n in 0..20 {
            fs::write(source.join(format!("doc/{n}")), vec![n ^ 0x5a; 7]).unwrap();
        }
        tree(
            source,
            "r plain\n r links\n r empty-dir\n f ransom 'pay'\n m doc 0711 @9",
        );
        sync(lab, source, root);
        let encrypted = dump(root);
        assert_ne!(before, encrypted);

        let restored = ask(lab, "restore", root, &[&made.generation.id]).ok();
        restored.says("What was there is kept as replaced-");
        assert_same_dumps(&before, &dump(root));
        let again = ask(lab, "diff", root, &[&made.generation.id]).ok();
        again.says("no difference");

        let replaced = replaced_of(lab, root);
        ask(lab, "restore", root, &[&replaced]).ok();
        assert_same_dumps(&encrypted, &dump(root));
        ask(lab, "restore", root, &[&made.generation.id]).ok();
        assert_same_dumps(&before, &dump(root));
    });
}

/// The only state that a restore replaced.
fn replaced_of(lab: &Lab, root: &Path) -> String {
    let listed = ask(lab, "list", root, &["--json"]).ok().json_lines();
    let replaced: Vec<_> = listed
        .iter()
        .filter(|line| line["event"] == "replaced")
        .collect();
    assert_eq!(replaced.len(), 1, "{listed:?}");
    replaced[0]["id"].as_str().unwrap().to_string()
}

#[test]
fn what_is_changed_in_place_comes_back_with_its_metadata_and_is_told_by_its_content() {
    let lab = Lab::new();
    lab.destination(
        "f meta 'x' 0640 @5.5 user.a=1\n f d/content 'old' @6\n f same 'x' @7\n d d 0750 @8",
    );
    let before = Dump::of(&lab.dst);
    let id = make(&lab, &lab.dst).generation.id;
    lab.destination("m meta 0600 user.a=2 user.b=3\n m d 0700 @8");
    ask(&lab, "restore", &lab.dst, &[&id]).ok();
    assert_same_dumps(&before, &dump(&lab.dst));
    fs::write(lab.dst.join("d/content"), "changed").unwrap();
    for more in [&[&id[..]][..], &[&id, "d/content"]] {
        let outcome = ask(&lab, "restore", &lab.dst, more).code(3);
        outcome.says("not as it was: d/content");
    }
}

#[test]
fn a_diff_tells_what_was_added_removed_and_changed() {
    let lab = Lab::new();
    lab.destination("f same 'x'\n f gone/a 'x'\n f text 'old' @5\n f mode 'x' 0644\n f kind 'x'");
    lab.destination("m . @100");
    let first = make(&lab, &lab.dst).generation.id;
    let same = ask(&lab, "diff", &lab.dst, &[&first]).ok();
    assert_eq!(same.stdout, "no difference\n");
    lab.destination(
        "r gone\n r text\n f text 'newer' @6\n m mode 0600\n r kind\n d kind\n f new/b 'x'\n m . @100",
    );
    let second = make(&lab, &lab.dst).generation.id;
    for more in [&[&first[..]][..], &[&first, &second]] {
        let outcome = ask(&lab, "diff", &lab.dst, more).code(1);
        let mut lines: Vec<_> = outcome.stdout.lines().collect();
        assert_eq!(
            lines.pop(),
            Some("3 added, 3 removed, 2 changed"),
            "{outcome}"
        );
        let expected = [
            "*extra      gone/",
            "*extra      kind",
            "cd+++++++++ kind/",
            ".f...p..... mode",
            "cd+++++++++ new/",
            ">f.st...... text",
            "*extra      gone/a",
            ">f+++++++++ new/b",
        ];
        assert_eq!(lines, expected, "{outcome}");
    }
    let backwards = ask(&lab, "diff", &lab.dst, &[&second, &first, "--json"]).code(1);
    let lines = backwards.json_lines();
    let last = lines.last().unwrap();
    assert_eq!((&last["added"], &last["told"]), (&3.into(), &8.into()));
    assert_eq!(lines[0]["action"], "create");
}

#[test]
fn a_diff_of_much_tells_a_part_and_counts_the_rest() {
    let lab = Lab::new();
    lab.destination("d d");
    let id = make(&lab, &lab.dst).generation.id;
    for n in 0..10_050 {
        fs::File::create(lab.dst.join(format!("d/{n}"))).unwrap();
    }
    lab.destination("m d @5\n m . @6");
    let outcome = ask(&lab, "diff", &lab.dst, &[&id]).code(1);
    outcome.says("10,050 added").says("more\n");
    assert!(outcome.stdout.lines().count() <= 10_002);
}

#[test]
fn single_entries_come_back_and_what_is_there_goes_to_the_trash() {
    on_each_filesystem(|lab, source, root, _| {
        every_kind(source);
        tree(
            source,
            "f d/e/one 'old' 0600 @5.25 user.a=1\n f d/e/two 'old'\n h d/e/three = d/e/two\n \
             f other 'old'\n m d/e 0750 @6\n m d 0711 @7",
        );
        sync(lab, source, root);
        let before = dump(root);
        let id = make(lab, root).generation.id;
        tree(
            root,
            "r d\n f d/e/one 'new'\n f d/e/mine 'x'\n r other\n f other 'new'\n m d/e 0700",
        );
        ask(lab, "restore", root, &[&id, "d/e"])
            .ok()
            .says("4 entries restored");
        assert_eq!(fs::read(root.join("other")).unwrap(), b"new");
        assert!(!root.join("d/e/mine").exists());
        tree(root, "m d 0711 @7");
        ask(lab, "restore", root, &[&id, "other", "./plain"]).ok();
        let meta = fs::metadata(source).unwrap();
        let (secs, nanos) = (meta.mtime(), meta.mtime_nsec());
        // The trash is made in the root.
        tree(root, &format!("m . @{secs}.{nanos:09}"));
        assert_same_dumps(&before, &dump(root));
        let trash: Vec<_> = walkdir::WalkDir::new(root.join(".cutover-trash"))
            .into_iter()
            .map(|entry| entry.unwrap().into_path())
            .collect();
        for (path, content) in [("d/e/mine", "x"), ("d/e/one", "new"), ("other", "new")] {
            let found = trash.iter().find(|at| at.ends_with(path)).unwrap();
            assert_eq!(fs::read_to_string(found).unwrap(), content);
        }
        // Whoever writes to what came back does not write to the generation.
        fs::write(root.join("other"), "in place").unwrap();
        tree(root, "r other");
        ask(lab, "restore", root, &[&id, "other"]).ok();
        assert_eq!(fs::read(root.join("other")).unwrap(), b"old");
    });
}

#[test]
fn a_directory_that_is_gone_comes_back_around_its_entry() {
    let lab = Lab::new();
    lab.destination("f a/b/c 'x' @4\n f a/b/d 'x'\n m a/b 0711 @5\n m a 0750 @6\n m . @9");
    let id = make(&lab, &lab.dst).generation.id;
    lab.destination("r a\n m . @9");
    ask(&lab, "restore", &lab.dst, &[&id, "a/b/c"]).ok();
    assert!(lab.dst.join("a/b/c").exists() && !lab.dst.join("a/b/d").exists());
    let mode = |path: &str| fs::metadata(lab.dst.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("a"), mode("a/b")), (0o750, 0o711));
    lab.destination("r a\n f a 'in the way'");
    let refused = ask(&lab, "restore", &lab.dst, &[&id, "a/b/c"]).code(5);
    refused.says("a is a file now").says("restore a");
    assert!(lab.dst.join("a").is_file());
    let unknown = ask(&lab, "restore", &lab.dst, &[&id, "a/b/c", "a/x"]).code(2);
    unknown.says("has no a/x");
}

#[test]
fn entries_are_copied_elsewhere_while_the_root_is_locked() {
    let lab = Lab::new();
    lab.destination("f a/b 'x' 0600 @5\n f c 'y'\n m a 0711 @6\n m . 0750 @7");
    let before = Dump::of(&lab.dst);
    let id = make(&lab, &lab.dst).generation.id;
    let lock = fs::File::open(&lab.dst).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let to = lab.path("to");
    let to_text = to.to_str().unwrap();
    ask(&lab, "restore", &lab.dst, &[&id, "--to", to_text]).ok();
    assert_same_dumps(&before, &Dump::of(&to));
    let part = lab.path("part");
    let part_text = part.to_str().unwrap();
    ask(&lab, "restore", &lab.dst, &[&id, "a/b", "--to", part_text]).ok();
    assert_eq!(Dump::of(&part).paths(), ["a", "a/b"]);
    for (more, why) in [
        (&[&id[..], "a/b", "--to", part_text][..], "has a/b already"),
        (&[&id, "--to", part_text], "is not empty"),
        (
            &[&id, "--to", lab.dst.join("x").to_str().unwrap()],
            "is in the root",
        ),
    ] {
        ask(&lab, "restore", &lab.dst, more).code(5).says(why);
    }
    assert!(
        !lab.dst.join("x").exists(),
        "nothing is made of what is refused"
    );
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_ne!(
        inode(to.join("c")),
        inode(lab.dst.join("c")),
        "a copy of its own"
    );
}

#[test]
fn a_root_that_is_being_mirrored_is_not_restored_to() {
    let lab = Lab::new();
    lab.destination("f a 'x'");
    let id = make(&lab, &lab.dst).generation.id;
    let lock = fs::File::open(&lab.dst).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    for more in [&[&id[..]][..], &[&id, "a"]] {
        let outcome = ask(&lab, "restore", &lab.dst, more).code(7);
        let me = format!("process {}", std::process::id());
        outcome.says(&me).says("must be stopped");
    }
    ask(&lab, "list", &lab.dst, &[]).ok().says(&id);
    ask(&lab, "diff", &lab.dst, &[&id]).ok();
}

#[test]
fn generations_of_another_host_are_asked_for_there() {
    let lab = Lab::new();
    lab.destination("f a 'old'");
    make(&lab, &lab.dst);
    let root = [OsString::from(FAR), lab.dst.clone().into()].join(":".as_ref());
    let far = |verb: &str, more: &[&str]| {
        let words = lab.cutover(["generations", verb]).args(lab.far_options());
        words.args([&root]).args(more)
    };
    let listed = far("list", &["--json"]).ok().json_lines();
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!(listed[0]["entries"], 1);
    lab.destination("r a\n f a 'new'");
    far("diff", &[id]).code(1).says("a");
    far("restore", &[id, "a"]).ok();
    assert_eq!(fs::read(lab.dst.join("a")).unwrap(), b"old");
    // What does not begin with a slash begins in the home.
    far("restore", &[id, "--to", "copy$HOME"]).ok();
    let home = lab.home(FAR)[0].1.clone();
    assert_eq!(fs::read(home.join("copy$HOME/a")).unwrap(), b"old");
}

#[test]
fn errors_say_what_there_is() {
    let lab = Lab::new();
    lab.destination("f a 'x'");
    ask(&lab, "list", &lab.dst, &[]).ok().says("no generations");
    ask(&lab, "diff", &lab.dst, &["gen-1"])
        .code(2)
        .says("it has none");
    let id = make(&lab, &lab.dst).generation.id;
    for verb in ["diff", "restore"] {
        let outcome = ask(&lab, verb, &lab.dst, &["gen-1"]).code(2);
        outcome
            .says("no generation gen-1")
            .says(&format!("it has {id}"));
    }
    ask(&lab, "list", &lab.src, &[]).code(3).says("src");
    ask(&lab, "restore", &lab.dst, &[&id, "../a"]).code(2);
}

#[test]
fn a_plain_user_cannot_write_to_a_generation_without_chmod_and_restores_it() {
    needs!(Root);
    let lab = Lab::new();
    lab.destination(
        r"
        f a 'old' 0600 1234:1234 @5 user.a=1
        f read-only 'old' 0400 1234:1234 @5
        d closed 0555 1234:1234 @6
        f closed/b 'old' 1234:1234 @7
        d open/er 0777 1234:1234 default=u::rwx,g::rwx,o::- acl=u::rwx,u:7:rwx,g::r,m::rwx,o::-
        l link -> a 1234:1234
        m open 1234:1234
        m closed 0555 1234:1234 @6
        m . 0755 1234:1234 @8
        ",
    );
    let before = Dump::of(&lab.dst);
    let binary = lab.path("cutover");
    install(Path::new(BINARY), &binary);
    for (_, dir) in lab.home(FAR) {
        std::os::unix::fs::chown(dir, Some(1234), Some(1234)).unwrap();
    }
    let by_user = "setpriv --reuid 1234 --regid 1234 --clear-groups ";
    let mut host = far(&lab, by_user, &binary);
    let id = make_by(&mut host, &lab.dst).generation.id;
    host.finish().unwrap();

    let kept = lab.dst.join(".cutover-kept").join(&id);
    let kept = kept.display();
    for act in [
        format!("touch {kept}/x"),
        format!("touch {kept}/tree/x"),
        format!("touch {kept}/tree/open/er/x"),
        format!("rm -f {kept}/tree/a"),
        format!("mv {kept}/tree/closed {kept}/tree/open"),
        format!("echo x > {kept}/index"),
        format!("rm -f {kept}/state"),
    ] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "1234", "--regid", "1234", "--clear-groups"]);
        let output = command.args(["sh", "-c", &act]).output().unwrap();
        assert!(!output.status.success(), "{act}");
    }

    tree(
        &lab.dst,
        "r a\n r closed\n r open\n f a 'new' 1234:1234\n m . 0755 1234:1234",
    );
    let more = [id.as_str()];
    ask(&lab, "restore", &lab.dst, &more)
        .by_user(&lab, 1234)
        .ok();
    assert_same_dumps(&before, &dump(&lab.dst));
    tree(&lab.dst, "r closed\n m . 1234:1234");
    let more = [id.as_str(), "closed", "a"];
    ask(&lab, "restore", &lab.dst, &more)
        .by_user(&lab, 1234)
        .ok();
    tree(&lab.dst, "m . @8");
    assert_same_dumps(&before, &dump(&lab.dst));
    // Nor can what is read-only keep its user from letting go of it.
    let mut host = far(&lab, by_user, &binary);
    thread::sleep(Duration::from_millis(2100));
    let made = try_make(&mut host, &lab.dst, "1s:1s").unwrap().unwrap();
    assert_eq!(made.pruned, [id]);
    host.finish().unwrap();
}

#[test]
fn what_did_not_change_is_one_file_in_all_generations_that_share_blocks() {
    needs!(Mount);
    for fs_type in ["xfs", "btrfs"] {
        let lab = Lab::new();
        let point = lab.path("mnt");
        let Some(_mount) = LoopMount::mount(fs_type, &lab.path("image"), &point) else {
            continue;
        };
        let root = point.join("root");
        every_kind(&root);
        tree(
            &root,
            "f same 'x' @5\n f d/same 'x'\n f text 'old' @5\n f mode 'x'\n f sly 'old' @5\n \
             f one 'x'\n h two = one\n h three = one\n f d-e/same 'x'\n m . @9",
        );
        // Times within the last two seconds are not trusted.
        thread::sleep(Duration::from_millis(2100));
        let before = Dump::of(&root);
        let first = make(&lab, &root).generation.id;
        tree(
            &root,
            "f text 'new' @6\n m mode 0600\n r three\n f three 'x'\n f a/new 'x'",
        );
        fs::write(root.join("sly"), "new").unwrap();
        tree(&root, "m sly @5\n m . @9");
        let after = dump(&root);
        let second = make(&lab, &root).generation.id;
        let inode = |id: &str, path: &str| {
            let tree = root.join(".cutover-kept").join(id).join("tree");
            fs::metadata(tree.join(path)).unwrap().ino()
        };
        for path in ["same", "d/same", "d-e/same", "plain"] {
            assert_eq!(inode(&first, path), inode(&second, path), "{path}");
        }
        for path in ["text", "mode", "sly", "one", "two", "three"] {
            assert_ne!(inode(&first, path), inode(&second, path), "{path}");
        }
        for (id, was) in [(&first, &before), (&second, &after), (&first, &before)] {
            ask(&lab, "restore", &root, &[id]).ok();
            assert_same_dumps(was, &dump(&root));
        }
        fs::write(
            root.join(".cutover-kept").join(&second).join("index"),
            "damaged",
        )
        .unwrap();
        let third = make(&lab, &root).generation;
        assert_eq!(third.entries, before.paths().len() as u64);
    }
}

#[test]
fn files_with_blocks_of_their_own_are_frozen_too() {
    needs!(Mount);
    let lab = Lab::new();
    let point = lab.path("mnt");
    let Some(_mount) = LoopMount::mount("xfs", &lab.path("image"), &point) else {
        return;
    };
    let root = point.join("root");
    tree(
        &root,
        "f a 'x' 0666\n f d/b 'x' 0755 acl=u::rwx,u:7:rwx,g::r,m::rwx,o::-",
    );
    let before = Dump::of(&root);
    let id = make(&lab, &root).generation.id;
    for file in ["a", "d/b"] {
        let kept = root.join(".cutover-kept").join(&id).join("tree").join(file);
        let mode = fs::metadata(kept).unwrap().permissions().mode();
        assert_eq!(mode & 0o222, 0, "{file}: {mode:o}");
    }
    fs::write(root.join("a"), "in place").unwrap();
    ask(&lab, "restore", &root, &[&id]).ok();
    let after = dump(&root);
    assert_same_dumps(&before, &after);
}

/// Does `act` on a far host over and over until it gets to the end, while the agent is killed at
/// random moments. Returns how often it was.
fn until_it_survives<T>(
    lab: &Lab,
    noise: &mut Noise,
    act: impl Fn(&mut Host) -> Result<T, Error>,
) -> u64 {
    for attempt in 0_u64.. {
        let mut host = far(lab, "", Path::new(BINARY));
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
        if outcome.is_ok() {
            return attempt;
        }
        lab.wait_for_agents_to_end();
    }
    unreachable!()
}

#[test]
fn a_restore_that_is_killed_goes_on_when_it_is_done_again() {
    let mut noise = Noise::seeded(b"restored");
    let lab = Lab::new();
    for n in 0..200 {
        let (d, e) = (n % 7, n % 5);
        lab.destination(&format!(
            "f d{d}/f{n} 'old' @{n}.5\n h d{d}/h{n} = d{d}/f{n}\n m d{d} @{e}"
        ));
    }
    lab.destination("m . @9");
    let before = Dump::of(&lab.dst);
    let id = make(&lab, &lab.dst).generation.id;
    for n in 0..200 {
        lab.destination(&format!("r d{}/f{n}\n f d{}/f{n} 'new'", n % 7, n % 7));
    }
    lab.destination("f new 'x'\n r d3");
    let root = lab.dst.to_str().unwrap();
    let killed = until_it_survives(&lab, &mut noise, |host| {
        let done = host.restore_generation(root, &id, &[], None)?;
        assert_eq!(done.differing, Vec::<String>::new());
        Ok(())
    });
    assert!(killed > 0, "none was killed");
    assert_same_dumps(&before, &dump(&lab.dst));
    let left = fs::read_dir(lab.dst.join(".cutover-kept")).unwrap();
    for name in left.map(|entry| entry.unwrap().file_name()) {
        let name = name.to_str().unwrap();
        assert!(name == id || name.starts_with("replaced-"), "{name}");
    }
}

#[test]
fn a_making_that_is_killed_leaves_nothing_that_is_listed() {
    let mut noise = Noise::seeded(b"generations");
    let lab = Lab::new();
    for n in 0..400 {
        lab.destination(&format!("f d{}/f{n} 'old {n}' @{n}.5", n % 7));
    }
    let before = Dump::of(&lab.dst);
    let killed = until_it_survives(&lab, &mut noise, |host| {
        let made = try_make(host, &lab.dst, "1h:10m");
        let listed = ask(&lab, "list", &lab.dst, &["--json"]).ok().json_lines();
        match made {
            // It was made before, but nobody heard of it.
            Ok(_) => assert_eq!(listed.len(), 1),
            Err(_) => assert!(listed.len() <= 1),
        }
        made
    });
    assert!(killed > 0, "none was killed halfway");
    let left = fs::read_dir(lab.dst.join(".cutover-kept")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 1, "what was left is swept: {left:?}");
    let id = left[0].to_str().unwrap();
    for n in 0..400 {
        lab.destination(&format!("r d{}/f{n}", n % 7));
    }
    ask(&lab, "restore", &lab.dst, &[id]).ok();
    let (before, after) = (before.without("mtime"), dump(&lab.dst).without("mtime"));
    assert_same_dumps(&before, &after);
}
