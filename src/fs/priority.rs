//! How much of the processor and of the disks this process wants beside others.

use std::io;

use super::sys;

/// How a process's reads and writes are put in line (ioprio_set(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPriority {
    /// Before all others; for root.
    RealTime(u8),
    /// In turn with others, from 0, the first, to 7.
    BestEffort(u8),
    /// Only when nobody else wants the disk.
    Idle,
}

/// Sets the niceness of the calling thread, from -20 to 19, and of all that it starts from then on.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // On Linux this is of a thread, whatever the call's name says.
    Ok(rustix::process::setpriority_process(None, nice)?)
}

/// Sets the same for reads and writes.
pub fn set_io_priority(priority: IoPriority) -> io::Result<()> {
    // `IOPRIO_CLASS_*` of linux/ioprio.h.
    let (class, level) = match priority {
        IoPriority::RealTime(level) => (1, level),
        IoPriority::BestEffort(level) => (2, level),
        IoPriority::Idle => (3, 0),
    };
    Ok(sys::set_io_priority(class, level)?)
}
