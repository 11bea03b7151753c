//! Runs a command of a plan: in a session of its own, with nothing to read, its output passed on
//! line by line, and not for longer than it may.

mod output;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::error::{Error, Result};
use crate::events::Cancel;
use crate::fs::{Login, Users, lead_session};
use crate::path::escape;
use crate::protocol::errand::{Command, Exit, OutputLine};
use crate::transport::{Whose, expand_home};
use output::Outputs;

/// How long one look for output takes at most: the command's end is noticed so soon.
const TICK: Duration = Duration::from_millis(25);

/// How long a command that took too long may take to end itself before it is killed.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);

/// The same where the run was interrupted: a local shell in place of ssh is killed after two
/// seconds, and what it runs must be gone before.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// How long output may still come once the command has ended: what it left running holds its
/// output open for as long as it likes.
const DRAIN: Duration = Duration::from_millis(200);

/// Variables of a login that mean the wrong one's places to another user. So does any `XDG_...`.
const PERSONAL: [&str; 5] = ["HOME", "USER", "LOGNAME", "SHELL", "MAIL"];

/// Runs a command to its end.
///
/// # Errors
///
/// [`Error::Interrupted`], once all that it started has been killed. How else it ends is an answer.
pub(super) fn run(
    command: &Command,
    cancel: &Cancel,
    output: &mut dyn FnMut(OutputLine),
) -> Result<Exit> {
    cancel.check()?;
    match start(command) {
        Ok(running) => running.watch(command.timeout, cancel, output),
        Err(why) => Ok(Exit::NotStarted(why)),
    }
}

/// A command that has been started.
struct Running {
    child: Child,
    group: Pid,
    outputs: Outputs,
}

/// Why a command is being ended, and until when it may do so itself.
struct Ending {
    killed_at: Instant,
    exit: Result<Exit>,
}

fn start(command: &Command) -> Result<Running, String> {
    let login = match &command.user {
        Some(name) => login(name)?,
        None => None,
    };
    let dir = directory(command, login.as_ref())?;
    let words = match command.shell {
        true => vec!["sh".to_string(), "-c".to_string(), command.words.join(" ")],
        false => command.words.clone(),
    };
    let (program, args) = words.split_first().ok_or("no command is given")?;
    let env = environment(command, login.as_ref());
    let mut prepared = process::Command::new(program);
    prepared
        .args(args)
        .env_clear()
        .envs(&env)
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    lead_session(&mut prepared, login.as_ref());
    let mut child = prepared
        .spawn()
        .map_err(|err| not_started(program, &env, &err))?;
    let outputs = Outputs::of(&mut child).map_err(|err| format!("its output: {err}"))?;
    Ok(Running {
        group: Pid::from_child(&child),
        child,
        outputs,
    })
}

/// The login of a user; `None` where this process is that user's already.
fn login(name: &str) -> Result<Option<Login>, String> {
    let login = Login::of(name).ok_or_else(|| format!("there is no user {name} on this host"))?;
    if login.uid == Users::effective_uid() {
        return Ok(None);
    }
    if !Users::is_root() {
        let own = Users::new().user_name(Users::effective_uid());
        return Err(format!(
            "only root can run a command as {name}, and this is {}; log in as root or as {name}, \
             or set `sudo = true` for this host",
            own.map_or("another user".into(), |own| escape(&own).into_owned())
        ));
    }
    Ok(Some(login))
}

/// Where the command starts: where it is told to, else in the user's home, if that is there.
fn directory(command: &Command, login: Option<&Login>) -> Result<PathBuf, String> {
    if let Some(dir) = &command.dir {
        return match Path::new(dir).is_dir() {
            true => Ok(dir.into()),
            false => Err(format!("{dir}, where it shall start, is not a directory")),
        };
    }
    let home = match login {
        Some(login) => login.home.clone(),
        None => PathBuf::from(os_string(expand_home(b"~", Whose::Own))),
    };
    Ok(match home.is_dir() {
        true => home,
        false => PathBuf::from("/"),
    })
}

fn os_string(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

/// The variables of this process, as another user's login would have them, and those of the
/// command.
fn environment(command: &Command, login: Option<&Login>) -> BTreeMap<OsString, OsString> {
    let mut env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    if let Some(login) = login {
        env.retain(|name, _| {
            let name = name.to_string_lossy();
            !PERSONAL.contains(&&*name) && !name.starts_with("XDG_")
        });
        env.insert("HOME".into(), login.home.clone().into());
        env.insert("SHELL".into(), login.shell.clone().into());
        for name in ["USER", "LOGNAME"] {
            env.insert(name.into(), login.name.clone().into());
        }
        // Where a user's own service manager is reached.
        let runtime = PathBuf::from(format!("/run/user/{}", login.uid));
        if runtime.is_dir() {
            env.insert("XDG_RUNTIME_DIR".into(), runtime.into());
        }
    }
    let given = command.env.iter();
    env.extend(given.map(|(name, value)| (name.into(), value.into())));
    env
}

fn not_started(program: &str, env: &BTreeMap<OsString, OsString>, err: &std::io::Error) -> String {
    let is_missing = err.kind() == std::io::ErrorKind::NotFound;
    if !is_missing || program.contains('/') {
        return format!("cannot run {program}: {err}");
    }
    let path = env.get(&OsString::from("PATH"));
    let path = path.map_or("".into(), |path| path.to_string_lossy());
    format!(
        "there is no {program} in PATH ({path}); give its full path, or set PATH in `env`: this is \
         no login shell, which may add to it"
    )
}

impl Running {
    fn watch(
        mut self,
        timeout: Duration,
        cancel: &Cancel,
        output: &mut dyn FnMut(OutputLine),
    ) -> Result<Exit> {
        let deadline = Instant::now().checked_add(timeout);
        let mut ending: Option<Ending> = None;
        loop {
            self.outputs.pass_on(TICK, output);
            let has_ended = self.has_ended();
            match &ending {
                None if has_ended => break,
                None if cancel.is_cancelled() => {
                    ending = Some(self.end(CANCEL_GRACE, Err(Error::Interrupted)));
                }
                None if deadline.is_some_and(|deadline| Instant::now() >= deadline) => {
                    ending = Some(self.end(TIMEOUT_GRACE, Ok(Exit::TimedOut)));
                }
                None => {}
                // What it started may still be at work, as long as its output is open.
                Some(_) if has_ended && self.outputs.are_closed() => break,
                Some(ending) if Instant::now() >= ending.killed_at => break,
                Some(_) => {}
            }
        }
        if ending.is_some() {
            self.signal(Signal::KILL);
        }
        self.outputs.finish(DRAIN, output);
        let status = self
            .child
            .wait()
            .map_err(|err| Error::io("wait for", "a command", err))?;
        match ending {
            Some(ending) => ending.exit,
            None => Ok(match (status.code(), status.signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, signal) => Exit::Signal(signal.unwrap_or_default()),
            }),
        }
    }

    /// Whether the command itself has ended. It is not yet waited for, so that the number of its
    /// group can be nobody else's.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), options), Ok(None))
    }

    fn end(&self, grace: Duration, exit: Result<Exit>) -> Ending {
        self.signal(Signal::TERM);
        Ending {
            killed_at: Instant::now() + grace,
            exit,
        }
    }

    /// Signals the command and what it started; what has left its group on purpose is none of ours.
    fn signal(&self, signal: Signal) {
        // It fails where nobody is left.
        let _ = kill_process_group(self.group, signal);
    }
}

#[cfg(test)]
mod tests;
