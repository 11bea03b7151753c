//! Takes over from a mirror that keeps the plan's standby warm: it brings over what it still has to,
//! and ends. What it leaves is as good as a warm sync, and costs no look at the trees.

use std::thread;
use std::time::{Duration, Instant};

use super::conductor::Conductor;
use crate::error::{Error, Result};
use crate::fs::Places;
use crate::mirror::running::{Running, find_all, is_of_plan};
use crate::session::Mode;
use crate::units::counted;

/// How long a mirror may take: it may have gigabytes on their way.
const HAND_OVER: Duration = Duration::from_secs(60 * 60);

/// How long its process may take to be gone once it has handed over.
const GONE: Duration = Duration::from_secs(30);

/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(50);

impl Conductor<'_> {
    /// Has the mirror of this plan, or of one of its roots, hand over where one runs here. Returns
    /// what is to be said of it; `None` where none runs.
    pub(super) fn take_over_from_mirror(&self) -> Result<Option<String>> {
        let mirrors = find_all(&Places::of_user());
        let mut told = Vec::new();
        for mirror in mirrors.iter().filter(|mirror| self.is_ours(mirror)) {
            let found = mirror.found();
            mirror.drain(HAND_OVER).map_err(|err| {
                Error::Failed(format!(
                    "{err}; `cutover status` shows what hinders it; mend that, or end the mirror \
                     (process {}), and switch again",
                    found.pid
                ))
            })?;
            wait_until_gone(mirror)?;
            let roots = counted(found.roots.len() as u64, "root", "roots");
            told.push(format!("the mirror handed over {roots} and ended"));
        }
        // A mirror of some roots is none of the others.
        let all = mirrors.iter().any(|mirror| self.covers_all(mirror));
        Ok(all.then(|| told.join("; ")))
    }

    fn is_ours(&self, mirror: &Running) -> bool {
        let mut ends = self.ends().into_iter();
        is_of_plan(mirror.found(), self.plan_file()) || ends.any(|ends| has(mirror, &ends))
    }

    fn covers_all(&self, mirror: &Running) -> bool {
        self.ends().iter().all(|ends| has(mirror, ends))
    }

    /// Where each synced root is and shall be, as a mirror of it tells.
    fn ends(&self) -> Vec<(String, String)> {
        let synced = self.resolved.roots.iter().filter(|root| root.is_synced());
        let ends = synced.map(|root| {
            let job = self.resolved.job(root, Mode::Sync);
            (job.source.to_string(), job.destination.to_string())
        });
        ends.collect()
    }
}

fn has(mirror: &Running, (source, destination): &(String, String)) -> bool {
    let mut roots = mirror.found().roots.iter();
    roots.any(|root| root.source == *source && root.destination == *destination)
}

/// Its last locks go with its process.
fn wait_until_gone(mirror: &Running) -> Result<()> {
    let until = Instant::now() + GONE;
    while mirror.answers() {
        if Instant::now() > until {
            return Err(Error::Failed(format!(
                "the mirror (process {}) handed over, but does not end; end it, and switch again",
                mirror.found().pid
            )));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}
