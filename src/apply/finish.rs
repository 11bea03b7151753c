//! The end of a run: directories get their modes and times, deepest first, and what was written
//! is made durable.

use std::io;

use crate::apply::{Applier, During, Failure, lock};
use crate::entry::Timestamp;
use crate::fs::{self, Dir, Stat, Target};
use crate::manifest::record::Entry;
use crate::options::Fsync;
use crate::path::RelPath;

/// What a directory shall be once nothing more is written into it.
#[derive(Debug, Default)]
pub(crate) struct Finishing {
    /// What the source says it is; `None`: as it was.
    entry: Option<Box<Entry>>,
    /// What it was before the first write.
    before: Option<Before>,
}

#[derive(Debug, Clone, Copy)]
struct Before {
    mtime: Timestamp,
    mode: u16,
    opened_up: bool,
}

impl Applier {
    /// Remembers a directory's times before the first write into it.
    pub(crate) fn note_times(&self, path: &RelPath, stat: &Stat) {
        lock(&self.finishing)
            .entry(path.clone())
            .or_default()
            .before
            .get_or_insert(Before {
                mtime: stat.meta.mtime,
                mode: stat.meta.mode,
                opened_up: false,
            });
    }

    /// A directory that its owner may not write to is opened up until the end; only a process
    /// that is not root needs that.
    pub(crate) fn unlock_dir(&self, path: &RelPath, dir: &Dir, stat: &Stat) -> io::Result<()> {
        const OWNER_ALL: u16 = 0o700;
        let mode = stat.meta.mode;
        if self.who.uid == 0 || stat.meta.uid != self.who.uid || mode & OWNER_ALL == OWNER_ALL {
            return Ok(());
        }
        fs::set_mode(&Target::Dir(dir), mode | OWNER_ALL)?;
        if let Some(noted) = lock(&self.finishing).get_mut(path)
            && let Some(before) = &mut noted.before
        {
            before.opened_up = true;
        }
        Ok(())
    }

    /// Says what a directory shall be in the end.
    pub fn expect_dir(&self, path: &RelPath, entry: &Entry) {
        lock(&self.finishing).entry(path.clone()).or_default().entry =
            Some(Box::new(entry.clone()));
    }

    /// Gives every directory that was written to its mode and times, deepest first. Returns the
    /// ones that failed.
    pub fn finish_dirs(&self) -> Vec<(RelPath, Failure)> {
        lock(&self.places).clear();
        let mut noted: Vec<_> = std::mem::take(&mut *lock(&self.finishing))
            .into_iter()
            .collect();
        lock(&self.touched).extend(noted.iter().map(|(path, _)| path.clone()));
        noted.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        let mut failed = Vec::new();
        for (path, finishing) in noted {
            match self.finish_dir(&path, &finishing) {
                Ok(()) => {}
                // Removed or moved since: nothing is left to finish.
                Err(failure) if failure.source.kind() == io::ErrorKind::NotFound => {}
                Err(failure) => failed.push((path, failure)),
            }
        }
        failed
    }

    fn finish_dir(&self, path: &RelPath, finishing: &Finishing) -> Result<(), Failure> {
        let dir = self.root.open_dir(path).during("open")?;
        let target = Target::Dir(&dir);
        let Some(entry) = &finishing.entry else {
            return self.restore_dir(&target, finishing);
        };
        let stat = dir.stat_self().during("stat")?;
        let mut have = Entry {
            meta: stat.meta,
            xattrs: Vec::new(),
            ..(**entry).clone()
        };
        if self.options.rules.reads_xattrs() {
            let select = self.options.rules.xattrs();
            have.xattrs = if self.options.fake_super {
                fs::read_fake_xattrs(&target, entry.meta.mode, select)
            } else {
                fs::read_xattrs(&target, select)
            }
            .during("read attributes of")?;
        }
        self.redress(&target, entry, &have)
    }

    /// Puts back what writing into a directory changed about it.
    fn restore_dir(&self, target: &Target<'_>, finishing: &Finishing) -> Result<(), Failure> {
        let Some(before) = finishing.before else {
            return Ok(());
        };
        if before.opened_up {
            fs::set_mode(target, before.mode).during("set the mode of")?;
        }
        if self.options.rules.fidelity.dir_times {
            fs::set_mtime(target, before.mtime).during("set the times of")?;
        }
        Ok(())
    }

    /// Makes what was written durable, as the run's options say.
    pub fn sync(&self) -> io::Result<()> {
        match self.options.write.fsync {
            Fsync::End | Fsync::Each => self.root.sync_filesystem(),
            Fsync::None => Ok(()),
        }
    }
}
