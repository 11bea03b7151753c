//! Deltas of random files and random edits: the operations rebuild the new file, whatever the mode
//! and the block size, and cost no more literals than the edits explain.

#![allow(clippy::unwrap_used)] // A helper of tests that unwraps has said what it expects.

use std::num::NonZeroUsize;

use cutover::delta::{
    BlockSize, Draft, Op, Signature, SignatureSpec, Subtrees, SumBuilder, WindowSize, hash_file,
    sum_file,
};
use cutover::digest::ContentHash;
use proptest::prelude::*;

const TWO: NonZeroUsize = NonZeroUsize::new(2).unwrap();
const KIB: usize = 1 << 10;

/// Bytes that no compressor and no sum finds a pattern in.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut reader = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

fn block(kib: u32) -> BlockSize {
    BlockSize::new(kib << 10).unwrap()
}

fn sums_of(bytes: &[u8], block: BlockSize) -> (ContentHash, Subtrees) {
    let (hash, sums) = sum_file(bytes, bytes.len() as u64, block, TWO).unwrap();
    (hash, sums.unwrap())
}

/// The delta in one round trip.
fn searched(basis: &[u8], new: &[u8], window: WindowSize) -> Vec<Op> {
    let spec = SignatureSpec::whole_in(basis.len() as u64, window).unwrap();
    let signature = Signature::of_basis(basis, spec, TWO).unwrap();
    let mut draft = Draft::blank(basis.len() as u64, new.len() as u64);
    draft.search(&signature, new, TWO).unwrap();
    draft.into_ops()
}

/// The delta in stages, and how many signatures it took.
fn staged(basis: &[u8], new: &[u8], block: BlockSize) -> (Vec<Op>, usize) {
    let (_, basis_sums) = sums_of(basis, block);
    let (_, new_sums) = sums_of(new, block);
    let mut draft = Draft::aligned(&basis_sums.sums(), &new_sums.sums(), new).unwrap();
    let mut requests = 0;
    while let Some(spec) = draft.request() {
        requests += 1;
        let signature = Signature::of_basis(basis, spec, TWO).unwrap();
        draft.search(&signature, new, TWO).unwrap();
    }
    (draft.into_ops(), requests)
}

/// Carries the operations out, which must make `new`, and returns how many literal bytes that took.
fn rebuild(basis: &[u8], new: &[u8], ops: &[Op]) -> u64 {
    let (mut out, mut literal_bytes) = (Vec::new(), 0);
    for op in ops {
        match *op {
            Op::Copy { basis_offset, len } => {
                assert!(len > 0);
                out.extend_from_slice(&basis[basis_offset as usize..][..len as usize]);
            }
            Op::Literal { len } => {
                assert!(len > 0);
                out.extend_from_slice(&new[out.len()..][..len as usize]);
                literal_bytes += len;
            }
        }
    }
    assert!(out == new, "another file was built");
    literal_bytes
}

#[derive(Clone, Debug)]
enum Edit {
    Overwrite(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    Delete(usize, usize),
    Move(usize, usize, usize),
    Duplicate(usize, usize, usize),
    Zero(usize, usize),
    Truncate(usize),
    Append(Vec<u8>),
}

impl Edit {
    /// Offsets and lengths are taken modulo what there is.
    fn apply(&self, bytes: &mut Vec<u8>) {
        let range = |bytes: &[u8], at: usize, len: usize| {
            let start = at % (bytes.len() + 1);
            start..(start + len).min(bytes.len())
        };
        match self {
            Edit::Overwrite(at, with) => {
                let range = range(bytes, *at, with.len());
                let len = range.len();
                bytes[range].copy_from_slice(&with[..len]);
            }
            Edit::Insert(at, new) => {
                let at = at % (bytes.len() + 1);
                bytes.splice(at..at, new.iter().copied());
            }
            Edit::Delete(at, len) => drop(bytes.drain(range(bytes, *at, *len))),
            Edit::Move(from, len, to) => {
                let moved: Vec<u8> = bytes.drain(range(bytes, *from, *len)).collect();
                Edit::Insert(*to, moved).apply(bytes);
            }
            Edit::Duplicate(from, len, to) => {
                let copied = bytes[range(bytes, *from, *len)].to_vec();
                Edit::Insert(*to, copied).apply(bytes);
            }
            Edit::Zero(at, len) => {
                let range = range(bytes, *at, *len);
                bytes[range].fill(0);
            }
            Edit::Truncate(at) => bytes.truncate(at % (bytes.len() + 1)),
            Edit::Append(new) => bytes.extend_from_slice(new),
        }
    }
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<usize>;
    let few = || prop::collection::vec(any::<u8>(), 0..600);
    let len = || 0usize..20_000;
    let edit = prop_oneof![
        (at(), few()).prop_map(|(at, new)| Edit::Overwrite(at, new)),
        (at(), few()).prop_map(|(at, new)| Edit::Insert(at, new)),
        (at(), len()).prop_map(|(at, len)| Edit::Delete(at, len)),
        (at(), len(), at()).prop_map(|(from, len, to)| Edit::Move(from, len, to)),
        (at(), len(), at()).prop_map(|(from, len, to)| Edit::Duplicate(from, len, to)),
        (at(), len()).prop_map(|(at, len)| Edit::Zero(at, len)),
        at().prop_map(Edit::Truncate),
        few().prop_map(Edit::Append),
    ];
    prop::collection::vec(edit, 0..6)
}

/// Noise, zeros, a short period, or halves of noise and zeros.
fn files() -> impl Strategy<Value = Vec<u8>> {
    let len = || 0usize..256 * KIB;
    prop_oneof![
        3 => (len(), any::<u64>()).prop_map(|(len, seed)| noise(len, seed)),
        1 => len().prop_map(|len| vec![0; len]),
        1 => (len(), 1usize..3000, any::<u64>()).prop_map(|(len, period, seed)| {
            noise(period, seed).into_iter().cycle().take(len).collect()
        }),
        1 => (len(), any::<u64>()).prop_map(|(len, seed)| {
            let mut bytes = noise(len, seed);
            bytes[len / 3..len / 2].fill(0);
            bytes
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn delta_rebuilds_the_new_file(
        basis in files(),
        edits in edits(),
        window in 9u32..14,
        kib in prop_oneof![Just(1), Just(2), Just(8), Just(64)],
    ) {
        let mut new = basis.clone();
        edits.iter().for_each(|edit| edit.apply(&mut new));
        let window = WindowSize::new(1 << window).unwrap();
        rebuild(&basis, &new, &searched(&basis, &new, window));
        rebuild(&basis, &new, &staged(&basis, &new, block(kib)).0);
    }

    #[test]
    fn delta_of_unrelated_files_rebuilds(basis in files(), new in files()) {
        rebuild(&basis, &new, &searched(&basis, &new, WindowSize::MIN));
        rebuild(&basis, &new, &staged(&basis, &new, block(2)).0);
    }

    #[test]
    fn sums_pushed_in_any_portions_are_the_files(
        bytes in files(),
        portions in prop::collection::vec(1usize..9000, 1..20),
        kib in prop_oneof![Just(1), Just(2), Just(32)],
    ) {
        let mut builder = SumBuilder::new(block(kib));
        let mut rest = &bytes[..];
        for portion in portions.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*portion));
            builder.push(now);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        let (hash, sums) = builder.finish();
        prop_assert_eq!(hash, ContentHash::of(&bytes));
        prop_assert_eq!(sums.unwrap(), sums_of(&bytes, block(kib)).1);
    }
}

#[test]
fn blocks_taken_by_their_values_hash_as_if_they_were_read() {
    let bytes = noise(900 * KIB + 5, 11);
    for kib in [1, 16, 256] {
        let (hash, known) = sums_of(&bytes, block(kib));
        for read_every in [2, 3, 1000] {
            let mut builder = SumBuilder::new(block(kib));
            let mut taken = 0;
            for (i, part) in bytes.chunks(kib as usize * KIB).enumerate() {
                let at = (i * kib as usize * KIB) as u64;
                let value = known.whole_block(at).filter(|_| i % read_every != 1);
                if value.is_some_and(|value| builder.push_known(value)) {
                    taken += 1;
                } else {
                    builder.push(part);
                }
            }
            assert_eq!(builder.finish(), (hash, Some(known.clone())));
            assert!(taken > 0, "of {kib} KiB");
        }
    }
}

#[test]
fn a_file_resembles_its_old_version_until_much_of_it_is_new() {
    let old = noise(8 << 20, 13);
    let sums = sums_of(&old, block(16)).1.sums();
    let resemble = |new: &[u8]| sums.resemble(new, new.len() as u64).unwrap();
    assert!(resemble(&old));
    let mut edited = old.clone();
    edited[..512 * KIB].fill(0);
    assert!(resemble(&edited));
    assert!(resemble(&old[..7 << 20]));
    edited[..2 << 20].fill(0);
    assert!(!resemble(&edited));
    assert!(!resemble(&noise(8 << 20, 14)));
    assert!(!resemble(&old[..3 << 20]), "a small part of it");
}

#[test]
fn a_value_is_taken_only_between_blocks_and_not_for_the_first() {
    let bytes = noise(64 * KIB, 12);
    let (_, known) = sums_of(&bytes, block(16));
    let mut builder = SumBuilder::new(block(16));
    let first = known.whole_block(0).unwrap();
    assert!(!builder.push_known(first));
    builder.push(&bytes[..100]);
    assert!(!builder.push_known(first));
    builder.push(&bytes[100..16 * KIB]);
    assert!(builder.push_known(known.whole_block(16 << 10).unwrap()));
    assert!(known.whole_block(1).is_none());
}

#[test]
fn sums_merge_to_the_plain_hash_around_every_boundary() {
    let bytes = noise(600 * KIB, 1);
    for kib in [1, 2, 16, 256] {
        let size = kib as usize * KIB;
        for count in [0, 1, 2, 3, 4, 5, 7, 8, 9, 17] {
            for len in [
                count * size,
                count * size + 1,
                (count * size).saturating_sub(1),
            ] {
                let Some(bytes) = bytes.get(..len) else {
                    continue;
                };
                let (hash, sums) = sums_of(bytes, block(kib));
                assert_eq!(hash, ContentHash::of(bytes), "{len} in blocks of {size}");
                assert_eq!(hash, hash_file(bytes, len as u64).unwrap());
                assert_eq!(sums.sums().sums().len(), len.div_ceil(size));
            }
        }
    }
}

#[test]
fn sums_of_several_pieces_are_those_of_one_pass() {
    for len in [4 << 20, (4 << 20) + 1, (12 << 20) - 1, (16 << 20) + 70_000] {
        let bytes = noise(len, 2);
        for kib in [2, 16, 4096] {
            let (hash, sums) = sums_of(&bytes, block(kib));
            let mut builder = SumBuilder::new(block(kib));
            builder.push(&bytes);
            assert_eq!((hash, Some(sums)), builder.finish(), "{len} in {kib} KiB");
            assert_eq!(hash, ContentHash::of(&bytes));
        }
    }
}

#[test]
fn appended_bytes_alone_are_sent_and_nothing_is_asked() {
    let basis = noise(100_001, 3);
    let mut new = basis.clone();
    new.extend(noise(5000, 4));
    let (ops, requests) = staged(&basis, &new, block(8));
    assert_eq!(requests, 0);
    assert_eq!(rebuild(&basis, &new, &ops), 5000);
    let ops = searched(&basis, &new, WindowSize::MIN);
    assert_eq!(rebuild(&basis, &new, &ops), 5000);
}

#[test]
fn equal_files_cost_nothing() {
    for basis in [noise(100_001, 5), vec![0; 100_000]] {
        let (ops, requests) = staged(&basis, &basis, block(8));
        assert_eq!(requests, 0);
        let whole = [Op::Copy {
            basis_offset: 0,
            len: basis.len() as u64,
        }];
        assert_eq!(ops, whole);
        assert_eq!(searched(&basis, &basis, WindowSize::MIN), whole);
    }
}

#[test]
fn insertion_costs_itself_and_one_window() {
    let basis = noise(300_000, 6);
    let mut new = basis.clone();
    Edit::Insert(123_457, noise(99, 7)).apply(&mut new);
    for ops in [
        searched(&basis, &new, WindowSize::MIN),
        staged(&basis, &new, block(32)).0,
    ] {
        assert!(rebuild(&basis, &new, &ops) <= 99 + 512);
    }
}

#[test]
fn swapped_halves_are_moved() {
    let basis = noise(256 * KIB, 8);
    let new = [&basis[100_000..], &basis[..100_000]].concat();
    for ops in [
        searched(&basis, &new, WindowSize::MIN),
        staged(&basis, &new, block(16)).0,
    ] {
        let literal_bytes = rebuild(&basis, &new, &ops);
        assert!(literal_bytes <= 2 * 512, "{literal_bytes}");
    }
}

#[test]
fn copy_of_what_stays_in_place_is_found() {
    let basis = noise(1 << 20, 9);
    let mut new = basis.clone();
    Edit::Duplicate(0, 900_000, 950_000).apply(&mut new);
    let (ops, requests) = staged(&basis, &new, block(16));
    assert_eq!(requests, 2);
    assert!(rebuild(&basis, &new, &ops) <= 4 * KIB as u64);
}

#[test]
fn match_deep_in_a_long_region_is_found_across_pieces() {
    let basis = noise(3 << 20, 10);
    let new = [&noise((17 << 20) + 5, 11)[..], &basis].concat();
    let ops = searched(&basis, &new, WindowSize::for_len(3 << 20));
    assert_eq!(rebuild(&basis, &new, &ops), (17 << 20) + 5);
}

#[test]
fn scattered_edits_of_a_large_file_cost_little_on_the_wire() {
    // A sixteenth of 1 GiB with 200 edits, in the blocks that 1 GiB gets and with a sixteenth of
    // the edits.
    let basis = noise(64 << 20, 12);
    let mut new = basis.clone();
    for i in 0..12 {
        Edit::Overwrite(i * 5_400_001 + 777, noise(4096, 100 + i as u64)).apply(&mut new);
    }
    let block = BlockSize::for_len(1 << 30);
    let (_, basis_sums) = sums_of(&basis, block);
    let (_, new_sums) = sums_of(&new, block);
    let mut draft = Draft::aligned(&basis_sums.sums(), &new_sums.sums(), &new).unwrap();
    let mut wire = basis_sums.sums().as_bytes().len();
    while let Some(spec) = draft.request() {
        let signature = Signature::of_basis(&basis, spec, TWO).unwrap();
        wire += signature.as_bytes().len();
        draft.search(&signature, &new, TWO).unwrap();
    }
    wire += rebuild(&basis, &new, &draft.into_ops()) as usize;
    assert!(wire <= (2 << 20) / 16, "{wire}");
}

#[test]
fn zeros_are_one_block_of_the_signature_many_times() {
    let mut basis = noise(64 * KIB, 13);
    basis.extend(vec![0; 2 * KIB]);
    let new = [&vec![0; 200 * KIB][..], &basis].concat();
    let ops = searched(&basis, &new, WindowSize::MIN);
    assert_eq!(rebuild(&basis, &new, &ops), 0);
}
