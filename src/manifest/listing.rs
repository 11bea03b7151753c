//! Reads one directory into sorted entries: names and what `statx` says of them. What costs more
//! to read comes in a second step, in `complete`.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};

use crate::entry::{EntryKind, Metadata, Timestamp};
use crate::events::{Cancel, Problem, Side};
use crate::filter::{Rules, Verdict};
use crate::fs::{self, Dir, ListScratch, Stat, Target};
use crate::manifest::compact::{Compact, Pack};
use crate::manifest::links::Links;
use crate::manifest::lost::Lost;
use crate::manifest::owners::{OwnerMap, OwnersHere};
use crate::manifest::record::{Entry, Nameless, NamelessRead, RecordRules};
use crate::manifest::state::{FileFact, State};
use crate::path::{Name, RelPath};

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
#[derive(Clone)]
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

/// What is kept of a row beside its entry.
#[derive(Serialize, Deserialize)]
pub struct Local {
    /// Where it is not the entry's.
    meta: Option<Metadata>,
    dev: u64,
    ino: u64,
    nlink: u32,
    ctime: Timestamp,
    blocks: u64,
    mount_root: bool,
    protected: bool,
}

impl Pack for Row {
    type Rest<'a> = (Nameless<'a>, Local);
    type Read = (NamelessRead, Local);

    fn key(&self) -> &[u8] {
        self.entry.key()
    }

    fn rest(&self) -> (Nameless<'_>, Local) {
        let stat = &self.stat;
        let local = Local {
            meta: (stat.meta != self.entry.meta).then_some(stat.meta),
            dev: stat.dev,
            ino: stat.ino,
            nlink: stat.nlink,
            ctime: stat.ctime,
            blocks: stat.blocks,
            mount_root: stat.mount_root,
            protected: self.protected,
        };
        (self.entry.rest(), local)
    }

    fn join(key: &[u8], (entry, local): (NamelessRead, Local)) -> Option<Row> {
        let entry = Entry::join(key, entry)?;
        Some(Row {
            stat: Stat {
                meta: local.meta.unwrap_or(entry.meta),
                dev: local.dev,
                ino: local.ino,
                nlink: local.nlink,
                ctime: local.ctime,
                blocks: local.blocks,
                mount_root: local.mount_root,
            },
            entry,
            protected: local.protected,
        })
    }
}

/// What one directory holds.
#[derive(Debug, Default)]
pub struct Listing {
    /// What takes part, sorted by name bytes.
    pub rows: Compact<Row>,
    /// Files that exist but do not take part because of their size: not to be deleted, not to be
    /// replaced.
    pub withheld: Vec<Name>,
    /// Unfinished files of earlier runs.
    pub leftovers: Vec<Name>,
    /// Whether anything here does not take part.
    pub hides: bool,
    /// Whether an entry loses attributes that are counted in each run.
    pub loses: bool,
    /// What the state shall know of the files, where that is other than what it does.
    pub facts: Vec<FileFact>,
    /// Entries that could not be read; they are not among the rows.
    pub problems: Vec<Problem>,
}

impl Listing {
    /// The entries alone.
    pub fn into_entries(self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.rows.len());
        entries.extend(self.rows.into_iter().map(|row| row.entry));
        entries
    }
}

impl Lister<'_> {
    /// Reads a directory completely.
    pub fn list(&self, path: &RelPath, scratch: &mut ListScratch) -> io::Result<Listing> {
        self.list_where(path, scratch, &|_| true)
    }

    /// Reads those entries of a directory completely whose names are wanted: of a huge one a few.
    pub fn list_where(
        &self,
        path: &RelPath,
        scratch: &mut ListScratch,
        is_wanted: &dyn Fn(&Name) -> bool,
    ) -> io::Result<Listing> {
        let dir = self.root.open_dir(path)?;
        let mut listing = self.stats_where(&dir, path, scratch, is_wanted)?;
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
        self.stats_where(dir, path, scratch, &|_| true)
    }

    fn stats_where(
        &self,
        dir: &Dir,
        path: &RelPath,
        scratch: &mut ListScratch,
        is_wanted: &dyn Fn(&Name) -> bool,
    ) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let mut names = Vec::new();
        dir.list(scratch, &mut |bytes, _ino, kind| {
            if self.is_ours(path, bytes, &mut listing) {
                listing.hides = true;
                return;
            }
            // Nothing but a name from the kernel: it cannot be invalid.
            if let Ok(name) = Name::new(bytes)
                && is_wanted(&name)
            {
                names.push((name, kind));
            }
        })?;
        names.sort_unstable();
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
            if fs::is_own_name(name) {
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
        let Some(mut row) = listing.rows.into_iter().next() else {
            return Ok(None);
        };
        self.read_target(dir, &mut row)?;
        let target = Target::Entry(dir, name);
        row.entry.xattrs = self.select_xattrs(&target, row.stat.meta.mode)?;
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
        (entry.xattrs, _) = self.count_xattrs(&target, stat.meta.mode)?;
        Ok(Row {
            entry,
            stat,
            protected: false,
        })
    }

    fn overlay_fake_stat(&self, dir: &Dir, name: &Name, stat: &mut Stat) {
        if matches!(stat.meta.kind, EntryKind::File | EntryKind::Dir) {
            // Without the attribute, or the right to read it, the entry is what it is.
            let _ = fs::overlay_fake_stat(&Target::Entry(dir, name), stat);
        }
    }

    pub(super) fn problem(&self, act: &str, path: &RelPath, err: &io::Error) -> Problem {
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
