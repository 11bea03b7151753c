//! Directories that come whole: makes what they list, and links the names that share a file once
//! its content is there.

use std::collections::HashMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::entry::EntryKind;
use crate::error::Result;
use crate::events::{Action, Side};
use crate::manifest::record::Entry;
use crate::path::RelPath;
use crate::protocol::message::StreamedDir;
use crate::session::destination::plan::{FilePlan, all_new};
use crate::session::destination::receive::Task;
use crate::session::destination::{ContentInline, FILES_A_TASK, Session, chunks};

/// Hard links met in streams.
#[derive(Default)]
pub(super) struct Leaders {
    /// The name that a group's content comes under.
    led: HashMap<u64, RelPath>,
    /// Names to be linked to it.
    followers: Vec<(RelPath, EntryKind, u64)>,
}

impl Session<'_> {
    /// Makes what a streamed directory lists; in a dry run only says so.
    pub(super) fn write_streamed_dir(&self, streamed: StreamedDir, cost: u64) -> Result<()> {
        let StreamedDir { dir, entries } = streamed;
        self.counts
            .streamed_entries
            .fetch_add(entries.len() as u64, Ordering::Relaxed);
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
        if self.dry_run() {
            for file in files {
                self.counts.would_land(&file);
                self.item(&file.path, EntryKind::File, Action::Transfer, file.changes);
            }
            return self.give_credit(cost);
        }
        if files.is_empty() {
            return self.give_credit(cost);
        }
        // The cost comes back as the files are done: so listing does not run far ahead.
        self.pending.add(files.len());
        let chunks = chunks(files, FILES_A_TASK);
        let share = cost / chunks.len() as u64;
        self.give_credit(cost - share * chunks.len() as u64)?;
        for chunk in chunks {
            self.shared
                .tasks
                .push_into(&dir, Task::CopyLocal(chunk, share));
        }
        Ok(())
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
