//! Writes one tree of a bundle, member by member, with the same writer as a sync: each file gets
//! its name only once it is whole and has the hash that the manifest, which was proven before, says.

use std::io::{self, Read};

use super::damaged;
use super::layout::shown;
use super::member::Member;
use super::read::Reader;
use crate::apply::{Applier, During, Failure, Incoming, Keep, Original};
use crate::digest::ContentHash;
use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::{Cancel, Event, Observer, Problem, Side, Summary};
use crate::manifest::record::{Entry, RecordRules};
use crate::manifest::recorded::Recorded;
use crate::path::{Name, RelPath};

/// Files up to this size are written in one go, in bytes.
const SMALL: u64 = 1 << 20;

/// A tree that is being written.
pub(super) struct Unpacker<'a> {
    /// What its root is called in the bundle.
    pub(super) name: Name,
    /// What shall be, in the destination's terms.
    pub(super) recorded: Recorded,
    /// What of it the destination keeps.
    pub(super) rules: RecordRules,
    pub(super) applier: Applier,
    pub(super) observer: &'a dyn Observer,
    pub(super) cancel: &'a Cancel,
    pub(super) summary: Summary,
}

/// Why a member was not written.
enum Fault {
    /// The bundle cannot be read on.
    Bundle(io::Error),
    /// The destination did not take it.
    Entry(Failure),
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        Fault::Entry(failure)
    }
}

impl Unpacker<'_> {
    /// Writes a member. What the destination does not take is told and counted; an error is of the
    /// bundle, or of a destination that takes nothing more.
    pub(super) fn write(
        &mut self,
        reader: &mut Reader<impl Read>,
        member: &Member,
        path: &RelPath,
    ) -> Result<()> {
        let outcome = self.write_member(reader, member, path);
        self.cancel.check()?;
        match outcome {
            Ok(()) => Ok(()),
            Err(Fault::Bundle(err)) => Err(Error::io("read", "the bundle", err)),
            Err(Fault::Entry(failure)) => self.failed(path, failure),
        }
    }

    fn write_member(
        &mut self,
        reader: &mut Reader<impl Read>,
        member: &Member,
        path: &RelPath,
    ) -> std::result::Result<(), Fault> {
        if path.is_root() {
            self.applier.expect_dir(path, &self.recorded.header.root);
            return Ok(());
        }
        if member.link.is_none() && !self.rules.takes(member.meta.kind) {
            // It was counted before anything was written.
            return Ok(());
        }
        let Some(entry) = self.recorded.entry(path) else {
            return match member.link {
                // Of a kind that does not take part.
                Some(_) => Ok(()),
                None => Err(other_than_proven(member)),
            };
        };
        if let Some(leader) = &member.link {
            let leader = leader
                .get(self.name.as_bytes().len() + 1..)
                .map(RelPath::new);
            let Some(Ok(leader)) = leader else {
                return Err(other_than_proven(member));
            };
            self.link(path, entry, &leader)?;
            self.summary.hard_linked += 1;
            return Ok(());
        }
        if entry.meta.kind != member.meta.kind {
            return Err(other_than_proven(member));
        }
        match entry.meta.kind {
            EntryKind::File => {
                let literal_bytes = self.file(reader, member, path, entry)?;
                self.summary.files_sent += 1;
                self.summary.changed_bytes += member.meta.size;
                self.summary.literal_bytes += literal_bytes;
            }
            EntryKind::Dir => {
                self.applier.make_dir(path, entry)?;
                self.summary.created += 1;
            }
            _ => {
                self.applier.make_special(path, entry)?;
                self.summary.created += 1;
            }
        }
        Ok(())
    }

    /// Makes another name of a file, or where the destination has no such thing, a copy.
    fn link(
        &self,
        path: &RelPath,
        entry: &Entry,
        leader: &RelPath,
    ) -> std::result::Result<(), Failure> {
        if self.rules.fidelity.hard_links {
            return self.applier.link(path, leader).map(drop);
        }
        if entry.meta.kind != EntryKind::File {
            return self.applier.make_special(path, entry);
        }
        let old = self.applier.existing(leader).during("open")?;
        let original = Original {
            file: &old.file,
            stat: &old.stat,
        };
        let mut go_on = |_| self.cancel.check().map_err(io::Error::other);
        self.applier
            .copy_file(path, entry, original, &mut go_on)
            .map(drop)
    }

    /// Writes a file; returns how many bytes of it are no holes.
    fn file(
        &self,
        reader: &mut Reader<impl Read>,
        member: &Member,
        path: &RelPath,
        entry: &Entry,
    ) -> std::result::Result<u64, Fault> {
        let (Some(hash), true) = (entry.content, entry.meta.size == member.meta.size) else {
            return Err(other_than_proven(member));
        };
        if member.extents.is_none() && member.meta.size <= SMALL {
            let mut content = Vec::with_capacity(member.meta.size as usize);
            let read = reader.content(member, &mut |_, bytes| {
                content.extend_from_slice(bytes);
                Ok(())
            });
            read.map_err(Fault::Bundle)?;
            self.applier.write_small(path, entry, &content, hash)?;
            return Ok(member.meta.size);
        }
        self.large(reader, member, path, entry, hash)
    }

    fn large(
        &self,
        reader: &mut Reader<impl Read>,
        member: &Member,
        path: &RelPath,
        entry: &Entry,
        hash: ContentHash,
    ) -> std::result::Result<u64, Fault> {
        let mut incoming: Incoming = self.applier.begin(path, member.meta.size, None)?;
        let mut refused = None;
        let read = reader.content(member, &mut |offset, bytes| {
            self.cancel.check().map_err(io::Error::other)?;
            incoming.write(offset, bytes).map_err(|failure| {
                let stop = io::Error::other(failure.act);
                refused = Some(failure);
                stop
            })
        });
        match (read, refused) {
            (Ok(()), None) => {
                incoming.finish(&self.applier, entry, hash)?;
                Ok(member.data_bytes())
            }
            (read, refused) => {
                incoming.abandon(Keep::Nothing);
                Err(match (refused, read) {
                    // What is left of the content is skipped.
                    (Some(failure), _) => Fault::Entry(failure),
                    (None, Err(err)) => Fault::Bundle(err),
                    (None, Ok(())) => other_than_proven(member),
                })
            }
        }
    }

    /// Settles directories and makes all durable.
    pub(super) fn finish(&mut self) -> Result<()> {
        self.cancel.check()?;
        for (path, failure) in self.applier.finish_dirs() {
            self.failed(&path, failure)?;
        }
        for warning in self.applier.refusals().warnings() {
            self.observer.observe(Event::Warning(warning));
        }
        self.applier
            .sync()
            .map_err(|err| Error::io("make durable", self.name.as_bytes(), err))
    }

    fn failed(&mut self, path: &RelPath, failure: Failure) -> Result<()> {
        if failure.is_fatal() {
            return Err(Error::io(failure.act, path.as_bytes(), failure.source));
        }
        self.summary.problems += 1;
        self.observer.observe(Event::Problem(Problem {
            side: Side::Destination,
            act: failure.act.to_string(),
            path: path.clone(),
            reason: failure.source.to_string(),
            os_error: failure.source.raw_os_error(),
        }));
        Ok(())
    }
}

/// The file changed between its two readings.
fn other_than_proven(member: &Member) -> Fault {
    Fault::Bundle(damaged(format!(
        "{} is not what it was when the bundle was proven",
        shown(&member.path)
    )))
}
