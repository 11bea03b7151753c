//! Throughput of what every entry passes through on its way: records and their digests, batches of
//! small files into frames and out again: `cargo bench --bench framing`.

#![allow(clippy::unwrap_used)] // A benchmark that unwraps has said what it expects.

use std::hint::black_box;

use cutover::digest::ContentHash;
use cutover::entry::{EntryKind, Metadata, Timestamp};
use cutover::manifest::record::{Entry, RecordRules, shallow_digest};
use cutover::options::Fidelity;
use cutover::path::{Name, RelPath};
use cutover::protocol::frame::{
    HEADER, compress, decode, decode_batch, decode_message, encode_batch, encode_message,
};
use cutover::protocol::message::{Batch, FromSource, StreamedDir};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

/// A directory of a source tree; one whose digest is split into buckets; a huge one.
const LISTINGS: [usize; 3] = [50, 5_000, 100_000];

/// Small files in a batch, and their size: what fills a frame in a tree of small files.
const FILES: usize = 50;
const FILE_BYTES: usize = 7168;

fn main() {
    divan::main();
}

fn entry(number: usize) -> Entry {
    Entry {
        name: Name::new(format!("file-{number:07}.dat").as_bytes()).unwrap(),
        meta: Metadata {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            mtime: Timestamp {
                secs: 1_700_000_000 + number as i64,
                nanos: 123_456_789,
            },
            size: FILE_BYTES as u64,
            rdev: (0, 0),
        },
        target: Vec::new(),
        xattrs: Vec::new(),
        content: None,
        link: None,
    }
}

fn listing(count: usize) -> Vec<Entry> {
    (0..count).map(entry).collect()
}

fn rules() -> RecordRules {
    RecordRules {
        fidelity: Fidelity::default(),
        granularity_ns: 1,
        content: false,
    }
}

/// Bytes that zstd cannot make smaller.
fn contents() -> Vec<u8> {
    let mut bytes = vec![0; FILES * FILE_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn batch(contents: &[u8]) -> Batch {
    let hashed = contents.chunks(FILE_BYTES).map(ContentHash::of);
    Batch {
        dir: RelPath::new(b"group-000/dir-00000").unwrap(),
        files: listing(FILES).into_iter().zip(hashed).collect(),
    }
}

fn streamed(count: usize) -> FromSource {
    FromSource::Dir(StreamedDir {
        dir: RelPath::new(b"group-000/dir-00000").unwrap(),
        entries: listing(count),
    })
}

#[divan::bench(args = LISTINGS)]
fn digest_of_a_listing(bencher: Bencher<'_, '_>, count: usize) {
    let (entries, rules) = (listing(count), rules());
    let entries: Vec<&Entry> = entries.iter().collect();
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| shallow_digest(black_box(&entries), &rules));
}

#[divan::bench(args = [50, 5_000])]
fn encode_a_listing(bencher: Bencher<'_, '_>, count: usize) {
    let message = streamed(count);
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| encode_message(black_box(&message)).unwrap());
}

#[divan::bench(args = [50, 5_000])]
fn decode_a_listing(bencher: Bencher<'_, '_>, count: usize) {
    let frame = encode_message(&streamed(count)).unwrap();
    bencher
        .counter(ItemsCount::new(count))
        .bench(|| decode_message::<FromSource>(black_box(&frame[HEADER..])).unwrap());
}

#[divan::bench]
fn encode_a_batch(bencher: Bencher<'_, '_>) {
    let contents = contents();
    let batch = batch(&contents);
    bencher
        .counter(BytesCount::new(contents.len()))
        .bench(|| encode_batch(black_box(&batch), black_box(&contents)).unwrap());
}

#[divan::bench]
fn decode_a_batch(bencher: Bencher<'_, '_>) {
    let contents = contents();
    let frame = encode_batch(&batch(&contents), &contents).unwrap();
    let kind = frame[HEADER - 1];
    bencher
        .counter(BytesCount::new(contents.len()))
        .with_inputs(|| frame[HEADER..].to_vec())
        .bench_values(|body| {
            let frame = decode(kind, body).unwrap();
            let (batch, contents) = decode_batch(&frame.body).unwrap();
            (batch.files.len(), contents.len())
        });
}

#[divan::bench]
fn compress_a_batch_of_text(bencher: Bencher<'_, '_>) {
    let contents: Vec<u8> = "the quick brown fox jumps over the lazy dog, again and again; "
        .bytes()
        .cycle()
        .take(FILES * FILE_BYTES)
        .collect();
    let frame = encode_batch(&batch(&contents), &contents).unwrap();
    bencher
        .counter(BytesCount::new(frame.len()))
        .bench(|| compress(black_box(&frame)).len());
}

#[divan::bench]
fn compress_a_batch_of_noise(bencher: Bencher<'_, '_>) {
    let contents = contents();
    let frame = encode_batch(&batch(&contents), &contents).unwrap();
    bencher
        .counter(BytesCount::new(frame.len()))
        .bench(|| compress(black_box(&frame)).len());
}
