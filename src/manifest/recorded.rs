//! A manifest as a file: every record of a tree with its content hashes, so that a copy can be
//! proven right when the source is gone. `doc/format.md` has the layout.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::entry::{EntryKind, Metadata, Timestamp};
use crate::error::{Error, Result};
use crate::events::Side;
use crate::filter::Rules;
use crate::fs::Stat;
use crate::manifest::links::Links;
use crate::manifest::listing::{Listing, Row};
use crate::manifest::owners::OwnerMap;
use crate::manifest::record::{Entry, RecordRules, shallow_digest};
use crate::manifest::scan::Scan;
use crate::manifest::state::StateUpdate;
use crate::manifest::tree::{NodeFlags, NodeId, Tree};
use crate::path::RelPath;

/// Opens a manifest file; the number is the layout's.
const MAGIC: &[u8] = b"cutover-manifest 1\n";

/// One record's length at most, in bytes: a directory of 4 million names.
const MAX_RECORD: usize = 1 << 30;

/// Fast, and records shrink to a quarter.
const ZSTD_LEVEL: i32 = 3;

/// What a manifest file says of the tree as a whole. Its first record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The root's own entry, owners as at the source.
    pub root: Entry,
    /// How fine the source's times are, in nanoseconds.
    pub granularity_ns: u64,
    /// What was preserved.
    pub rules: RecordRules,
}

/// One directory's entries, or the last record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Record {
    Dir {
        path: RelPath,
        entries: Vec<Entry>,
    },
    /// The names of the owners, and how many directories there are: a cut file has no end.
    End {
        users: Vec<(u32, String)>,
        groups: Vec<(u32, String)>,
        dirs: u64,
        /// BLAKE3 of all records before this one: a damaged file proves nothing.
        hash: Digest,
    },
}

/// Writes a manifest file.
pub struct Recorder<W: Write> {
    out: zstd::stream::Encoder<'static, W>,
    users: HashSet<u32>,
    groups: HashSet<u32>,
    dirs: u64,
    hasher: blake3::Hasher,
}

impl<W: Write> Recorder<W> {
    /// Starts a manifest.
    pub fn create(mut out: W, header: &Header) -> io::Result<Recorder<W>> {
        out.write_all(MAGIC)?;
        let mut recorder = Recorder {
            out: zstd::stream::Encoder::new(out, ZSTD_LEVEL)?,
            users: HashSet::new(),
            groups: HashSet::new(),
            dirs: 0,
            hasher: blake3::Hasher::new(),
        };
        recorder.note_owner(&header.root.meta);
        recorder.write(header)?;
        Ok(recorder)
    }

    /// Adds a directory.
    pub fn dir(&mut self, path: &RelPath, entries: Vec<Entry>) -> io::Result<()> {
        for entry in &entries {
            self.note_owner(&entry.meta);
        }
        self.dirs += 1;
        self.write(&Record::Dir {
            path: path.clone(),
            entries,
        })
    }

    fn note_owner(&mut self, meta: &Metadata) {
        self.users.insert(meta.uid);
        self.groups.insert(meta.gid);
    }

    /// Ends the manifest with the names of its owners.
    pub fn finish(
        mut self,
        user_name: impl Fn(u32) -> Option<String>,
        group_name: impl Fn(u32) -> Option<String>,
    ) -> io::Result<W> {
        let named = |ids: &HashSet<u32>, name: &dyn Fn(u32) -> Option<String>| {
            let mut named: Vec<_> = ids.iter().filter_map(|&id| Some((id, name(id)?))).collect();
            named.sort_unstable();
            named
        };
        let end = Record::End {
            users: named(&self.users, &user_name),
            groups: named(&self.groups, &group_name),
            dirs: self.dirs,
            hash: self.hasher.finalize().into(),
        };
        self.write(&end)?;
        self.out.finish()
    }

    fn write(&mut self, record: &impl Serialize) -> io::Result<()> {
        let bytes = postcard::to_stdvec(record).map_err(io::Error::other)?;
        if bytes.len() > MAX_RECORD {
            return Err(io::Error::other("a directory has too many entries for it"));
        }
        self.hasher.update(&bytes);
        self.out.write_all(&(bytes.len() as u32).to_le_bytes())?;
        self.out.write_all(&bytes)
    }
}

/// A manifest file, read.
#[derive(Debug)]
pub struct Recorded {
    /// What it says of the tree as a whole.
    pub header: Header,
    /// What its owners are called.
    pub names: OwnerNames,
    dirs: BTreeMap<RelPath, Vec<Entry>>,
}

/// The names of users and groups where the manifest was written.
#[derive(Clone, Debug, Default)]
pub struct OwnerNames {
    /// Users by number.
    pub users: HashMap<u32, String>,
    /// Groups by number.
    pub groups: HashMap<u32, String>,
}

impl Recorded {
    /// Whether a file looks like a manifest.
    pub fn is_one(path: &Path) -> bool {
        let mut start = [0; MAGIC.len()];
        File::open(path)
            .and_then(|mut file| file.read_exact(&mut start))
            .is_ok_and(|()| start == MAGIC)
    }

    /// Reads a manifest file.
    pub fn open(path: &Path) -> Result<Recorded> {
        let shown = path.as_os_str().as_encoded_bytes();
        let failed = |err: io::Error| Error::io("read manifest", shown, err);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        if !begins_as_one(&mut file).map_err(failed)? {
            return Err(Error::Usage(format!(
                "{} is no manifest of this version; write one with 'cutover manifest'",
                path.display()
            )));
        }
        Recorded::read_records(file, u64::MAX).map_err(failed)
    }

    /// Reads a manifest whose records take at most `most_bytes`: whoever wrote it may not be
    /// trusted with our memory.
    pub fn read(mut input: impl BufRead, most_bytes: u64) -> io::Result<Recorded> {
        if !begins_as_one(&mut input)? {
            return Err(damaged("it is no manifest of this version"));
        }
        Recorded::read_records(input, most_bytes)
    }

    fn read_records(input: impl BufRead, most_bytes: u64) -> io::Result<Recorded> {
        let mut input = zstd::stream::Decoder::with_buffer(input)?.take(most_bytes);
        let mut hasher = blake3::Hasher::new();
        let header: Header = read_record(&mut input, &mut hasher)?;
        let mut recorded = Recorded {
            header,
            names: OwnerNames::default(),
            dirs: BTreeMap::new(),
        };
        loop {
            let before: Digest = hasher.finalize().into();
            match read_record(&mut input, &mut hasher)? {
                Record::Dir { path, mut entries } => {
                    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                    recorded.dirs.insert(path, entries);
                }
                Record::End {
                    users,
                    groups,
                    dirs,
                    hash,
                } => {
                    if dirs != recorded.dirs.len() as u64 || hash != before {
                        return Err(damaged(
                            "it is damaged: its records do not have the hash at its end",
                        ));
                    }
                    recorded.names = OwnerNames {
                        users: users.into_iter().collect(),
                        groups: groups.into_iter().collect(),
                    };
                    return Ok(recorded);
                }
            }
        }
    }

    /// All directories that were read, with what is in them, in the order of their paths.
    pub fn dirs(&self) -> impl Iterator<Item = (&RelPath, &[Entry])> {
        self.dirs
            .iter()
            .map(|(path, entries)| (path, entries.as_slice()))
    }

    /// The entry at a path below the root.
    pub fn entry(&self, path: &RelPath) -> Option<&Entry> {
        let (parent, name) = (path.parent()?, path.file_name()?);
        let entries = self.entries(&parent);
        let at = entries.binary_search_by(|entry| entry.name.cmp(&name));
        at.ok().map(|at| &entries[at])
    }

    /// Brings the records into the terms of a session: owners and modes mapped, filters applied,
    /// content
    /// hashes only where they are compared.
    pub fn adapt(
        &mut self,
        rules: &RecordRules,
        filter: &Rules,
        owners: &dyn OwnerMap,
        modes: &dyn Fn(EntryKind, u16) -> u16,
    ) -> io::Result<()> {
        let mut dirs = std::mem::take(&mut self.dirs);
        let mut hidden: HashSet<RelPath> = HashSet::new();
        for (path, entries) in &mut dirs {
            if path.parent().is_some_and(|parent| hidden.contains(&parent)) {
                hidden.insert(path.clone());
            }
            entries.retain(|entry| {
                let is_dir = entry.meta.kind == EntryKind::Dir;
                let name = entry.name.as_bytes();
                let out = !rules.takes(entry.meta.kind)
                    || filter
                        .decide(path, name, is_dir, Side::Source)
                        .is_excluded();
                if out && is_dir {
                    hidden.insert(path.join(&entry.name));
                }
                !out
            });
            for entry in entries {
                adapt_entry(entry, rules, owners, modes)?;
            }
        }
        dirs.retain(|path, _| !hidden.contains(path));
        self.dirs = dirs;
        adapt_entry(&mut self.header.root, rules, owners, modes)
    }

    /// What a scan of the recorded tree would have left.
    pub fn scan(&self, rules: &RecordRules, links: &Links) -> Scan {
        let mut tree = Tree::default();
        let mut stack = vec![(NodeId::ROOT, RelPath::root())];
        while let Some((id, path)) = stack.pop() {
            let entries = self.entries(&path);
            let refs: Vec<&Entry> = entries.iter().collect();
            let subdirs: Vec<_> = entries
                .iter()
                .filter(|entry| entry.meta.kind == EntryKind::Dir)
                .map(|entry| &entry.name)
                .collect();
            let first = tree.add_children(id, subdirs.iter().copied());
            for (offset, name) in subdirs.iter().enumerate() {
                stack.push((Tree::nth(first, offset), path.join(name)));
            }
            for entry in entries.iter().filter(|entry| entry.link.is_some()) {
                links.add(&fabricate(entry), &path.join(&entry.name));
            }
            let node = tree.node_mut(id);
            node.shallow = shallow_digest(&refs, rules);
            node.entries = entries.len() as u32;
            node.bytes = entries.iter().map(size_of).sum();
            node.flags = NodeFlags {
                links: entries.iter().any(|entry| entry.link.is_some()),
                ..NodeFlags::default()
            };
        }
        tree.finish();
        let top = tree.node(NodeId::ROOT);
        Scan {
            root: self.header.root.clone(),
            root_stat: fabricate(&self.header.root),
            links: links.digest(),
            entries: top.total_entries,
            bytes: top.total_bytes,
            problems: Vec::new(),
            vanished: Vec::new(),
            leftovers: Vec::new(),
            outdated: BTreeSet::new(),
            update: StateUpdate::default(),
            tree,
        }
    }

    /// A directory's listing, as if it had been read.
    pub fn list(&self, path: &RelPath) -> Listing {
        let rows = self
            .entries(path)
            .iter()
            .map(|entry| Row {
                stat: fabricate(entry),
                entry: entry.clone(),
                protected: false,
            })
            .collect();
        Listing {
            rows,
            ..Listing::default()
        }
    }

    fn entries(&self, path: &RelPath) -> &[Entry] {
        self.dirs.get(path).map_or(&[], Vec::as_slice)
    }
}

fn adapt_entry(
    entry: &mut Entry,
    rules: &RecordRules,
    owners: &dyn OwnerMap,
    modes: &dyn Fn(EntryKind, u16) -> u16,
) -> io::Result<()> {
    let (uid, gid) = owners.owner(entry.meta.uid, entry.meta.gid)?;
    (entry.meta.uid, entry.meta.gid) = (uid, gid);
    entry.meta.mode = modes(entry.meta.kind, entry.meta.mode);
    let select = rules.xattrs();
    entry.xattrs.retain(|xattr| select.takes(&xattr.name));
    if !rules.fidelity.hard_links {
        entry.link = None;
    }
    if !rules.content {
        entry.content = None;
    }
    Ok(())
}

fn size_of(entry: &Entry) -> u64 {
    match entry.meta.kind {
        EntryKind::File => entry.meta.size,
        _ => 0,
    }
}

/// A stat of an entry that is on no filesystem; hard-linked ones share their group's number.
fn fabricate(entry: &Entry) -> Stat {
    Stat {
        meta: entry.meta,
        dev: 0,
        ino: entry.link.unwrap_or(u64::MAX),
        nlink: 1,
        ctime: Timestamp::default(),
        blocks: 0,
        mount_root: false,
    }
}

fn begins_as_one(input: &mut impl Read) -> io::Result<bool> {
    let mut magic = [0; MAGIC.len()];
    input.read_exact(&mut magic)?;
    Ok(magic == MAGIC)
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn read_record<T: for<'de> Deserialize<'de>>(
    input: &mut impl Read,
    hasher: &mut blake3::Hasher,
) -> io::Result<T> {
    let mut len = [0; 4];
    input.read_exact(&mut len)?;
    let len = u32::from_le_bytes(len) as usize;
    if len > MAX_RECORD {
        return Err(damaged(
            "it is damaged: a record is longer than any that is written",
        ));
    }
    let mut bytes = Vec::new();
    // Grows as bytes come: a wrong length costs no memory.
    input.take(len as u64).read_to_end(&mut bytes)?;
    hasher.update(&bytes);
    postcard::from_bytes(&bytes).map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))
}
