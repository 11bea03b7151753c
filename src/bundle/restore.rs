//! Restores a bundle: reads all of it once to prove it, and a second time to write its trees, so that
//! one that cannot be proven leaves nothing behind.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::check::{Checked, Limits, check};
use super::layout::Place;
use super::opening::{Bundle, Opening};
use super::owners::Owners;
use super::progress::Progress;
use super::unpack::Unpacker;
use crate::apply::{Applier, ApplyOptions, Aside, RootLock};
use crate::error::{Error, Result};
use crate::events::{Cancel, Event, Observer, Phase, Side, Summary, Warning};
use crate::filter::Rules;
use crate::fs::{self, Dir};
use crate::manifest::lost::Lost;
use crate::manifest::record::RecordRules;
use crate::manifest::recorded::Recorded;
use crate::options::SyncOptions;
use crate::path::{Name, escape};
use crate::session::root::DestinationRoot;
use crate::session::{Mode, ModeRules, kept, refuse_fenced};

/// A bundle to restore.
pub struct Restoration {
    /// The bundle.
    pub opening: Opening,
    /// Where its roots go, each in a directory of its name.
    pub to: PathBuf,
    /// The only root to restore. It goes straight to `to`.
    pub root: Option<Name>,
    /// Whose the entries become, with which modes, and how they are written, as in a sync. Which
    /// properties they have is the bundle's.
    pub options: SyncOptions,
}

/// Restores a bundle, or one root of it. Entries that are there already are replaced one by one,
/// others stay. What concerns single entries comes as events and in the summary's counts.
///
/// # Errors
///
/// Before anything is written: where the bundle cannot be read to its end, holds what no bundle
/// does, differs from its own manifest, or does not fit.
pub fn restore(
    restoration: &Restoration,
    observer: &dyn Observer,
    cancel: &Cancel,
) -> Result<Summary> {
    let started = Instant::now();
    let opening = &restoration.opening;
    let mut bundle = Bundle::open(opening)?;
    let mut progress = Progress::new(observer, 0, 2 * bundle.byte_len());
    observer.observe(Event::Phase(Phase::Comparing));
    let limits = Limits {
        content_bytes: opening.max_bytes,
        data_bytes: room(&restoration.to)?,
        root: restoration.root.as_ref(),
    };
    let checked = check(opening, &mut bundle, limits, &mut progress, cancel)?;
    refuse_differing(&checked, opening)?;
    let targets = targets(restoration, checked)?;
    let mut trees = targets
        .into_iter()
        .map(|target| target.open(restoration, observer, cancel))
        .collect::<Result<Vec<_>>>()?;
    observer.observe(Event::Phase(Phase::Transferring));
    unpack(opening, &mut bundle, &mut trees, &mut progress, cancel)?;
    observer.observe(Event::Phase(Phase::Finishing));
    let mut summary = Summary::default();
    for tree in &mut trees {
        tree.unpacker.finish()?;
        let done = &tree.unpacker.summary;
        summary.source_entries += tree.entries;
        summary.files_sent += done.files_sent;
        summary.created += done.created;
        summary.hard_linked += done.hard_linked;
        summary.changed_bytes += done.changed_bytes;
        summary.literal_bytes += done.literal_bytes;
        summary.problems += done.problems;
    }
    summary.source_bytes = summary.changed_bytes;
    summary.elapsed = started.elapsed();
    Ok(summary)
}

fn unpack(
    opening: &Opening,
    bundle: &mut Bundle<'_>,
    trees: &mut [OpenTree<'_>],
    progress: &mut Progress<'_>,
    cancel: &Cancel,
) -> Result<()> {
    let read_bytes = bundle.read_bytes();
    let failed = |err| opening.failed(err);
    let mut reader = bundle.reader()?;
    while let Some(member) = reader.next_member().map_err(failed)? {
        cancel.check()?;
        let Place::Entry(root, path) = Place::of(&member.path).map_err(failed)? else {
            continue;
        };
        let tree = trees.iter_mut().find(|tree| tree.unpacker.name == root);
        if let Some(tree) = tree {
            tree.unpacker.write(&mut reader, &member, &path)?;
        }
        progress.file();
        progress.reach(read_bytes(), &path);
    }
    Ok(())
}

fn refuse_differing(checked: &Checked, opening: &Opening) -> Result<()> {
    if checked.differing == 0 {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{} differs from its own manifest in {} of its entries, so that somebody has changed it: \
         'cutover bundle verify' lists them, and nothing was restored",
        escape(opening.path.as_os_str().as_bytes()),
        checked.differing
    )))
}

/// How much the destination can take: where it is there and not empty, what is replaced makes room
/// for what comes, and nobody can tell before.
fn room(to: &Path) -> Result<Option<u64>> {
    let failed = |err| Error::io("open destination", to.as_os_str().as_bytes(), err);
    match std::fs::read_dir(to).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Ok(None),
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(failed(err)),
        _ => {}
    }
    let there = std::path::absolute(to).map_err(failed)?;
    let there = there.ancestors().find(|at| at.is_dir());
    let volume = fs::volume(there.unwrap_or(Path::new("/"))).map_err(failed)?;
    Ok(Some(volume.free_bytes))
}

/// A root and where it goes.
struct Target {
    name: Name,
    recorded: Recorded,
    path: PathBuf,
    root: DestinationRoot,
}

/// A root that is being restored.
struct OpenTree<'a> {
    unpacker: Unpacker<'a>,
    entries: u64,
    _lock: RootLock,
}

/// Finds out where each root goes. Makes nothing yet.
fn targets(restoration: &Restoration, checked: Checked) -> Result<Vec<Target>> {
    let mut roots = checked.roots;
    let names = roots
        .keys()
        .map(Name::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if let Some(only) = &restoration.root {
        roots.retain(|name, _| name == only);
        if roots.is_empty() {
            return Err(Error::Usage(format!(
                "the bundle has no root {only}, but these: {names}"
            )));
        }
    }
    let targets = roots.into_iter().map(|(name, recorded)| {
        let path = match restoration.root {
            Some(_) => restoration.to.clone(),
            None => restoration.to.join(name.as_os_str()),
        };
        let root = DestinationRoot::find(&path, None)?;
        if let Some(dir) = &root.dir {
            refuse_fenced(dir, &path, Side::Destination, Mode::Sync)?;
        }
        Ok(Target {
            root,
            name,
            recorded,
            path,
        })
    });
    targets.collect()
}

impl Target {
    /// Makes the root where it is not there, and settles what of the bundle it can hold.
    fn open<'a>(
        mut self,
        restoration: &Restoration,
        observer: &'a dyn Observer,
        cancel: &'a Cancel,
    ) -> Result<OpenTree<'a>> {
        self.root.create()?;
        let dir = self.dir()?;
        let lock = RootLock::exclusive(&dir, &self.path)?;
        let failed = |err| Error::io("write to", self.path.as_os_str().as_bytes(), err);
        let abilities = fs::probe(&dir).map_err(failed)?;
        if abilities.read_only {
            return Err(failed(io::Error::from(io::ErrorKind::ReadOnlyFilesystem)));
        }
        let options = &restoration.options;
        let asked = self.recorded.header.rules;
        let rules = RecordRules {
            fidelity: kept(asked.fidelity, &abilities, options.fake_super),
            granularity_ns: asked.granularity_ns.max(abilities.mtime_granularity_ns),
            content: true,
        };
        let entries = warn_of_lost(&self.recorded, &rules, observer);
        let names = std::mem::take(&mut self.recorded.names);
        let gives = abilities.owners || options.fake_super;
        let owners = Owners::new(names, &options.ownership, gives)?;
        let modes = ModeRules::parse(&options.chmod)?;
        let modes = |kind, mode| modes.apply(kind, mode);
        let all = Rules::parse(&[])?;
        let adapted = self.recorded.adapt(&rules, &all, &owners, &modes);
        adapted.map_err(failed)?;
        if let Some(warning) = owners.warning() {
            observer.observe(Event::Warning(warning));
        }
        let applied = ApplyOptions {
            rules,
            write: options.write,
            fake_super: options.fake_super,
            aside: Aside::open(&dir, &options.keep)?,
            cancel: cancel.clone(),
        };
        Ok(OpenTree {
            unpacker: Unpacker {
                name: self.name,
                recorded: self.recorded,
                rules,
                applier: Applier::new(dir, applied),
                observer,
                cancel,
                summary: Summary::default(),
            },
            entries,
            _lock: lock,
        })
    }

    fn dir(&self) -> Result<Dir> {
        let failed = |err| Error::io("open destination", self.path.as_os_str().as_bytes(), err);
        let dir = self.root.dir.as_ref().map(Dir::try_clone);
        dir.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
            .map_err(failed)
    }
}

/// Says what the destination does not keep. Returns how many entries there are.
fn warn_of_lost(recorded: &Recorded, rules: &RecordRules, observer: &dyn Observer) -> u64 {
    let lost = Lost::new(recorded.header.rules.fidelity, rules.fidelity, false);
    let mut entries = 0;
    for entry in recorded.dirs().flat_map(|(_, entries)| entries) {
        lost.recorded(entry, rules);
        entries += 1;
    }
    for (topic, entries, message) in lost.counts() {
        observer.observe(Event::Warning(Warning {
            topic: topic.to_string(),
            entries,
            message,
        }));
    }
    entries
}
