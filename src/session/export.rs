//! Writes a manifest of a local tree.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::events::{Cancel, Event, Observer, Side, Summary};
use crate::filter::Rules;
use crate::fs::{Users, source_granularity};
use crate::manifest::links::Links;
use crate::manifest::listing::{Lister, Listing, SizeLimits};
use crate::manifest::owners::KeepOwners;
use crate::manifest::record::{Entry, RecordRules};
use crate::manifest::recorded::{Header, Recorder};
use crate::manifest::scan::{ScanOptions, scan};
use crate::options::SyncOptions;
use crate::path::RelPath;
use crate::session::modes::ModeRules;
use crate::session::root::{SourceRoot, trash_name};
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
        fake_super: false,
        only: source.single.clone(),
        reserved: Some(trash_name()),
        links: &links,
        lost: None,
        state: state.as_ref(),
        rehash: options.rehash,
        cancel,
    };
    let failed = |err: io::Error| Error::io("write manifest", out.as_os_str().as_bytes(), err);
    let temp = out.with_extension("cutover-partial");
    let file = File::create_new(&temp)
        .map_err(|err| Error::io("create", temp.as_os_str().as_bytes(), err))?;
    let header = Header {
        root: lister
            .root_entry()
            .map_err(|err| Error::io("read", root.as_os_str().as_bytes(), err))?
            .entry,
        granularity_ns: source_granularity(&source.dir),
        rules,
    };
    let written = Recorder::create(BufWriter::new(file), &header)
        .map_err(failed)
        .and_then(|recorder| {
            record(&lister, options, recorder, observer).and_then(|(recorder, scan)| {
                let users = Users::new();
                let text = |name: Vec<u8>| String::from_utf8(name).ok();
                let file = recorder
                    .finish(
                        |uid| users.user_name(uid).and_then(text),
                        |gid| users.group_name(gid).and_then(text),
                    )
                    .map_err(failed)?
                    .into_inner()
                    .map_err(|err| failed(err.into_error()))?;
                file.sync_all().map_err(failed)?;
                std::fs::rename(&temp, out).map_err(failed)?;
                Ok(scan)
            })
        });
    if written.is_err() {
        // The first failure is what counts.
        let _ = std::fs::remove_file(&temp);
    }
    Ok(Summary {
        elapsed: started.elapsed(),
        ..written?
    })
}

type FileRecorder = Recorder<BufWriter<File>>;

fn record(
    lister: &Lister<'_>,
    options: &SyncOptions,
    mut recorder: FileRecorder,
    observer: &dyn Observer,
) -> Result<(FileRecorder, Summary)> {
    let listings: Mutex<BTreeMap<RelPath, Vec<Entry>>> = Mutex::default();
    let sink = |path: &RelPath, listing: &Listing| {
        let entries = listing.rows.iter().map(|row| row.entry.clone()).collect();
        let mut listings = listings.lock().unwrap_or_else(PoisonError::into_inner);
        listings.insert(path.clone(), entries);
    };
    let scanned = scan(
        lister,
        ScanOptions {
            threads: scan_threads(),
            one_file_system: options.selection.one_file_system,
            sink: Some(&sink),
        },
        observer,
    )?;
    let listings = listings
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    // Numbered in the order of the paths, so that equal trees have equal manifests.
    let mut numbers = HashMap::new();
    for (path, mut entries) in listings {
        for link in entries.iter_mut().filter_map(|entry| entry.link.as_mut()) {
            let next = numbers.len() as u64;
            *link = *numbers.entry(*link).or_insert(next);
        }
        recorder
            .dir(&path, entries)
            .map_err(|err| Error::io("write", b"the manifest", err))?;
    }
    for problem in &scanned.problems {
        observer.observe(Event::Problem(problem.clone()));
    }
    let summary = Summary {
        source_entries: scanned.entries,
        source_bytes: scanned.bytes,
        problems: scanned.problems.len() as u64,
        ..Summary::default()
    };
    Ok((recorder, summary))
}
