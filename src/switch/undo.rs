//! The way back: what of a rollback's steps is needed, and how the destination becomes what it
//! was.

use std::sync::Arc;

use super::conductor::Conductor;
use super::journal::Journal;
use super::step::{ROLLBACK, Step};
use super::watch::Listener;
use crate::error::{Error, ErrorClass, Result};
use crate::events::{Observer, Side};
use crate::options::{Compare, RuleText, SyncOptions};
use crate::path::escape;
use crate::plan::model::FenceOff;
use crate::protocol::errand::FenceMeans;
use crate::session::{self, Mode};
use crate::units::counted;

impl Conductor<'_> {
    /// The steps back from where a switch came to: nothing is undone that was not begun.
    pub(super) fn steps_back(&self, journal: &Journal) -> Vec<Step> {
        let woken = [Step::BeforeStart, Step::Doctor, Step::Start];
        let was_woken = woken.iter().any(|step| journal.has_begun(*step));
        let needed = |step: &Step| {
            self.needs(*step)
                && match step {
                    // Not woken by this switch, it may run all the same, and the source is about
                    // to be started.
                    Step::StopDestination | Step::ProveDestinationStopped => {
                        was_woken || journal.has_begun(Step::Stop)
                    }
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
            let restored = self.hosts.destination.restore(&there, id);
            let (entries, differing) = restored.map_err(without_kept_state)?;
            let mut note = format!("{root}: {}", counted(entries, "entry", "entries"));
            let (differing, untold) = named(differing);
            if !differing.is_empty() {
                self.fetch_again(at, &differing)?;
                note.push_str(&format!(
                    ", {} written to in place since, taken from the source again",
                    counted(differing.len() as u64, "file", "files")
                ));
            }
            if untold > 0 {
                note.push_str(&format!(
                    ", and {} that were written to in place and are not what they were: \
                     `cutover diff --checksum` with the source finds them",
                    counted(untold, "file", "files")
                ));
            }
            notes.push(note);
        }
        notes.push(format!(
            "what the destination had is in .cutover-kept/{id}-replaced of each root until the \
             next switch"
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
        let observer: Arc<dyn Observer> = Arc::<Listener>::clone(&listener);
        let root = &self.resolved.roots[at];
        let mut job = self.resolved.job(root, Mode::Sync);
        let names: Vec<Vec<u8>> = names.iter().map(|name| unescape(name)).collect();
        only(&mut job.options, &names);
        let summary = session::run(&job, observer, self.cancel)?;
        match summary.problems + summary.churn {
            0 => Ok(()),
            faults => Err(Error::Failed(format!(
                "{} of those that were written to in place could not be taken from the source \
                 again{}",
                counted(faults, "file", "files"),
                listener.quoted()
            ))),
        }
    }

    /// Takes the fence down as it was put up, whatever the plan says by now.
    pub(super) fn unfence_source(&mut self, journal: &Journal) -> Result<()> {
        let means = means_of(journal.heading().frame.fence);
        for root in self.root_paths(Side::Source) {
            if let Some(means) = means {
                self.hosts.source.fence(&root, means, false)?;
            }
            self.hosts.source.set_marker(&root, None)?;
        }
        Ok(())
    }
}

/// How a fence is put up beside its marker.
pub(super) fn means_of(fence: FenceOff) -> Option<FenceMeans> {
    match fence {
        FenceOff::Marker => None,
        FenceOff::ReadOnly => Some(FenceMeans::ReadOnly),
        FenceOff::Rename => Some(FenceMeans::Rename),
    }
}

/// What a host calls the state that a restored one has replaced.
pub(super) fn replaced(id: &str) -> String {
    format!("{id}-replaced")
}

/// The files that a host names, and how many it does not: its list has an end, and tells that there.
fn named(mut differing: Vec<String>) -> (Vec<String>, u64) {
    let untold = differing.last().and_then(|last| {
        let number = last.strip_prefix("and ")?.strip_suffix(" more")?;
        number.parse().ok()
    });
    if untold.is_some() {
        differing.pop();
    }
    (differing, untold.unwrap_or(0))
}

/// What can be done where a state that was kept is not there any more.
fn without_kept_state(err: Error) -> Error {
    match err {
        Error::Refused(why) => Error::Refused(advised(&why)),
        Error::Remote(remote) if remote.class == ErrorClass::Refused => {
            Error::Refused(advised(&remote.message))
        }
        other => other,
    }
}

fn advised(why: &str) -> String {
    let why = why.strip_prefix("refused: ").unwrap_or(why);
    format!(
        "{why}; where the destination cannot become what it was, `--done restore` leaves it as it \
         is and goes on"
    )
}

/// Restricts a sync to some files, compared by content.
fn only(options: &mut SyncOptions, names: &[Vec<u8>]) {
    options.compare = Compare::Checksum;
    options.rehash = true;
    options.delete = None;
    let mut rules = Vec::new();
    let mut add = |name: &[u8], end: &[u8]| {
        let rule = [b"+ /", escape_pattern(name).as_slice(), end].concat();
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    };
    for name in names {
        // Each directory on the way, then the file itself.
        for (at, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            add(&name[..at], b"/");
        }
        add(name, b"");
    }
    rules.push(b"- *".to_vec());
    options.selection.rules = rules.into_iter().map(RuleText).collect();
}

/// A name as a pattern that matches nothing else. Without a wildcard a backslash is only a
/// backslash.
fn escape_pattern(name: &[u8]) -> Vec<u8> {
    let is_wild = |byte: &u8| matches!(byte, b'*' | b'?' | b'[');
    if !name.iter().any(is_wild) {
        return name.to_vec();
    }
    let mut pattern = Vec::with_capacity(name.len());
    for byte in name {
        if is_wild(byte) || *byte == b'\\' {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern
}

/// The bytes of a name that was made printable, `\#ooo` for each that was not. A name that is
/// printable and looks like one that was not stays as it is: it has no such bytes.
fn unescape(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = rest.strip_prefix(b"\\#").and_then(|digits| digits.get(..3));
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[5..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    match escape(&bytes) == name {
        true => bytes,
        false => name.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_files_and_the_way_to_them_take_part() {
        let mut options = SyncOptions::default();
        only(&mut options, &[b"a/b*/c.db".to_vec(), b"d\\e".to_vec()]);
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

    #[test]
    fn files_that_a_host_only_counts_are_told() {
        let list = |last: &str| vec!["a".to_string(), last.to_string()];
        assert_eq!(named(list("and 7 more")), (vec!["a".to_string()], 7));
        assert_eq!(named(list("and more")), (list("and more"), 0));
    }

    #[test]
    fn a_name_that_was_made_printable_is_read_back() {
        for name in [
            &b"plain"[..],
            b"caf\xe9 \n",
            b"\\#1 and \\#999",
            b"like \\#101 a printable one",
        ] {
            assert_eq!(unescape(&escape(name)), name);
        }
    }
}
