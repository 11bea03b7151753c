//! The processes of a run, on both sides: what they have taken so far, and what they hold.
//!
//! The benchmark is the parent of orphans among its descendants, so a connection that put itself into
//! the background still belongs to who began it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// How often memory is looked at. `/proc` keeps each process's own peak; only processes that live
/// for less go unseen.
const LOOK: Duration = Duration::from_millis(250);

/// How long processes may take to end once they are asked.
const PARTING: Duration = Duration::from_secs(10);

/// What a process says of itself in `/proc`.
struct Row {
    parent: u32,
    cpu_ticks: u64,
    peak_kib: u64,
}

/// Peak memory in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Peaks {
    pub(crate) near_kib: u64,
    pub(crate) far_kib: u64,
}

/// All that the benchmark started; what is beneath `sshd` is the far side.
#[derive(Clone, Copy)]
pub(crate) struct Family {
    sshd: u32,
}

impl Family {
    /// Takes in orphans from now on.
    pub(crate) fn gather(sshd: u32) -> Family {
        let me = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(me)).unwrap();
        Family { sshd }
    }

    /// Processor time of both sides in seconds, sshd's with it and the benchmark's not. What ended
    /// is in the account of who waited for it.
    pub(crate) fn cpu_s(self) -> f64 {
        let rows = rows();
        let members = beneath(&rows, std::process::id()).into_iter();
        let ticks: u64 = members.map(|pid| rows[&pid].cpu_ticks).sum();
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64
    }

    /// The most that the processes of each side have held, together.
    pub(crate) fn peaks(self) -> Peaks {
        let rows = rows();
        let far = beneath(&rows, self.sshd);
        let mut near = beneath(&rows, std::process::id());
        near.retain(|pid| *pid != self.sshd && !far.contains(pid));
        let held = |pids: &BTreeSet<u32>| pids.iter().map(|pid| rows[pid].peak_kib).sum();
        Peaks {
            near_kib: held(&near),
            far_kib: held(&far),
        }
    }

    /// Runs `work` and looks at memory meanwhile.
    pub(crate) fn watch<T>(self, work: impl FnOnce() -> T) -> (T, Peaks) {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut most = Peaks::default();
                while !over.load(Ordering::Relaxed) {
                    let now = self.peaks();
                    most.near_kib = most.near_kib.max(now.near_kib);
                    most.far_kib = most.far_kib.max(now.far_kib);
                    thread::sleep(LOOK);
                }
                most
            });
            let done = work();
            over.store(true, Ordering::Relaxed);
            (done, watch.join().unwrap())
        })
    }

    /// Ends all but sshd itself.
    pub(crate) fn part(self) {
        let deadline = Instant::now() + PARTING;
        loop {
            let mut left = beneath(&rows(), std::process::id());
            left.remove(&self.sshd);
            if left.is_empty() {
                return;
            }
            let signal = match Instant::now() < deadline {
                true => Signal::TERM,
                false => Signal::KILL,
            };
            for pid in left {
                let pid = Pid::from_raw(pid as i32).unwrap();
                // It may have ended by itself, or wait for nobody but us.
                let _ = rustix::process::kill_process(pid, signal);
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
            }
            thread::sleep(LOOK);
        }
    }
}

/// All descendants.
fn beneath(rows: &BTreeMap<u32, Row>, root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut fresh = vec![root];
    while let Some(parent) = fresh.pop() {
        let children = rows.iter().filter(|(_, row)| row.parent == parent);
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        found.extend(&children);
        fresh.extend(children);
    }
    found
}

fn rows() -> BTreeMap<u32, Row> {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, row(pid)?))).collect()
}

/// `None` once the process has ended.
fn row(pid: u32) -> Option<Row> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it is in parentheses, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    Some(Row {
        parent: number(1)? as u32,
        // Its own, in user space and in the kernel, and that of the children it waited for.
        cpu_ticks: (11..15).filter_map(number).sum(),
        peak_kib: peak.map_or(0, |kib| kib.parse().unwrap_or(0)),
    })
}
