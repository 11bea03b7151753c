//! Making a bundle: where it goes, what it refuses, and what it does with a tree that is not still.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::archive::Archive;
use crate::common::lab::Lab;
use crate::common::prerequisites::Tmpfs;
use crate::common::run::BINARY;
use crate::common::tree::{Noise, tree};
use crate::kit::{bundle, create, create_at, plain, restore, restored, shell, verify};
use crate::needs;

/// The names in a directory, sorted.
fn names(lab: &Lab, dir: &str) -> Vec<String> {
    let entries = fs::read_dir(lab.path(dir)).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_bundle_is_for_its_owner_alone() {
    let lab = Lab::with_source("f a 'x'");
    let file = plain(&lab);
    assert_eq!(
        file.metadata().unwrap().permissions().mode() & 0o7777,
        0o600
    );
}

#[test]
fn a_file_that_is_there_is_kept_unless_forced() {
    let lab = Lab::with_source("f a 'x'");
    let (run, file) = create(&lab, &[]);
    fs::write(&file, "precious").unwrap();
    run.code(5).says("--force");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    create(&lab, &["--force"]).0.ok();
    verify(&lab, &file).ok();
}

#[test]
fn a_directory_is_no_place_of_a_bundle_even_if_forced() {
    let lab = Lab::with_source("f a 'x'");
    for force in [&[][..], &["--force"]] {
        let run = create_at(&lab, force, &lab.path("."));
        run.code(2).says("is a directory: name a file in it");
    }
}

#[test]
fn secrets_are_not_written_in_plain() {
    for secret in [
        "f deep/token 'x' 0600",
        "f credentials/github.json 'x' 0644",
        "f .ssh/config 'x' 0644",
        "f tls.key 'x' 0644",
    ] {
        let lab = Lab::with_source(&format!("f a 'x'\n {secret}"));
        let (run, file) = create(&lab, &[]);
        run.code(5)
            .says("1 secret")
            .says("--recipient")
            .says("--plaintext");
        assert!(!file.exists(), "{secret}");
        create(&lab, &["--plaintext"]).0.ok();
        assert!(file.exists(), "{secret}");
    }
}

#[test]
fn a_tree_without_secrets_needs_no_word() {
    let lab = Lab::with_source("f a 'x' 0644\n f lock 0600\n d private 0700");
    create(&lab, &[]).0.ok();
}

#[test]
fn a_secret_that_is_left_out_does_not_count() {
    let lab = Lab::with_source("f a 'x'\n f .env 'x' 0600");
    create(&lab, &["--exclude", ".env"]).0.ok();
}

#[test]
fn a_full_disk_leaves_no_file() {
    needs!(Mount);
    let lab = Lab::with_source("f a random(8M)");
    let point = lab.path("small");
    let _small = Tmpfs::mount(&point, "size=2M");
    let file = point.join("bundle");
    create_at(&lab, &[], &file).code(3).says("No space left");
    assert_eq!(names(&lab, "small"), Vec::<String>::new());
}

#[test]
fn a_full_disk_leaves_the_bundle_that_was_there() {
    needs!(Mount);
    let lab = Lab::with_source("f a 'x'");
    let point = lab.path("small");
    let _small = Tmpfs::mount(&point, "size=2M");
    let file = point.join("bundle");
    let create = |code| create_at(&lab, &["--force"], &file).code(code);
    create(0);
    lab.source("f a random(8M)");
    create(3);
    assert_eq!(names(&lab, "small"), ["bundle"]);
    verify(&lab, &file).ok();
}

#[test]
fn a_bundle_is_not_put_into_what_it_holds() {
    let lab = Lab::with_source("f a 'x'\n d below");
    create_at(&lab, &[], &lab.src.join("below/bundle"))
        .code(2)
        .says("put it elsewhere");
}

#[test]
fn standard_output_carries_a_bundle_and_nothing_else() {
    let lab = Lab::with_source("f a 'text'\n f b random(2M)");
    let file = lab.path("piped");
    let line = "\"$1\" bundle create \"$2\" -o - > \"$3\"";
    shell(line, [Path::new(BINARY), &lab.src, &file]);
    verify(&lab, &file).ok();
    bundle(&lab, ["create", "--json"])
        .args([&lab.src])
        .args(["-o", "-"])
        .code(2)
        .says("cannot be both");
}

#[test]
fn what_cannot_be_bundled_is_said() {
    let lab = Lab::with_source("f a 'x'");
    let said = |what: &str, code| bundle(&lab, ["create", what, "-o", "x"]).code(code);
    said("host:/srv", 2).says("another host");
    said("/nonexistent", 3).says("/nonexistent");
    said(lab.src.join("a").to_str().unwrap(), 2).says("no directory");
    said("/", 2).says("no name");
}

#[test]
fn an_unreadable_file_is_left_out_and_told() {
    needs!(Root);
    let lab = Lab::with_source("f a 'x'\n f closed 'x' 0000\n d shut 0000\n f shut/in 'x'");
    tree(&lab.src, "m shut 0000");
    let file = lab.path("bundle");
    fs::set_permissions(lab.path("."), fs::Permissions::from_mode(0o777)).unwrap();
    create_at(&lab, &["--plaintext"], &file)
        .by_user(&lab, 1234)
        .code(3)
        .says("cannot read closed")
        .says("cannot read directory shut");
    verify(&lab, &file)
        .ok()
        .says("cutover-bundle/faults")
        .says("closed");
    restore(&lab, &file).ok();
    let copy = restored(&lab);
    assert!(copy.join("a").exists() && copy.join("shut").exists());
    assert!(!copy.join("closed").exists());
    let mut archive = Archive::open(&file);
    let faults = archive.member("cutover-bundle/faults").content.clone();
    let faults = String::from_utf8(faults).unwrap();
    assert!(
        faults.contains("cannot read: src/closed: Permission denied"),
        "{faults}"
    );
}

#[test]
fn sockets_are_left_out_with_a_word() {
    let lab = Lab::with_source("f a 'x'\n s sock");
    let (run, file) = create(&lab, &[]);
    run.ok().says("sockets are left out");
    verify(&lab, &file).ok();
    restore(&lab, &file).ok();
    assert!(!restored(&lab).join("sock").exists());
}

#[test]
fn our_own_names_are_no_part_of_a_tree() {
    let lab = Lab::with_source(
        "f a 'x'\n f .cutover-trash/old 'x'\n f .cutover-marker 'x'\n f .a.cutover-01234567 'x'",
    );
    let file = plain(&lab);
    let names: Vec<_> = Archive::open(&file)
        .members
        .iter()
        .map(|part| part.name().to_vec())
        .collect();
    assert!(
        !names
            .iter()
            .any(|name| name.windows(9).any(|part| part == b".cutover-")),
        "{names:?}"
    );
    verify(&lab, &file).ok();
}

/// Sets its flag when it goes, however that comes about.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `during` while a file grows, shrinks and changes without end.
fn while_it_changes(path: &Path, size: u64, during: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options().write(true).open(path).unwrap();
            let mut noise = Noise::seeded(b"changes");
            while !is_over.load(Ordering::Relaxed) {
                file.set_len(size - noise.number() % (1 << 20)).unwrap();
                file.write_all_at(&noise.bytes(4096), noise.number() % size)
                    .unwrap();
            }
        });
        let _over = Over(&is_over);
        during();
    });
}

#[test]
fn a_file_that_changes_while_it_is_read_leaves_the_bundle_whole() {
    let lab = Lab::with_source("f a 'x'\n f busy random(24M)\n f z 'x'");
    let file = lab.path("bundle");
    while_it_changes(&lab.src.join("busy"), 24 << 20, || {
        // On a busy machine the file may stand still for as long as it is read.
        let is_noticed = (0..20).any(|_| {
            let outcome = create_at(&lab, &["--force"], &file).run();
            match outcome.status.code() {
                Some(0) => false,
                Some(4) => outcome
                    .says("busy kept changing")
                    .stdout
                    .contains("unsettled"),
                _ => panic!("{outcome}"),
            }
        });
        assert!(is_noticed);
    });
    verify(&lab, &file).ok().says("busy");
    restore(&lab, &file).ok();
    assert_eq!(fs::read(restored(&lab).join("z")).unwrap(), b"x");
}

#[test]
fn json_tells_how_large_it_became() {
    let lab = Lab::with_source("f a random(2M)\n d b\n l c -> a");
    let (run, file) = create(&lab, &["--json"]);
    let outcome = run.ok();
    assert_eq!(outcome.count("source_entries"), 3);
    assert_eq!(outcome.count("source_bytes"), 2 << 20);
    assert_eq!(
        outcome.count("wire_sent_bytes"),
        file.metadata().unwrap().len()
    );
}

#[test]
fn an_interrupted_run_leaves_no_file() {
    let lab = Lab::with_source("f a random(64M)\n f b random(64M)\n d out");
    let out = lab.path("out");
    fs::create_dir(&out).unwrap();
    let mut running = create_at(&lab, &[], &out.join("bundle")).spawn();
    running.wait_until("it writes", || !names(&lab, "out").is_empty());
    // Not INT, which whoever runs the tests in the background may have us ignore.
    running.signal(rustix::process::Signal::TERM);
    let outcome = running.wait();
    assert_eq!(outcome.status.code(), Some(130), "{outcome}");
    outcome.says("there is no bundle");
    assert_eq!(names(&lab, "out"), Vec::<String>::new());
}

#[test]
fn what_a_killed_run_left_goes_with_the_next() {
    let lab = Lab::with_source("f a random(64M)\n f b random(64M)\n d out");
    let out = lab.path("out");
    fs::create_dir(&out).unwrap();
    let mut running = create_at(&lab, &[], &out.join("bundle")).spawn();
    running.wait_until("it writes", || !names(&lab, "out").is_empty());
    running.signal(rustix::process::Signal::KILL);
    running.wait();
    assert_eq!(names(&lab, "out").len(), 1);
    create_at(&lab, &[], &out.join("bundle")).ok();
    assert_eq!(names(&lab, "out"), ["bundle"]);
}
