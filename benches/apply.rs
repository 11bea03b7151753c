//! Writing as the destination does it, in memory (`/dev/shm`) and on the disk of the temporary
//! directory: small files whole, a large one whole, and one patched: `cargo bench --bench apply`.

#![allow(clippy::unwrap_used)] // A benchmark that unwraps has said what it expects.

use std::path::Path;
use std::sync::Arc;

use cutover::apply::{Applier, ApplyOptions, Aside};
use cutover::digest::ContentHash;
use cutover::entry::{EntryKind, Metadata, Timestamp};
use cutover::events::Cancel;
use cutover::fs::Dir;
use cutover::manifest::record::{Entry, RecordRules};
use cutover::options::{Fidelity, Fsync, Write};
use cutover::path::{Name, RelPath};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tempfile::TempDir;

const SMALL_FILES: usize = 1000;
const FILES_PER_DIR: usize = 50;
const SMALL_BYTES: usize = 7168;
const LARGE_BYTES: usize = 64 << 20;
/// What one frame carries.
const PIECE_BYTES: usize = 256 << 10;

/// Where to write.
const BASES: [&str; 2] = ["/dev/shm", "/tmp"];

fn main() {
    divan::main();
}

fn applier(root: &TempDir) -> Applier {
    let options = ApplyOptions {
        rules: RecordRules {
            fidelity: Fidelity::default(),
            granularity_ns: 1,
            content: false,
        },
        write: Write {
            fsync: Fsync::None,
            inplace: false,
        },
        fake_super: false,
        aside: Aside::default(),
        cancel: Cancel::new(),
    };
    Applier::new(Dir::open_root(root.path()).unwrap(), options)
}

fn directory(base: &str) -> TempDir {
    TempDir::with_prefix_in("cutover-bench-", Path::new(base)).unwrap()
}

fn entry(name: &str, size: usize) -> Entry {
    Entry {
        name: Name::new(name.as_bytes()).unwrap(),
        meta: Metadata {
            kind: EntryKind::File,
            mode: 0o644,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            mtime: Timestamp {
                secs: 1_700_000_000,
                nanos: 5,
            },
            size: size as u64,
            rdev: (0, 0),
        },
        target: Vec::new(),
        xattrs: Vec::new(),
        content: None,
        link: None,
    }
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

#[divan::bench(sample_count = 10, sample_size = 1, args = BASES)]
fn small_files(bencher: Bencher<'_, '_>, base: &str) {
    let content = noise(SMALL_BYTES);
    let hash = ContentHash::of(&content);
    let files: Vec<_> = (0..SMALL_FILES)
        .map(|number| {
            let name = format!("file-{number:04}.dat");
            let at = path(&format!("dir-{:02}/{name}", number / FILES_PER_DIR));
            (at, entry(&name, SMALL_BYTES))
        })
        .collect();
    bencher
        .counter(ItemsCount::new(SMALL_FILES))
        .with_inputs(|| directory(base))
        .bench_refs(|root| {
            let applier = applier(root);
            for (path, entry) in &files {
                applier.write_small(path, entry, &content, hash).unwrap();
            }
        });
}

#[divan::bench(sample_count = 10, sample_size = 1, args = BASES)]
fn large_file(bencher: Bencher<'_, '_>, base: &str) {
    let content = noise(LARGE_BYTES);
    let hash = ContentHash::of(&content);
    bencher
        .counter(BytesCount::new(LARGE_BYTES))
        .with_inputs(|| directory(base))
        .bench_refs(|root| {
            let applier = applier(root);
            let mut incoming = applier
                .begin(&path("large"), LARGE_BYTES as u64, None)
                .unwrap();
            for (number, piece) in content.chunks(PIECE_BYTES).enumerate() {
                let offset = (number * PIECE_BYTES) as u64;
                incoming.write(offset, piece).unwrap();
            }
            let entry = entry("large", LARGE_BYTES);
            incoming.finish(&applier, &entry, hash).unwrap();
        });
}

/// Every sixteenth piece is new, the rest is where it was.
#[divan::bench(sample_count = 10, sample_size = 1, args = BASES)]
fn patched_file(bencher: Bencher<'_, '_>, base: &str) {
    let old = noise(LARGE_BYTES);
    let mut new = old.clone();
    for piece in new.chunks_mut(PIECE_BYTES).step_by(16) {
        piece.reverse();
    }
    let hash = ContentHash::of(&new);
    let root = directory(base);
    let at = path("patched");
    bencher
        .counter(BytesCount::new(LARGE_BYTES))
        .with_inputs(|| std::fs::write(root.path().join("patched"), &old).unwrap())
        .bench_values(|()| {
            let applier = applier(&root);
            let existing = applier.existing(&at).unwrap();
            let mut incoming = applier
                .begin(&at, LARGE_BYTES as u64, Some(Arc::new(existing)))
                .unwrap();
            for (number, piece) in new.chunks(PIECE_BYTES).enumerate() {
                let offset = (number * PIECE_BYTES) as u64;
                match number % 16 {
                    0 => incoming.write(offset, piece).unwrap(),
                    _ => incoming.copy(offset, offset, piece.len() as u64).unwrap(),
                }
            }
            let entry = entry("patched", LARGE_BYTES);
            incoming.finish(&applier, &entry, hash).unwrap();
        });
}
