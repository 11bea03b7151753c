//! The shared ssh connection: opened by the user's own ssh, with the terminal for its prompts
//! and ciphers that the CPU is good at, and left to `openssh` from then on.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use openssh::Session;
use tokio::time::{sleep, timeout};

use super::control::{ControlDir, Life, as_ssh_argument};
use super::explain::cannot_connect;
use super::location::RemotePath;
use super::patience::{LOGIN_LIMIT, Patience};
use super::remote::RemoteOptions;
use super::stderr::{Echo, Said, Stderr};
use crate::error::{Error, Result};

/// How long an unused connection stays when nobody asked for it to persist: enough for the next
/// command of this run, little enough that a killed run leaves nothing behind.
const LINGER: Duration = Duration::from_secs(10);

/// How often a lock that another run holds is tried: soon enough to go unnoticed.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// How long the local ssh process may take to answer on its control socket.
const CONTROL_LIMIT: Duration = Duration::from_secs(5);

/// Seconds between ssh's own signs of life, of which it lets three go unanswered. A connection
/// that persists over a suspended laptop's night is found dead within half a minute.
const ALIVE_INTERVAL_S: u32 = 10;

/// A connection that sessions can be opened on. It is only the connection's name: nothing ends
/// when it is dropped.
#[derive(Clone, Debug)]
pub(super) struct Master {
    socket: PathBuf,
    life: Life,
    /// Whether it was there before, and so may be dead without ssh knowing it yet.
    pub(super) reused: bool,
}

impl Master {
    /// Takes up a connection that an earlier run left, or opens one.
    pub(super) async fn open(
        remote: &RemotePath,
        options: &RemoteOptions,
        patience: Patience<'_>,
    ) -> Result<Master> {
        let dir = ControlDir::open(options.control_dir.as_deref())?;
        let mut key = connection_key(remote, options);
        let socket = dir.socket(Life::Persist, &key);
        let Some(persist) = options.persist else {
            if is_alive(&socket).await {
                return Ok(Master::reused(socket));
            }
            key.extend(unique().to_le_bytes());
            key.extend(std::process::id().to_le_bytes());
            let socket = dir.socket(Life::Run, &key);
            return Master::connect(socket, Life::Run, LINGER, remote, options, patience).await;
        };
        // Whoever comes second waits for the first one's prompts, and then has its connection.
        let lock = patience.wait_on(Lock::take(&socket)).await??;
        let opened = Master::share(socket, persist, remote, options, patience).await;
        lock.release();
        opened
    }

    /// Takes up the connection that later runs share, or opens it. Only by whoever has its lock.
    async fn share(
        socket: PathBuf,
        persist: Duration,
        remote: &RemotePath,
        options: &RemoteOptions,
        patience: Patience<'_>,
    ) -> Result<Master> {
        if is_alive(&socket).await {
            return Ok(Master::reused(socket));
        }
        // ssh would leave a stale socket alone and go on without sharing.
        remove_stale(&socket)?;
        Master::connect(socket, Life::Persist, persist, remote, options, patience).await
    }

    fn reused(socket: PathBuf) -> Master {
        Master {
            socket,
            life: Life::Persist,
            reused: true,
        }
    }

    async fn connect(
        socket: PathBuf,
        life: Life,
        idle: Duration,
        remote: &RemotePath,
        options: &RemoteOptions,
        patience: Patience<'_>,
    ) -> Result<Master> {
        let destination = remote.destination();
        let tuning = tuning(remote, options)?;
        let mut command = tokio::process::Command::new("ssh");
        command
            .args(["-M", "-N", "-f", "-T", "-S"])
            .arg(as_ssh_argument(&socket))
            // Zero would mean for ever.
            .arg(format!("-oControlPersist={}", idle.as_secs().max(1)))
            // Of the user's configuration, what would get in the way of a connection that only
            // carries our commands: a second bind of a forwarded port, a command of its own.
            .args(["-oClearAllForwardings=yes", "-oRemoteCommand=none"])
            .args(tuning.args)
            .args(connection_args(remote, options))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let (reader, writer) = io::pipe().map_err(|err| Error::io("make", "a pipe", err))?;
        let mut child = command.stderr(writer).spawn().map_err(cannot_run_ssh)?;
        // It holds the other end of the pipe.
        drop(command);
        let stderr = Stderr::watch(reader, Echo::to_person());
        // Whether there is a terminal or not: ssh has more ways to ask, and hangs up by itself.
        let limit = tuning.connect_timeout + LOGIN_LIMIT;
        let status = match patience.wait(limit, child.wait()).await? {
            Some(status) => status.map_err(cannot_run_ssh)?,
            None => return Err(login_timed_out(&destination, limit)),
        };
        if !status.success() {
            return Err(cannot_connect(&destination, &stderr.tail()));
        }
        stderr.mute();
        Ok(Master {
            socket,
            life,
            reused: false,
        })
    }

    /// A session on the connection. Nothing is sent before its first command.
    pub(super) fn session(&self) -> Session {
        Session::resume_mux(self.socket.clone().into(), None)
    }

    /// Ends the connection unless it is to persist.
    pub(super) async fn release(&self) {
        if self.life == Life::Run {
            self.close().await;
        }
    }

    /// Ends the connection once its last session has ended. A failure means that it has gone by
    /// itself, or will when it has been idle.
    pub(super) async fn close(&self) {
        let _ = timeout(CONTROL_LIMIT, self.session().close()).await;
    }
}

fn login_timed_out(destination: &str, limit: Duration) -> Error {
    Error::Connection(format!(
        "cannot connect to {destination}: no login within {} seconds; answer what ssh asks, or \
         use a key that needs no answer",
        limit.as_secs()
    ))
}

fn cannot_run_ssh(err: io::Error) -> Error {
    Error::Connection(format!("cannot run ssh: {err}; install the OpenSSH client"))
}

/// Whether a connection is there and its ssh process answers.
async fn is_alive(socket: &Path) -> bool {
    let session = Session::resume_mux(socket.into(), None);
    matches!(timeout(CONTROL_LIMIT, session.check()).await, Ok(Ok(())))
}

/// Keeps two runs from opening the same connection at once. A run that is killed leaves the file
/// behind, unlocked, for the next one to take.
struct Lock {
    path: PathBuf,
    /// Locked until it is closed.
    _file: File,
}

impl Lock {
    async fn take(socket: &Path) -> Result<Lock> {
        let path = socket.with_extension("lock");
        let failed = |err| Error::io("lock", path.as_os_str().as_bytes(), err);
        loop {
            let file = File::options().create(true).append(true).open(&path);
            let file = file.map_err(failed)?;
            loop {
                match file.try_lock() {
                    Ok(()) => break,
                    Err(TryLockError::WouldBlock) => sleep(LOCK_INTERVAL).await,
                    Err(TryLockError::Error(err)) => return Err(failed(err)),
                }
            }
            // Whoever had it before has removed it, and somebody may have made another since.
            if is_still_at(&file, &path) {
                return Ok(Lock { path, _file: file });
            }
        }
    }

    /// Removes the file while it is locked: who waits for it then finds that it is not there.
    fn release(self) {
        // One that stays is no harm: the next run takes it.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_still_at(file: &File, path: &Path) -> bool {
    let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let there = path.symlink_metadata().map(identity);
    let here = file.metadata().map(identity);
    there.is_ok_and(|there| here.is_ok_and(|here| here == there))
}

fn remove_stale(socket: &Path) -> Result<()> {
    match fs::remove_file(socket) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", socket.as_os_str().as_bytes(), err))
        }
        _ => Ok(()),
    }
}

/// What tells two connections apart: everything that decides where they lead and how.
fn connection_key(remote: &RemotePath, options: &RemoteOptions) -> Vec<u8> {
    let mut key = Vec::new();
    for arg in connection_args(remote, options) {
        key.extend(arg.as_bytes());
        key.push(0);
    }
    key
}

/// A number that no other run of the same process id has.
fn unique() -> u128 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}

/// The user's options, then where to.
fn connection_args(remote: &RemotePath, options: &RemoteOptions) -> Vec<OsString> {
    let mut args = options.ssh_args.clone();
    if let Some(port) = remote.port {
        args.push(format!("-p{port}").into());
    }
    args.extend(["--".into(), remote.destination().into()]);
    args
}

/// What ssh is to do beyond what the user's configuration says.
struct Tuning {
    /// The options that we would set, less those that the configuration sets.
    args: Vec<String>,
    /// How long connecting may take, by the configuration or by ours.
    connect_timeout: Duration,
}

fn tuning(remote: &RemotePath, options: &RemoteOptions) -> Result<Tuning> {
    let wants_gcm = cpu_has_aes(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    let chosen = ConfigQuery::start(connection_args(remote, options))?;
    let default = wants_gcm
        .then(|| ConfigQuery::start(["-F", "/dev/null", "--", "host"].map(OsString::from)))
        .transpose()?;
    let chosen = chosen.finish(&remote.destination())?;
    let is = |name, value| chosen.get(name).is_some_and(|found| found == value);
    let mut args = Vec::new();
    let configured = chosen
        .get("connecttimeout")
        .and_then(|limit| limit.parse().ok());
    let seconds = configured.unwrap_or_else(|| {
        let ours = options.connect_timeout.as_secs().max(1);
        args.push(format!("-oConnectTimeout={ours}"));
        ours
    });
    if is("serveraliveinterval", "0") {
        args.push(format!("-oServerAliveInterval={ALIVE_INTERVAL_S}"));
    }
    if let Some(default) = default {
        let default = default.finish(&remote.destination())?;
        let preferred = default
            .get("ciphers")
            .filter(|ciphers| is("ciphers", ciphers.as_str()))
            .and_then(|ciphers| gcm_first(ciphers));
        args.extend(preferred.map(|ciphers| format!("-oCiphers={ciphers}")));
    }
    Ok(Tuning {
        args,
        connect_timeout: Duration::from_secs(seconds),
    })
}

/// A running `ssh -G`, which prints what ssh would use and connects nowhere.
struct ConfigQuery(Child);

impl ConfigQuery {
    fn start(args: impl IntoIterator<Item = OsString>) -> Result<ConfigQuery> {
        Command::new("ssh")
            .args(["-T", "-G"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map(ConfigQuery)
            .map_err(cannot_run_ssh)
    }

    fn finish(self, destination: &str) -> Result<HashMap<String, String>> {
        let output = self.0.wait_with_output().map_err(cannot_run_ssh)?;
        if !output.status.success() {
            return Err(cannot_connect(destination, &Said::unseen(output.stderr)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        Ok(pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect())
    }
}

/// `ciphers` with AES-GCM in front, if it has them. With AES instructions these carried 460 MB/s
/// a core where ssh's first choice, chacha20-poly1305, carried 200.
fn gcm_first(ciphers: &str) -> Option<String> {
    let is_gcm = |cipher: &&str| cipher.ends_with("-gcm@openssh.com");
    let (mut gcm, others): (Vec<&str>, Vec<&str>) = ciphers.split(',').partition(is_gcm);
    if gcm.is_empty() {
        return None;
    }
    gcm.extend(others);
    Some(gcm.join(","))
}

/// Whether `/proc/cpuinfo` lists AES instructions: among `flags` on x86, `Features` on Arm.
fn cpu_has_aes(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .filter(|line| line.starts_with("flags") || line.starts_with("Features"))
        .any(|line| line.split_whitespace().any(|flag| flag == "aes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gcm_moves_to_the_front_and_nothing_is_lost() {
        let moved = gcm_first("chacha,aes128-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com");
        let expected = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha,aes128-ctr";
        assert_eq!(moved.as_deref(), Some(expected));
        assert_eq!(gcm_first("chacha,aes128-ctr"), None);
    }

    #[test]
    fn aes_is_found_on_x86_and_arm_and_not_in_other_words() {
        assert!(cpu_has_aes("model name\t: aes\nflags\t\t: fpu aes avx\n"));
        assert!(cpu_has_aes("Features\t: fp asimd aes pmull\n"));
        assert!(!cpu_has_aes("model name\t: aes\nflags\t\t: fpu vaes\n"));
    }

    #[test]
    fn connections_with_other_options_have_other_keys() {
        let remote = RemotePath {
            user: None,
            host: "h".into(),
            port: None,
            path: Vec::new(),
        };
        let plain = RemoteOptions::default();
        let key = connection_key(&remote, &plain);
        let other_port = RemotePath {
            port: Some(2222),
            ..remote.clone()
        };
        let other_file = RemoteOptions {
            ssh_args: vec!["-Ffile".into()],
            ..plain.clone()
        };
        assert_ne!(key, connection_key(&other_port, &plain));
        assert_ne!(key, connection_key(&remote, &other_file));
    }
}
