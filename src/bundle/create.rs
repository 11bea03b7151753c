//! Makes a bundle: looks at all trees first, so that what must be refused is refused before
//! anything is written, then packs them one after the other.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::MAX_ENTRIES;
use super::draft::{Draft, Out};
use super::layout::{OWN_DIR, Place, VERSION_TEXT};
use super::member::Member;
use super::pack::{Packed, Packer, Tree, written};
use super::progress::Progress;
use super::seal::{Seal, Sealed};
use super::secrets::Secrets;
use super::write::Archive;
use crate::entry::{EntryKind, Timestamp};
use crate::error::{Error, Result};
use crate::events::{Cancel, Event, Observer, Phase, Side, Summary, Warning};
use crate::filter::Rules;
use crate::fs::{self, Users, is_temp, source_granularity};
use crate::manifest::links::Links;
use crate::manifest::listing::{Lister, Listing, SizeLimits};
use crate::manifest::owners::KeepOwners;
use crate::manifest::record::RecordRules;
use crate::manifest::recorded::Header;
use crate::manifest::scan::{ScanOptions, scan};
use crate::manifest::spool::Spool;
use crate::options::SyncOptions;
use crate::path::{Name, RelPath, escape};
use crate::session::root::{RootLock, SourceRoot, identify, trash_name};
use crate::session::{scan_threads, write_manifest};

/// A tree that goes into a bundle.
#[derive(Clone, Debug)]
pub struct BundleRoot {
    /// What it is called there.
    pub name: Name,
    /// Where it is.
    pub path: PathBuf,
    /// Which of its entries take part, and what is kept of them.
    pub options: SyncOptions,
    /// Patterns of names that hold secrets, beside those that do everywhere.
    pub secrets: Vec<String>,
}

impl BundleRoot {
    /// A directory under its own name.
    pub fn of_dir(path: &Path, options: SyncOptions) -> Result<BundleRoot> {
        let shown = escape(path.as_os_str().as_bytes());
        let canonical = path
            .canonicalize()
            .map_err(|err| Error::io("find", path.as_os_str().as_bytes(), err))?;
        let name = canonical.file_name().map(OsStr::as_bytes);
        let Some(Ok(name)) = name.map(Name::new) else {
            return Err(Error::Usage(format!(
                "{shown} has no name to be called by in a bundle; name it in a plan"
            )));
        };
        Ok(BundleRoot {
            name,
            path: path.to_path_buf(),
            options,
            secrets: Vec::new(),
        })
    }
}

/// A bundle to make.
pub struct Creation {
    /// What goes into it.
    pub roots: Vec<BundleRoot>,
    /// Where it goes.
    pub out: Out,
    /// Who can open it.
    pub seal: Seal,
    /// Without a seal, go on where there are secrets.
    pub allow_plain_secrets: bool,
}

/// Makes a bundle. What concerns single entries comes as events and in the summary's counts; after
/// an error there is no bundle.
pub fn create(creation: &Creation, observer: &dyn Observer, cancel: &Cancel) -> Result<Summary> {
    let started = Instant::now();
    let sources = creation
        .roots
        .iter()
        .map(Source::open)
        .collect::<Result<Vec<_>>>()?;
    refuse_names(&creation.roots)?;
    refuse_own_place(creation)?;
    let mut files = 0;
    let mut bytes = 0;
    observer.observe(Event::Phase(Phase::Scanning));
    for source in &sources {
        let found = source.survey(creation, observer, cancel)?;
        files += found.files;
        bytes += found.bytes;
    }
    observer.observe(Event::Phase(Phase::Transferring));
    let progress = Progress::new(observer, files, bytes);
    let draft = Draft::create(&creation.out)?;
    match pack_into(&draft, &sources, creation, progress, cancel) {
        Ok((packed, bundle_bytes)) => {
            observer.observe(Event::Phase(Phase::Finishing));
            draft.finish()?;
            warn_of_sockets(&packed, observer);
            Ok(Summary {
                source_entries: packed.entries,
                source_bytes: packed.bytes,
                files_sent: packed.files,
                wire_sent_bytes: bundle_bytes,
                problems: packed.problems,
                churn: packed.churn,
                elapsed: started.elapsed(),
                ..Summary::default()
            })
        }
        Err(err) => {
            draft.discard();
            // An interrupt is no fault of what it interrupted.
            cancel.check()?;
            Err(err)
        }
    }
}

/// Packs all trees; returns what became of them and how long the file is.
fn pack_into(
    draft: &Draft,
    sources: &[Source<'_>],
    creation: &Creation,
    progress: Progress<'_>,
    cancel: &Cancel,
) -> Result<(Packed, u64)> {
    let failed = |err| draft.failed(err);
    let out = Counted {
        out: BufWriter::with_capacity(1 << 20, draft.writer().map_err(failed)?),
        bytes: 0,
    };
    let sealed = Sealed::new(out, &creation.seal).map_err(failed)?;
    let mut packer = Packer {
        archive: Archive::new(sealed),
        progress,
        packed: Packed::default(),
        users: Users::new(),
    };
    pack_all(&mut packer, sources, now(), cancel)?;
    let sealed = packer.archive.finish().map_err(failed)?;
    let mut out = sealed.finish().map_err(failed)?;
    out.flush().map_err(failed)?;
    Ok((packer.packed, out.bytes))
}

fn pack_all<W: Write>(
    packer: &mut Packer<'_, W>,
    sources: &[Source<'_>],
    now: Timestamp,
    cancel: &Cancel,
) -> Result<()> {
    own_member(packer, &Place::Version, VERSION_TEXT, now)?;
    let mut manifests = Vec::new();
    for source in sources {
        let manifest = source.pack(packer, cancel)?;
        manifests.push((&source.root.name, manifest));
    }
    if !packer.packed.faults.is_empty() {
        let mut text = packer.packed.faults.join("\n");
        text.push('\n');
        own_member(packer, &Place::Faults, text.as_bytes(), now)?;
    }
    for (name, mut manifest) in manifests {
        let place = Place::Manifest(name.clone());
        let len = manifest.seek(SeekFrom::End(0)).map_err(written)?;
        manifest.rewind().map_err(written)?;
        let member = Member::own(place.path(), len, now);
        let head = member.head().map_err(written)?;
        let mut content = packer.archive.begin(&member, &head).map_err(written)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match manifest.read(&mut buffer).map_err(written)? {
                0 => break,
                read => content.write(&buffer[..read]).map_err(written)?,
            };
        }
        content.finish().map_err(written)?;
    }
    Ok(())
}

fn own_member<W: Write>(
    packer: &mut Packer<'_, W>,
    place: &Place,
    bytes: &[u8],
    now: Timestamp,
) -> Result<()> {
    let member = Member::own(place.path(), bytes.len() as u64, now);
    let head = member.head().map_err(written)?;
    let mut content = packer.archive.begin(&member, &head).map_err(written)?;
    content.write(bytes).map_err(written)?;
    content.finish().map(drop).map_err(written)
}

/// A tree, open and locked against a sync into it.
struct Source<'a> {
    root: &'a BundleRoot,
    source: SourceRoot,
    filter: Rules,
    _lock: RootLock,
}

/// What a first look at a tree found.
struct Found {
    files: u64,
    bytes: u64,
}

impl<'a> Source<'a> {
    fn open(root: &'a BundleRoot) -> Result<Source<'a>> {
        let source = SourceRoot::open(&root.path)?;
        if source.single.is_some() {
            return Err(Error::Usage(format!(
                "{} is no directory",
                escape(root.path.as_os_str().as_bytes())
            )));
        }
        Ok(Source {
            root,
            _lock: RootLock::shared(&source.dir, &root.path)?,
            source,
            filter: Rules::parse(&root.options.selection.rules)?,
        })
    }

    /// Reads what is in the tree, so that it is known how much there is to pack, and refuses to
    /// have secrets packed that nobody wants sealed.
    fn survey(
        &self,
        creation: &Creation,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<Found> {
        let mut fidelity = self.root.options.fidelity;
        // They are read when they are packed.
        (fidelity.xattrs, fidelity.acls) = (false, false);
        let links = Links::default();
        let lister = self.lister(
            RecordRules {
                fidelity,
                granularity_ns: 1,
                content: false,
            },
            &links,
            cancel,
        );
        let secrets = Secrets::new(&self.root.secrets)?;
        let files = AtomicU64::new(0);
        let look = |path: &RelPath, listing: &Listing| {
            for row in &listing.rows {
                secrets.look_at(path, &row.entry);
                let is_file = row.entry.meta.kind == EntryKind::File;
                files.fetch_add(is_file.into(), Ordering::Relaxed);
            }
        };
        let options = ScanOptions {
            threads: scan_threads(),
            one_file_system: self.root.options.selection.one_file_system,
            sink: Some(&look),
        };
        let found = scan(&lister, options, observer)?;
        if matches!(creation.seal, Seal::Open) && !creation.allow_plain_secrets {
            secrets.refuse(self.root.path.as_os_str().as_bytes())?;
        }
        if found.entries > MAX_ENTRIES {
            return Err(Error::Usage(format!(
                "{} holds {} entries, and a bundle at most {MAX_ENTRIES}: bundle parts of it",
                escape(self.root.path.as_os_str().as_bytes()),
                found.entries
            )));
        }
        Ok(Found {
            files: files.into_inner(),
            bytes: found.bytes,
        })
    }

    /// Packs the tree; returns its manifest.
    fn pack<W: Write>(&self, packer: &mut Packer<'_, W>, cancel: &Cancel) -> Result<File> {
        let links = Links::default();
        let rules = RecordRules {
            fidelity: self.root.options.fidelity,
            granularity_ns: 1,
            content: false,
        };
        let lister = self.lister(rules, &links, cancel);
        // What is to be encrypted shall not lie on a disk beside it: it stays in memory.
        let spool = Spool::create(in_memory()?);
        let root = packer.tree(&Tree {
            name: &self.root.name,
            lister: &lister,
            spool: &spool,
            one_file_system: self.root.options.selection.one_file_system,
        })?;
        let header = Header {
            root,
            granularity_ns: source_granularity(&self.source.dir),
            rules: RecordRules {
                content: true,
                ..rules
            },
        };
        let manifest = in_memory()?;
        write_manifest(BufWriter::new(&manifest), &header, spool)
            .map_err(|err| Error::io("make the manifest of", self.root.name.as_bytes(), err))?;
        Ok(manifest)
    }

    fn lister<'b>(
        &'b self,
        rules: RecordRules,
        links: &'b Links,
        cancel: &'b Cancel,
    ) -> Lister<'b> {
        let selection = &self.root.options.selection;
        Lister {
            root: &self.source.dir,
            rules,
            filter: &self.filter,
            sizes: SizeLimits {
                min: selection.min_size,
                max: selection.max_size,
            },
            side: Side::Source,
            owners: &KeepOwners,
            modes: &|_, mode| mode,
            fake_super: false,
            only: None,
            reserved: Some(trash_name()),
            links,
            lost: None,
            state: None,
            rehash: false,
            cancel,
        }
    }
}

fn in_memory() -> Result<File> {
    fs::create_in_memory().map_err(|err| Error::io("create", "a file in memory", err))
}

/// Refuses names that a bundle cannot have, or not twice.
fn refuse_names(roots: &[BundleRoot]) -> Result<()> {
    if roots.is_empty() {
        return Err(Error::Usage("there is nothing to bundle".to_string()));
    }
    for (at, root) in roots.iter().enumerate() {
        let name = root.name.as_bytes();
        if name == OWN_DIR.as_bytes() || is_temp(name) {
            return Err(Error::Usage(format!(
                "a root cannot be called {} in a bundle, where that is a name of cutover's own; \
                 name it otherwise in a plan",
                root.name
            )));
        }
        if roots[..at].iter().any(|other| other.name == root.name) {
            return Err(Error::Usage(format!("two roots are called {}", root.name)));
        }
    }
    Ok(())
}

/// Refuses a bundle that would be part of a tree that is in it.
fn refuse_own_place(creation: &Creation) -> Result<()> {
    let Some(folder) = creation.out.folder() else {
        return Ok(());
    };
    let above = identify(folder).chain;
    for root in &creation.roots {
        let own = identify(&root.path).chain.first().copied();
        if own.is_some_and(|own| above.contains(&own)) {
            return Err(Error::Usage(format!(
                "the bundle would lie in {}, which it shall hold: put it elsewhere with -o FILE",
                escape(root.path.as_os_str().as_bytes())
            )));
        }
    }
    Ok(())
}

fn warn_of_sockets(packed: &Packed, observer: &dyn Observer) {
    if packed.sockets > 0 {
        observer.observe(Event::Warning(Warning {
            topic: "sockets".to_string(),
            entries: packed.sockets,
            message: "sockets are left out: tar cannot hold them, and who listens makes them anew"
                .to_string(),
        }));
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp {
        secs: since.map_or(0, |since| since.as_secs() as i64),
        nanos: 0,
    }
}

/// Counts what passes through.
struct Counted<W> {
    out: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
