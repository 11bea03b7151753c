//! Completes a listing with what `statx` does not say and what costs more to read: link targets,
//! extended attributes and content hashes.

use std::io;

use crate::digest::ContentHash;
use crate::entry::{EntryKind, Xattr};
use crate::fs::{self, Dir, Target, XattrSelect};
use crate::manifest::listing::{Lister, Listing, Row};
use crate::manifest::state::{FileFact, KnownFacts};
use crate::path::{Name, RelPath};

/// Large enough that BLAKE3 uses its widest vectors all along, small enough to stay in the
/// second-level cache.
const HASH_BUFFER: usize = 256 << 10;

impl Lister<'_> {
    /// Reads what `statx` does not say: link targets, extended attributes and, in content mode,
    /// content hashes.
    pub fn complete(&self, dir: &Dir, path: &RelPath, listing: &mut Listing) -> io::Result<()> {
        let mut facts = FactsHere::new(self.known_facts(dir)?);
        for mut row in std::mem::take(&mut listing.rows) {
            self.cancel.check().map_err(io::Error::other)?;
            match self.complete_row(dir, &mut row, &mut facts, &mut listing.loses) {
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
        listing.facts = facts.finish();
        Ok(())
    }

    fn complete_row(
        &self,
        dir: &Dir,
        row: &mut Row,
        facts: &mut FactsHere,
        loses: &mut bool,
    ) -> io::Result<()> {
        self.read_target(dir, row)?;
        let target = Target::Entry(dir, &row.entry.name);
        let (xattrs, is_lossy) = self.count_xattrs(&target, row.stat.meta.mode)?;
        row.entry.xattrs = xattrs;
        *loses |= is_lossy;
        if row.entry.meta.kind == EntryKind::File {
            self.read_content(dir, row, facts)?;
        }
        Ok(())
    }

    pub(super) fn read_target(&self, dir: &Dir, row: &mut Row) -> io::Result<()> {
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

    /// The attributes that take part, and whether the entry loses something with others: such
    /// entries are counted.
    pub(super) fn count_xattrs(
        &self,
        target: &Target<'_>,
        mode: u16,
    ) -> io::Result<(Vec<Xattr>, bool)> {
        let Some(lost) = self.lost else {
            return Ok((self.select_xattrs(target, mode)?, false));
        };
        let kept = self.rules.xattrs();
        let found = self.xattrs_of(target, mode, kept.and(lost.attributes()))?;
        let is_stored = !self.fake_super && lost.stored_in(&found);
        let (kept, rest): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|xattr| kept.takes(&xattr.name));
        Ok((kept, lost.attributes_of(&rest) || is_stored))
    }

    pub(super) fn select_xattrs(&self, target: &Target<'_>, mode: u16) -> io::Result<Vec<Xattr>> {
        self.xattrs_of(target, mode, self.rules.xattrs())
    }

    fn xattrs_of(
        &self,
        target: &Target<'_>,
        mode: u16,
        select: XattrSelect,
    ) -> io::Result<Vec<Xattr>> {
        match self.fake_super {
            _ if select.is_empty() => Ok(Vec::new()),
            true => fs::read_fake_xattrs(target, mode, select),
            false => fs::read_xattrs(target, select),
        }
    }

    /// What the state knows of a directory's files.
    pub fn known_facts(&self, dir: &Dir) -> io::Result<KnownFacts> {
        match self.state {
            Some(state) if !self.rehash => Ok(state.facts(&dir.stat_self()?)),
            _ => Ok(KnownFacts::default()),
        }
    }

    /// In content mode gives the row its hash, from the state where the file is as it was. In
    /// quick mode looks only at files that the state knows and whose ctime moved while size and
    /// mtime did not: somebody set the time back, so the hash goes into the record.
    fn read_content(&self, dir: &Dir, row: &mut Row, facts: &mut FactsHere) -> io::Result<()> {
        let known = facts.known.find(row.stat.ino);
        if let Some((place, fact)) = &known
            && fact.matches(&row.stat)
        {
            facts.hold[*place] = true;
            if self.rules.content {
                row.entry.content = Some(fact.hash);
            }
            return Ok(());
        }
        let fact = known.map(|(_, fact)| fact);
        let suspect = fact.filter(|fact| fact.same_size_and_mtime(&row.stat));
        if self.rules.content || suspect.is_some() {
            let hash = self.hash(dir, &row.entry.name)?;
            facts.new.push(FileFact::new(&row.stat, hash));
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
}

/// What is found out of a directory's files while it is read.
struct FactsHere {
    known: KnownFacts,
    /// Which of the known ones hold.
    hold: Vec<bool>,
    new: Vec<FileFact>,
}

impl FactsHere {
    fn new(known: KnownFacts) -> FactsHere {
        FactsHere {
            hold: vec![false; known.len()],
            known,
            new: Vec::new(),
        }
    }

    /// All that is known now; nothing where that is what was known before.
    fn finish(self) -> Vec<FileFact> {
        if self.new.is_empty() && self.hold.iter().all(|&holds| holds) {
            return Vec::new();
        }
        let old = self.known.iter().zip(&self.hold);
        let mut facts: Vec<_> = old
            .filter_map(|(fact, &holds)| holds.then_some(fact))
            .collect();
        facts.extend(self.new);
        facts
    }
}
