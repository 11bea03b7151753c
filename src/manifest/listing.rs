//! Reads one directory into sorted entries: first what `statx` says, then, only where it is
//! needed, link targets, extended attributes and content hashes.

use std::borrow::Cow;
use std::io;

use crate::digest::ContentHash;
use crate::entry::{EntryKind, Xattr};
use crate::events::{Cancel, Problem, Side};
use crate::filter::{Rules, Verdict};
use crate::fs::{self, Dir, ListScratch, Stat, Target, XattrSelect};
use crate::manifest::links::Links;
use crate::manifest::lost::Lost;
use crate::manifest::record::{Entry, RecordRules};
use crate::manifest::state::{FileFact, State};
use crate::path::{Name, RelPath};

/// Turns this host's owner numbers into the destination's.
///
/// Called from all scanning threads; may block while the other end is asked. An error ends the
/// scan.
pub trait OwnerMap: Sync {
    /// The destination's numbers for a user and a group. Asked once for each pair in a directory.
    fn owner(&self, uid: u32, gid: u32) -> io::Result<(u32, u32)>;

    /// Notes that so many entries of a listing have this user and group.
    fn count(&self, uid: u32, gid: u32, entries: u64);
}

/// The map of a side whose numbers count as they are.
#[derive(Clone, Copy, Debug)]
pub struct KeepOwners;

impl OwnerMap for KeepOwners {
    fn owner(&self, uid: u32, gid: u32) -> io::Result<(u32, u32)> {
        Ok((uid, gid))
    }

    fn count(&self, _: u32, _: u32, _: u64) {}
}

/// The owners met in one directory: so few that a list is faster than any table, and that the
/// shared one behind it is seldom asked.
#[derive(Default)]
struct OwnersHere(Vec<OwnerHere>);

struct OwnerHere {
    here: (u32, u32),
    there: (u32, u32),
    entries: u64,
}

impl OwnersHere {
    fn map(&mut self, owners: &dyn OwnerMap, here: (u32, u32)) -> io::Result<(u32, u32)> {
        if let Some(known) = self.0.iter_mut().find(|known| known.here == here) {
            known.entries += 1;
            return Ok(known.there);
        }
        let there = owners.owner(here.0, here.1)?;
        self.0.push(OwnerHere {
            here,
            there,
            entries: 1,
        });
        Ok(there)
    }

    fn count(&self, owners: &dyn OwnerMap) {
        for known in &self.0 {
            owners.count(known.here.0, known.here.1, known.entries);
        }
    }
}

/// Which files' sizes take part.
#[derive(Clone, Copy, Debug, Default)]
pub struct SizeLimits {
    /// Smaller files do not, in bytes.
    pub min: Option<u64>,
    /// Larger files do not, in bytes.
    pub max: Option<u64>,
}

impl SizeLimits {
    fn admit(&self, size: u64) -> bool {
        self.min.is_none_or(|min| size >= min) && self.max.is_none_or(|max| size <= max)
    }
}

/// How directories of one side are read. One for a whole session, shared by its threads.
pub struct Lister<'a> {
    /// The root.
    pub root: &'a Dir,
    /// What goes into records.
    pub rules: RecordRules,
    /// Which names take part.
    pub filter: &'a Rules,
    /// Which sizes take part.
    pub sizes: SizeLimits,
    /// Which side this is: filter rules can differ.
    pub side: Side,
    /// Whose the entries become.
    pub owners: &'a dyn OwnerMap,
    /// Modes as `--chmod` makes them.
    pub modes: &'a (dyn Fn(EntryKind, u16) -> u16 + Sync),
    /// Ownership, devices and ACLs are in rsync's fake-super attributes.
    pub fake_super: bool,
    /// The only entry of the root that takes part, where a single file is synced.
    pub only: Option<Name>,
    /// A name in the root that is ours (the trash) and never takes part.
    pub reserved: Option<Name>,
    /// Hard-link groups.
    pub links: &'a Links,
    /// What the other side cannot hold, where this side counts it.
    pub lost: Option<&'a Lost>,
    /// What earlier runs learnt.
    pub state: Option<&'a State>,
    /// Hash content anew even where the state knows it.
    pub rehash: bool,
    /// Asked between entries.
    pub cancel: &'a Cancel,
}

/// One entry with what only this host cares about.
#[derive(Clone, Debug)]
pub struct Row {
    /// The entry.
    pub entry: Entry,
    /// What `statx` said.
    pub stat: Stat,
    /// A rule forbids deleting it.
    pub protected: bool,
}

/// What one directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// What takes part, sorted by name bytes.
    pub rows: Vec<Row>,
    /// Files that exist but do not take part because of their size: not to be deleted, not to be
    /// replaced.
    pub withheld: Vec<Name>,
    /// Unfinished files of earlier runs.
    pub leftovers: Vec<Name>,
    /// Whether anything here does not take part.
    pub hides: bool,
    /// Files whose content was hashed, for the state.
    pub facts: Vec<FileFact>,
    /// Entries that could not be read; they are not among the rows.
    pub problems: Vec<Problem>,
}

impl Listing {
    /// The entries alone.
    pub fn into_entries(self) -> Vec<Entry> {
        self.rows.into_iter().map(|row| row.entry).collect()
    }
}

impl Lister<'_> {
    /// Reads a directory completely.
    pub fn list(&self, path: &RelPath, scratch: &mut ListScratch) -> io::Result<Listing> {
        let dir = self.root.open_dir(path)?;
        let mut listing = self.stats(&dir, path, scratch)?;
        self.complete(&dir, path, &mut listing)?;
        Ok(listing)
    }

    /// Reads names and what `statx` says of them.
    pub fn stats(
        &self,
        dir: &Dir,
        path: &RelPath,
        scratch: &mut ListScratch,
    ) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let mut names = Vec::new();
        dir.list(scratch, &mut |bytes, _ino, kind| {
            if self.is_ours(path, bytes, &mut listing) {
                listing.hides = true;
                return;
            }
            // Nothing but a name from the kernel: it cannot be invalid.
            if let Ok(name) = Name::new(bytes) {
                names.push((name, kind));
            }
        })?;
        names.sort_unstable();
        listing.rows.reserve_exact(names.len());
        let filter = self.filter_in(path)?;
        let mut owners = OwnersHere::default();
        for (name, kind) in names {
            self.cancel.check().map_err(io::Error::other)?;
            let at = (dir, path, filter.as_ref());
            self.add_entry(at, name, kind, &mut owners, &mut listing)?;
        }
        owners.count(self.owners);
        Ok(listing)
    }

    /// The rules for the entries of a directory: those of the run, and of the rule files in it and
    /// above it where the run asks for such files.
    fn filter_in(&self, dir: &RelPath) -> io::Result<Cow<'_, Rules>> {
        if self.filter.dir_merge_files().len() == 0 {
            return Ok(Cow::Borrowed(self.filter));
        }
        let mut rules = self.filter.clone();
        let mut at = RelPath::root();
        let mut names = dir.components();
        loop {
            let open = self.root.open_dir(&at)?;
            let contents = self
                .filter
                .dir_merge_files()
                .map(|file| read_rules(&open, file))
                .collect::<io::Result<Vec<_>>>()?;
            rules = rules.enter(&at, &contents).map_err(io::Error::other)?;
            match names.next() {
                Some(name) => at = at.join(&Name::new(name).map_err(io::Error::other)?),
                None => return Ok(Cow::Owned(rules)),
            }
        }
    }

    /// A listing of what goes when its directory is deleted: what rules keep there is left out, so
    /// that it stays, and its directory with it.
    pub fn list_doomed(&self, path: &RelPath, scratch: &mut ListScratch) -> io::Result<Listing> {
        let mut listing = self.list(path, scratch)?;
        let filter = self.filter_in(path)?;
        listing.rows.retain(|row| {
            let is_dir = row.entry.meta.kind == EntryKind::Dir;
            !filter.keeps_in_deleted_dir(path, row.entry.name.as_bytes(), is_dir)
        });
        Ok(listing)
    }

    fn is_ours(&self, path: &RelPath, name: &[u8], listing: &mut Listing) -> bool {
        if path.is_root() {
            if self
                .only
                .as_ref()
                .is_some_and(|only| only.as_bytes() != name)
            {
                return true;
            }
            if self
                .reserved
                .as_ref()
                .is_some_and(|own| own.as_bytes() == name)
            {
                return true;
            }
        }
        if fs::is_temp(name) {
            listing.leftovers.extend(Name::new(name));
            return true;
        }
        false
    }

    fn add_entry(
        &self,
        (dir, path, filter): (&Dir, &RelPath, &Rules),
        name: Name,
        kind: Option<EntryKind>,
        owners: &mut OwnersHere,
        listing: &mut Listing,
    ) -> io::Result<()> {
        let verdict = |kind| match filter.is_empty() {
            true => Verdict::Include,
            false => {
                let is_dir = kind == EntryKind::Dir;
                filter.decide(path, name.as_bytes(), is_dir, self.side)
            }
        };
        let hidden = |kind| verdict(kind).is_excluded();
        // The kind in the directory often decides before a `statx` is spent.
        if let Some(kind) = kind.filter(|&kind| hidden(kind) || !self.rules.takes(kind)) {
            self.leave_out(kind, hidden(kind), listing);
            return Ok(());
        }
        let mut stat = match dir.stat(&name) {
            Ok(stat) => stat,
            // Gone since the listing: as if it had never been listed.
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(err) => {
                listing
                    .problems
                    .push(self.problem("stat", &path.join(&name), &err));
                return Ok(());
            }
        };
        if self.fake_super {
            self.overlay_fake_stat(dir, &name, &mut stat);
        }
        let found = stat.meta.kind;
        if (kind != Some(found)) && (hidden(found) || !self.rules.takes(found)) {
            self.leave_out(found, hidden(found), listing);
            return Ok(());
        }
        if found == EntryKind::File && !self.sizes.admit(stat.meta.size) {
            listing.hides = true;
            listing.withheld.push(name);
            return Ok(());
        }
        let protected = matches!(verdict(found), Verdict::Protect(_));
        // What must stay cannot go along when its directory is moved or deleted as a whole.
        listing.hides |= protected;
        listing.rows.push(Row {
            entry: self.plain_entry(name, &stat, owners)?,
            stat,
            protected,
        });
        Ok(())
    }

    fn leave_out(&self, kind: EntryKind, by_filter: bool, listing: &mut Listing) {
        listing.hides = true;
        if let Some(lost) = self.lost.filter(|_| !by_filter) {
            lost.kind(kind);
        }
    }

    /// An entry as far as `statx` tells it.
    fn plain_entry(&self, name: Name, stat: &Stat, owners: &mut OwnersHere) -> io::Result<Entry> {
        if let Some(lost) = self.lost {
            lost.entry(stat);
        }
        let mut meta = stat.meta;
        (meta.uid, meta.gid) = owners.map(self.owners, (meta.uid, meta.gid))?;
        meta.mode = (self.modes)(meta.kind, meta.mode);
        let shared =
            self.rules.fidelity.hard_links && stat.nlink > 1 && meta.kind != EntryKind::Dir;
        Ok(Entry {
            name,
            meta,
            target: Vec::new(),
            xattrs: Vec::new(),
            content: None,
            link: shared.then(|| self.links.id(stat)),
        })
    }

    /// Reads one entry by name, completely, as it is now. `None`: it does not take part.
    pub fn entry(&self, dir: &Dir, path: &RelPath, name: &Name) -> io::Result<Option<Row>> {
        let mut listing = Listing::default();
        dir.stat(name)?;
        if self.is_ours(path, name.as_bytes(), &mut listing) {
            return Ok(None);
        }
        let filter = self.filter_in(path)?;
        let at = (dir, path, filter.as_ref());
        let mut owners = OwnersHere::default();
        self.add_entry(at, name.clone(), None, &mut owners, &mut listing)?;
        let Some(mut row) = listing.rows.pop() else {
            return Ok(None);
        };
        self.read_target(dir, &mut row)?;
        row.entry.xattrs = self.read_xattrs(dir, &row)?;
        Ok(Some(row))
    }

    /// The root's own entry. Its name stands for nothing: it is the same on both sides.
    pub fn root_entry(&self) -> io::Result<Row> {
        let mut stat = self.root.stat_self()?;
        let target = Target::Dir(self.root);
        if self.fake_super {
            fs::overlay_fake_stat(&target, &mut stat)?;
        }
        let name = Name::new(b"root").map_err(io::Error::other)?;
        let mut owners = OwnersHere::default();
        let mut entry = self.plain_entry(name, &stat, &mut owners)?;
        owners.count(self.owners);
        entry.xattrs = self.select_xattrs(&target, stat.meta.mode)?;
        Ok(Row {
            entry,
            stat,
            protected: false,
        })
    }

    /// Reads what `statx` does not say: link targets, extended attributes and, in content mode,
    /// content hashes.
    pub fn complete(&self, dir: &Dir, path: &RelPath, listing: &mut Listing) -> io::Result<()> {
        let known = self.known_facts(dir)?;
        let rows = std::mem::take(&mut listing.rows);
        listing.rows.reserve_exact(rows.len());
        for mut row in rows {
            self.cancel.check().map_err(io::Error::other)?;
            match self.complete_row(dir, &mut row, &known, &mut listing.facts) {
                Ok(()) => listing.rows.push(row),
                Err(err) if err.kind() == io::ErrorKind::NotFound => {}
                Err(err) => {
                    // An interrupt is no fault of the entry.
                    self.cancel.check().map_err(io::Error::other)?;
                    let entry_path = path.join(&row.entry.name);
                    listing
                        .problems
                        .push(self.problem("read", &entry_path, &err));
                }
            }
        }
        Ok(())
    }

    fn complete_row(
        &self,
        dir: &Dir,
        row: &mut Row,
        known: &[FileFact],
        facts: &mut Vec<FileFact>,
    ) -> io::Result<()> {
        self.read_target(dir, row)?;
        row.entry.xattrs = self.read_xattrs(dir, row)?;
        self.count_lost_attributes(&Target::Entry(dir, &row.entry.name))?;
        if row.entry.meta.kind == EntryKind::File {
            self.read_content(dir, row, known, facts)?;
        }
        Ok(())
    }

    fn read_target(&self, dir: &Dir, row: &mut Row) -> io::Result<()> {
        if row.entry.meta.kind == EntryKind::Symlink {
            row.entry.target = match dir.read_link(&row.entry.name) {
                // Its attribute says that it is one, but it is stored as a file.
                Err(err) if self.fake_super && err.kind() == io::ErrorKind::InvalidInput => {
                    fs::read_fake_target(dir, &row.entry.name)?
                }
                target => target?,
            };
        }
        Ok(())
    }

    fn count_lost_attributes(&self, target: &Target<'_>) -> io::Result<()> {
        let Some(lost) = self.lost else {
            return Ok(());
        };
        let (xattrs, acls) = lost.attributes();
        if xattrs || acls {
            let found = fs::read_xattrs(target, XattrSelect { xattrs, acls })?;
            let (acls, xattrs): (Vec<_>, Vec<_>) = found.iter().partition(|x| x.is_acl());
            lost.attributes_of(!xattrs.is_empty(), !acls.is_empty());
        }
        Ok(())
    }

    fn read_xattrs(&self, dir: &Dir, row: &Row) -> io::Result<Vec<Xattr>> {
        if !self.rules.reads_xattrs() {
            return Ok(Vec::new());
        }
        let target = Target::Entry(dir, &row.entry.name);
        let xattrs = self.select_xattrs(&target, row.stat.meta.mode)?;
        if let Some(lost) = self.lost.filter(|_| !self.fake_super) {
            lost.stored_in(&xattrs);
        }
        Ok(xattrs)
    }

    fn select_xattrs(&self, target: &Target<'_>, mode: u16) -> io::Result<Vec<Xattr>> {
        if !self.rules.reads_xattrs() {
            return Ok(Vec::new());
        }
        let select = XattrSelect {
            xattrs: self.rules.fidelity.xattrs,
            acls: self.rules.fidelity.acls,
        };
        if self.fake_super {
            return fs::read_fake_xattrs(target, mode, select);
        }
        fs::read_xattrs(target, select)
    }

    fn overlay_fake_stat(&self, dir: &Dir, name: &Name, stat: &mut Stat) {
        if matches!(stat.meta.kind, EntryKind::File | EntryKind::Dir) {
            // Without the attribute, or the right to read it, the entry is what it is.
            let _ = fs::overlay_fake_stat(&Target::Entry(dir, name), stat);
        }
    }

    /// What the state knows of a directory's files.
    pub fn known_facts(&self, dir: &Dir) -> io::Result<Vec<FileFact>> {
        match self.state {
            Some(state) if !self.rehash => Ok(state.facts(&dir.stat_self()?)),
            _ => Ok(Vec::new()),
        }
    }

    /// In content mode gives the row its hash, from the state where the file is as it was. In
    /// quick mode looks only at files that the state knows and whose ctime moved while size and
    /// mtime did not: somebody set the time back, so the hash goes into the record.
    fn read_content(
        &self,
        dir: &Dir,
        row: &mut Row,
        known: &[FileFact],
        facts: &mut Vec<FileFact>,
    ) -> io::Result<()> {
        let fact = known
            .binary_search_by_key(&row.stat.ino, |fact| fact.ino)
            .ok()
            .map(|index| &known[index]);
        if let Some(fact) = fact
            && fact.matches(&row.stat)
        {
            facts.push(fact.clone());
            if self.rules.content {
                row.entry.content = Some(fact.hash);
            }
            return Ok(());
        }
        let suspect = fact.filter(|fact| fact.same_size_and_mtime(&row.stat));
        if self.rules.content || suspect.is_some() {
            let hash = self.hash(dir, &row.entry.name)?;
            facts.push(FileFact::new(&row.stat, hash));
            if self.rules.content || suspect.is_some_and(|fact| fact.hash != hash) {
                row.entry.content = Some(hash);
            }
        }
        Ok(())
    }

    /// The hash of a file's content as it is now.
    pub fn hash(&self, dir: &Dir, name: &Name) -> io::Result<ContentHash> {
        let file = dir.open_file(name)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; HASH_BUFFER];
        loop {
            self.cancel.check().map_err(io::Error::other)?;
            let read = io::Read::read(&mut (&file), &mut buffer)?;
            if read == 0 {
                return Ok(hasher.finalize().into());
            }
            hasher.update(&buffer[..read]);
        }
    }

    fn problem(&self, act: &str, path: &RelPath, err: &io::Error) -> Problem {
        Problem {
            side: self.side,
            act: act.to_string(),
            path: path.clone(),
            reason: err.to_string(),
            os_error: err.raw_os_error(),
        }
    }
}

/// A per-directory rule file; `None` where there is none.
fn read_rules(dir: &Dir, file: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let name = Name::new(file).map_err(io::Error::other)?;
    match dir.open_file(&name) {
        Ok(mut file) => {
            let mut rules = Vec::new();
            io::Read::read_to_end(&mut file, &mut rules)?;
            Ok(Some(rules))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// Large enough that BLAKE3 uses its widest vectors all along, small enough to stay in the
/// second-level cache.
const HASH_BUFFER: usize = 256 << 10;
