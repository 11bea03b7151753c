//! Directories that come whole: makes what they list, and links the names that share a file once
//! its content is there.

use std::collections::HashMap;
use std::sync::PoisonError;

use crate::entry::EntryKind;
use crate::error::{Error, Result};
use crate::events::Side;
use crate::manifest::record::Entry;
use crate::path::RelPath;
use crate::protocol::frame::{Frame, decode_message};
use crate::protocol::message::{FromSource, StreamedDir};
use crate::session::destination::counts::add;
use crate::session::destination::plan::{FilePlan, all_new};
use crate::session::destination::{ContentInline, Session};

/// Hard links met in streams.
#[derive(Default)]
pub(super) struct Leaders {
    /// The name that a group's content comes under.
    led: HashMap<u64, RelPath>,
    /// Names to be linked to it.
    followers: Vec<(RelPath, EntryKind, u64)>,
}

impl Session<'_> {
    /// Makes what a streamed directory lists, and copies its files where they are on this machine;
    /// in a dry run only says so.
    pub(super) fn write_streamed_dir(&self, frame: &Frame) -> Result<()> {
        let FromSource::Dir(StreamedDir { dir, entries }) = decode_message(&frame.body)? else {
            return Err(Error::protocol(
                "another message where a directory was meant",
            ));
        };
        add(&self.counts.streamed_entries, entries.len() as u64);
        let mut files = Vec::new();
        for entry in entries {
            let path = dir.join(&entry.name);
            let plan = FilePlan {
                path,
                basis_len: None,
                changes: all_new(),
                entry,
            };
            match plan.entry.meta.kind {
                _ if self.is_linked_later(&plan) => {}
                EntryKind::Dir => self.make_dir(&plan.path, &plan.entry, plan.changes)?,
                EntryKind::File => files.push(plan),
                _ => self.make_special(&plan)?,
            }
        }
        let bytes = files.iter().map(|file| file.entry.meta.size).sum();
        self.pending.plan_more(files.len(), bytes);
        for file in files {
            self.role.cancel.check()?;
            match self.dry_run() {
                true => self.say_would_land(&file),
                false => self.copy_local(file)?,
            }
        }
        // Only now: so listing does not run far ahead.
        self.give_credit(frame.credit_bytes)
    }

    /// Whether the entry is another name of a file that is on its way: it is linked at the end.
    fn is_linked_later(&self, plan: &FilePlan) -> bool {
        let Some(link) = plan.entry.link else {
            return false;
        };
        let mut leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
        // With content inline the source lists only the followers of a file; without it, and of
        // what has no content, all names.
        let may_lead =
            self.content_inline == ContentInline::No || plan.entry.meta.kind != EntryKind::File;
        let leads =
            may_lead && *leaders.led.entry(link).or_insert_with(|| plan.path.clone()) == plan.path;
        if !leads {
            let kind = plan.entry.meta.kind;
            leaders.followers.push((plan.path.clone(), kind, link));
        }
        !leads
    }

    /// Keeps the name that a linked file's content came under.
    pub(super) fn remember_leader(&self, path: &RelPath, entry: &Entry) {
        if let Some(link) = entry.link {
            let mut leaders = self.leaders.lock().unwrap_or_else(PoisonError::into_inner);
            leaders.led.entry(link).or_insert_with(|| path.clone());
        }
    }

    /// Links the other names of files that came in streams.
    pub(super) fn link_followers(&self) -> Result<()> {
        let leaders =
            std::mem::take(&mut *self.leaders.lock().unwrap_or_else(PoisonError::into_inner));
        for (path, kind, link) in leaders.followers {
            match leaders.led.get(&link) {
                Some(leader) => self.link_name(&path, leader, kind)?,
                None => self.problem(
                    Side::Destination,
                    "link",
                    &path,
                    &std::io::Error::other("the file that it is another name of did not arrive"),
                ),
            }
        }
        Ok(())
    }
}
