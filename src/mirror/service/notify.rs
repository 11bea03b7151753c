//! Word to the service manager, as sd_notify(3) has it: a datagram of `NAME=VALUE` lines to the
//! socket that the environment names.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The line to the service manager; where there is none, nothing is said and nothing fails.
#[derive(Debug)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How long it may be silent before it is taken for hung.
    silence: Option<Duration>,
}

impl Notifier {
    /// Finds the manager that this process's environment names.
    pub fn of_process() -> Notifier {
        Notifier::of(|name| std::env::var_os(name))
    }

    /// Finds the manager that the variables of `env` name.
    pub fn of(env: impl Fn(&str) -> Option<OsString>) -> Notifier {
        let address = env("NOTIFY_SOCKET").and_then(|name| address(&name));
        let number = |name: &str| env(name)?.to_str()?.parse::<u64>().ok();
        // The variables are inherited: they may be meant for the process that started this one.
        let is_meant =
            number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        Notifier {
            to: address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address))),
            silence: number("WATCHDOG_USEC")
                .filter(|usec| is_meant && *usec > 0)
                .map(Duration::from_micros),
        }
    }

    /// It has begun to do what it is for, or has read its plan again.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// What it is doing, for `systemctl status`: one line.
    pub fn status(&self, text: &str) {
        self.tell(&format!("STATUS={}", text.replace('\n', " ")));
    }

    /// It reads its plan again; [`Notifier::ready`] ends that.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// It is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// A manager that does not listen is no reason to stop.
    fn tell(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }
}

fn address(name: &OsStr) -> Option<SocketAddr> {
    let bytes = name.as_bytes();
    match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None if bytes.starts_with(b"/") => SocketAddr::from_pathname(name).ok(),
        None => None,
    }
}

/// A thread that tells the manager that the mirror is not hung.
#[derive(Debug)]
pub struct Watchdog {
    /// Ends the thread by being dropped.
    running: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// Tells it twice in the time that the manager waits, as long as `is_alive`; `None` where no
    /// manager waits.
    pub fn start(
        notifier: Notifier,
        is_alive: impl Fn() -> bool + Send + 'static,
    ) -> io::Result<Option<Watchdog>> {
        let Some(silence) = notifier.silence else {
            return Ok(None);
        };
        let (running, ended) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                loop {
                    if is_alive() {
                        notifier.tell("WATCHDOG=1");
                    }
                    if ended.recv_timeout(silence / 2) != Err(RecvTimeoutError::Timeout) {
                        return;
                    }
                }
            })?;
        Ok(Some(Watchdog { running, thread }))
    }

    /// Tells it no more.
    pub fn finish(self) {
        drop(self.running);
        // It panics only where `is_alive` does, and ends either way.
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let len = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    fn line_to(name: OsString, more: &'static [(&str, &str)]) -> Notifier {
        Notifier::of(move |wanted| match wanted {
            "NOTIFY_SOCKET" => Some(name.clone()),
            _ => {
                let found = more.iter().find(|(name, _)| *name == wanted);
                found.map(|(_, value)| value.into())
            }
        })
    }

    #[test]
    fn a_manager_hears_by_path() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = line_to(path.into(), &[]);
        notifier.ready();
        assert_eq!(heard(&manager), "READY=1");
        notifier.status("two\nlines");
        assert_eq!(heard(&manager), "STATUS=two lines");
        notifier.stopping();
        assert_eq!(heard(&manager), "STOPPING=1");
        notifier.reloading();
        let said = heard(&manager);
        let usec = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.parse::<u64>().unwrap() > 0);
    }

    #[test]
    fn a_manager_hears_by_abstract_name() {
        let name = format!("cutover-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        line_to(format!("@{name}").into(), &[]).ready();
        assert_eq!(heard(&manager), "READY=1");
    }

    #[test]
    fn without_a_manager_nothing_is_said() {
        let notifier = Notifier::of(|_| None);
        notifier.ready();
        assert!(Watchdog::start(notifier, || true).unwrap().is_none());
        line_to("vsock:2:1234".into(), &[]).ready();
        line_to("/nonexistent/notify".into(), &[]).ready();
    }

    #[test]
    fn the_watchdog_hears_of_a_mirror_that_lives() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = line_to(path.into(), &[("WATCHDOG_USEC", "20000")]);
        let lives = Arc::new(AtomicBool::new(true));
        let asked = Arc::clone(&lives);
        let watchdog = Watchdog::start(notifier, move || asked.load(Ordering::Relaxed));
        for _ in 0..3 {
            assert_eq!(heard(&manager), "WATCHDOG=1");
        }
        lives.store(false, Ordering::Relaxed);
        watchdog.unwrap().unwrap().finish();
        manager.set_nonblocking(true).unwrap();
        // What was said before it was asked again.
        while manager.recv(&mut [0; 64]).is_ok() {}
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let env = &[("WATCHDOG_USEC", "20000"), ("WATCHDOG_PID", "1")];
        assert_eq!(line_to("@x".into(), env).silence, None);
        assert!(line_to("@x".into(), &env[..1]).silence.is_some());
    }
}
