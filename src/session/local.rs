//! The source's tree where it is on the destination's host: its files are copied straight from
//! there, by the kernel, and never travel through the connection.

use std::io;
use std::path::Path;

use crate::error::Result;
use crate::events::{Action, ChurnKind, Problem, Side};
use crate::fs::{self, Dir, Stat};
use crate::path::{Name, RelPath};
use crate::session::destination::{FilePlan, Session};
use crate::session::root::SourceRoot;

/// A source on this host.
#[derive(Debug)]
pub(crate) struct LocalSource {
    dir: Dir,
    single: Option<Name>,
}

impl LocalSource {
    pub(crate) fn open(path: &Path) -> Result<LocalSource> {
        let root = SourceRoot::open(path)?;
        Ok(LocalSource {
            dir: root.dir,
            single: root.single,
        })
    }

    /// Copies one file. What it returns is how the file would not hold still; problems are
    /// reported.
    pub(in crate::session) fn copy(
        &self,
        session: &Session<'_>,
        plan: &FilePlan,
    ) -> Result<Option<ChurnKind>> {
        let path = match &self.single {
            Some(name) => RelPath::root().join(name),
            None => plan.path.clone(),
        };
        let (file, before) = match self.open_file(&path) {
            Ok(opened) => opened,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(ChurnKind::Vanished));
            }
            // It is no file any more.
            Err(err)
                if matches!(
                    err.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(Some(ChurnKind::Changed));
            }
            Err(err) => {
                session.report(Problem {
                    side: Side::Source,
                    act: "read".to_string(),
                    path: plan.path.clone(),
                    reason: err.to_string(),
                    os_error: err.raw_os_error(),
                });
                return Ok(None);
            }
        };
        let mut entry = plan.entry.clone();
        entry.meta.size = before.meta.size;
        entry.meta.mtime = before.meta.mtime;
        let copied = session.copy_from(&plan.path, &entry, &file);
        match copied {
            Err(failure) if failure.source.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Some(ChurnKind::Changed))
            }
            Err(failure) => session.failed(&plan.path, failure).map(|()| None),
            Ok(landed) => {
                let after = fs::stat_file(&file).ok();
                if !after.is_some_and(|after| is_same(&before, &after)) {
                    return Ok(Some(ChurnKind::Changed));
                }
                session.count_landed(&landed, &entry);
                session.item(&plan.path, entry.meta.kind, Action::Transfer, plan.changes);
                session.tell_progress(&plan.path);
                Ok(None)
            }
        }
    }

    fn open_file(&self, path: &RelPath) -> io::Result<(std::fs::File, Stat)> {
        let parent = path.parent().unwrap_or_default();
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        self.dir.open_dir(&parent)?.open_file_stat(&name)
    }
}

fn is_same(before: &Stat, after: &Stat) -> bool {
    before.meta.size == after.meta.size
        && before.meta.mtime == after.meta.mtime
        && before.ctime == after.ctime
}
