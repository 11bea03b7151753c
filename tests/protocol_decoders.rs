//! What a hostile end can put on the wire: whatever the bytes, no decoder panics, and none takes
//! more memory than the bytes that came can justify, whatever lengths they claim.

#![allow(unsafe_code)] // An allocator that counts must be one.
#![allow(clippy::unwrap_used)] // A helper of tests that unwraps has said what it expects.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use cutover::digest::{ContentHash, Digest};
use cutover::entry::{EntryKind, Metadata, Timestamp, Xattr};
use cutover::events::Side;
use cutover::manifest::record::Entry;
use cutover::options::SyncOptions;
use cutover::path::{Name, RelPath};
use cutover::protocol::errand::{
    Answer, Command, Comparison, Errand, Expand, GenerationsAnswer, GenerationsErrand, Occupant,
    Occupants, OutputLine, Report,
};
use cutover::protocol::frame::{
    HEADER, MAX_BODY, decode, decode_batch, decode_batch_dir, decode_data, decode_message,
    encode_batch, encode_message, parse_header,
};
use cutover::protocol::message::{
    Basis, BasisSums, Batch, CopyRange, FromDestination, FromSource, LinkGroup, ListingBody,
    ListingReply, Mode, Open, OpenSession, OwnerQuery, StreamedDir, Want,
};
use proptest::prelude::*;

/// What a decoder may take whatever came: serde reserves a mebibyte at most for each sequence it
/// enters, and they are nested four deep.
const FLOOR_BYTES: usize = 6 << 20;

/// What a byte on the wire may become in memory: an empty path is one byte there and 24 here, and
/// a vector that grows holds its old content and up to twice as much at once.
const GROWTH: usize = 128;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts what each thread holds.
struct Counting;

fn count(freed: usize, taken: usize) {
    // A thread that is ending has no counters any more, and nothing left to be counted.
    let _ = LIVE.try_with(|live| {
        let now = live.get().saturating_sub(freed) + taken;
        live.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

// SAFETY: every call goes on to the system's allocator unchanged; counting allocates nothing,
// since both counters are constants without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(0, layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old and the new block may both be there for a moment.
        count(0, size);
        count(layout.size(), 0);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that this thread held during `act` beyond what it held before.
fn peak_bytes(act: impl FnOnce()) -> usize {
    let before = LIVE.get();
    PEAK.set(before);
    act();
    PEAK.get() - before
}

/// Takes a body and drops what it decodes to.
type Decoder = fn(&[u8]);

/// Every decoder that takes a frame's body.
const DECODERS: [(&str, Decoder); 8] = [
    ("Open", |body| drop(decode_message::<Open>(body))),
    ("Errand", |body| drop(decode_message::<Errand>(body))),
    ("Report", |body| drop(decode_message::<Report>(body))),
    ("FromSource", |body| {
        drop(decode_message::<FromSource>(body));
    }),
    ("FromDestination", |body| {
        drop(decode_message::<FromDestination>(body));
    }),
    ("decode_batch", |body| drop(decode_batch(body))),
    ("decode_batch_dir", |body| drop(decode_batch_dir(body))),
    ("decode_data", |body| drop(decode_data(body))),
];

/// Gives `body` to every decoder and holds them to the limit.
fn decode_everywhere(body: &[u8]) {
    for (name, decoder) in DECODERS {
        let peak = peak_bytes(|| decoder(body));
        let limit = FLOOR_BYTES + GROWTH * body.len();
        assert!(peak <= limit, "{name}: {peak} bytes for {}", body.len());
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

fn entry(called: &str) -> Entry {
    Entry {
        name: name(called),
        meta: Metadata {
            kind: EntryKind::File,
            mode: 0o644,
            uid: 1000,
            gid: 1000,
            mtime: Timestamp { secs: 1, nanos: 2 },
            size: 3,
            rdev: (0, 0),
        },
        target: b"t".to_vec(),
        xattrs: vec![Xattr {
            name: b"user.a".to_vec(),
            value: b"b".to_vec(),
        }],
        content: Some(ContentHash::default()),
        link: Some(7),
    }
}

/// Bodies as honest ends send them, for the tests to spoil.
fn honest_bodies() -> Vec<Vec<u8>> {
    let from_source = [
        FromSource::Owners(vec![OwnerQuery {
            is_group: false,
            id: 5,
            name: Some("who".to_string()),
        }]),
        FromSource::Listing(ListingReply {
            dir: path("a/b"),
            body: ListingBody::Entries {
                entries: vec![entry("c"), entry("d")],
                withheld: vec![name("e")],
            },
            subdirs: vec![(name("f"), Digest::default())],
            last: true,
        }),
        FromSource::Links {
            groups: vec![LinkGroup {
                id: 1,
                members: vec![path("a"), path("b/c")],
            }],
            last: true,
        },
        FromSource::Dir(StreamedDir {
            dir: path("a"),
            entries: vec![entry("x")],
        }),
        FromSource::Copies {
            id: 3,
            ops: vec![CopyRange {
                to: 0,
                from: 10,
                len: 20,
            }],
        },
    ];
    let from_destination = [
        FromDestination::Hash(vec![path("a"), RelPath::root()]),
        FromDestination::Want(Want {
            path: path("a"),
            basis: Some(Basis {
                len: 1 << 20,
                sums: BasisSums::Same(ContentHash::default()),
            }),
        }),
        FromDestination::Stream {
            dirs: vec![path("a")],
            content: true,
        },
    ];
    let open = Open::Session(Box::new(OpenSession {
        side: Side::Source,
        root: b"/srv".to_vec(),
        sudo: false,
        options: SyncOptions::default(),
        mode: Mode::Sync,
    }));
    let errands = [
        Errand::Expand(Expand {
            texts: vec!["~/x".to_string()],
            env: vec![("A".to_string(), "a".to_string())],
            user: None,
        }),
        Errand::Run(Command {
            words: vec!["true".to_string()],
            shell: false,
            user: Some("app".to_string()),
            dir: None,
            env: Vec::new(),
            timeout: Duration::from_secs(9),
        }),
        Errand::Generations(GenerationsErrand::Make {
            root: "/srv".to_string(),
            rule: "24h:1h,7d:1d".parse().unwrap(),
        }),
        Errand::Generations(GenerationsErrand::Restore {
            root: "/srv".to_string(),
            id: "gen-20261123-014500".to_string(),
            paths: vec![path("a/b")],
            to: None,
        }),
    ];
    let reports = [
        Report::Answer(Box::new(Answer::Generations(GenerationsAnswer::Compared(
            Comparison::default(),
        )))),
        Report::Output(OutputLine {
            is_stderr: true,
            text: "x".to_string(),
        }),
        Report::Answer(Box::new(Answer::Values(vec![
            Ok(Some("a".to_string())),
            Err("b".to_string()),
        ]))),
        Report::Answer(Box::new(Answer::Occupants(Occupants {
            found: vec![Occupant {
                pid: 1,
                command: "init".to_string(),
                path: "/x".to_string(),
            }],
            hidden: 2,
        }))),
    ];
    let batch = Batch {
        dir: path("d"),
        files: vec![(entry("f"), ContentHash::default())],
    };
    let mut frames = vec![
        encode_message(&open).unwrap(),
        encode_batch(&batch, b"abc").unwrap(),
    ];
    frames.extend([encode_message(&Open::Errands { sudo: true }).unwrap()]);
    frames.extend(errands.iter().map(|m| encode_message(m).unwrap()));
    frames.extend(reports.iter().map(|m| encode_message(m).unwrap()));
    frames.extend(from_source.iter().map(|m| encode_message(m).unwrap()));
    frames.extend(from_destination.iter().map(|m| encode_message(m).unwrap()));
    frames
        .into_iter()
        .map(|frame| frame[HEADER..].to_vec())
        .collect()
}

/// A varint that claims a length.
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// Lengths that no frame can hold, and the largest that one can.
fn huge() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        Just(1 << 40),
        Just(MAX_BODY as u64),
        1_u64 << 20..1 << 32,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_header_is_read_or_refused_and_bounds_the_body(header in any::<[u8; HEADER]>()) {
        if let Ok((len, _)) = parse_header(header) {
            prop_assert!(len <= MAX_BODY);
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(body in prop::collection::vec(any::<u8>(), 0..600)) {
        decode_everywhere(&body);
    }

    #[test]
    fn any_frame_is_unpacked_or_refused_within_the_limit(
        kind in any::<u8>(),
        body in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let peak = peak_bytes(|| drop(decode(kind, body.clone())));
        prop_assert!(peak <= MAX_BODY + FLOOR_BYTES, "{} bytes", peak);
    }

    #[test]
    fn any_change_to_a_message_is_refused_or_harmless(
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = which.get(&honest_bodies()).clone();
        for (at, with) in flips {
            let at = at.index(body.len());
            body[at] = with;
        }
        decode_everywhere(&body);
        decode_everywhere(&body[..cut.index(body.len())]);
    }

    #[test]
    fn a_length_that_lies_takes_no_memory(
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        claimed in huge(),
    ) {
        // Wherever a length may stand in a message, a huge one stands there once.
        let honest = which.get(&honest_bodies()).clone();
        let at = at.index(honest.len());
        let body = [&honest[..at], &varint(claimed), &honest[at + 1..]].concat();
        decode_everywhere(&body);
    }

    #[test]
    fn a_message_that_is_all_lengths_takes_no_memory(
        variant in 0_u8..24,
        lengths in prop::collection::vec(huge(), 1..12),
    ) {
        let lengths: Vec<u8> = lengths.into_iter().flat_map(varint).collect();
        decode_everywhere(&[&[variant], &lengths[..]].concat());
    }
}

#[test]
fn honest_messages_are_understood() {
    let understood = |body: &Vec<u8>| {
        decode_message::<Open>(body).is_ok()
            || decode_message::<Errand>(body).is_ok()
            || decode_message::<Report>(body).is_ok()
            || decode_message::<FromSource>(body).is_ok()
            || decode_message::<FromDestination>(body).is_ok()
            || decode_batch(body).is_ok()
    };
    assert!(honest_bodies().iter().all(understood));
}

#[test]
fn the_longest_message_of_the_smallest_parts_stays_within_the_limit() {
    // Empty paths are what takes the least on the wire for what it takes in memory.
    let count = MAX_BODY - 8;
    let body = [&[6][..], &varint(count as u64), &vec![0; count]].concat();
    assert!(matches!(
        decode_message::<FromDestination>(&body),
        Ok(FromDestination::Hash(paths)) if paths.len() == count
    ));
    decode_everywhere(&body);
}

#[test]
fn a_small_frame_unpacks_to_no_more_than_the_longest_body() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    assert!(bomb.len() < 64 << 10);
    let peak = peak_bytes(|| assert!(decode(0x82, bomb.clone()).is_err()));
    assert!(peak <= MAX_BODY + FLOOR_BYTES, "{peak} bytes");
}
