//! Literal bytes against rsync's own count for the same pair of files: never more than a fifth
//! above it.

#![allow(clippy::unwrap_used)] // A helper of tests that unwraps has said what it expects.

use std::fs;
use std::num::NonZeroUsize;
use std::process::Command;

use cutover::delta::{Draft, Mode, Op, Signature, SignatureSpec, sum_file};

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut reader = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

fn rsync_literal_bytes(basis: &[u8], new: &[u8]) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let (old_path, new_path) = (dir.path().join("old"), dir.path().join("new"));
    fs::write(&old_path, basis).unwrap();
    fs::write(&new_path, new).unwrap();
    let output = Command::new("rsync")
        .args([
            "--no-whole-file",
            "--ignore-times",
            "--stats",
            "--no-human-readable",
        ])
        .args([&new_path, &old_path])
        .env("LC_ALL", "C")
        .output()
        .expect("this test compares with rsync: install it (apt install rsync)");
    assert!(output.status.success(), "{output:?}");
    let stats = String::from_utf8(output.stdout).unwrap();
    let literal = stats
        .lines()
        .find_map(|line| line.strip_prefix("Literal data: "))
        .and_then(|rest| rest.split(' ').next())
        .expect("rsync's statistics name literal data");
    literal.replace(',', "").parse().unwrap()
}

fn literal_bytes(basis: &[u8], new: &[u8]) -> u64 {
    let (basis_len, new_len) = (basis.len() as u64, new.len() as u64);
    let draft = match Mode::for_lens(basis_len, new_len) {
        Mode::Whole => return new_len,
        Mode::Search(window) => {
            let spec = SignatureSpec::whole_in(basis_len, window).unwrap();
            let signature = Signature::of_basis(basis, spec, TWO).unwrap();
            let mut draft = Draft::blank(basis_len, new_len);
            draft.search(&signature, new, TWO).unwrap();
            draft
        }
        Mode::Staged(block) => {
            let (_, basis_sums) = sum_file(basis, basis_len, block, TWO).unwrap();
            let (_, new_sums) = sum_file(new, new_len, block, TWO).unwrap();
            let mut draft =
                Draft::aligned(&basis_sums.unwrap().sums(), &new_sums.unwrap().sums(), new)
                    .unwrap();
            while let Some(spec) = draft.request() {
                let signature = Signature::of_basis(basis, spec, TWO).unwrap();
                draft.search(&signature, new, TWO).unwrap();
            }
            draft
        }
    };
    let literal_bytes = |op: &Op| match *op {
        Op::Literal { len } => len,
        Op::Copy { .. } => 0,
    };
    draft.into_ops().iter().map(literal_bytes).sum()
}

fn assert_no_more_than_rsync(what: &str, basis: &[u8], new: &[u8]) {
    let theirs = rsync_literal_bytes(basis, new);
    let ours = literal_bytes(basis, new);
    println!(
        "{what}, {} bytes: {ours} literal, rsync {theirs}",
        basis.len()
    );
    assert!(
        ours * 10 <= theirs * 12,
        "{what}: {ours} literal bytes, rsync {theirs}"
    );
}

/// From both sides of where the mode changes.
const LENS: [usize; 5] = [60_000, 490_000, 3_000_000, 15_000_001, 40_000_000];

#[test]
fn insertions_cost_no_more_than_in_rsync() {
    for len in LENS {
        let basis = noise(len, 1);
        for (inserts, size) in [(1, 1), (1, 5000), (7, 100), (20, 13)] {
            let mut new = basis.clone();
            for i in 0..inserts {
                // Off every block's edge, where an insertion costs nothing but itself.
                let at = (i * 2 + 1) * len / (inserts * 2) + 345;
                new.splice(at..at, noise(size, i as u64 + 2));
            }
            assert_no_more_than_rsync(&format!("{inserts} x insert {size}"), &basis, &new);
        }
        let at_front = [&noise(777, 3)[..], &basis].concat();
        assert_no_more_than_rsync("insert at the front", &basis, &at_front);
        let mut near_end = basis.clone();
        near_end.splice(len - 3000..len - 3000, noise(10, 4));
        assert_no_more_than_rsync("insert near the end", &basis, &near_end);
    }
}

#[test]
fn edits_in_place_cost_no_more_than_in_rsync() {
    for len in LENS {
        let basis = noise(len, 5);
        for (edits, size) in [(1, 1), (5, 100), (13, 4096), (300, 8)] {
            let mut new = basis.clone();
            for i in 0..edits {
                let at = (i * 2 + 1) * (len - size) / (edits * 2);
                new[at..at + size].copy_from_slice(&noise(size, i as u64 + 6));
            }
            assert_no_more_than_rsync(&format!("{edits} x overwrite {size}"), &basis, &new);
        }
    }
}

#[test]
fn deletions_and_appends_cost_no_more_than_in_rsync() {
    for len in LENS {
        let basis = noise(len, 7);
        let mut new = basis.clone();
        new.drain(len / 3..len / 3 + 4321);
        assert_no_more_than_rsync("delete", &basis, &new);
        let mut new = basis.clone();
        new.extend(noise(10_000, 8));
        assert_no_more_than_rsync("append", &basis, &new);
        assert_no_more_than_rsync("truncate", &basis, &basis[..len * 2 / 3]);
    }
}
