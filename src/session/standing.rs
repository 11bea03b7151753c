//! What a role keeps from one round to the next, where a session stays for many: the lock, and the
//! tree as it was scanned, so that a round reads only what may have changed.

use std::sync::Arc;

use crate::apply::RootLock;
use crate::error::{Error, Result};
use crate::events::Observer;
use crate::fs::Dir;
use crate::manifest::links::Links;
use crate::manifest::listing::Lister;
use crate::manifest::record::RecordRules;
use crate::manifest::scan::{Scan, ScanOptions, Stale, scan};
use crate::path::RelPath;

/// What a role keeps. [`Standing::default`] is of a session that is one round: it keeps nothing.
#[derive(Default)]
pub(crate) struct Standing {
    /// The root's lock, once it was taken.
    pub(crate) lock: Option<RootLock>,
    /// What may have changed since the last round.
    pub(crate) stale: Stale,
    /// Whether the next scan reads all of the tree, whatever is known of it.
    pub(crate) rescan: Option<Unheard>,
    /// The directories in which such a scan found what nobody had told of, until they are taken.
    pub(crate) unheard: Vec<RelPath>,
    /// Whether the other end has asked, in the course of a round, that it be the last but for what
    /// changed.
    pub(crate) asked_to_drain: bool,
    /// Whether there will be other rounds.
    stays: bool,
    /// Whether there was one already.
    pub(crate) has_met: bool,
    kept: Option<Kept>,
    root: Option<(u64, u64)>,
    /// The inode that the root must have, whoever kept it in mind.
    expected: Option<u64>,
}

/// What becomes of changes that nobody had told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unheard {
    /// They count.
    Counts,
    /// The tree is taken to be what it was thought to be, until it changes there again.
    IsOverlooked,
}

/// A tree as it was read last.
struct Kept {
    scan: Scan,
    links: Arc<Links>,
    rules: RecordRules,
}

impl Standing {
    /// Of a session of many rounds, with the inode of its root where there was one before.
    pub(crate) fn of_rounds(expected: Option<u64>) -> Standing {
        Standing {
            stays: true,
            expected,
            ..Standing::default()
        }
    }

    /// The inode of the root, once it was met.
    pub(crate) fn root_inode(&self) -> Option<u64> {
        self.root.map(|(_, inode)| inode)
    }

    /// Whether there will be other rounds.
    pub(crate) fn stays(&self) -> bool {
        self.stays
    }

    /// Refuses a root that is another directory than in the round before: the path leads elsewhere
    /// now, or something was mounted or unmounted.
    pub(crate) fn refuse_another_root(&mut self, root: &Dir, shown: &str) -> Result<()> {
        let stat = root
            .stat_self()
            .map_err(|err| Error::io("look at", shown.as_bytes(), err))?;
        let now = (stat.dev, stat.ino);
        let is_expected = self.expected.is_none_or(|inode| inode == stat.ino);
        if self.stays && !(is_expected && *self.root.get_or_insert(now) == now) {
            return Err(Error::Refused(format!(
                "{shown} is another directory than it was: something was mounted, unmounted or moved \
                 there; bring the former back, or start the mirror anew"
            )));
        }
        Ok(())
    }

    /// Whether this is the root of the rounds before, or there was none.
    pub(crate) fn is_root(&self, inode: Option<(u64, u64)>) -> bool {
        self.root.is_none() || self.root == inode
    }

    /// The table of links for the scan that is kept, or for a new one.
    pub(crate) fn links(&self) -> Arc<Links> {
        match (&self.kept, self.stays) {
            (Some(kept), _) => Arc::clone(&kept.links),
            (None, true) => Arc::new(Links::tracked()),
            (None, false) => Arc::default(),
        }
    }

    /// The tree as it is now: read as far as it may have changed, or all of it.
    pub(crate) fn scan(
        &mut self,
        lister: &Lister<'_>,
        options: ScanOptions<'_>,
        observer: &dyn Observer,
    ) -> Result<Scan> {
        let mut stale = std::mem::take(&mut self.stale);
        if lister.filter.dir_merge_files().len() > 0 {
            // A file of rules in a directory decides about all beneath it.
            stale.trees.append(&mut stale.dirs);
        }
        let rescan = self.rescan.take();
        let Some(mut known) = self.kept.take().filter(|kept| kept.rules == lister.rules) else {
            lister.links.clear();
            return scan(lister, options, observer);
        };
        known.scan.renew(lister, options, &stale, observer)?;
        match rescan {
            None => Ok(known.scan),
            Some(Unheard::Counts) => {
                lister.links.clear();
                let fresh = scan(lister, options, observer)?;
                self.unheard = known.scan.tree.differing(&fresh.tree);
                Ok(fresh)
            }
            Some(Unheard::IsOverlooked) => {
                let lister = Lister {
                    links: &Links::default(),
                    ..lister.clone()
                };
                let fresh = scan(&lister, options, observer)?;
                self.unheard = known.scan.tree.differing(&fresh.tree);
                // No scan of the tree that is kept does it.
                known.links.forget_single();
                Ok(known.scan)
            }
        }
    }

    /// Keeps a scan for the next round.
    pub(crate) fn keep(&mut self, scan: Scan, links: Arc<Links>, rules: RecordRules) {
        if self.stays {
            self.kept = Some(Kept { scan, links, rules });
        }
    }

    /// The directories that are to be read again though nobody will tell of them.
    pub(crate) fn outdated(&self) -> impl Iterator<Item = &RelPath> {
        self.kept.iter().flat_map(|kept| &kept.scan.outdated)
    }

    /// Whether a scan is kept.
    pub(crate) fn has_scan(&self) -> bool {
        self.kept.is_some()
    }

    /// Forgets the tree, but not the root: the next scan reads everything.
    pub(crate) fn forget(&mut self) {
        self.kept = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use super::*;
    use crate::events::{Cancel, Side, Silent};
    use crate::filter::Rules;
    use crate::manifest::listing::SizeLimits;
    use crate::manifest::owners::KeepOwners;
    use crate::options::Fidelity;

    /// Reads `dirs` again, and then everything to look for what others did.
    fn look(standing: &mut Standing, root: &Dir, dirs: &[&str]) {
        let rules = RecordRules {
            fidelity: Fidelity::default(),
            granularity_ns: 1,
            content: false,
        };
        let links = standing.links();
        let lister = Lister {
            root,
            rules,
            filter: &Rules::parse(&[]).unwrap(),
            sizes: SizeLimits::default(),
            side: Side::Destination,
            owners: &KeepOwners,
            modes: &|_, mode| mode,
            fake_super: false,
            only: None,
            links: &links,
            lost: None,
            state: None,
            rehash: false,
            cancel: &Cancel::new(),
        };
        let options = ScanOptions {
            threads: 1,
            one_file_system: false,
            sink: None,
            mark: None,
        };
        let path = |dir: &&str| RelPath::new(dir.as_bytes()).unwrap();
        standing.stale.dirs = dirs.iter().map(path).collect::<BTreeSet<_>>();
        standing.rescan = Some(Unheard::IsOverlooked);
        let scan = standing.scan(&lister, options, &Silent).unwrap();
        standing.keep(scan, Arc::clone(&links), rules);
    }

    #[test]
    fn of_what_generations_share_nothing_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join("tree").join(name);
        fs::create_dir_all(at("a")).unwrap();
        for name in ["a/1", "a/2"] {
            fs::write(at(name), "text").unwrap();
        }
        let root = Dir::open_root(&at("")).unwrap();
        let mut standing = Standing::of_rounds(None);
        look(&mut standing, &root, &[]);
        let empty = format!("{:?}", standing.links()).len();
        for name in ["1", "2"] {
            fs::hard_link(at("a").join(name), dir.path().join(name)).unwrap();
        }
        look(&mut standing, &root, &["a"]);
        let kept = format!("{:?}", standing.links()).len();
        assert_eq!(kept, empty, "{:?}", standing.links());
    }
}
