//! The way back: what of a rollback's steps is needed, and how the destination becomes what it
//! was.

use std::sync::Arc;

use super::conductor::Conductor;
use super::journal::Journal;
use super::step::{ROLLBACK, Step};
use super::stopped::counted;
use super::watch::Listener;
use crate::error::Result;
use crate::events::{Observer, Side};
use crate::options::{Compare, RuleText, SyncOptions};
use crate::plan::model::FenceOff;
use crate::protocol::errand::FenceMeans;
use crate::session::{self, Mode};

impl Conductor<'_> {
    /// The steps back from where a switch came to: nothing is undone that was not begun.
    pub(super) fn steps_back(&self, journal: &Journal) -> Vec<Step> {
        let woken = [Step::BeforeStart, Step::Doctor, Step::Start];
        let was_woken = woken.iter().any(|step| journal.has_begun(*step));
        let needed = |step: &Step| {
            self.needs(*step)
                && match step {
                    Step::StopDestination | Step::ProveDestinationStopped => was_woken,
                    Step::Restore => journal.has_begun(Step::FinalSync) && self.kept(journal),
                    Step::Unfence => journal.has_begun(Step::Fence),
                    Step::StartSource | Step::SourceStatus => journal.has_begun(Step::Stop),
                    _ => true,
                }
        };
        ROLLBACK.into_iter().filter(needed).collect()
    }

    fn kept(&self, journal: &Journal) -> bool {
        journal.has_ended(Step::Keep)
    }

    /// Brings back what the destination had before the last sync. What it has now is kept.
    pub(super) fn restore(&mut self, id: &str) -> Result<Option<String>> {
        let mut notes = Vec::new();
        for (at, root) in self.apart() {
            let there = self.resolved.roots[at].destination.clone();
            let (entries, differing) = self.hosts.destination.restore(&there, id)?;
            let mut note = format!("{root}: {}", counted(entries, "entry", "entries"));
            if !differing.is_empty() {
                self.fetch_again(at, &differing)?;
                note.push_str(&format!(
                    ", {} written to in place since, taken from the source again",
                    counted(differing.len() as u64, "file", "files")
                ));
            }
            notes.push(note);
        }
        notes.push(format!(
            "what the destination had is in .cutover-kept/{id}-replaced of each root"
        ));
        Ok(Some(notes.join("; ")))
    }

    /// Index and name of each root that is not within another.
    fn apart(&self) -> Vec<(usize, String)> {
        let roots = self.resolved.roots.iter().enumerate();
        roots
            .filter(|(_, root)| root.held_by.is_none() && root.present)
            .map(|(at, root)| (at, root.name.clone()))
            .collect()
    }

    /// Files that a service wrote to in place, through the name that was kept too: the last sync
    /// had left them alone, so the source has what they held.
    fn fetch_again(&mut self, at: usize, names: &[String]) -> Result<()> {
        let listener = Arc::new(Listener::new(Arc::clone(&self.watch)));
        let observer: Arc<dyn Observer> = listener;
        let root = &self.resolved.roots[at];
        let mut job = self.resolved.job(root, Mode::Sync);
        only(&mut job.options, names);
        session::run(&job, observer, self.cancel).map(drop)
    }

    pub(super) fn unfence_source(&mut self) -> Result<Option<String>> {
        let means = match self.resolved.plan.switch.fence {
            FenceOff::Marker => None,
            FenceOff::ReadOnly => Some(FenceMeans::ReadOnly),
            FenceOff::Rename => Some(FenceMeans::Rename),
        };
        for root in self.root_paths(Side::Source) {
            if let Some(means) = means {
                self.hosts.source.fence(&root, means, false)?;
            }
            self.hosts.source.set_marker(&root, None)?;
        }
        Ok(None)
    }
}

/// Restricts a sync to some files, compared by content.
fn only(options: &mut SyncOptions, names: &[String]) {
    options.compare = Compare::Checksum;
    options.rehash = true;
    options.delete = None;
    let mut rules = Vec::new();
    for name in names {
        // Each directory on the way, then the file itself.
        for (at, _) in name.match_indices('/') {
            rules.push(format!("+ /{}/", escape_pattern(&name[..at])));
        }
        rules.push(format!("+ /{}", escape_pattern(name)));
    }
    rules.push("- *".into());
    rules.dedup();
    options.selection.rules = rules
        .into_iter()
        .map(|rule| RuleText(rule.into_bytes()))
        .collect();
}

/// A name as a pattern that matches nothing else. Without a wildcard a backslash is only a
/// backslash.
fn escape_pattern(name: &str) -> String {
    if !name.contains(['*', '?', '[']) {
        return name.to_string();
    }
    let mut pattern = String::with_capacity(name.len());
    for c in name.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_files_and_the_way_to_them_take_part() {
        let mut options = SyncOptions::default();
        only(&mut options, &["a/b*/c.db".into(), "d\\e".into()]);
        let rules: Vec<String> = options
            .selection
            .rules
            .iter()
            .map(|rule| String::from_utf8_lossy(&rule.0).into_owned())
            .collect();
        assert_eq!(
            rules,
            ["+ /a/", "+ /a/b\\*/", "+ /a/b\\*/c.db", "+ /d\\e", "- *"]
        );
        assert!(options.delete.is_none());
    }
}
