//! Finds out what differs: goes down from the root, a message for each level, and asks only for
//! directories whose digests differ. Leaves a [`Plan`].

use std::collections::{HashMap, HashSet};
use std::io;

use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::{Problem, Side};
use crate::fs::ListScratch;
use crate::manifest::compact::Compact;
use crate::manifest::listing::{Lister, Row};
use crate::manifest::record::{BucketDigester, Entry, MAX_BUCKET_BITS};
use crate::manifest::scan::Scan;
use crate::manifest::tree::NodeId;
use crate::path::{Name, RelPath};
use crate::protocol::message::{
    Buckets, ExpandRequest, FromDestination, ListingBody, ListingReply,
};
use crate::session::destination::plan::{
    Differing, Extraneous, FilePlan, NewTree, Plan, all_new, content_differs, differences,
};
use crate::session::destination::{Reply, Session};

/// How many directories are asked for in one message.
const EXPAND_AT_ONCE: usize = 1024;

/// Goes down both trees at once.
pub(super) struct Comparer<'a> {
    session: &'a Session<'a>,
    lister: &'a Lister<'a>,
    scan: &'a Scan,
    plan: Plan,
    scratch: ListScratch,
    /// Requests that have not gone out yet.
    next: Vec<ExpandRequest>,
    /// Directories that were asked for, with what has come of them.
    asked: HashMap<RelPath, Asked>,
}

/// A directory that was asked for.
#[derive(Default)]
struct Asked {
    /// Sorted by name.
    entries: Compact<Entry>,
    /// Of the last of them.
    last_name: Option<Name>,
    withheld: HashSet<Name>,
    /// Only these buckets were asked for.
    buckets: Option<Buckets>,
    /// The destination does not have it: all of it is new.
    new: bool,
}

impl Asked {
    /// Takes the next entries, which must be in order.
    fn take(&mut self, entries: Vec<Entry>) -> Result<()> {
        for entry in entries {
            if self.last_name.as_ref() >= Some(&entry.name) {
                return Err(Error::protocol(
                    "a listing out of order, or a name twice in it",
                ));
            }
            self.last_name = Some(entry.name.clone());
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Whether names like this one were asked about.
    fn includes(&self, name: &Name) -> bool {
        self.buckets
            .as_ref()
            .is_none_or(|chosen| chosen.include(name))
    }

    /// Whether an entry of ours is one of those that were asked about, and told of.
    fn covers(&self, row: &Row) -> bool {
        let name = &row.entry.name;
        self.includes(name) && !self.withheld.contains(name)
    }
}

impl<'a> Comparer<'a> {
    pub(super) fn new(
        session: &'a Session<'a>,
        lister: &'a Lister<'a>,
        scan: &'a Scan,
    ) -> Comparer<'a> {
        Comparer {
            session,
            lister,
            scan,
            plan: Plan::default(),
            scratch: ListScratch::new(),
            next: Vec::new(),
            asked: HashMap::new(),
        }
    }

    /// Compares everything.
    pub(super) fn compare(mut self) -> Result<Plan> {
        self.ask(
            RelPath::root(),
            self.scan.tree.node(NodeId::ROOT).shallow,
            None,
        );
        self.run()?;
        Ok(self.plan)
    }

    /// Lists new directories entry by entry instead of having them streamed whole: what is in
    /// them may be elsewhere in the destination.
    pub(super) fn expand_new(mut self, trees: Vec<NewTree>) -> Result<Plan> {
        for tree in trees {
            self.ask_new(tree);
        }
        self.run()?;
        Ok(self.plan)
    }

    fn run(&mut self) -> Result<()> {
        self.send()?;
        while !self.asked.is_empty() {
            let Reply { message, cost } = self.session.next_listing()?;
            let idle = self.session.listings_idle();
            self.take(message)?;
            self.session.give_credit(cost)?;
            if idle || self.next.len() >= EXPAND_AT_ONCE {
                self.send()?;
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        while !self.next.is_empty() {
            let rest = self.next.split_off(self.next.len().min(EXPAND_AT_ONCE));
            let requests = std::mem::replace(&mut self.next, rest);
            self.session.say(&FromDestination::Expand(requests))?;
        }
        Ok(())
    }

    fn ask(&mut self, dir: RelPath, shallow: Digest, buckets: Option<Buckets>) {
        self.asked.insert(
            dir.clone(),
            Asked {
                buckets: buckets.clone(),
                ..Asked::default()
            },
        );
        self.next.push(ExpandRequest {
            dir,
            shallow,
            buckets,
        });
    }

    fn ask_new(&mut self, tree: NewTree) {
        let dir = tree.path.clone();
        self.plan.dirs.push((tree.path, tree.entry));
        self.asked.insert(
            dir.clone(),
            Asked {
                new: true,
                ..Asked::default()
            },
        );
        self.next.push(ExpandRequest {
            dir,
            shallow: Digest::default(),
            // One bucket of all: a listing in full, however huge.
            buckets: Some(Buckets {
                bits: 0,
                wanted: vec![0],
            }),
        });
    }

    fn take(&mut self, reply: ListingReply) -> Result<()> {
        let Some(asked) = self.asked.get_mut(&reply.dir) else {
            return Err(Error::protocol("a listing that nobody asked for"));
        };
        match reply.body {
            ListingBody::Entries { entries, withheld } => {
                asked.take(entries)?;
                asked.withheld.extend(withheld);
                if !reply.last {
                    return Ok(());
                }
                let asked = self.asked.remove(&reply.dir).unwrap_or_default();
                self.merge(reply.dir, asked, reply.subdirs)
            }
            ListingBody::Same => {
                self.asked.remove(&reply.dir);
                self.descend(&reply.dir, &reply.subdirs);
                Ok(())
            }
            ListingBody::Buckets { bits, digests } => {
                self.asked.remove(&reply.dir);
                self.choose_buckets(reply.dir, bits, &digests, &reply.subdirs)
            }
            ListingBody::Unreadable => {
                // Its content is unknown: what is here of it stays as it is.
                self.asked.remove(&reply.dir);
                Ok(())
            }
        }
    }

    /// Goes on with the subdirectories that both sides have and that differ.
    fn descend(&mut self, dir: &RelPath, subdirs: &[(Name, Digest)]) {
        let Some(parent) = self.scan.tree.find(dir) else {
            return;
        };
        for (name, deep) in subdirs {
            if let Some(child) = self.scan.tree.child(parent, name.as_bytes()) {
                let node = self.scan.tree.node(child);
                if node.deep != *deep && !node.flags.unreadable {
                    self.ask(dir.join(name), node.shallow, None);
                }
            }
        }
    }

    fn choose_buckets(
        &mut self,
        dir: RelPath,
        bits: u32,
        theirs: &[u64],
        subdirs: &[(Name, Digest)],
    ) -> Result<()> {
        if bits == 0 || bits > MAX_BUCKET_BITS || theirs.len() != 1 << bits {
            return Err(Error::protocol("buckets that make no sense"));
        }
        let Some(ours) = self.own_buckets(&dir, bits) else {
            return Ok(());
        };
        let wanted: Vec<u32> = (0..)
            .zip(ours.iter().zip(theirs))
            .filter(|(_, (ours, theirs))| ours != theirs)
            .map(|(index, _)| index)
            .collect();
        if wanted.is_empty() {
            self.descend(&dir, subdirs);
            return Ok(());
        }
        self.ask(dir, Digest::default(), Some(Buckets { bits, wanted }));
        Ok(())
    }

    /// The digests of our own buckets: the scan's, unless those are of another size.
    fn own_buckets(&mut self, dir: &RelPath, bits: u32) -> Option<Vec<u64>> {
        let tree = &self.scan.tree;
        let known = tree.find(dir).and_then(|id| tree.buckets(id));
        if let Some(known) = known.filter(|known| known.len() == 1 << bits) {
            return Some(known.to_vec());
        }
        let rows = self.own_rows(dir, &|_| true)?;
        let mut digester = BucketDigester::new(bits, &self.lister.rules);
        rows.into_iter().for_each(|row| digester.add(&row.entry));
        Some(digester.finish().iter().map(Digest::cut).collect())
    }

    /// Our own listing of the names that are wanted; a directory that cannot be read is a problem,
    /// and left alone.
    fn own_rows(
        &mut self,
        dir: &RelPath,
        is_wanted: &dyn Fn(&Name) -> bool,
    ) -> Option<Compact<Row>> {
        match self.lister.list_where(dir, &mut self.scratch, is_wanted) {
            Ok(listing) => {
                for problem in listing.problems {
                    self.session.report(problem);
                }
                Some(listing.rows)
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => Some(Compact::default()),
            Err(err) => {
                self.session.report(Problem {
                    side: Side::Destination,
                    act: "read directory".to_string(),
                    path: dir.clone(),
                    reason: err.to_string(),
                    os_error: err.raw_os_error(),
                });
                None
            }
        }
    }

    /// Compares two listings name by name.
    fn merge(
        &mut self,
        dir: RelPath,
        mut asked: Asked,
        subdirs: Vec<(Name, Digest)>,
    ) -> Result<()> {
        let rows = if asked.new {
            Compact::default()
        } else {
            match self.own_rows(&dir, &|name| asked.includes(name)) {
                Some(rows) => rows,
                None => return Ok(()),
            }
        };
        let theirs = std::mem::take(&mut asked.entries);
        let deep: HashMap<&Name, Digest> = subdirs.iter().map(|(name, d)| (name, *d)).collect();
        let mut ours = rows.into_iter().filter(|row| asked.covers(row)).peekable();
        for new in theirs {
            while let Some(row) = ours.next_if(|row| row.entry.name < new.name) {
                self.only_ours(&dir, row);
            }
            match ours.next_if(|row| row.entry.name == new.name) {
                Some(row) => self.both(&dir, new, row, &deep)?,
                None => self.only_theirs(&dir, new, &deep)?,
            }
        }
        for row in ours {
            self.only_ours(&dir, row);
        }
        if !asked.new {
            self.descend(&dir, &subdirs);
        }
        Ok(())
    }

    fn only_ours(&mut self, dir: &RelPath, row: Row) {
        if !row.protected {
            let extraneous = self.extraneous(dir, &row);
            self.plan.extraneous.push(extraneous);
        }
    }

    fn extraneous(&self, dir: &RelPath, row: &Row) -> Extraneous {
        let path = dir.join(&row.entry.name);
        let kind = row.entry.meta.kind;
        let node = (kind == EntryKind::Dir)
            .then(|| self.scan.tree.find(&path))
            .flatten()
            .map(|id| self.scan.tree.node(id));
        Extraneous {
            entries: 1 + node.map_or(0, |node| node.total_entries),
            whole: node.is_none_or(|node| !node.flags.hides && !node.flags.unreadable),
            path,
            kind,
            size: row.entry.meta.size,
            mtime: row.entry.meta.mtime,
            elsewhere: row.stat.dev != self.scan.root_stat.dev,
        }
    }

    fn only_theirs(
        &mut self,
        dir: &RelPath,
        entry: Entry,
        deep: &HashMap<&Name, Digest>,
    ) -> Result<()> {
        let path = dir.join(&entry.name);
        let plan = &mut self.plan;
        match entry.meta.kind {
            EntryKind::Dir => {
                let Some(deep) = deep.get(&entry.name).copied() else {
                    return Err(Error::protocol("a directory without a digest"));
                };
                plan.trees.push(NewTree { path, entry, deep });
            }
            EntryKind::File => {
                let file = FilePlan {
                    path,
                    entry,
                    basis_len: None,
                    changes: all_new(),
                };
                self.plan_file(file);
            }
            _ => plan.specials.push(FilePlan {
                path,
                entry,
                basis_len: None,
                changes: all_new(),
            }),
        }
        Ok(())
    }

    fn plan_file(&mut self, file: FilePlan) {
        match file.entry.link {
            Some(_) => {
                self.plan.linked.insert(file.path.clone(), file);
            }
            None => self.plan.files.push(file),
        }
    }

    fn both(
        &mut self,
        dir: &RelPath,
        new: Entry,
        row: Row,
        deep: &HashMap<&Name, Digest>,
    ) -> Result<()> {
        let rules = &self.lister.rules;
        let old = &row.entry;
        if new.same_record(old, rules) {
            return Ok(());
        }
        if new.meta.kind != old.meta.kind {
            if new.meta.kind == EntryKind::Dir || old.meta.kind == EntryKind::Dir {
                let conflict = self.extraneous(dir, &row);
                self.plan.conflicts.push(conflict);
            }
            return self.only_theirs(dir, new, deep);
        }
        let path = dir.join(&new.name);
        let differs = new.meta.kind == EntryKind::File && self.content_differs(dir, &new, old);
        let changes = differences(&new, old, rules, differs);
        if differs {
            self.plan_file(FilePlan {
                path,
                basis_len: Some(old.meta.size),
                entry: new,
                changes,
            });
        } else if changes.content {
            self.plan.specials.push(FilePlan {
                path,
                entry: new,
                basis_len: None,
                changes,
            });
        } else if !changes.is_empty() {
            let is_dir = new.meta.kind == EntryKind::Dir;
            let differing = Differing {
                path,
                new,
                old: row.entry,
                changes,
            };
            match is_dir {
                true => self.plan.dir_attributes.push(differing),
                false => self.plan.attributes.push(differing),
            }
        }
        Ok(())
    }

    fn content_differs(&self, dir: &RelPath, new: &Entry, old: &Entry) -> bool {
        let compare = self.session.options().compare;
        content_differs(new, old, &self.lister.rules, compare).unwrap_or_else(|| {
            let ours = self
                .lister
                .root
                .open_dir(dir)
                .and_then(|open| self.lister.hash(&open, &old.name));
            // A file that cannot be read cannot be trusted either.
            ours.ok() != new.content
        })
    }
}
