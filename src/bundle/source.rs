//! A tree that goes into a bundle: opened, looked through, packed.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::pack::{Packer, Tree};
use super::secrets::Secrets;
use crate::apply::RootLock;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::{Cancel, Observer, Side};
use crate::filter::Rules;
use crate::fs::{self, source_granularity};
use crate::manifest::links::Links;
use crate::manifest::listing::{Lister, Listing, SizeLimits};
use crate::manifest::owners::KeepOwners;
use crate::manifest::record::RecordRules;
use crate::manifest::recorded::Header;
use crate::manifest::scan::{ScanOptions, scan};
use crate::manifest::spool::Spool;
use crate::options::SyncOptions;
use crate::path::{Name, RelPath, escape};
use crate::session::root::SourceRoot;
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

/// A tree, open and locked against a sync into it.
pub(super) struct Source<'a> {
    pub(super) root: &'a BundleRoot,
    source: SourceRoot,
    filter: Rules,
    _lock: RootLock,
}

/// What a first look at the trees found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Entries, the roots not counted.
    pub(super) entries: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

impl<'a> Source<'a> {
    /// Opens the tree.
    pub(super) fn open(root: &'a BundleRoot) -> Result<Source<'a>> {
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
    pub(super) fn survey(
        &self,
        may_be_plain: bool,
        observer: &dyn Observer,
        cancel: &Cancel,
        found: &mut Found,
    ) -> Result<()> {
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
        let secrets = Secrets::new(&self.source.dir, &self.root.secrets)?;
        let files = AtomicU64::new(0);
        let look = |path: &RelPath, listing: &Listing| {
            let kinds = listing.rows.iter().map(|row| row.entry.meta.kind);
            let here = kinds.filter(|&kind| kind == EntryKind::File).count();
            files.fetch_add(here as u64, Ordering::Relaxed);
            if !may_be_plain {
                secrets.look_at(path, listing);
            }
        };
        let options = ScanOptions {
            threads: scan_threads(),
            one_file_system: self.root.options.selection.one_file_system,
            sink: Some(&look),
            mark: None,
        };
        let tree = scan(&lister, options, observer)?;
        secrets.refuse(self.root.path.as_os_str().as_bytes())?;
        found.entries += tree.entries;
        found.files += files.into_inner();
        found.bytes += tree.bytes;
        Ok(())
    }

    /// Packs the tree; returns its manifest.
    pub(super) fn pack<W: Write>(
        &self,
        packer: &mut Packer<'_, W>,
        cancel: &Cancel,
    ) -> Result<File> {
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
