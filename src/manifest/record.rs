//! Records: the canonical bytes of what an entry is, and the rules that both ends agreed on for
//! writing them. Equal records mean "nothing to do"; `doc/format.md` has the layout.

use serde::{Deserialize, Serialize};
use serde_bytes::{ByteBuf, Bytes};

use crate::digest::{ContentHash, Digest};
use crate::entry::{EntryKind, Metadata, Timestamp, Xattr};
use crate::fs::XattrSelect;
use crate::manifest::compact::Pack;
use crate::options::Fidelity;
use crate::path::Name;

/// Opens every listing's bytes: a change of the layout changes all digests at once.
const LAYOUT: &[u8] = b"cutover records 1\n";

/// Listings up to this size have one digest; larger ones are split into buckets so that one
/// changed name in a huge directory does not send the whole listing again. A bucket of about 256
/// records is 16 to 30 KiB on the wire, and a million names need 4096 bucket digests (64 KiB).
pub const BUCKET_ENTRIES: usize = 256;

/// What both ends agreed to put into records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordRules {
    /// The properties that are preserved and so compared.
    pub fidelity: Fidelity,
    /// The coarser side's mtime granularity in nanoseconds.
    pub granularity_ns: u64,
    /// Whether files' records hold their content hash.
    pub content: bool,
}

impl RecordRules {
    /// Reduces metadata to what is preserved, so that what is not cannot differ.
    pub fn normalize(&self, meta: Metadata) -> Metadata {
        let fidelity = &self.fidelity;
        let keeps_time = match meta.kind {
            EntryKind::Dir => fidelity.dir_times,
            EntryKind::Symlink => fidelity.link_times,
            _ => fidelity.times,
        };
        let has_mode = fidelity.perms && meta.kind != EntryKind::Symlink;
        Metadata {
            kind: meta.kind,
            mode: if has_mode { meta.mode } else { 0 },
            uid: if fidelity.owner { meta.uid } else { 0 },
            gid: if fidelity.group { meta.gid } else { 0 },
            mtime: if keeps_time {
                meta.mtime.cut(self.granularity_ns)
            } else {
                Timestamp::default()
            },
            size: if meta.kind == EntryKind::File {
                meta.size
            } else {
                0
            },
            rdev: if meta.kind.is_device() {
                meta.rdev
            } else {
                (0, 0)
            },
        }
    }

    /// Which extended attributes take part.
    pub fn xattrs(&self) -> XattrSelect {
        XattrSelect::of(&self.fidelity)
    }

    /// Whether extended attributes must be read at all.
    pub fn reads_xattrs(&self) -> bool {
        !self.xattrs().is_empty()
    }

    /// Whether entries of this kind take part.
    pub fn takes(&self, kind: EntryKind) -> bool {
        match kind {
            EntryKind::File | EntryKind::Dir => true,
            EntryKind::Symlink => self.fidelity.symlinks,
            EntryKind::Fifo | EntryKind::Socket => self.fidelity.specials,
            EntryKind::CharDevice | EntryKind::BlockDevice => self.fidelity.devices,
        }
    }
}

/// One entry as a listing holds it and as it crosses the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name in its directory.
    pub name: Name,
    /// Its metadata in the destination's terms: owners mapped, but not reduced to the agreed
    /// fidelity (a new file needs a mode even where modes are not preserved).
    pub meta: Metadata,
    /// A symlink's target; empty for the rest.
    #[serde(with = "serde_bytes")]
    pub target: Vec<u8>,
    /// Extended attributes that take part, sorted by name.
    pub xattrs: Vec<Xattr>,
    /// A file's content hash, in content mode or where size and mtime are not to be trusted.
    pub content: Option<ContentHash>,
    /// A hard-linked file's group: equal numbers share one file. Valid within one session.
    pub link: Option<u64>,
}

impl Entry {
    /// Appends the entry's record.
    pub fn write_record(&self, rules: &RecordRules, out: &mut Vec<u8>) {
        let meta = rules.normalize(self.meta);
        write_varint(out, self.name.as_bytes().len() as u64);
        out.extend_from_slice(self.name.as_bytes());
        out.push(meta.kind as u8);
        out.extend_from_slice(&meta.mode.to_le_bytes());
        out.extend_from_slice(&meta.uid.to_le_bytes());
        out.extend_from_slice(&meta.gid.to_le_bytes());
        out.extend_from_slice(&meta.mtime.secs.to_le_bytes());
        out.extend_from_slice(&meta.mtime.nanos.to_le_bytes());
        out.extend_from_slice(&meta.size.to_le_bytes());
        if meta.kind.is_device() {
            out.extend_from_slice(&meta.rdev.0.to_le_bytes());
            out.extend_from_slice(&meta.rdev.1.to_le_bytes());
        }
        if meta.kind == EntryKind::Symlink {
            write_varint(out, self.target.len() as u64);
            out.extend_from_slice(&self.target);
        }
        if self.xattrs.is_empty() {
            out.push(0);
        } else {
            out.push(1);
            out.extend_from_slice(&xattrs_digest(&self.xattrs).0);
        }
        match &self.content {
            None => out.push(0),
            Some(hash) => {
                out.push(1);
                out.extend_from_slice(&hash.0);
            }
        }
    }

    /// Whether both entries have the same record under `rules`.
    pub fn same_record(&self, other: &Entry, rules: &RecordRules) -> bool {
        self.name == other.name
            && rules.normalize(self.meta) == rules.normalize(other.meta)
            && (self.meta.kind != EntryKind::Symlink || self.target == other.target)
            && self.xattrs == other.xattrs
            && self.content == other.content
    }
}

/// What an entry is, apart from its name.
pub type Nameless<'a> = (
    Metadata,
    &'a Bytes,
    &'a [Xattr],
    Option<ContentHash>,
    Option<u64>,
);

/// The same, read.
pub type NamelessRead = (
    Metadata,
    ByteBuf,
    Vec<Xattr>,
    Option<ContentHash>,
    Option<u64>,
);

impl Pack for Entry {
    type Rest<'a> = Nameless<'a>;
    type Read = NamelessRead;

    fn key(&self) -> &[u8] {
        self.name.as_bytes()
    }

    fn rest(&self) -> Nameless<'_> {
        (
            self.meta,
            Bytes::new(&self.target),
            &self.xattrs,
            self.content,
            self.link,
        )
    }

    fn join(key: &[u8], (meta, target, xattrs, content, link): NamelessRead) -> Option<Entry> {
        Some(Entry {
            name: Name::new(key).ok()?,
            meta,
            target: target.into_vec(),
            xattrs,
            content,
            link,
        })
    }
}

/// The digest of a sorted set of extended attributes.
pub fn xattrs_digest(xattrs: &[Xattr]) -> Digest {
    let mut bytes = Vec::with_capacity(256);
    for xattr in xattrs {
        write_varint(&mut bytes, xattr.name.len() as u64);
        bytes.extend_from_slice(&xattr.name);
        write_varint(&mut bytes, xattr.value.len() as u64);
        bytes.extend_from_slice(&xattr.value);
    }
    Digest::of(&bytes)
}

/// The shallow digest of a directory: over the records of its entries, which must be sorted by
/// name bytes.
pub fn shallow_digest(entries: &[&Entry], rules: &RecordRules) -> Digest {
    let mut digester = ShallowDigester::new(entries.len(), rules);
    entries.iter().for_each(|entry| digester.add(entry));
    digester.finish()
}

/// Makes the shallow digest of a directory whose entries come one by one, sorted by name bytes.
pub struct ShallowDigester<'a>(BucketDigester<'a>);

impl<'a> ShallowDigester<'a> {
    /// One for a directory with so many entries.
    pub fn new(entries: usize, rules: &'a RecordRules) -> ShallowDigester<'a> {
        ShallowDigester(BucketDigester::new(bucket_bits(entries), rules))
    }

    /// Takes the next entry.
    pub fn add(&mut self, entry: &Entry) {
        self.0.add(entry);
    }

    /// The digest of all.
    pub fn finish(self) -> Digest {
        self.finish_with_buckets().0
    }

    /// The digest of all, and [the buckets' digests, cut](Digest::cut); none where there is one
    /// bucket only.
    pub fn finish_with_buckets(self) -> (Digest, Box<[u64]>) {
        let digests = self.0.finish();
        if let [digest] = digests[..] {
            return (digest, Box::default());
        }
        let mut hasher = blake3::Hasher::new();
        for digest in &digests {
            hasher.update(&digest.0);
        }
        let cut = digests.iter().map(Digest::cut).collect();
        (hasher.finalize().into(), cut)
    }
}

/// How many bits of a name's hash choose its bucket in a listing of so many entries; 0 means one
/// bucket.
pub fn bucket_bits(entries: usize) -> u32 {
    if entries <= 4 * BUCKET_ENTRIES {
        return 0;
    }
    (entries / BUCKET_ENTRIES).ilog2().min(MAX_BUCKET_BITS)
}

/// Bounds what a peer can make us allocate for bucket digests: 65,536 of them.
pub const MAX_BUCKET_BITS: u32 = 16;

/// The bucket of a name: the leading bits of its 64-bit FNV-1a hash, folded once because FNV
/// mixes its high bits last.
pub fn bucket_of(name: &Name, bits: u32) -> usize {
    if bits == 0 {
        return 0;
    }
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in name.as_bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    let folded = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (folded >> (64 - bits)) as usize
}

/// The digests of all `2^bits` buckets of a listing.
pub fn bucket_digests(entries: &[&Entry], bits: u32, rules: &RecordRules) -> Vec<Digest> {
    let mut digester = BucketDigester::new(bits, rules);
    entries.iter().for_each(|entry| digester.add(entry));
    digester.finish()
}

/// Makes the digests of all `2^bits` buckets of a listing whose entries come one by one, sorted by
/// name bytes.
pub struct BucketDigester<'a> {
    rules: &'a RecordRules,
    bits: u32,
    buckets: Vec<Bucket>,
}

struct Bucket {
    hasher: blake3::Hasher,
    /// Records that are not hashed yet.
    bytes: Vec<u8>,
}

impl<'a> BucketDigester<'a> {
    /// Records are hashed many at a time: BLAKE3 is fastest on 16 KiB and more.
    const CHUNK: usize = 32 << 10;
    /// Of many buckets each must be content with little.
    const SMALL_CHUNK: usize = 1 << 10;

    /// One for so many buckets.
    pub fn new(bits: u32, rules: &'a RecordRules) -> BucketDigester<'a> {
        let bucket = || Bucket {
            hasher: blake3::Hasher::new(),
            bytes: LAYOUT.to_vec(),
        };
        BucketDigester {
            rules,
            bits,
            buckets: (0..1_usize << bits).map(|_| bucket()).collect(),
        }
    }

    /// Takes the next entry.
    pub fn add(&mut self, entry: &Entry) {
        let bucket = &mut self.buckets[bucket_of(&entry.name, self.bits)];
        entry.write_record(self.rules, &mut bucket.bytes);
        let chunk = match self.bits {
            0 => Self::CHUNK,
            _ => Self::SMALL_CHUNK,
        };
        if bucket.bytes.len() >= chunk {
            bucket.hasher.update(&bucket.bytes);
            bucket.bytes.clear();
        }
    }

    /// The digests.
    pub fn finish(self) -> Vec<Digest> {
        let digest = |mut bucket: Bucket| {
            bucket.hasher.update(&bucket.bytes);
            bucket.hasher.finalize().into()
        };
        self.buckets.into_iter().map(digest).collect()
    }
}

/// The deep digest of a directory: its shallow digest, then its subdirectories' deep digests in
/// the order of their names.
pub fn deep_digest(shallow: Digest, children: impl Iterator<Item = Digest>) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&shallow.0);
    for child in children {
        hasher.update(&child.0);
    }
    hasher.finalize().into()
}

/// LEB128, as postcard writes integers.
fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> RecordRules {
        RecordRules {
            fidelity: Fidelity::default(),
            granularity_ns: 1,
            content: false,
        }
    }

    fn entry(name: &str) -> Entry {
        Entry {
            name: Name::new(name.as_bytes()).unwrap(),
            meta: Metadata {
                kind: EntryKind::File,
                mode: 0o644,
                uid: 1,
                gid: 2,
                mtime: Timestamp { secs: 3, nanos: 4 },
                size: 5,
                rdev: (0, 0),
            },
            target: Vec::new(),
            xattrs: Vec::new(),
            content: None,
            link: None,
        }
    }

    #[test]
    fn every_preserved_field_changes_the_digest() {
        let plain = shallow_digest(&[&entry("a")], &rules());
        let changed = |change: fn(&mut Entry)| {
            let mut other = entry("a");
            change(&mut other);
            assert!(!other.same_record(&entry("a"), &rules()));
            shallow_digest(&[&other], &rules())
        };
        let variants = [
            changed(|e| e.meta.mode = 0o4644),
            changed(|e| e.meta.uid = 9),
            changed(|e| e.meta.gid = 9),
            changed(|e| e.meta.mtime.nanos = 5),
            changed(|e| e.meta.size = 6),
            changed(|e| e.meta.kind = EntryKind::Fifo),
            changed(|e| e.content = Some(ContentHash::default())),
            changed(|e| {
                e.xattrs.push(Xattr {
                    name: b"user.a".to_vec(),
                    value: b"1".to_vec(),
                })
            }),
            changed(|e| e.name = Name::new(b"b").unwrap()),
        ];
        for (i, variant) in variants.iter().enumerate() {
            assert_ne!(*variant, plain, "variant {i}");
        }
    }

    #[test]
    fn what_is_not_preserved_does_not_change_the_digest() {
        let mut loose = rules();
        loose.fidelity.perms = false;
        loose.fidelity.owner = false;
        loose.fidelity.times = false;
        let mut other = entry("a");
        other.meta.mode = 0o600;
        other.meta.uid = 77;
        other.meta.mtime.secs = 99;
        assert_eq!(
            shallow_digest(&[&entry("a")], &loose),
            shallow_digest(&[&other], &loose)
        );
    }

    #[test]
    fn a_changed_name_in_a_huge_listing_changes_one_bucket() {
        let mut entries: Vec<Entry> = (0..5000).map(|i| entry(&format!("f{i:05}"))).collect();
        let bits = bucket_bits(entries.len());
        assert!(bits > 0);
        let digests =
            |entries: &[Entry]| bucket_digests(&entries.iter().collect::<Vec<_>>(), bits, &rules());
        let before = digests(&entries);
        entries[1234].meta.size += 1;
        let after = digests(&entries);
        let differing = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert_eq!(differing, 1);
    }

    #[test]
    fn buckets_of_sequential_names_are_even() {
        let bits = 6;
        let mut counts = vec![0usize; 1 << bits];
        for i in 0..64 * 256 {
            counts[bucket_of(&Name::new(format!("f{i:06}").as_bytes()).unwrap(), bits)] += 1;
        }
        assert!(
            counts.iter().all(|&n| (128..512).contains(&n)),
            "{counts:?}"
        );
    }
}
