//! The far user's cache of agents: which copies of ourselves that earlier versions left there are
//! swept, by the agent that runs from it.

use std::fs::{self, File, FileTimes, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use rustix::io::Errno;

/// What the copies are called: this, and then their hash in base 16.
const PREFIX: &[u8] = b"agent-";

/// Digits of a hash.
const HASH_DIGITS: usize = 64;

/// How long a copy is kept after its last use: a host that is synced once a month pays for no
/// second upload.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Marks the running copy as used and removes those that have not been for long. Does nothing
/// when this program does not run from such a cache, or from one of another user, as with sudo.
///
/// A failure leaves a file behind, which the next run finds again.
pub fn sweep_agents() {
    let Ok(own) = fs::read_link("/proc/self/exe") else {
        return;
    };
    let is_copy = own
        .file_name()
        .is_some_and(|name| is_agent(name.as_bytes()));
    if let Some(dir) = own.parent().filter(|_| is_copy) {
        let _ = sweep(dir, &own, SystemTime::now());
    }
}

fn sweep(dir: &Path, own: &Path, now: SystemTime) -> io::Result<()> {
    let uid = rustix::process::geteuid().as_raw();
    let found = dir.symlink_metadata()?;
    // Where others can exchange names, a name says nothing of what is removed.
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o022 != 0 {
        return Ok(());
    }
    File::open(own)?.set_times(FileTimes::new().set_modified(now))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        let is_other = path != own && is_agent(entry.file_name().as_bytes());
        if is_other && is_unused(&entry.metadata()?, uid, now) && !is_running(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether a name is that of a copy, or of one whose upload was cut (`agent-HASH.PID`).
fn is_agent(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let Some((hash, rest)) = rest.split_at_checked(HASH_DIGITS) else {
        return false;
    };
    let is_hash = hash.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_whole = rest.is_empty();
    let is_cut = rest
        .strip_prefix(b".")
        .is_some_and(|pid| !pid.is_empty() && pid.iter().all(u8::is_ascii_digit));
    is_hash && (is_whole || is_cut)
}

fn is_unused(found: &Metadata, uid: u32, now: SystemTime) -> bool {
    let age = found
        .modified()
        .ok()
        .and_then(|time| now.duration_since(time).ok());
    found.is_file() && found.uid() == uid && age.is_some_and(|age| age > KEPT)
}

/// Whether some process runs the program: then nobody may write to it.
fn is_running(path: &Path) -> bool {
    let opened = File::options()
        .write(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    matches!(opened, Err(err) if Errno::from_io_error(&err) == Some(Errno::TXTBSY))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    const MONTHS: Duration = Duration::from_secs(70 * 24 * 3600);

    fn name(digit: char) -> String {
        format!("agent-{}", digit.to_string().repeat(HASH_DIGITS))
    }

    /// Makes a file that was last used `ago`.
    fn used(path: &Path, ago: Duration) {
        let file = File::create(path).unwrap();
        file.set_modified(SystemTime::now() - ago).unwrap();
    }

    #[test]
    fn only_exact_names_are_ours() {
        for ours in [name('0'), name('f'), name('a') + ".123"] {
            assert!(is_agent(ours.as_bytes()), "{ours}");
        }
        let others = [
            "agent-".to_owned(),
            "agent-abc".to_owned(),
            name('A'),
            name('g'),
            name('0') + "0",
            name('0') + ".",
            name('0') + ".bak",
            "x".to_owned() + &name('0'),
        ];
        for other in others {
            assert!(!is_agent(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn old_copies_go_and_all_else_stays() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let own = at(&name('0'));
        used(&own, MONTHS);
        for old in [name('1'), name('2') + ".77"] {
            used(&at(&old), MONTHS);
        }
        used(&at(&name('3')), Duration::from_secs(3600));
        used(&at("agent-of-mine"), MONTHS);
        fs::create_dir(at(&name('4'))).unwrap();
        used(&at("target"), MONTHS);
        symlink("target", at(&name('5'))).unwrap();

        let later = SystemTime::now() + MONTHS;
        sweep(temp.path(), &own, SystemTime::now()).unwrap();
        let mut left: Vec<_> = fs::read_dir(temp.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let [young, dir, link] = ['3', '4', '5'].map(name);
        let expected = [
            name('0'),
            young,
            dir,
            link,
            "agent-of-mine".into(),
            "target".into(),
        ];
        assert_eq!(left, expected);
        // The running one counts from now.
        assert!(!is_unused(&own.metadata().unwrap(), 0, SystemTime::now()));

        sweep(temp.path(), &own, later).unwrap();
        assert!(!at(&name('3')).exists() && own.exists());
    }

    #[test]
    fn a_copy_that_runs_stays() {
        let temp = tempfile::tempdir().unwrap();
        let (own, running) = (temp.path().join(name('0')), temp.path().join(name('1')));
        used(&own, Duration::ZERO);
        // Another process writes it, which no test that forks meanwhile can hold open.
        let copied = Command::new("cp").arg("/bin/sleep").arg(&running).status();
        assert!(copied.unwrap().success());
        let mut child = Command::new(&running).arg("60").spawn().unwrap();
        sweep(temp.path(), &own, SystemTime::now() + MONTHS).unwrap();
        assert!(running.exists());
        child.kill().unwrap();
        child.wait().unwrap();
        sweep(temp.path(), &own, SystemTime::now() + MONTHS).unwrap();
        assert!(!running.exists());
    }

    #[test]
    fn a_directory_that_others_may_change_is_left_alone() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let (own, old) = (temp.path().join(name('0')), temp.path().join(name('1')));
        used(&own, Duration::ZERO);
        used(&old, MONTHS);
        fs::set_permissions(temp.path(), PermissionsExt::from_mode(0o777)).unwrap();
        sweep(temp.path(), &own, SystemTime::now()).unwrap();
        assert!(old.exists());
    }
}
