//! Proves a bundle: reads all of it, and holds each member against the manifest that comes last.
//! What no honest bundle holds ends it, so that who restores after this has nothing to fear from
//! names, links, lengths or an end that comes too soon.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read};
use std::time::Instant;

use super::layout::{Place, VERSION_TEXT, shown};
use super::member::Member;
use super::opening::{Bundle, Opening};
use super::progress::Progress;
use super::read::Reader;
use super::{MAX_ENTRIES, damaged};
use crate::delta::zeros;
use crate::digest::ContentHash;
use crate::entry::{EntryKind, Metadata};
use crate::error::Result;
use crate::events::{Action, Cancel, Changes, Event, Item, Observer, Phase, Summary, Warning};
use crate::manifest::record::{Entry, xattrs_digest};
use crate::manifest::recorded::Recorded;
use crate::path::{Name, RelPath};

/// What a manifest may take beside what its members' heads do: its header, and the names of owners.
const MANIFEST_SLACK_BYTES: u64 = 1 << 20;

/// The longest list of faults that is read, in bytes.
const MAX_FAULTS_BYTES: u64 = 64 << 20;

/// What a bundle may hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits<'a> {
    /// Content, holes counted, in bytes.
    pub(super) content_bytes: Option<u64>,
    /// Content without holes, in bytes.
    pub(super) data_bytes: Option<u64>,
    /// The only root whose content counts.
    pub(super) root: Option<&'a Name>,
}

/// A bundle that was read to its end.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// The manifests, by the names of the roots.
    pub(super) roots: BTreeMap<Name, Recorded>,
    /// Entries that the manifests name, the roots not counted.
    pub(super) entries: u64,
    /// Content of files in bytes, holes counted.
    pub(super) content_bytes: u64,
    /// Members, the roots not counted.
    pub(super) members: u64,
    /// Entries that are not what the manifest says.
    pub(super) differing: u64,
}

/// Reads a bundle and tells where it differs from its own manifest. An error means that it cannot
/// be read to its end, or holds what no bundle does.
pub fn verify(opening: &Opening, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary> {
    let started = Instant::now();
    let mut bundle = Bundle::open(opening)?;
    observer.observe(Event::Phase(Phase::Comparing));
    let mut progress = Progress::new(observer, 0, bundle.byte_len());
    let limits = Limits {
        content_bytes: opening.max_bytes,
        ..Limits::default()
    };
    let checked = check(opening, &mut bundle, limits, &mut progress, cancel)?;
    Ok(Summary {
        source_entries: checked.entries,
        destination_entries: checked.members,
        source_bytes: checked.content_bytes,
        differs: checked.differing > 0,
        elapsed: started.elapsed(),
        ..Summary::default()
    })
}

/// Reads a bundle from its start to its end.
pub(super) fn check(
    opening: &Opening,
    bundle: &mut Bundle<'_>,
    limits: Limits<'_>,
    progress: &mut Progress<'_>,
    cancel: &Cancel,
) -> Result<Checked> {
    let read_bytes = bundle.read_bytes();
    let mut reader = bundle.reader()?;
    let mut checker = Checker {
        limits,
        seen: HashMap::new(),
        groups: 0,
        data_bytes: 0,
        checked: Checked::default(),
        progress,
        read_bytes: &read_bytes,
        cancel,
    };
    let checked = checker.read(&mut reader);
    if checked.is_err() {
        // An interrupt is no fault of the bundle.
        cancel.check()?;
    }
    checked.map_err(|err| opening.failed(err))?;
    Ok(checker.checked)
}

/// What a member is, until its manifest says what it should be.
#[derive(Clone, Copy, Debug)]
struct Seen {
    meta: Metadata,
    xattrs: u64,
    /// Of a file's content, or of a symlink's target.
    content: ContentHash,
    /// Which members share its file; 0 where none does.
    group: u32,
}

struct Checker<'a, 'b> {
    limits: Limits<'a>,
    /// By path in the archive.
    seen: HashMap<Vec<u8>, Seen>,
    groups: u32,
    data_bytes: u64,
    checked: Checked,
    progress: &'a mut Progress<'b>,
    read_bytes: &'a dyn Fn() -> u64,
    cancel: &'a Cancel,
}

impl Checker<'_, '_> {
    fn read(&mut self, reader: &mut Reader<impl Read>) -> io::Result<()> {
        let first = reader.next_member()?;
        match first.map(|member| (Place::of(&member.path), member)) {
            Some((Ok(Place::Version), member)) => expect_version(reader, &member)?,
            _ => return Err(damaged("it is an archive, but no bundle of cutover")),
        }
        let mut faults = None;
        while let Some(member) = reader.next_member()? {
            self.cancel.check().map_err(io::Error::other)?;
            match Place::of(&member.path)? {
                Place::Entry(root, path) if self.checked.roots.is_empty() => {
                    self.entry(reader, member, &root, &path)?;
                }
                Place::Faults if faults.is_none() => {
                    faults = Some(read_faults(reader, &member)?);
                }
                Place::Manifest(root) => self.manifest(reader, &member, root)?,
                _ => {
                    let path = shown(&member.path);
                    return Err(damaged(format!("a member {path} where none should be")));
                }
            }
        }
        self.finish(faults.unwrap_or_default())
    }

    fn entry(
        &mut self,
        reader: &mut Reader<impl Read>,
        member: Member,
        root: &Name,
        path: &RelPath,
    ) -> io::Result<()> {
        let refused = |why: &str| Err(damaged(format!("{}: {why}", shown(&member.path))));
        if self.seen.contains_key(&member.path) {
            return refused("it is there twice");
        }
        if self.seen.len() as u64 >= MAX_ENTRIES {
            return refused("there are more entries before it than a bundle holds");
        }
        match path.parent() {
            None if member.meta.kind != EntryKind::Dir => {
                return refused("a root that is no directory");
            }
            None => {}
            Some(parent) => {
                let parent = Place::Entry(root.clone(), parent).path();
                let parent = self.seen.get(&parent);
                if parent.is_none_or(|parent| parent.meta.kind != EntryKind::Dir) {
                    return refused("what it lies in is no directory of the bundle");
                }
                self.checked.members += 1;
            }
        }
        let seen = match &member.link {
            Some(leader) => match self.linked(leader, root)? {
                Some(seen) => seen,
                None => return refused("another name of a file that is not in its tree"),
            },
            None => self.content(reader, &member, root, path)?,
        };
        self.seen.insert(member.path, seen);
        Ok(())
    }

    /// What another name of the member `leader` is; `None` where there is no such file in the tree.
    fn linked(&mut self, leader: &[u8], root: &Name) -> io::Result<Option<Seen>> {
        if !matches!(Place::of(leader)?, Place::Entry(of, _) if of == *root) {
            return Ok(None);
        }
        let Some(seen) = self.seen.get_mut(leader) else {
            return Ok(None);
        };
        if seen.meta.kind == EntryKind::Dir {
            return Ok(None);
        }
        if seen.group == 0 {
            self.groups += 1;
            seen.group = self.groups;
        }
        Ok(Some(*seen))
    }

    /// Reads a member's content.
    fn content(
        &mut self,
        reader: &mut Reader<impl Read>,
        member: &Member,
        root: &Name,
        path: &RelPath,
    ) -> io::Result<Seen> {
        let is_file = member.meta.kind == EntryKind::File;
        if is_file && self.limits.root.is_none_or(|only| only == root) {
            self.checked.content_bytes += member.meta.size;
            self.data_bytes += member.data_bytes();
            self.check_limits()?;
        }
        let content = match member.meta.kind {
            EntryKind::File => {
                let hash = hash_content(reader, member, self.cancel, &mut || {
                    self.progress.reach((self.read_bytes)(), path);
                })?;
                self.progress.file();
                hash
            }
            EntryKind::Symlink => ContentHash::of(&member.target),
            _ => ContentHash::default(),
        };
        Ok(Seen {
            meta: member.meta,
            xattrs: xattrs_digest(&member.xattrs).cut(),
            content,
            group: 0,
        })
    }

    fn check_limits(&self) -> io::Result<()> {
        let exceeded = |limit: Option<u64>, bytes| limit.filter(|&limit| bytes > limit);
        if let Some(limit) = exceeded(self.limits.content_bytes, self.checked.content_bytes) {
            return Err(damaged(format!(
                "it holds more than the {limit} bytes that --max-size allows"
            )));
        }
        if let Some(room) = exceeded(self.limits.data_bytes, self.data_bytes) {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("it holds more than the {room} bytes that the destination has left"),
            ));
        }
        Ok(())
    }

    fn manifest(
        &mut self,
        reader: &mut Reader<impl Read>,
        member: &Member,
        root: Name,
    ) -> io::Result<()> {
        if !is_plain(member) || self.checked.roots.contains_key(&root) {
            return Err(damaged(format!("the manifest of {root} is there twice")));
        }
        // Each record is of a member, whose head is longer.
        let most = reader.head_bytes() + MANIFEST_SLACK_BYTES;
        let recorded = Recorded::read(BufReader::new(&mut *reader), most)
            .map_err(|err| damaged(format!("the manifest of {root} cannot be read: {err}")))?;
        self.checked.roots.insert(root, recorded);
        Ok(())
    }

    /// Compares what was read with the manifests.
    fn finish(&mut self, faults: Vec<String>) -> io::Result<()> {
        let roots = std::mem::take(&mut self.checked.roots);
        if roots.is_empty() {
            return Err(damaged("it has no manifest"));
        }
        for (name, recorded) in &roots {
            self.compare_root(name, recorded);
        }
        let mut extra: Vec<_> = std::mem::take(&mut self.seen).into_iter().collect();
        extra.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (path, seen) in extra {
            self.differs(&path, seen.meta.kind, Action::Delete, Changes::default());
        }
        self.checked.roots = roots;
        if let Some(first) = faults.first() {
            self.progress.tell(Event::Warning(Warning {
                topic: "faults".to_string(),
                entries: faults.len() as u64,
                message: format!(
                    "not everything could be bundled as it was; cutover-bundle/faults in the \
                     bundle has the list, which begins: {first}"
                ),
            }));
        }
        Ok(())
    }

    fn compare_root(&mut self, name: &Name, recorded: &Recorded) {
        let mut links = Links::default();
        let place = Place::Entry(name.clone(), RelPath::root());
        self.compare(&place.path(), &recorded.header.root, &mut links);
        for (dir, entries) in recorded.dirs() {
            for entry in entries {
                self.checked.entries += 1;
                let place = Place::Entry(name.clone(), dir.join(&entry.name));
                self.compare(&place.path(), entry, &mut links);
            }
        }
    }

    fn compare(&mut self, path: &[u8], entry: &Entry, links: &mut Links) {
        let kind = entry.meta.kind;
        let Some(seen) = self.seen.remove(path) else {
            let changes = Changes {
                new: true,
                ..Changes::default()
            };
            return self.differs(path, kind, Action::Create, changes);
        };
        let mut changes = changes(entry, &seen);
        // Which names share a file is told as what the file is.
        changes.content |= !links.agree(entry.link, seen.group);
        if !changes.is_empty() {
            let action = match changes.content || changes.size {
                true => Action::Transfer,
                false => Action::Attributes,
            };
            self.differs(path, kind, action, changes);
        }
    }

    fn differs(&mut self, path: &[u8], kind: EntryKind, action: Action, changes: Changes) {
        self.checked.differing += 1;
        self.progress.tell(Event::Item(Item {
            // Both sides' paths were checked when they were read.
            path: RelPath::new(path).unwrap_or_default(),
            kind,
            action,
            changes,
        }));
    }
}

/// Which hard-linked files of a manifest are which of the archive.
#[derive(Default)]
struct Links {
    groups: HashMap<u64, u32>,
    ids: HashMap<u32, u64>,
}

impl Links {
    /// Whether an entry of the file `id` in the manifest may be one of `group` in the archive.
    fn agree(&mut self, id: Option<u64>, group: u32) -> bool {
        let Some(id) = id else {
            return group == 0;
        };
        let is_new = !self.groups.contains_key(&id);
        let known = *self.groups.entry(id).or_insert(group);
        match group {
            // A file whose other names are not in the tree is alone in the archive.
            0 => is_new,
            group => known == group && *self.ids.entry(group).or_insert(id) == id,
        }
    }
}

fn changes(entry: &Entry, seen: &Seen) -> Changes {
    let (should, is) = (entry.meta, seen.meta);
    let content = match should.kind {
        EntryKind::File => entry.content,
        EntryKind::Symlink => Some(ContentHash::of(&entry.target)),
        _ => Some(ContentHash::default()),
    };
    Changes {
        new: false,
        content: content != Some(seen.content) || should.kind != is.kind || should.rdev != is.rdev,
        size: should.size != is.size,
        time: should.mtime != is.mtime,
        perms: should.mode != is.mode,
        owner: should.uid != is.uid,
        group: should.gid != is.gid,
        acl: false,
        xattr: xattrs_digest(&entry.xattrs).cut() != seen.xattrs,
    }
}

/// The hash of a file's content, holes as zeros. `each` is called now and then.
fn hash_content(
    reader: &mut Reader<impl Read>,
    member: &Member,
    cancel: &Cancel,
    each: &mut dyn FnMut(),
) -> io::Result<ContentHash> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    let hole = |hasher: &mut blake3::Hasher, len| {
        zeros(len, cancel, |part| {
            hasher.update(part);
        })
        .map_err(io::Error::other)
    };
    reader.content(member, &mut |offset, bytes| {
        cancel.check().map_err(io::Error::other)?;
        hole(&mut hasher, offset - at)?;
        hasher.update(bytes);
        at = offset + bytes.len() as u64;
        each();
        Ok(())
    })?;
    hole(&mut hasher, member.meta.size - at)?;
    Ok(hasher.finalize().into())
}

/// Whether a member is a file like those that a bundle keeps for itself.
fn is_plain(member: &Member) -> bool {
    member.meta.kind == EntryKind::File && member.link.is_none() && member.extents.is_none()
}

fn expect_version(reader: &mut Reader<impl Read>, member: &Member) -> io::Result<()> {
    let mut text = Vec::new();
    if is_plain(member) {
        // One byte more shows that there is more.
        let most = VERSION_TEXT.len() as u64 + 1;
        reader.take(most).read_to_end(&mut text)?;
    }
    match text == VERSION_TEXT {
        true => Ok(()),
        false => Err(damaged("it is a bundle of another version of cutover")),
    }
}

fn read_faults(reader: &mut Reader<impl Read>, member: &Member) -> io::Result<Vec<String>> {
    if !is_plain(member) || member.meta.size > MAX_FAULTS_BYTES {
        return Err(damaged("its list of faults is none"));
    }
    let mut text = Vec::new();
    reader.read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().map(str::to_string).collect())
}
