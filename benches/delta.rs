//! Throughput of sums, signatures and the search, on one thread and 64 MiB of noise:
//! `cargo bench --bench delta`.

#![allow(clippy::unwrap_used)] // A benchmark that unwraps has said what it expects.

use std::num::NonZeroUsize;

use cutover::delta::{
    BlockSize, Draft, Op, Signature, SignatureSpec, WindowSize, hash_file, sum_file,
};
use divan::Bencher;
use divan::counter::BytesCount;

const ONE: NonZeroUsize = NonZeroUsize::new(1).unwrap();
const LEN: usize = 64 << 20;

fn main() {
    divan::main();
}

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; LEN];
    let mut reader = blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof();
    reader.fill(&mut bytes);
    bytes
}

/// One changed byte in each MiB.
fn edited(basis: &[u8]) -> Vec<u8> {
    let mut new = basis.to_vec();
    new.iter_mut()
        .skip(1000)
        .step_by(1 << 20)
        .for_each(|byte| *byte ^= 1);
    new
}

/// One inserted byte in each MiB.
fn shifted(basis: &[u8]) -> Vec<u8> {
    basis
        .chunks(1 << 20)
        .flat_map(|part| [&[7], part].concat())
        .collect()
}

fn whole(basis: &[u8], window: u32) -> Signature {
    let window = WindowSize::new(window).unwrap();
    let spec = SignatureSpec::whole_in(basis.len() as u64, window).unwrap();
    Signature::of_basis(basis, spec, ONE).unwrap()
}

fn searched(signature: &Signature, new: &[u8]) -> Vec<Op> {
    let mut draft = Draft::blank(signature.spec().basis_len(), new.len() as u64);
    draft.search(signature, new, ONE).unwrap();
    draft.into_ops()
}

#[divan::bench(sample_count = 10)]
fn hash(bencher: Bencher<'_, '_>) {
    let bytes = noise(1);
    bencher
        .counter(BytesCount::new(LEN))
        .bench(|| hash_file(&bytes, LEN as u64).unwrap());
}

#[divan::bench(sample_count = 10, args = [2 << 10, 16 << 10, 256 << 10])]
fn sums(bencher: Bencher<'_, '_>, block: u32) {
    let bytes = noise(1);
    let block = BlockSize::new(block).unwrap();
    bencher
        .counter(BytesCount::new(LEN))
        .bench(|| sum_file(&bytes, LEN as u64, block, ONE).unwrap());
}

#[divan::bench(sample_count = 10, args = [512, 8 << 10, 64 << 10])]
fn signature(bencher: Bencher<'_, '_>, window: u32) {
    let bytes = noise(1);
    bencher
        .counter(BytesCount::new(LEN))
        .bench(|| whole(&bytes, window));
}

#[divan::bench(sample_count = 10, args = [512, 8 << 10])]
fn search_where_all_matches(bencher: Bencher<'_, '_>, window: u32) {
    let bytes = noise(1);
    let signature = whole(&bytes, window);
    bencher
        .counter(BytesCount::new(LEN))
        .bench(|| searched(&signature, &bytes));
}

#[divan::bench(sample_count = 10, args = [512, 8 << 10])]
fn search_where_nothing_matches(bencher: Bencher<'_, '_>, window: u32) {
    let signature = whole(&noise(1), window);
    let new = noise(2);
    bencher
        .counter(BytesCount::new(LEN))
        .bench(|| searched(&signature, &new));
}

#[divan::bench(sample_count = 10)]
fn search_with_one_edit_a_mib(bencher: Bencher<'_, '_>) {
    let basis = noise(1);
    let (signature, new) = (whole(&basis, 8 << 10), edited(&basis));
    bencher
        .counter(BytesCount::new(LEN))
        .bench(|| searched(&signature, &new));
}

#[divan::bench(sample_count = 10)]
fn search_with_one_insertion_a_mib(bencher: Bencher<'_, '_>) {
    let basis = noise(1);
    let (signature, new) = (whole(&basis, 8 << 10), shifted(&basis));
    bencher
        .counter(BytesCount::new(LEN))
        .bench(|| searched(&signature, &new));
}
