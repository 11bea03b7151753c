//! The source's tree where it is on the destination's host: its files are copied straight from
//! there, by the kernel, and never travel through the connection.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::apply::Original;
use crate::error::Result;
use crate::events::{Action, ChurnKind, Problem, Side};
use crate::fs::{self, Dir, Stat};
use crate::path::{Name, RelPath};
use crate::session::destination::{FilePlan, Session};
use crate::session::root::SourceRoot;

/// How many directories stay open between copies: neighbouring files come together.
const OPEN_DIRS: usize = 16;

/// A source on this host.
#[derive(Debug)]
pub(crate) struct LocalSource {
    dir: Dir,
    single: Option<Name>,
    /// Directories that files were copied from.
    open: Mutex<HashMap<RelPath, Arc<Dir>>>,
}

impl LocalSource {
    pub(crate) fn open(path: &Path) -> Result<LocalSource> {
        let root = SourceRoot::open(path)?;
        Ok(LocalSource {
            dir: root.dir,
            single: root.single,
            open: Mutex::default(),
        })
    }

    /// Forgets which directories are where: a round may find others under their paths.
    pub(in crate::session) fn forget_dirs(&self) {
        self.lock().clear();
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
            Err(err) if fs::is_gone(&err) => return Ok(Some(ChurnKind::Vanished)),
            // It is no file any more.
            Err(err) if err.kind() == io::ErrorKind::InvalidInput => {
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
        let original = Original {
            file: &file,
            stat: &before,
        };
        let copied = session.copy_from(&plan.path, &entry, original);
        match copied {
            Err(failure) if failure.source.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(Some(ChurnKind::Changed))
            }
            Err(failure) => session.failed(&plan.path, failure).map(|()| None),
            Ok(landed) => {
                let after = fs::stat_file(&file).ok();
                if !after.is_some_and(|after| after.is_unchanged_since(&before)) {
                    return Ok(Some(ChurnKind::Changed));
                }
                session.count_landed(&landed, &entry);
                session.item(&plan.path, entry.meta.kind, Action::Transfer, plan.changes);
                session.tell_progress(&plan.path);
                Ok(None)
            }
        }
    }

    /// Opens a file that the source has just listed.
    fn open_file(&self, path: &RelPath) -> io::Result<(File, Stat)> {
        let parent = path.parent().unwrap_or_default();
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        self.open_dir(&parent)?.open_listed_file(&name)
    }

    fn open_dir(&self, path: &RelPath) -> io::Result<Arc<Dir>> {
        let open = self.lock().get(path).map(Arc::clone);
        if let Some(dir) = open {
            return Ok(dir);
        }
        let dir = Arc::new(self.dir.open_dir(path)?);
        let mut places = self.lock();
        if places.len() >= OPEN_DIRS {
            places.clear();
        }
        places.insert(path.clone(), Arc::clone(&dir));
        Ok(dir)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RelPath, Arc<Dir>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
