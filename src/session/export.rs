//! Writes a manifest of a local tree.

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::apply::RootLock;
use crate::error::{Error, Result};
use crate::events::{Cancel, Churn, ChurnKind, Event, Observer, Side, Summary};
use crate::filter::Rules;
use crate::fs::{Users, source_granularity};
use crate::manifest::links::Links;
use crate::manifest::listing::{Lister, Listing, SizeLimits};
use crate::manifest::owners::KeepOwners;
use crate::manifest::record::{Entry, RecordRules};
use crate::manifest::recorded::{Header, Recorder};
use crate::manifest::scan::{Scan, ScanOptions, scan};
use crate::manifest::spool::Spool;
use crate::options::SyncOptions;
use crate::path::{RelPath, escape};
use crate::session::modes::ModeRules;
use crate::session::root::SourceRoot;
use crate::session::{open_state, scan_threads};

/// Reads the tree at `root` with its content and writes its manifest to `out`, which is replaced
/// only once the manifest is complete.
pub fn export_manifest(
    root: &Path,
    options: &SyncOptions,
    out: &Path,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary> {
    let started = std::time::Instant::now();
    let source = SourceRoot::open(root)?;
    let _lock = RootLock::shared(&source.dir, root)?;
    let rules = RecordRules {
        fidelity: options.fidelity,
        granularity_ns: 1,
        content: true,
    };
    let links = Links::default();
    let filter = Rules::parse(&options.selection.rules)?;
    let modes = ModeRules::parse(&options.chmod)?;
    let state = open_state(&source.canonical, Side::Source, &|event| {
        observer.observe(event)
    });
    let lister = Lister {
        root: &source.dir,
        rules,
        filter: &filter,
        sizes: SizeLimits {
            min: options.selection.min_size,
            max: options.selection.max_size,
        },
        side: Side::Source,
        owners: &KeepOwners,
        modes: &|kind, mode| modes.apply(kind, mode),
        fake_super: options.from_fake_super,
        only: source.single.clone(),
        links: &links,
        lost: None,
        state: state.as_ref(),
        rehash: options.rehash,
        cancel,
    };
    let draft = Draft::create(out)?;
    let recorded = record(&lister, options, &draft, observer);
    let finished = recorded.and_then(|scan| draft.finish().map(|()| scan));
    let scan = finished.inspect_err(|_| draft.discard())?;
    for problem in &scan.problems {
        observer.observe(Event::Problem(problem.clone()));
    }
    for path in &scan.vanished {
        observer.observe(Event::Churn(Churn {
            path: path.clone(),
            kind: ChurnKind::Vanished,
        }));
    }
    Ok(Summary {
        source_entries: scan.entries,
        source_bytes: scan.bytes,
        problems: scan.problems.len() as u64,
        churn: scan.vanished.len() as u64,
        elapsed: started.elapsed(),
        ..Summary::default()
    })
}

/// Scans the tree and writes what was found.
fn record(
    lister: &Lister<'_>,
    options: &SyncOptions,
    draft: &Draft,
    observer: &dyn Observer,
) -> Result<Scan> {
    let spool = Spool::create(draft.scratch()?);
    let keep = |path: &RelPath, listing: &Listing| {
        let rows: Vec<_> = listing.rows.iter().collect();
        let entries: Vec<&Entry> = rows.iter().map(|row| &row.entry).collect();
        spool.put(path, &entries);
    };
    let scan = scan(
        lister,
        ScanOptions {
            threads: scan_threads(),
            one_file_system: options.selection.one_file_system,
            sink: Some(&keep),
            mark: None,
        },
        observer,
    )?;
    let header = Header {
        root: scan.root.clone(),
        granularity_ns: source_granularity(lister.root),
        rules: lister.rules,
    };
    write_manifest(BufWriter::new(&draft.file), &header, spool).map_err(|err| draft.failed(err))?;
    Ok(scan)
}

/// Writes the manifest of a tree of this host, whose directories are in `spool`.
pub(crate) fn write_manifest(out: impl Write, header: &Header, spool: Spool) -> io::Result<()> {
    let mut recorder = Recorder::create(out, header)?;
    // Numbered in the order of the paths, so that equal trees have equal manifests.
    let mut numbers = HashMap::new();
    spool.finish(|path, mut entries| {
        for link in entries.iter_mut().filter_map(|entry| entry.link.as_mut()) {
            let next = numbers.len() as u64;
            *link = *numbers.entry(*link).or_insert(next);
        }
        recorder.dir(path, entries)
    })?;
    let users = Users::new();
    let text = |name: Vec<u8>| String::from_utf8(name).ok();
    recorder
        .finish(
            |uid| users.user_name(uid).and_then(text),
            |gid| users.group_name(gid).and_then(text),
        )?
        .flush()
}

/// The manifest's file until it is whole: beside its place, locked by whoever writes it.
struct Draft {
    file: File,
    path: PathBuf,
    out: PathBuf,
}

impl Draft {
    /// Starts a draft, or takes over what a killed run left of one.
    fn create(out: &Path) -> Result<Draft> {
        let mut path = out.as_os_str().to_owned();
        path.push(".cutover-partial");
        let path = PathBuf::from(path);
        let failed = |err| Error::io("create", path.as_os_str().as_bytes(), err);
        loop {
            let mut options = File::options();
            let file = options.create(true).truncate(false).write(true).open(&path);
            let file = file.map_err(failed)?;
            match file.try_lock() {
                // Some network filesystems have no locks.
                Ok(()) | Err(TryLockError::Error(_)) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Locked(format!(
                        "another run is writing {}; wait for it, or choose another file with -o",
                        escape(out.as_os_str().as_bytes())
                    )));
                }
            }
            // Between opening and locking, the run that held it may have given it its name.
            let is_there = path.metadata().is_ok_and(|there| {
                file.metadata()
                    .is_ok_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino()))
            });
            if is_there {
                file.set_len(0).map_err(failed)?;
                let out = out.to_path_buf();
                return Ok(Draft { file, path, out });
            }
        }
    }

    /// A file without a name on the same filesystem.
    fn scratch(&self) -> Result<File> {
        let mut path = self.path.clone().into_os_string();
        path.push("-scratch");
        let mut options = File::options();
        options.create(true).truncate(true).read(true).write(true);
        options
            .open(&path)
            .and_then(|file| fs::remove_file(&path).map(|()| file))
            .map_err(|err| Error::io("create", path.as_bytes(), err))
    }

    fn failed(&self, err: io::Error) -> Error {
        Error::io("write manifest", self.out.as_os_str().as_bytes(), err)
    }

    /// Gives the file its name.
    fn finish(&self) -> Result<()> {
        let finish = || {
            self.file.sync_all()?;
            fs::rename(&self.path, &self.out)
        };
        finish().map_err(|err| self.failed(err))
    }

    /// Removes the file.
    fn discard(&self) {
        // The failure that led here is what counts; the next run takes over what is left.
        let _ = fs::remove_file(&self.path);
    }
}
