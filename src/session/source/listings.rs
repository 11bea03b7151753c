//! What the source tells of its directories where the destination compares: level by level, and
//! its hard-link groups.

use std::collections::HashMap;

use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::error::Result;
use crate::fs::ListScratch;
use crate::manifest::listing::Row;
use crate::manifest::record::{Entry, bucket_bits, bucket_digests};
use crate::manifest::tree::{NodeId, Tree};
use crate::path::{Name, RelPath};
use crate::protocol::message::{ExpandRequest, FromSource, LinkGroup, ListingBody, ListingReply};
use crate::session::source::serving::Serving;

/// How many entries one message lists at most: about 64 KiB.
pub(super) const ENTRIES_A_MESSAGE: usize = 1024;

impl Serving<'_> {
    /// Answers a request for a directory's listing.
    pub(super) fn expand(&self, request: ExpandRequest, scratch: &mut ListScratch) -> Result<()> {
        let dir = request.dir;
        let Some((tree, id)) = self
            .scan
            .and_then(|scan| Some((&scan.tree, scan.tree.find(&dir)?)))
        else {
            return self.reply(dir, ListingBody::Unreadable, Vec::new());
        };
        let node = tree.node(id);
        // What another filesystem hides at a mount point is not known either.
        if node.flags.unreadable || node.flags.elsewhere {
            return self.reply(dir, ListingBody::Unreadable, Vec::new());
        }
        let subdirs = subdir_digests(tree, id);
        if node.shallow == request.shallow && request.buckets.is_none() {
            return self.reply(dir, ListingBody::Same, subdirs);
        }
        if let (None, Some(cut)) = (&request.buckets, tree.buckets(id)) {
            // As the scan saw them, like all digests that were told.
            return self.reply(dir, buckets_body(cut.to_vec()), subdirs);
        }
        let is_wanted = |name: &Name| match &request.buckets {
            Some(buckets) => buckets.include(name),
            None => true,
        };
        let listing = match self.list_where(&dir, scratch, &is_wanted) {
            Ok(listing) => listing,
            Err(err) => {
                self.tell_unlisted(&dir, &err)?;
                return self.reply(dir, ListingBody::Unreadable, Vec::new());
            }
        };
        let mut withheld = listing.withheld.clone();
        for problem in &listing.problems {
            // What cannot be read is not gone: the destination leaves its own alone.
            withheld.extend(problem.path.file_name());
            self.tell_new(problem.clone())?;
        }
        // A directory younger than the scan has no digest yet: the next run sees it.
        let mut entries = listing.into_entries();
        entries.retain(|entry| {
            entry.meta.kind != EntryKind::Dir || tree.child(id, entry.name.as_bytes()).is_some()
        });
        match request.buckets {
            None if bucket_bits(entries.len()) > 0 => self.reply_buckets(dir, &entries, subdirs),
            None => self.reply_entries(dir, entries, withheld, subdirs),
            Some(_) => self.reply_entries(dir, entries, withheld, subdirs),
        }
    }

    fn reply(&self, dir: RelPath, body: ListingBody, subdirs: Vec<(Name, Digest)>) -> Result<()> {
        self.outbox.say_paid(&FromSource::Listing(ListingReply {
            dir,
            body,
            subdirs,
            last: true,
        }))
    }

    fn reply_buckets(
        &self,
        dir: RelPath,
        entries: &[Entry],
        subdirs: Vec<(Name, Digest)>,
    ) -> Result<()> {
        let bits = bucket_bits(entries.len());
        let entries: Vec<&Entry> = entries.iter().collect();
        let digests = bucket_digests(&entries, bits, &self.lister.rules)
            .iter()
            .map(Digest::cut)
            .collect();
        self.reply(dir, buckets_body(digests), subdirs)
    }

    fn reply_entries(
        &self,
        dir: RelPath,
        entries: Vec<Entry>,
        mut withheld: Vec<Name>,
        mut subdirs: Vec<(Name, Digest)>,
    ) -> Result<()> {
        let mut parts = split(entries, ENTRIES_A_MESSAGE);
        let final_part = parts.pop().unwrap_or_default();
        for part in parts {
            let part = part.into_iter().map(|entry| self.outward(entry)).collect();
            self.outbox.say_paid(&FromSource::Listing(ListingReply {
                dir: dir.clone(),
                body: ListingBody::Entries {
                    entries: part,
                    withheld: Vec::new(),
                },
                subdirs: Vec::new(),
                last: false,
            }))?;
        }
        let entries = final_part
            .into_iter()
            .map(|entry| self.outward(entry))
            .collect();
        let body = ListingBody::Entries {
            entries,
            withheld: std::mem::take(&mut withheld),
        };
        self.reply(dir, body, std::mem::take(&mut subdirs))
    }

    /// Sends all hard-link groups, found by listing the directories that hold linked files.
    pub(super) fn list_links(&self, scratch: &mut ListScratch) -> Result<()> {
        let mut groups: HashMap<u64, Vec<RelPath>> = HashMap::new();
        if let Some(scan) = self.scan {
            let marked = scan.tree.ids().filter(|&id| scan.tree.node(id).flags.links);
            for id in marked {
                let dir = scan.tree.path(id);
                let listing = match self.recorded {
                    Some(recorded) => Ok(recorded.list(&dir)),
                    None => self
                        .root
                        .open_dir(&dir)
                        .and_then(|open| self.lister.stats(&open, &dir, scratch)),
                };
                // What cannot be read now has been a problem of the scan, or vanished.
                for Row { entry, .. } in listing.map(|l| l.rows).unwrap_or_default() {
                    if let Some(link) = entry.link {
                        groups.entry(link).or_default().push(dir.join(&entry.name));
                    }
                }
            }
        }
        let mut groups: Vec<LinkGroup> = groups
            .into_iter()
            .filter(|(_, members)| members.len() > 1)
            .map(|(id, members)| LinkGroup { id, members })
            .collect();
        groups.sort_unstable_by(|a, b| a.members.cmp(&b.members));
        let mut parts = split(groups, ENTRIES_A_MESSAGE);
        let final_part = parts.pop().unwrap_or_default();
        for groups in parts {
            self.outbox.say_paid(&FromSource::Links {
                groups,
                last: false,
            })?;
        }
        self.outbox.say_paid(&FromSource::Links {
            groups: final_part,
            last: true,
        })
    }
}

/// Tells the digests of all buckets, which are as many as a power of two.
fn buckets_body(digests: Vec<u64>) -> ListingBody {
    ListingBody::Buckets {
        bits: digests.len().ilog2(),
        digests,
    }
}

fn subdir_digests(tree: &Tree, id: NodeId) -> Vec<(Name, Digest)> {
    tree.children(id)
        .filter_map(|child| Some((Name::new(tree.name(child)).ok()?, tree.node(child).deep)))
        .collect()
}

/// Cuts a vector into parts of at most `most`.
pub(super) fn split<T>(items: Vec<T>, most: usize) -> Vec<Vec<T>> {
    let mut parts = Vec::with_capacity(items.len().div_ceil(most));
    let mut items = items.into_iter().peekable();
    while items.peek().is_some() {
        parts.push(items.by_ref().take(most).collect());
    }
    parts
}
