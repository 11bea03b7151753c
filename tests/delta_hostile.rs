//! What a far end that lies can say about a delta: everything is refused or harmless, nothing
//! panics, and no sum or length buys unbounded work.

#![allow(clippy::unwrap_used)] // A helper of tests that unwraps has said what it expects.
#![allow(clippy::single_range_in_vec_init, clippy::reversed_empty_ranges)] // They are the subject.

use std::num::NonZeroUsize;
use std::time::Instant;

use cutover::delta::{
    BlockSize, BlockSums, DeltaError, Draft, MAX_BLOCKS, Op, Signature, SignatureSpec, WindowSize,
};
use proptest::prelude::*;
use serde::Serialize;

const ONE: NonZeroUsize = NonZeroUsize::new(1).unwrap();

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = postcard::from_bytes::<BlockSums>(&bytes);
        let _ = postcard::from_bytes::<SignatureSpec>(&bytes);
        let _ = postcard::from_bytes::<Signature>(&bytes);
        let _ = postcard::from_bytes::<BlockSize>(&bytes);
        let _ = postcard::from_bytes::<WindowSize>(&bytes);
    }

    #[test]
    fn any_change_to_a_signature_is_refused_or_searched(
        flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8),
    ) {
        let basis: Vec<u8> = (0..40_000u32).map(|i| ((i * i) >> 5) as u8).collect();
        let spec = SignatureSpec::new(40_000, WindowSize::MIN, vec![0..9000, 9500..40_000]).unwrap();
        let signature = Signature::of_basis(&basis, spec, ONE).unwrap();
        let mut bytes = postcard::to_stdvec(&signature).unwrap();
        for (at, with) in flips {
            let len = bytes.len();
            // Half of the changes go to the few bytes before the sums.
            bytes[if at % 2 == 0 { at % 16 } else { at % len }] = with;
        }
        if let Ok(signature) = postcard::from_bytes::<Signature>(&bytes) {
            let mut draft = Draft::blank(40_000, 40_000);
            draft.search(&signature, &basis, ONE).unwrap();
            draft.into_ops();
        }
    }
}

#[test]
fn decoded_values_are_the_encoded_ones() {
    let basis = vec![7; 10_000];
    let spec = SignatureSpec::new(10_000, WindowSize::MIN, vec![0..512, 1000..10_000]).unwrap();
    let signature = Signature::of_basis(&basis, spec, ONE).unwrap();
    let bytes = postcard::to_stdvec(&signature).unwrap();
    assert_eq!(postcard::from_bytes::<Signature>(&bytes), Ok(signature));

    let sums = BlockSums::from_bytes(BlockSize::MIN, 10_000, &[9; 160]).unwrap();
    let bytes = postcard::to_stdvec(&sums).unwrap();
    assert_eq!(postcard::from_bytes::<BlockSums>(&bytes), Ok(sums));
}

#[test]
fn sums_of_another_length_are_refused() {
    for (len, bytes) in [(0, 16), (1024, 0), (1024, 32), (1025, 16), (1024, 17)] {
        let sums = BlockSums::from_bytes(BlockSize::MIN, len, &vec![0; bytes]);
        assert!(
            matches!(sums, Err(DeltaError::WrongCount { .. })),
            "{len} {bytes}"
        );
    }
    let sums = BlockSums::from_bytes(BlockSize::MIN, u64::MAX, &[]);
    assert!(matches!(sums, Err(DeltaError::TooManyBlocks(_))));
}

#[test]
fn ranges_outside_or_out_of_order_are_refused() {
    for ranges in [
        vec![0..1001],
        vec![500..400],
        vec![10..10],
        vec![100..300, 200..400],
        vec![500..600, 0..100],
        vec![u64::MAX - 1..u64::MAX],
    ] {
        let spec = SignatureSpec::new(1000, WindowSize::MIN, ranges.clone());
        assert!(matches!(spec, Err(DeltaError::BadRange(_))), "{ranges:?}");
    }
    let spec = SignatureSpec::whole_in((MAX_BLOCKS + 1) * 512, WindowSize::MIN);
    assert!(matches!(spec, Err(DeltaError::TooManyBlocks(_))));
}

#[test]
fn announced_length_alone_allocates_nothing() {
    /// The form of a [`Signature`] with the sums' length only announced.
    #[derive(Serialize)]
    struct Announced {
        basis_len: u64,
        window: u32,
        ranges: Vec<std::ops::Range<u64>>,
        entries_len: u64,
    }
    let bytes = postcard::to_stdvec(&Announced {
        basis_len: 1 << 40,
        window: 4 << 20,
        ranges: vec![0..1 << 40],
        entries_len: 1 << 60,
    })
    .unwrap();
    assert!(postcard::from_bytes::<Signature>(&bytes).is_err());
}

#[test]
fn sums_that_collide_everywhere_do_not_buy_endless_work() {
    // Each window of zeros has this signature's rolling sum and sample, and no block's MD4.
    let zeros = vec![0; 8 << 20];
    let window = WindowSize::new(64 << 10).unwrap();
    let spec = SignatureSpec::whole_in(64 << 10, window).unwrap();
    let honest = Signature::of_basis(&zeros, spec.clone(), ONE).unwrap();
    let mut entry = honest.as_bytes().to_vec();
    entry[4] ^= 1;
    let hostile = Signature::from_bytes(spec, &entry).unwrap();
    let started = Instant::now();
    let mut draft = Draft::blank(64 << 10, zeros.len() as u64);
    draft.search(&hostile, &zeros, ONE).unwrap();
    // An MD4 at each of 8 Mi offsets would take minutes.
    assert!(started.elapsed().as_secs() < 5);
    assert_eq!(
        draft.into_ops(),
        [Op::Literal {
            len: zeros.len() as u64
        }]
    );
}

#[test]
fn colliding_rolling_sums_fill_no_more_than_their_places() {
    let spec = SignatureSpec::whole_in(512 * 20_000, WindowSize::MIN).unwrap();
    let entries: Vec<u8> = (0..20_000u64)
        .flat_map(|i| {
            let mut entry = [0; 12];
            entry[4..].copy_from_slice(&i.to_le_bytes());
            entry
        })
        .collect();
    let signature = Signature::from_bytes(spec, &entries).unwrap();
    let new = vec![5; 1 << 20];
    let started = Instant::now();
    let mut draft = Draft::blank(512 * 20_000, new.len() as u64);
    draft.search(&signature, &new, ONE).unwrap();
    assert!(started.elapsed().as_secs() < 5);
}

#[test]
fn blocks_at_the_end_of_the_number_range_are_harmless() {
    let new = vec![3; 4096];
    let range = u64::MAX - 700..u64::MAX;
    let spec = SignatureSpec::new(u64::MAX, WindowSize::MIN, vec![range]).unwrap();
    let honest = SignatureSpec::whole_in(700, WindowSize::MIN).unwrap();
    let sums = Signature::of_basis(&vec![3; 700], honest, ONE).unwrap();
    let signature = Signature::from_bytes(spec, sums.as_bytes()).unwrap();
    let mut draft = Draft::blank(700, new.len() as u64);
    draft.search(&signature, &new, ONE).unwrap();
    // Whoever writes the file refuses what is beyond the basis.
    let beyond = |op: &Op| matches!(op, Op::Copy { basis_offset, .. } if *basis_offset > 700);
    assert!(draft.into_ops().iter().any(beyond));
}
