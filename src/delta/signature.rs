//! The signature of a basis: for each window-sized block a rolling sum and a strong sum that hold
//! at any offset. The aligned kind of sum, which yields the content hash as well, is in `sums`.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;

use fast_rsync::SignatureOptions;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::parallel;
use super::{DeltaError, MAX_BLOCKS, ReadAt, WindowSize};

/// What a signature holds of one block: the rolling sum, a cut MD4 and a sample.
///
/// 96 bits in all. The content hash of the finished file decides whether the delta was right, so
/// these only have to make a false match rare: 2^42 offsets against 2^22 blocks leave a chance of
/// 2^-32 for a second transfer. MD4 is broken as a cryptographic hash, which lets an attacker who
/// writes both files slow their transfer down, and no more; it is here because `fast_rsync`
/// computes eight at a time, at 5 GB/s a core.
pub(super) type Entry = [u8; ENTRY_LEN];

const ENTRY_LEN: usize = ROLLING_LEN + MD4_LEN + SAMPLE_LEN;
const ROLLING_LEN: usize = 4;
const MD4_LEN: usize = 6;
const SAMPLE_LEN: usize = 2;

/// librsync's header: magic, block size, length of the strong sums.
const HEADER_LEN: usize = 12;

/// How much one thread reads and sums at a time.
const PIECE_BYTES: u64 = 4 << 20;

/// Of which bytes of a basis a signature is wanted, and in blocks of which size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSpec", into = "RawSpec")]
pub struct SignatureSpec {
    basis_len: u64,
    window: WindowSize,
    ranges: Vec<Range<u64>>,
    /// The index of each range's first block.
    firsts: Vec<u64>,
    blocks: u64,
}

/// The serialized form, not yet checked.
#[derive(Serialize, Deserialize)]
struct RawSpec {
    basis_len: u64,
    window: WindowSize,
    ranges: Vec<Range<u64>>,
}

impl SignatureSpec {
    /// A signature over `ranges`, which are in order, apart and inside the basis. Each is cut into
    /// blocks from its own start; its last block may be short.
    pub fn new(
        basis_len: u64,
        window: WindowSize,
        ranges: Vec<Range<u64>>,
    ) -> Result<SignatureSpec, DeltaError> {
        let mut end = 0;
        let mut blocks = 0;
        let mut firsts = Vec::with_capacity(ranges.len());
        for range in &ranges {
            if range.start < end || range.start >= range.end || range.end > basis_len {
                return Err(DeltaError::BadRange(range.clone()));
            }
            end = range.end;
            firsts.push(blocks);
            blocks += window.count(range.end - range.start);
        }
        if blocks > MAX_BLOCKS {
            return Err(DeltaError::TooManyBlocks(blocks));
        }
        Ok(SignatureSpec {
            basis_len,
            window,
            ranges,
            firsts,
            blocks,
        })
    }

    /// A signature over the whole basis, with the window that fits its length.
    pub fn whole(basis_len: u64) -> Result<SignatureSpec, DeltaError> {
        SignatureSpec::whole_in(basis_len, WindowSize::for_len(basis_len))
    }

    /// A signature over the whole basis in windows of a given size.
    pub fn whole_in(basis_len: u64, window: WindowSize) -> Result<SignatureSpec, DeltaError> {
        let whole = 0..basis_len;
        let ranges = Some(whole).filter(|whole| !whole.is_empty());
        SignatureSpec::new(basis_len, window, ranges.into_iter().collect())
    }

    /// The length of the basis.
    pub fn basis_len(&self) -> u64 {
        self.basis_len
    }

    /// The size of a block.
    pub fn window(&self) -> WindowSize {
        self.window
    }

    /// How many bytes the blocks' sums take on the wire.
    pub fn wire_bytes(&self) -> u64 {
        self.blocks * ENTRY_LEN as u64
    }

    /// Where in the basis block `index` is.
    pub(super) fn block(&self, index: u32) -> Option<Range<u64>> {
        let index = u64::from(index);
        let at = self.firsts.partition_point(|first| *first <= index);
        let range = self.ranges.get(at.checked_sub(1)?)?;
        let start = range.start + (index - self.firsts[at - 1]) * self.window.bytes();
        (start < range.end).then(|| start..range.end.min(start.saturating_add(self.window.bytes())))
    }

    /// The block that starts at `offset` of the basis.
    pub(super) fn starting_at(&self, offset: u64) -> Option<u32> {
        let at = self.ranges.partition_point(|range| range.end <= offset);
        let range = self.ranges.get(at)?;
        let into = offset.checked_sub(range.start)?;
        let index = self.firsts[at] + into / self.window.bytes();
        (into % self.window.bytes() == 0).then_some(index as u32)
    }
}

impl TryFrom<RawSpec> for SignatureSpec {
    type Error = DeltaError;

    fn try_from(raw: RawSpec) -> Result<SignatureSpec, DeltaError> {
        SignatureSpec::new(raw.basis_len, raw.window, raw.ranges)
    }
}

impl From<SignatureSpec> for RawSpec {
    fn from(spec: SignatureSpec) -> RawSpec {
        RawSpec {
            basis_len: spec.basis_len,
            window: spec.window,
            ranges: spec.ranges,
        }
    }
}

/// The sums of the blocks that a [`SignatureSpec`] names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSignature", into = "RawSignature")]
pub struct Signature {
    spec: SignatureSpec,
    entries: Vec<Entry>,
}

/// The serialized form, not yet checked.
#[derive(Serialize, Deserialize)]
struct RawSignature {
    spec: SignatureSpec,
    entries: ByteBuf,
}

impl Signature {
    /// Reads the basis on up to `threads` threads. One that is shorter than the spec says is an
    /// [`io::ErrorKind::UnexpectedEof`].
    pub fn of_basis(
        basis: &(impl ReadAt + ?Sized),
        spec: SignatureSpec,
        threads: NonZeroUsize,
    ) -> io::Result<Signature> {
        let window = spec.window;
        let pieces: Vec<_> = spec
            .ranges
            .iter()
            .flat_map(|range| parallel::cut(range.clone(), PIECE_BYTES))
            .collect();
        let parts = parallel::map(&pieces, threads, |piece, buf| {
            buf.resize((piece.end - piece.start) as usize, 0);
            basis.read_exact_at(buf, piece.start)?;
            let mut entries = Vec::new();
            append_entries(buf, window, &mut entries);
            Ok(entries)
        })?;
        let entries = parts.concat();
        Ok(Signature { spec, entries })
    }

    /// The signature as it came from the far end.
    pub fn from_bytes(spec: SignatureSpec, bytes: &[u8]) -> Result<Signature, DeltaError> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_LEN>();
        if !rest.is_empty() || entries.len() as u64 != spec.blocks {
            return Err(DeltaError::WrongCount {
                expected: spec.blocks,
                bytes: bytes.len(),
            });
        }
        let entries = entries.to_vec();
        Ok(Signature { spec, entries })
    }

    /// The sums in the order of the blocks; with the spec, all there is.
    pub fn as_bytes(&self) -> &[u8] {
        self.entries.as_flattened()
    }

    /// What the signature is of.
    pub fn spec(&self) -> &SignatureSpec {
        &self.spec
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

impl TryFrom<RawSignature> for Signature {
    type Error = DeltaError;

    fn try_from(raw: RawSignature) -> Result<Signature, DeltaError> {
        Signature::from_bytes(raw.spec, &raw.entries)
    }
}

impl From<Signature> for RawSignature {
    fn from(signature: Signature) -> RawSignature {
        let entries = ByteBuf::from(signature.as_bytes());
        RawSignature {
            spec: signature.spec,
            entries,
        }
    }
}

/// Appends the entries of the blocks of `data`, the last of which may be short.
pub(super) fn append_entries(data: &[u8], window: WindowSize, entries: &mut Vec<Entry>) {
    let options = SignatureOptions {
        block_size: window.into(),
        crypto_hash_size: MD4_LEN as u32,
    };
    let sums = fast_rsync::Signature::calculate(data, options);
    let (sums, _) = sums.serialized()[HEADER_LEN..].as_chunks::<{ ROLLING_LEN + MD4_LEN }>();
    entries.extend(
        sums.iter()
            .zip(data.chunks(window.len()))
            .map(|(sum, block)| {
                let mut entry = [0; ENTRY_LEN];
                entry[..ROLLING_LEN + MD4_LEN].copy_from_slice(sum);
                entry[ROLLING_LEN + MD4_LEN..].copy_from_slice(&sample(block).to_le_bytes());
                entry
            }),
    );
}

/// The rolling sum of a block, from its entry.
pub(super) fn rolling_of(entry: &Entry) -> u32 {
    u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]])
}

/// The sample of a block, from its entry.
pub(super) fn sample_of(entry: &Entry) -> u16 {
    u16::from_le_bytes([entry[10], entry[11]])
}

/// A hash of sixteen words spread over a block.
///
/// The rolling sum has 32 bits, so each offset of the new file meets one of n blocks' sums by
/// chance n/2^32 times; an MD4 of the window each time would cost a basis of 4 GiB as much as the
/// search itself, and one of 1 TiB 256 times that. The sample refutes all but one in 65,536 for
/// the price of sixteen loads.
pub(super) fn sample(block: &[u8]) -> u16 {
    // The golden ratio's bits: any odd number with a good mix of bits serves.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let stride = (block.len() / 16).max(size_of::<u64>());
    let hash = block
        .chunks(stride)
        .filter_map(|part| part.first_chunk())
        .fold(0u64, |hash, word| {
            (hash.rotate_left(29) ^ u64::from_le_bytes(*word)).wrapping_mul(FACTOR)
        });
    (hash >> 48) as u16
}
