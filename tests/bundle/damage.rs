//! Bundles that are not what was written: cut, torn, or changed by somebody who knows how.

use std::fs;

use crate::archive::Archive;
use crate::common::lab::Lab;
use crate::kit::{create, key_pair, plain, restore, verify};

/// A lab with a bundle of a few kinds of entries.
fn bundled() -> (Lab, std::path::PathBuf) {
    let lab = Lab::with_source(
        "f a 'some text' 0640 @5.5 user.a=1\n h b = a\n l c -> a\n f d/e random(200K)\n f s hole(1M) 'end'",
    );
    let file = plain(&lab);
    (lab, file)
}

/// Fails unless a bundle is refused as broken, and nothing is restored of it.
#[track_caller]
fn assert_broken(lab: &Lab, file: &std::path::Path, identity: &[&str]) {
    verify(lab, file)
        .args(identity)
        .code(3)
        .says("cannot read bundle");
    restore(lab, file).args(identity).code(3);
    assert!(!lab.dst.exists(), "nothing is made");
}

#[test]
fn a_bundle_that_is_cut_off_anywhere_is_refused() {
    let (lab, file) = bundled();
    let (recipient, identity) = key_pair(&lab, "key");
    let (run, sealed) = create(&lab, &["--force", "--recipient", &recipient]);
    let whole = fs::read(&file).unwrap();
    run.ok();
    let sealed_whole = fs::read(&sealed).unwrap();
    let cut = lab.path("cut");
    let identity = ["-i", identity.to_str().unwrap()];
    for (bytes, keys) in [(whole, &[][..]), (sealed_whole, &identity[..])] {
        for keep in [
            1,
            bytes.len() / 7,
            bytes.len() / 2,
            bytes.len() - 20,
            bytes.len() - 1,
        ] {
            fs::write(&cut, &bytes[..keep]).unwrap();
            let outcome = verify(&lab, &cut).args(keys).code(3);
            if !keys.is_empty() && keep > bytes.len() / 2 {
                outcome.says("it is cut off or was changed");
            }
            restore(&lab, &cut).args(keys).code(3);
            assert!(!lab.dst.exists(), "{keep} bytes");
        }
    }
}

#[test]
fn an_archive_that_is_cut_off_within_a_whole_stream_is_refused() {
    let (lab, file) = bundled();
    let bytes = Archive::open(&file).to_bytes();
    for keep in [
        0,
        512,
        1024,
        bytes.len() / 2,
        bytes.len() - 1024,
        bytes.len() - 512,
    ] {
        fs::write(&file, zstd::encode_all(&bytes[..keep], 3).unwrap()).unwrap();
        verify(&lab, &file).code(3);
        restore(&lab, &file).code(3);
        assert!(!lab.dst.exists(), "{keep} bytes");
    }
}

#[test]
fn a_flipped_byte_of_the_file_is_found() {
    let (lab, file) = bundled();
    let (recipient, identity) = key_pair(&lab, "key");
    let plain = fs::read(&file).unwrap();
    let (run, _) = create(&lab, &["--force", "--recipient", &recipient]);
    run.ok();
    let sealed = fs::read(&file).unwrap();
    let identity = ["-i", identity.to_str().unwrap()];
    for (bytes, keys) in [(plain, &[][..]), (sealed, &identity[..])] {
        for at in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 3] {
            let mut torn = bytes.clone();
            torn[at] ^= 0x10;
            fs::write(&file, &torn).unwrap();
            assert_broken(&lab, &file, keys);
        }
    }
}

#[test]
fn more_after_the_end_is_refused() {
    let (lab, file) = bundled();
    let mut archive = Archive::open(&file);
    archive.end.extend_from_slice(&[0; 9216]);
    archive.write(&file);
    verify(&lab, &file).ok();
    archive.end.extend_from_slice(b"more");
    archive.write(&file);
    assert_broken(&lab, &file, &[]);
}

/// Changes a bundle, and fails unless that is found, told with `word`, and kept from restoring.
#[track_caller]
fn assert_found(change: impl FnOnce(&mut Archive), word: &str) {
    let (lab, file) = bundled();
    let mut archive = Archive::open(&file);
    change(&mut archive);
    archive.write(&file);
    verify(&lab, &file).code(1).says(word).says("different");
    restore(&lab, &file).code(5).says("nothing was restored");
    assert!(!lab.dst.exists(), "nothing is made");
}

#[test]
fn a_changed_byte_of_content_is_found() {
    assert_found(
        |archive| archive.member("src/d/e").content[100_000] ^= 1,
        "src/d/e",
    );
    assert_found(|archive| archive.member("src/a").content[0] ^= 1, "src/a");
}

#[test]
fn changed_metadata_is_found() {
    assert_found(
        |archive| archive.member("src/a").put(100, b"0004777"),
        "src/a",
    );
    assert_found(
        |archive| archive.member("src/a").put(108, b"0000001"),
        "src/a",
    );
    assert_found(|archive| archive.member("src/c").put(157, b"b"), "src/c");
    assert_found(
        |archive| {
            let part = archive.member("src/a");
            let attribute = part
                .records
                .iter_mut()
                .find(|(key, _)| key.ends_with(b"user.a"));
            attribute.unwrap().1 = b"2".to_vec();
        },
        "src/a",
    );
    assert_found(
        |archive| {
            let part = archive.member("src/a");
            part.records.retain(|(key, _)| key != b"mtime");
        },
        "src/a",
    );
}

#[test]
fn a_member_that_is_gone_or_new_is_found() {
    assert_found(
        |archive| archive.members.retain(|part| part.name() != b"src/c"),
        "1 missing",
    );
    assert_found(
        |archive| {
            let mut copy = archive.member("src/d/e").clone();
            copy.records.push((b"path".to_vec(), b"src/d/new".to_vec()));
            archive.add(copy);
        },
        "src/d/new",
    );
}

#[test]
fn a_hard_link_that_became_a_copy_is_found() {
    assert_found(
        |archive| {
            let mut copy = archive.member("src/a").clone();
            copy.put(0, b"src/b");
            let at = archive
                .members
                .iter()
                .position(|part| part.name() == b"src/b");
            archive.members[at.unwrap()] = copy;
        },
        "src/b",
    );
}

#[test]
fn what_is_no_bundle_is_refused() {
    let (lab, file) = bundled();
    let mut archive = Archive::open(&file);
    archive.members.remove(0);
    archive.write(&file);
    verify(&lab, &file).code(3).says("no bundle of cutover");
    fs::write(&file, "just text").unwrap();
    verify(&lab, &file).code(3).says("it is no bundle");
    fs::write(&file, "").unwrap();
    verify(&lab, &file).code(3).says("it is no bundle");
    verify(&lab, &lab.src).code(3).says("no regular file");
    verify(&lab, &lab.path("none")).code(3).says("No such file");
}

#[test]
fn a_bundle_of_another_version_is_refused() {
    let (lab, file) = bundled();
    let mut archive = Archive::open(&file);
    archive.member("cutover-bundle/version").content = b"cutover-bundle 2\n".to_vec();
    archive.write(&file);
    verify(&lab, &file).code(3).says("another version");
}

#[test]
fn a_bundle_without_a_manifest_is_refused() {
    let (lab, file) = bundled();
    let mut archive = Archive::open(&file);
    archive.members.pop();
    archive.write(&file);
    assert_broken(&lab, &file, &[]);
}

#[test]
fn a_manifest_that_makes_no_sense_is_refused() {
    let (lab, file) = bundled();
    let mut archive = Archive::open(&file);
    let manifest = archive.member("cutover-bundle/manifests/src");
    let at = manifest.content.len() / 2;
    manifest.content[at] ^= 1;
    archive.write(&file);
    assert_broken(&lab, &file, &[]);
}
