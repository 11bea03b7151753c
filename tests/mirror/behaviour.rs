//! What a mirror does, one behaviour each.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use cutover::mirror::{Ended, Mirror, MirrorRoot, SilentMirror};
use cutover::options::{Mirroring, SyncOptions};
use cutover::session::{Job, Mode};
use cutover::transport::Location;
use rustix::process::Signal;
use serde_json::Value;

use crate::common::dump::Dump;
use crate::common::lab::{Lab, Route};
use crate::common::prerequisites::{Tmpfs, need};
use crate::common::run::BINARY;
use crate::common::tree::tree;
use crate::needs;
use crate::standby::{OWN, QUICK, Standby};

const SMALL: &str = "f a 'text' @5\n d dir @6\n f dir/b random(9000) @7\n l c -> a @8\n h d = a";

/// How often each number of the rounds since the `from`th was counted.
fn sum(standby: &mut Standby, from: usize, number: &str) -> u64 {
    let rounds = standby.told("round");
    let counts = rounds[from..].iter().map(|round| round[number].as_u64());
    counts.map(Option::unwrap).sum()
}

fn rounds(standby: &mut Standby) -> usize {
    standby.told("round").len()
}

fn is_waiting(status: &Value) -> bool {
    status["state"] == "waiting"
}

fn reason(status: &Value) -> &str {
    status["reason"].as_str().unwrap_or_default()
}

#[test]
fn one_file_arrives_and_nothing_else_travels() {
    let mut standby = Standby::here(SMALL, &[]);
    let before = rounds(&mut standby);
    fs::write(standby.lab.src.join("dir/new"), "new").unwrap();
    standby.settle();
    standby.assert_same();
    assert_eq!(sum(&mut standby, before, "files_sent"), 1);
    assert_eq!(sum(&mut standby, before, "changed_bytes"), 3);
    let full = |round: &Value| round["full"] == true;
    assert!(!standby.told("round")[before..].iter().any(full));
    standby.stop();
}

#[test]
fn a_file_that_is_always_written_is_sent_at_its_pace_and_by_delta() {
    let lab = Lab::with_source("f log random(300K)");
    let mut standby = Standby::new(lab, Route::Push, &["--settle=400ms", "--max-delay=1s"]);
    standby.start();
    standby.settle();
    let before = rounds(&mut standby);
    let began = Instant::now();
    let log = standby.lab.src.join("log");
    let mut file = fs::OpenOptions::new().append(true).open(log).unwrap();
    while began.elapsed() < Duration::from_secs(4) {
        std::io::Write::write_all(&mut file, b"another line\n").unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    let arrived = fs::metadata(standby.lab.dst.join("log")).unwrap().len();
    let is_far = file.metadata().unwrap().len() - arrived;
    // 100 ms a line: what two delays, and a round, leave behind.
    assert!(is_far < 13 * 30, "{is_far} bytes are missing");
    let count = rounds(&mut standby) - before;
    assert!((2..=8).contains(&count), "{count} rounds in 4 s");
    standby.settle();
    standby.assert_same();
    let sent = sum(&mut standby, before, "literal_bytes");
    assert!(
        sent < 100 << 10,
        "{sent} bytes for a few lines: {}",
        standby.log()
    );
    standby.stop();
}

#[test]
fn a_burst_of_ten_thousand_files_arrives() {
    let mut standby = Standby::here("d a", &["--max-delete=100%"]);
    let src = standby.lab.src.clone();
    for n in 0..10_000 {
        let dir = src.join(format!("a/{}", n % 100));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(n.to_string()), n.to_string()).unwrap();
    }
    standby.settle();
    standby.assert_same();
    fs::remove_dir_all(src.join("a")).unwrap();
    fs::write(src.join("b"), "b").unwrap();
    standby.settle();
    standby.assert_same();
    standby.stop();
}

#[test]
fn a_large_file_that_does_not_hold_still_is_not_sent_whole() {
    let lab = Lab::with_source("f log random(8M)");
    let mut standby = Standby::new(lab, Route::Push, &["--settle=200ms", "--max-delay=400ms"]);
    standby.start();
    standby.settle();
    let before = rounds(&mut standby);
    let began = Instant::now();
    let log = standby.lab.src.join("log");
    let mut file = fs::OpenOptions::new().append(true).open(log).unwrap();
    while began.elapsed() < Duration::from_secs(3) {
        std::io::Write::write_all(&mut file, b"another line\n").unwrap();
        thread::sleep(Duration::from_millis(5));
    }
    standby.settle();
    standby.assert_same();
    let sent = sum(&mut standby, before, "wire_sent_bytes");
    assert!(sent < 8 << 20, "{sent} bytes: {}", standby.log());
    standby.stop();
}

#[test]
fn a_renamed_directory_is_moved_there_and_not_sent() {
    let mut standby = Standby::here(
        "d a\n f a/x random(20K)\n f a/deep/y random(30K)\n d b",
        &[],
    );
    let before = rounds(&mut standby);
    let inode = fs::metadata(standby.lab.dst.join("a/deep/y"))
        .unwrap()
        .ino();
    fs::rename(standby.lab.src.join("a"), standby.lab.src.join("b/z")).unwrap();
    standby.settle();
    standby.assert_same();
    assert_eq!(sum(&mut standby, before, "files_sent"), 0);
    assert_eq!(sum(&mut standby, before, "changed_bytes"), 0);
    assert_eq!(sum(&mut standby, before, "moved"), 1);
    let moved = fs::metadata(standby.lab.dst.join("b/z/deep/y")).unwrap();
    assert_eq!(moved.ino(), inode);
    standby.stop();
}

#[test]
fn it_connects_again_and_tells_so() {
    let mut standby = Standby::new(Lab::with_source(SMALL), Route::Push, &[]);
    standby.start();
    standby.settle();
    let sshd = standby.sshd.as_mut().unwrap();
    sshd.stop();
    fs::write(standby.lab.src.join("meanwhile"), "x").unwrap();
    let status = standby.wait_for("it waits with a lag", |status| {
        is_waiting(status) && !status["oldest_change_ms"].is_null()
    });
    assert!(!reason(&status).is_empty(), "{status}");
    standby.sshd.as_mut().unwrap().start_again();
    let status = standby.settle();
    assert_eq!(status["totals"]["reconnects"], 1);
    standby.assert_same();
    assert_eq!(standby.told("connected").len(), 1);
    assert!(!standby.told("waiting").is_empty());
    standby.stop();
}

#[test]
fn a_source_that_is_gone_leaves_the_standby_as_it_is() {
    let mut standby = Standby::here(SMALL, &[]);
    let kept = Dump::of(&standby.lab.dst);
    let aside = standby.lab.path("aside");
    fs::rename(&standby.lab.src, &aside).unwrap();
    let status = standby.wait_for("it waits", is_waiting);
    assert!(reason(&status).contains("src"), "{status}");
    assert_eq!(Dump::of(&standby.lab.dst), kept);
    fs::write(aside.join("later"), "x").unwrap();
    fs::rename(&aside, &standby.lab.src).unwrap();
    let later = standby.lab.dst.join("later");
    standby.wait_for("it goes on", |_| later.exists());
    standby.settle();
    standby.assert_same();
    standby.stop();
}

#[test]
fn a_source_under_an_empty_mount_leaves_the_standby_as_it_is() {
    needs!(Mount);
    let mut standby = Standby::here(SMALL, &["--rescan=1s"]);
    let kept = Dump::of(&standby.lab.dst);
    let source = standby.lab.src.clone();
    let mount = Tmpfs::mount(&source, "size=1m");
    let status = standby.wait_for("it waits", is_waiting);
    assert!(reason(&status).contains("mounted"), "{status}");
    assert_eq!(Dump::of(&standby.lab.dst), kept);
    drop(mount);
    fs::write(source.join("later"), "x").unwrap();
    let later = standby.lab.dst.join("later");
    standby.wait_for("it goes on", |_| later.exists());
    standby.settle();
    standby.assert_same();
    standby.stop();
}

#[test]
fn a_source_that_was_emptied_leaves_the_standby_as_it_is() {
    let mut standby = Standby::here("f a 'text'\n f b 'more'", &[]);
    let kept = Dump::of(&standby.lab.dst);
    for name in ["a", "b"] {
        fs::remove_file(standby.lab.src.join(name)).unwrap();
    }
    let status = standby.wait_for("it waits", is_waiting);
    assert!(reason(&status).contains("source is empty"), "{status}");
    assert_eq!(Dump::of(&standby.lab.dst), kept);
    standby.lab.source("f a 'text again'");
    standby.wait_for("it goes on", |status| !is_waiting(status));
    standby.settle();
    standby.assert_same();
    standby.stop();
}

#[test]
fn a_full_disk_is_waited_for_and_leaves_old_files_whole() {
    needs!(Mount);
    let mut lab = Lab::with_source("f old random(100K)");
    let disk = lab.path("disk");
    let _mount = Tmpfs::mount(&disk, "size=4m");
    lab.dst = disk.join("dst");
    let mut standby = Standby::new(lab, Route::Local, &[]);
    standby.start();
    standby.settle();
    let filler = disk.join("filler");
    fs::write(&filler, vec![1; 3 << 20]).unwrap();
    // At once, so that the empty file in between is none that has settled.
    fs::write(standby.lab.src.join("old"), vec![2; 2 << 20]).unwrap();
    fs::write(standby.lab.src.join("new"), vec![3; 300 << 10]).unwrap();
    let status = standby.wait_for("it is told", |status| {
        is_waiting(status) || status["problems_total"] != 0
    });
    assert!(!status["oldest_change_ms"].is_null(), "{status:#}");
    let old = fs::metadata(standby.lab.dst.join("old")).unwrap();
    assert_eq!(old.len(), 100 << 10, "the old file is whole");
    fs::remove_file(filler).unwrap();
    standby.wait_for("there is no problem", |status| {
        Standby::is_settled(status) && status["problems_total"] == 0
    });
    standby.assert_same();
    standby.stop();
}

#[test]
fn drift_is_reported_and_stays() {
    let mut standby = Standby::here(SMALL, &["--rescan=1s"]);
    fs::write(standby.lab.dst.join("dir/b"), "drifted").unwrap();
    let status = standby.wait_for("drift is told", |status| status["drift_total"] == 1);
    assert_eq!(status["drift"][0], "dir");
    let found = fs::read(standby.lab.dst.join("dir/b")).unwrap();
    assert_eq!(found, b"drifted");
    standby.stop();
}

#[test]
fn drift_is_undone_where_that_is_asked_for() {
    let mut standby = Standby::here(SMALL, &["--rescan=1s", "--on-drift=restore"]);
    fs::write(standby.lab.dst.join("dir/b"), "drifted").unwrap();
    fs::write(standby.lab.dst.join("extra"), "drifted").unwrap();
    let began = Instant::now();
    while !standby.differences().is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{}",
            standby.log()
        );
        thread::sleep(Duration::from_millis(100));
    }
    let began = Instant::now();
    // Told, and then that it is over.
    while standby.told("drift").len() < 2 {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{}",
            standby.log()
        );
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(standby.status()["drift_total"], 0);
    standby.stop();
}

#[test]
fn drift_ends_the_mirror_where_that_is_asked_for() {
    let mut standby = Standby::here(SMALL, &["--rescan=1s", "--on-drift=stop"]);
    fs::write(standby.lab.dst.join("dir/b"), "drifted").unwrap();
    let outcome = standby.take_run().limit(Duration::from_secs(20)).wait();
    assert!(!outcome.status.success(), "{outcome}");
    outcome.says("others have changed the standby").says("dir");
}

#[test]
fn a_second_mirror_onto_a_root_is_told_who_has_it() {
    let mut standby = Standby::here(SMALL, &[]);
    let pid = standby.run().pid();
    let outcome = standby.lab.between("mirror", &QUICK).run();
    assert!(!outcome.status.success(), "{outcome}");
    outcome.says(&format!("process {pid} ("));
    standby.stop();
}

#[test]
fn a_standby_of_another_source_is_refused() {
    let mut standby = Standby::here(SMALL, &[]);
    standby.stop();
    let other = standby.lab.path("other");
    tree(&other, "f a 'other'");
    let kept = Dump::of(&standby.lab.dst);
    let mirror = standby.lab.cutover(["mirror"]);
    let outcome = mirror.args([&other, &standby.lab.dst]).run();
    assert!(!outcome.status.success(), "{outcome}");
    outcome.says("is the standby of").says("/src; to make it");
    assert_eq!(Dump::of(&standby.lab.dst), kept);
}

#[test]
fn a_mirror_that_is_asked_to_ends_well_and_leaves_nothing_unfinished() {
    let mut standby = Standby::here("f a 'text'", &["--bwlimit=1M"]);
    standby.lab.source("f large random(8M)");
    standby.wait_for("it syncs", |status| status["state"] == "syncing");
    standby.stop();
    let copy = Dump::of_all_but(&standby.lab.dst, &OWN);
    let names: Vec<_> = copy
        .paths()
        .into_iter()
        .filter(|path| *path != "large")
        .collect();
    assert_eq!(names, ["a"], "no temporary files");
    standby.start();
    standby.settle();
    standby.assert_same();
    standby.stop();
}

/// A plan of this machine alone, with these roots below the lab.
fn plan(lab: &Lab, roots: &[&str]) -> std::path::PathBuf {
    let mut text = String::from("name = \"pair\"\n");
    for root in roots {
        let (from, to) = (lab.path(root), lab.path(&format!("{root}-standby")));
        text += &format!(
            "[[root]]\nname = \"{root}\"\npath = \"{}\"\ndestination = \"{}\"\n",
            from.display(),
            to.display()
        );
    }
    let file = lab.path("plan.toml");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn a_plans_roots_are_mirrored_and_a_changed_plan_is_read_again() {
    let lab = Lab::new();
    for root in ["one", "two", "three"] {
        tree(&lab.path(root), SMALL);
    }
    let file = plan(&lab, &["one", "two"]);
    let mirror = lab.cutover(["mirror", "--json"]).args(QUICK);
    let run = mirror
        .args(["--plan".into(), file.into_os_string()])
        .spawn();
    let status = || {
        let said = lab.cutover(["status", "--json"]).run();
        let mut all: Value = serde_json::from_str(&said.stdout).unwrap();
        all.get_mut(0)
            .map_or(Value::Null, |status| status["roots"].take())
    };
    let settled = |count: usize| {
        let began = Instant::now();
        loop {
            let roots = status();
            let roots = roots.as_array();
            let is_so =
                |roots: &Vec<Value>| roots.len() == count && roots.iter().all(Standby::is_settled);
            if roots.is_some_and(is_so) {
                return;
            }
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{:#}\n{}",
                status(),
                run.so_far()
            );
            thread::sleep(Duration::from_millis(50));
        }
    };
    settled(2);
    plan(&lab, &["one", "two", "three"]);
    run.signal(Signal::HUP);
    settled(3);
    for root in ["one", "two", "three"] {
        let copy = Dump::of_all_but(&lab.path(&format!("{root}-standby")), &OWN);
        let found = Dump::of(&lab.path(root)).differences(&copy);
        assert!(found.is_empty(), "{root}: {found:?}");
    }
    run.signal(Signal::TERM);
    let outcome = run.wait();
    assert!(outcome.status.success(), "{outcome}");
}

#[test]
fn the_service_manager_is_not_left_without_a_word_while_a_plan_is_read_again() {
    let lab = Lab::with_source(SMALL);
    let [_, shell, ..] = lab.far_options();
    // Its host can be slow to reach.
    let (slow, far) = (lab.path("slow"), lab.path("slow-shell"));
    let text = format!(
        "#!/bin/sh\n[ -e '{}' ] && sleep 3\nexec '{}' \"$@\"\n",
        slow.display(),
        shell.display()
    );
    fs::write(&far, text).unwrap();
    fs::set_permissions(&far, fs::Permissions::from_mode(0o755)).unwrap();
    let text = format!(
        "name = \"one\"\n[destination]\nhost = \"far\"\nshell = \"{}\"\nagent = \"{BINARY}\"\n\
         [[root]]\nname = \"one\"\npath = \"{}\"\ndestination = \"{}\"\n",
        far.display(),
        lab.src.display(),
        lab.dst.display()
    );
    fs::write(lab.path("plan.toml"), text).unwrap();
    let manager = UnixDatagram::bind(lab.path("notify")).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    };
    let socket = format!("NOTIFY_SOCKET={}", lab.path("notify").display());
    let service = ["env".into(), socket.into(), "WATCHDOG_USEC=1000000".into()];
    let mirror = lab
        .cutover(["mirror", "--plan"])
        .args([lab.path("plan.toml")]);
    let run = mirror.behind(&lab, &service).spawn();
    while heard() != "READY=1" {}
    fs::write(slow, "").unwrap();
    run.signal(Signal::HUP);
    while !heard().starts_with("RELOADING=1") {}
    let mut words = 0;
    while heard() != "READY=1" {
        words += 1;
    }
    assert!(words >= 4, "{words}");
    run.signal(Signal::TERM);
    let outcome = run.wait();
    assert!(outcome.status.success(), "{outcome}");
}

#[test]
fn the_unit_of_a_plan_may_write_to_its_standbys() {
    let lab = Lab::with_source(SMALL);
    tree(&lab.path("one"), SMALL);
    let plan = plan(&lab, &["one"]);
    let mirror = lab.cutover(["mirror", "--print-systemd", "--plan"]);
    let unit = mirror.args([plan]).ok().stdout;
    for (word, root) in [
        ("ReadWritePaths", "one-standby"),
        ("RequiresMountsFor", "one-standby"),
        ("RequiresMountsFor", "one"),
    ] {
        let line = format!("{word}={}\n", lab.path(root).display());
        assert!(unit.contains(&line), "{line}{unit}");
    }
}

#[test]
fn hard_links_come_and_go_across_directories() {
    let mut standby = Standby::here("f a/x 'one'\n f b/y 'two'\n h c/y = b/y\n d d", &[]);
    let at = |name: &str| standby.lab.src.join(name);
    fs::hard_link(at("a/x"), at("d/x")).unwrap();
    standby.settle();
    standby.assert_same();
    let at = |name: &str| standby.lab.src.join(name);
    // Of the first two only the directory that loses or gains a name is told.
    fs::remove_file(at("c/y")).unwrap();
    fs::hard_link(at("a/x"), at("c/x")).unwrap();
    fs::write(at("d/x"), "written under another name").unwrap();
    standby.settle();
    standby.assert_same();
    standby.assert_agreed();
    standby.stop();
}

#[test]
fn a_database_that_is_written_to_is_told_as_torn_until_it_rests() {
    need("sqlite3");
    let mut standby = Standby::here("f a 'text'", &["--max-delay=300ms"]);
    let database = standby.lab.src.join("app.db");
    let sql = |path: &Path, text: &str| {
        let output = Command::new("sqlite3")
            .arg(path)
            .arg(text)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    sql(&database, "pragma journal_mode=wal; create table t(x)");
    let began = Instant::now();
    let mut was_torn = false;
    while !was_torn && began.elapsed() < Duration::from_secs(20) {
        sql(
            &database,
            "insert into t select randomblob(9000) from generate_series(1, 100)",
        );
        was_torn = standby.status()["problems"].to_string().contains("app.db");
    }
    assert!(was_torn, "{}", standby.log());
    standby.wait_for("it is whole", |status| {
        Standby::is_settled(status) && status["problems_total"] == 0
    });
    standby.assert_same();
    standby.stop();
    let copy = standby.lab.dst.join("app.db");
    assert_eq!(sql(&copy, "pragma integrity_check"), "ok\n");
    let count = "select count(*) from t";
    assert_eq!(sql(&copy, count), sql(&database, count));
}

#[test]
fn a_generation_keeps_what_was_deleted_at_the_source() {
    let mut standby = Standby::here(SMALL, &["--keep=10m:1s"]);
    standby.wait_for("one is kept", |status| {
        status["generations"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    });
    let content = fs::read(standby.lab.src.join("dir/b")).unwrap();
    thread::sleep(Duration::from_millis(1100));
    fs::remove_file(standby.lab.src.join("dir/b")).unwrap();
    let status = standby.settle();
    standby.assert_same();
    let oldest = status["generations"].as_array().unwrap().last().unwrap();
    let id = oldest["id"].as_str().unwrap();
    let kept = standby.lab.dst.join(".cutover-kept").join(id);
    let found = walkdir::WalkDir::new(&kept)
        .into_iter()
        .flatten()
        .find(|entry| entry.path().ends_with("dir/b"));
    let found = found.unwrap_or_else(|| panic!("nothing in {kept:?}"));
    assert_eq!(fs::read(found.path()).unwrap(), content);
    standby.stop();
}

#[test]
fn a_file_that_a_generation_shares_becomes_a_link() {
    let mut standby = Standby::here(SMALL, &["--keep=10m:1s"]);
    standby.wait_for("one is kept", |status| {
        let kept = status["generations"].as_array();
        kept.is_some_and(|all| !all.is_empty())
    });
    // When all is read again, each file of the standby has a name that is no part of it.
    standby.stop();
    standby.start();
    standby.settle();
    let at = |name: &str| standby.lab.src.join(name);
    fs::create_dir(at("other")).unwrap();
    fs::hard_link(at("dir/b"), at("other/b")).unwrap();
    standby.settle();
    standby.assert_same();
    standby.assert_agreed();
    standby.stop();
}

#[test]
fn without_a_watch_changes_are_found_by_the_interval() {
    let mut standby = Standby::here(SMALL, &["--interval=1s"]);
    assert_eq!(standby.status()["watch"]["means"], "interval");
    fs::write(standby.lab.src.join("dir/later"), "x").unwrap();
    let later = standby.lab.dst.join("dir/later");
    standby.wait_for("it arrives", |_| later.exists());
    standby.settle();
    standby.assert_same();
    standby.stop();
}

#[test]
fn a_timetable_of_bandwidths_is_understood_or_refused() {
    let lab = Lab::with_source(SMALL);
    let refused = lab.between("mirror", &["--bwlimit=25:00,2M"]).run();
    assert_eq!(refused.status.code(), Some(2), "{refused}");
    let mut standby = Standby::here(SMALL, &["--bwlimit=08:00,2M 18:00,off"]);
    standby.assert_same();
    standby.stop();
}

#[test]
fn a_program_runs_a_mirror_and_stops_it() {
    let lab = Lab::with_source(SMALL);
    let job = Job {
        source: Location::Local(lab.src.clone()),
        destination: Location::Local(lab.dst.clone()),
        options: SyncOptions::default(),
        remote: Default::default(),
        mode: Mode::Sync,
    };
    let mirroring = Mirroring {
        settle: Duration::from_millis(50),
        name: "pair".into(),
        source: "here".into(),
        ..Mirroring::default()
    };
    let root = MirrorRoot {
        name: "root".into(),
        job,
        mirroring,
    };
    let mirror = Mirror::new("pair", None, vec![root]);
    let (requests, board) = (mirror.requests(), mirror.board());
    let run = thread::spawn(move || mirror.run(&SilentMirror));
    let arrives = |name: &str| {
        let began = Instant::now();
        while !lab.dst.join(name).exists() {
            let status = board.snapshot();
            assert!(began.elapsed() < Duration::from_secs(20), "{status:?}");
            thread::sleep(Duration::from_millis(10));
        }
    };
    arrives("dir/b");
    let began = Instant::now();
    while board.snapshot().roots[0].agreed.is_none() {
        assert!(began.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(10));
    }
    fs::write(lab.src.join("later"), "x").unwrap();
    arrives("later");
    requests.stop();
    assert_eq!(run.join().unwrap().unwrap(), Ended::Stopped);
}

#[test]
fn a_source_that_is_another_directory_leaves_the_standby_as_it_is() {
    for route in [Route::Local, Route::Push, Route::Pull, Route::Relay] {
        let mut standby = Standby::new(Lab::with_source(SMALL), route, &[]);
        standby.start();
        standby.settle();
        let kept = Dump::of(&standby.lab.dst);
        let aside = standby.lab.path("aside");
        fs::rename(&standby.lab.src, &aside).unwrap();
        tree(&standby.lab.src, "f another 'one'");
        let status = standby.wait_for("it waits", is_waiting);
        assert!(reason(&status).contains("another directory"), "{status}");
        // Until after several attempts.
        thread::sleep(Duration::from_secs(4));
        assert_eq!(Dump::of(&standby.lab.dst), kept, "{route:?}");
        fs::remove_dir_all(&standby.lab.src).unwrap();
        fs::rename(&aside, &standby.lab.src).unwrap();
        standby.settle();
        standby.assert_same();
        standby.stop();
    }
}

#[test]
fn a_mirror_whose_door_was_removed_ends_well() {
    let mut standby = Standby::here(SMALL, &[]);
    let doors = standby.lab.cutover(["status"]).ok();
    doors.says("watching");
    let mut removed = 0;
    for entry in walkdir::WalkDir::new(standby.lab.path("")) {
        let path = entry.unwrap().into_path();
        if path.extension().is_some_and(|end| end == "sock") {
            fs::remove_file(path).unwrap();
            removed += 1;
        }
    }
    assert_eq!(removed, 1);
    standby.stop();
    let status = standby.status();
    assert_eq!(status["state"], "stopped", "{status}");
    assert!(status["reason"].is_null(), "{status}");
}

#[test]
fn what_could_not_be_brought_over_counts_as_lag() {
    let lab = Lab::with_source("f a 'text'\n f b 'text'");
    lab.destination("f a/in/the/way 'x'");
    let mut standby = Standby::new(lab, Route::Local, &["--no-delete"]);
    standby.start();
    let status = standby.wait_for("its first round is over", |status| {
        status["state"] == "watching"
    });
    assert_eq!(status["problems_total"], 1, "{status}");
    assert!(status["oldest_change_ms"].is_u64(), "{status}");
    standby.stop();
}
