//! Makes a bundle: looks at all trees first, so that what must be refused is refused before
//! anything is written, then packs them one after the other.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::MAX_ENTRIES;
use super::draft::{Draft, Out};
use super::layout::{OWN_DIR, Place, VERSION_TEXT};
use super::member::Member;
use super::pack::{Packed, Packer, written};
use super::progress::Progress;
use super::seal::{Seal, Sealed};
use super::source::{BundleRoot, Found, Source};
use super::write::Archive;
use crate::entry::Timestamp;
use crate::error::{Error, Result};
use crate::events::{Cancel, Event, Observer, Phase, Summary, Warning};
use crate::fs::{Users, is_temp};
use crate::host::identify;
use crate::path::escape;

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
    creation.out.refuse_taken()?;
    let may_be_plain = creation.allow_plain_secrets || !matches!(creation.seal, Seal::Open);
    observer.observe(Event::Phase(Phase::Scanning));
    let mut found = Found::default();
    for source in &sources {
        source.survey(may_be_plain, observer, cancel, &mut found)?;
    }
    refuse_too_many(&found)?;
    observer.observe(Event::Phase(Phase::Transferring));
    let progress = Progress::new(observer, found.files, found.bytes);
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
    put_text(packer, &Place::Version, VERSION_TEXT, now).map_err(written)?;
    let mut manifests = Vec::new();
    for source in sources {
        let manifest = source.pack(packer, cancel)?;
        manifests.push((&source.root.name, manifest));
    }
    if !packer.packed.faults.is_empty() {
        let mut text = packer.packed.faults.join("\n");
        text.push('\n');
        put_text(packer, &Place::Faults, text.as_bytes(), now).map_err(written)?;
    }
    for (name, manifest) in manifests {
        let place = Place::Manifest(name.clone());
        put_file(packer, &place, manifest, now).map_err(written)?;
    }
    Ok(())
}

fn put_file<W: Write>(
    packer: &mut Packer<'_, W>,
    place: &Place,
    mut file: File,
    now: Timestamp,
) -> io::Result<()> {
    let len = file.seek(SeekFrom::End(0))?;
    file.rewind()?;
    let member = Member::own(place.path(), len, now);
    let mut content = packer.archive.begin(&member, &member.head()?)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return content.finish().map(drop),
            read => content.write(&buffer[..read])?,
        };
    }
}

fn put_text<W: Write>(
    packer: &mut Packer<'_, W>,
    place: &Place,
    text: &[u8],
    now: Timestamp,
) -> io::Result<()> {
    let member = Member::own(place.path(), text.len() as u64, now);
    let mut content = packer.archive.begin(&member, &member.head()?)?;
    content.write(text)?;
    content.finish().map(drop)
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

fn refuse_too_many(found: &Found) -> Result<()> {
    if found.entries <= MAX_ENTRIES {
        return Ok(());
    }
    Err(Error::Usage(format!(
        "these are {} entries, and a bundle holds at most {MAX_ENTRIES}: make several",
        found.entries
    )))
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
