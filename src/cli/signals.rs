//! Ctrl-C and its kin: the first asks the run to stop cleanly, a Ctrl-C after it does not ask.

use std::fs;
use std::io;
use std::os::raw::c_int;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use crate::error::{Error, ErrorClass};
use crate::session::Cancel;

/// Cancels on SIGINT, SIGTERM and SIGHUP. A SIGINT after any of them ends the process at once.
///
/// A signal that the process was started to ignore stays ignored: `nohup` and shells that put a
/// command in the background mean it.
pub(super) fn cancel_on_signals(cancel: &Cancel) -> Result<(), Error> {
    handle(cancel).map_err(|err| Error::io("handle", "signals", err))
}

fn handle(cancel: &Cancel) -> io::Result<()> {
    let ignored = ignored_mask();
    let wanted: Vec<c_int> = [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .filter(|&signal| !is_in(ignored, signal))
        .collect();
    let asked = Arc::new(AtomicBool::new(false));
    for &signal in &wanted {
        if signal == SIGINT {
            // Registered before the flag is: the first SIGINT finds it unset and then sets it.
            let code = i32::from(ErrorClass::Interrupted.exit_code());
            flag::register_conditional_shutdown(signal, code, Arc::clone(&asked))?;
        }
        flag::register(signal, Arc::clone(&asked))?;
    }
    let mut signals = Signals::new(&wanted)?;
    let cancel = cancel.clone();
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                cancel.cancel();
            }
        })?;
    Ok(())
}

/// The signals that are ignored, as a bit mask; none where the kernel does not say.
fn ignored_mask() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_ignored(&status)
}

/// The `SigIgn` line of a process's status (proc_pid_status(5)).
fn parse_ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

fn is_in(mask: u64, signal: c_int) -> bool {
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_cancels() {
        let cancel = Cancel::default();
        cancel_on_signals(&cancel).unwrap();
        assert!(!cancel.is_cancelled());
        signal_hook::low_level::raise(SIGTERM).unwrap();
        // The signal is handed on by a thread; the test's own time limit is the bound.
        while !cancel.is_cancelled() {
            thread::yield_now();
        }
    }

    #[test]
    fn ignored_signals_are_read_from_the_status() {
        let mask = parse_ignored("Name:\tx\nSigBlk:\t00\nSigIgn:\t0000000000001001\n");
        assert!(is_in(mask, SIGHUP));
        assert!(!is_in(mask, SIGINT));
        assert_eq!(parse_ignored(""), 0);
    }
}
