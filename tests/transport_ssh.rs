//! The transport against real things: an sshd on loopback, and commands given with `-e`. The
//! agents are scripts that say the preamble and then echo.

// Helpers of tests unwrap as tests do.
#![allow(clippy::unwrap_used)]

#[path = "common/sshd.rs"]
mod sshd;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use cutover::digest::ContentHash;
use cutover::error::{Error, ErrorClass};
use cutover::events::{Cancel, Event, Observer, Silent};
use cutover::transport::{Link, RemoteOptions, RemotePath, open_agent};
use sshd::{HOST, Sshd};
use tempfile::TempDir;

fn host(name: &str) -> RemotePath {
    RemotePath {
        user: None,
        host: name.into(),
        port: None,
        path: Vec::new(),
    }
}

/// Makes a script to be run. Another process writes it: were it this one, a test that forks
/// meanwhile would hold it open for writing, and nobody could start it.
fn executable(path: &Path, script: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
    let install = std::process::Command::new("install")
        .args(["-m", "755"])
        .args([draft.as_path(), path])
        .status();
    assert!(install.unwrap().success());
    fs::remove_file(draft).unwrap();
}

/// A stand-in for the executable that is uploaded. It cannot hold its own hash, so it reads it
/// from a file that only this machine, being both sides, has.
struct StandIn {
    dir: TempDir,
}

impl StandIn {
    fn new() -> StandIn {
        StandIn::that("printf 'cutover-agent 1 stand-in\\n'; exec cat")
    }

    /// A stand-in that does `acts` as an agent.
    fn that(acts: &str) -> StandIn {
        let dir = TempDir::new().unwrap();
        let hash = dir.path().join("hash");
        let script = format!(
            "case $2 in --self-hash) cat {0};; --protocol) echo cutover-agent 1 x;; *) {acts};; esac",
            hash.display()
        );
        executable(&dir.path().join("cutover"), &script);
        let bytes = fs::read(dir.path().join("cutover")).unwrap();
        fs::write(hash, ContentHash::of(&bytes).to_string()).unwrap();
        StandIn { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("cutover")
    }

    /// Of its own, so that nothing is left in that of whoever runs the tests.
    fn control_dir(&self) -> PathBuf {
        self.dir.path().join("ssh")
    }

    /// The locks that are left there.
    fn left_behind(&self) -> Vec<String> {
        let names = fs::read_dir(self.control_dir()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".lock")).collect()
    }

    fn hash(&self) -> String {
        ContentHash::of(&fs::read(self.path()).unwrap()).to_string()
    }

    fn options(&self, sshd: &Sshd) -> RemoteOptions {
        RemoteOptions {
            ssh_args: sshd.ssh_args(),
            ..self.bare_options()
        }
    }

    fn bare_options(&self) -> RemoteOptions {
        RemoteOptions {
            agent_binary: self.path(),
            control_dir: Some(self.control_dir()),
            start_timeout: Duration::from_secs(20),
            ..RemoteOptions::default()
        }
    }
}

fn open(options: &RemoteOptions) -> Link {
    open_agent(&host(HOST), options, &Silent, &Cancel::new()).unwrap()
}

fn fails(name: &str, options: &RemoteOptions) -> String {
    match open_agent(&host(name), options, &Silent, &Cancel::new()) {
        Ok(_) => panic!("an agent started"),
        Err(err) => {
            assert_eq!(err.class(), ErrorClass::Connection, "{err}");
            err.to_string()
        }
    }
}

/// Sends `bytes` of noise through the link, and finishes it when they have come back unchanged.
fn echo(link: Link, bytes: usize) {
    let Link {
        mut reader,
        mut writer,
        guard,
    } = link;
    let block: Vec<u8> = (0..65_536u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let expected = block.clone();
    let sender = thread::spawn(move || {
        let mut left = bytes;
        while left > 0 {
            let len = left.min(block.len());
            writer.write_all(&block[..len]).unwrap();
            left -= len;
        }
    });
    let mut left = bytes;
    let mut buffer = vec![0; expected.len()];
    while left > 0 {
        let len = left.min(buffer.len());
        reader.read_exact(&mut buffer[..len]).unwrap();
        assert!(buffer[..len] == expected[..len], "bytes changed on the way");
        left -= len;
    }
    sender.join().unwrap();
    assert_eq!(reader.read(&mut buffer).unwrap(), 0, "there is more");
    guard.finish().unwrap();
}

/// Keeps what a run says for `-v`.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Observer for Notes {
    fn observe(&self, event: Event) {
        if let Event::Note(text) = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

#[test]
fn hundred_mebibytes_come_back_unchanged() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    echo(open(&stand_in.options(&sshd)), 100 << 20);
    assert_eq!(sshd.logins(), 1);
}

#[test]
fn missing_agent_is_uploaded_once_and_started() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let notes = Notes::default();
    let options = stand_in.options(&sshd);
    echo(
        open_agent(&host(HOST), &options, &notes, &Cancel::new()).unwrap(),
        10,
    );
    let installed = sshd
        .home()
        .join(format!(".cache/cutover/agent-{}", stand_in.hash()));
    assert_eq!(
        fs::read(&installed).unwrap(),
        fs::read(stand_in.path()).unwrap()
    );
    assert_eq!(
        installed.metadata().unwrap().permissions().mode() & 0o777,
        0o700
    );

    let again = Notes::default();
    echo(
        open_agent(&host(HOST), &options, &again, &Cancel::new()).unwrap(),
        10,
    );
    let installs = |notes: Notes| {
        let notes = notes.0.into_inner().unwrap();
        notes
            .iter()
            .filter(|note| note.contains("installing"))
            .count()
    };
    assert_eq!((installs(notes), installs(again)), (1, 0));
    let cached = fs::read_dir(installed.parent().unwrap()).unwrap().count();
    assert_eq!(cached, 1, "a partial copy was left");
}

#[test]
fn agent_in_the_path_is_used_if_its_protocol_fits() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let found = sshd.home().join("bin/cutover");
    executable(
        &found,
        "echo cutover-agent 1 found; [ \"$2\" = --protocol ] || exec cat",
    );
    echo(open(&stand_in.options(&sshd)), 10);
    assert!(!sshd.home().join(".cache").exists(), "it was uploaded");

    executable(&found, "echo cutover-agent 999 found");
    echo(open(&stand_in.options(&sshd)), 10);
    assert!(
        sshd.home().join(".cache").exists(),
        "the other protocol was used"
    );
}

#[test]
fn agent_path_is_used_and_nothing_else() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let mut options = stand_in.options(&sshd);
    executable(
        &sshd.home().join("it's my agent"),
        "echo cutover-agent 1 x; exec cat",
    );
    options.agent_path = Some(b"~/it's my agent".to_vec());
    echo(open(&options), 10);
    options.agent_path = Some(b"/nowhere/agent".to_vec());
    let err = fails(HOST, &options);
    assert!(
        err.contains("no agent on cutover-test at /nowhere/agent"),
        "{err}"
    );
}

#[test]
fn noisy_login_shell_is_skipped() {
    let noisy = "ForceCommand echo 'Welcome!'; printf 'no newline'; eval \"$SSH_ORIGINAL_COMMAND\"";
    let (sshd, stand_in) = (Sshd::with(noisy), StandIn::new());
    echo(open(&stand_in.options(&sshd)), 1 << 20);
}

#[test]
fn key_that_may_only_run_an_agent_works() {
    let forced = "ForceCommand echo cutover-agent 1 forced; exec cat";
    let (sshd, stand_in) = (Sshd::with(forced), StandIn::new());
    echo(open(&stand_in.options(&sshd)), 1 << 20);
}

#[test]
fn shell_that_only_talks_is_quoted_in_the_error() {
    let talking = "ForceCommand echo This account is closed.; exit 3";
    let (sshd, stand_in) = (Sshd::with(talking), StandIn::new());
    let err = fails(HOST, &stand_in.options(&sshd));
    assert!(err.contains("printed \"This account is closed."), "{err}");
    assert!(err.contains("exit code 3"), "{err}");
}

#[test]
fn shell_that_says_nothing_is_given_up_in_time() {
    let (sshd, stand_in) = (Sshd::with("ForceCommand sleep 60"), StandIn::new());
    let options = RemoteOptions {
        start_timeout: Duration::from_secs(1),
        ..stand_in.options(&sshd)
    };
    let started = Instant::now();
    let err = fails(HOST, &options);
    assert!(err.contains("no agent started"), "{err}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn copy_that_does_not_run_there_is_named_and_removed() {
    let sshd = Sshd::start();
    let stand_in = StandIn::new();
    fs::write(stand_in.path(), "#!/nowhere/loader\n").unwrap();
    let err = fails(HOST, &stand_in.options(&sshd));
    assert!(err.contains("does not run on cutover-test"), "{err}");
    let left = fs::read_dir(sshd.home().join(".cache/cutover"))
        .unwrap()
        .count();
    assert_eq!(left, 0);
}

#[test]
fn copy_that_arrives_damaged_is_not_started() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    fs::write(stand_in.dir.path().join("hash"), "0000").unwrap();
    let err = fails(HOST, &stand_in.options(&sshd));
    assert!(err.contains("arrived damaged"), "{err}");
}

#[test]
fn home_that_cannot_be_written_is_named() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    fs::write(sshd.home().join(".cache"), "").unwrap();
    let err = fails(HOST, &stand_in.options(&sshd));
    assert!(err.contains("cannot be stored"), "{err}");
}

#[test]
fn other_system_is_named_on_both_sides() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    executable(
        &sshd.home().join("bin/uname"),
        "if [ $1 = -s ]; then echo Plan9; else echo mips; fi",
    );
    let err = fails(HOST, &stand_in.options(&sshd));
    assert!(err.contains("Plan9 mips") && err.contains("Linux"), "{err}");
    assert!(err.contains("--agent-path"), "{err}");
}

#[test]
fn agent_that_fails_later_is_reported_by_finish() {
    let sshd = Sshd::start();
    let stand_in = StandIn::that("echo cutover-agent 1 x; cat; echo out of luck >&2; exit 7");
    let link = open(&stand_in.options(&sshd));
    drop((link.writer, link.reader));
    let err = link.guard.finish().unwrap_err().to_string();
    assert!(
        err.contains("exit code 7") && err.contains("out of luck"),
        "{err}"
    );
}

#[test]
fn abort_ends_a_blocked_reader_and_the_connection() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let mut link = open(&stand_in.options(&sshd));
    let mut reader = link.reader;
    let blocked = thread::spawn(move || reader.read(&mut [0; 16]).unwrap());
    thread::sleep(Duration::from_millis(100));
    link.guard.abort();
    assert_eq!(blocked.join().unwrap(), 0);
    link.guard.abort();
}

#[test]
fn refused_connection_says_what_to_check() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let options = stand_in.options(&sshd);
    drop(sshd);
    // The configuration is gone with the server.
    let options = RemoteOptions {
        ssh_args: ["-F", "/dev/null", "-p", "1"].map(Into::into).into(),
        ..options
    };
    let err = fails("127.0.0.1", &options);
    assert!(err.contains("the connection was refused"), "{err}");
}

#[test]
fn unknown_host_says_what_to_check() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let err = fails("no-such-host.invalid", &stand_in.options(&sshd));
    assert!(err.contains("no host of this name"), "{err}");
}

#[test]
fn changed_host_key_and_rejected_key_are_told_apart() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let known = sshd.ssh_config().with_file_name("known_hosts");
    let other = fs::read_to_string(sshd.ssh_config().with_file_name("user_key.pub")).unwrap();
    let good = fs::read_to_string(&known).unwrap();
    fs::write(&known, format!("[127.0.0.1]:{} {other}", sshd.port())).unwrap();
    let err = fails(HOST, &stand_in.options(&sshd));
    assert!(err.contains("host key has changed"), "{err}");

    fs::write(&known, "").unwrap();
    let err = fails(HOST, &stand_in.options(&sshd));
    assert!(err.contains("host key is not known"), "{err}");

    fs::write(&known, good).unwrap();
    let mut options = stand_in.options(&sshd);
    options
        .push_ssh_option("-o PubkeyAuthentication=no")
        .unwrap();
    let err = fails(HOST, &options);
    assert!(err.contains("none of your keys"), "{err}");
}

#[test]
fn server_that_never_answers_is_given_up_in_time() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let stand_in = StandIn::new();
    let options = RemoteOptions {
        ssh_args: vec!["-F".into(), "/dev/null".into(), format!("-p{port}").into()],
        connect_timeout: Duration::from_secs(1),
        ..stand_in.bare_options()
    };
    let started = Instant::now();
    let err = fails("127.0.0.1", &options);
    assert!(err.contains("does not answer"), "{err}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn persisting_connection_is_shared_by_later_runs() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let mut options = stand_in.options(&sshd);
    options.persist = Some(Duration::from_secs(60));
    for _ in 0..3 {
        echo(open(&options), 1000);
    }
    // Also by runs that did not ask for it; and these leave it.
    options.persist = None;
    echo(open(&options), 1000);
    echo(open(&options), 1000);
    assert_eq!(sshd.logins(), 1);
}

#[test]
fn runs_that_start_together_share_one_persisting_connection() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let mut options = stand_in.options(&sshd);
    options.persist = Some(Duration::from_secs(60));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| echo(open(&options), 1000));
        }
    });
    assert_eq!(sshd.logins(), 1);
    assert_eq!(stand_in.left_behind(), Vec::<String>::new());
}

#[test]
fn connection_that_fails_leaves_no_lock() {
    let stand_in = StandIn::new();
    let options = RemoteOptions {
        // Nothing listens on the port of the TCP multiplexer anywhere.
        ssh_args: vec!["-oPort=1".into()],
        persist: Some(Duration::from_secs(60)),
        ..stand_in.bare_options()
    };
    fails("127.0.0.1", &options);
    assert_eq!(stand_in.left_behind(), Vec::<String>::new());
}

#[test]
fn persisting_connection_that_was_cut_is_replaced() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let mut options = stand_in.options(&sshd);
    options.persist = Some(Duration::from_secs(60));
    echo(open(&options), 1000);
    sshd.cut_connections();
    echo(open(&options), 1000);
    assert_eq!(sshd.logins(), 2);
}

#[test]
fn connection_ends_with_the_run() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    echo(open(&stand_in.options(&sshd)), 1000);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !sshd.log().contains("Received disconnect") {
        assert!(Instant::now() < deadline, "the connection is still there");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The cipher of the first connection, from the server's log.
fn cipher(sshd: &Sshd) -> String {
    let log = sshd.log();
    let line = log
        .lines()
        .find(|line| line.contains("kex: client->server cipher:"));
    let after = line.unwrap().split("cipher: ").nth(1).unwrap();
    after.split(' ').next().unwrap().to_owned()
}

#[test]
fn aes_gcm_is_preferred_where_the_cpu_has_aes() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    echo(open(&stand_in.options(&sshd)), 1);
    let has_aes = fs::read_to_string("/proc/cpuinfo")
        .unwrap()
        .contains(" aes ");
    assert_eq!(
        cipher(&sshd) == "aes128-gcm@openssh.com",
        has_aes,
        "{}",
        cipher(&sshd)
    );
}

#[test]
fn ciphers_that_the_user_chose_are_kept() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let config = fs::read_to_string(sshd.ssh_config()).unwrap();
    fs::write(
        sshd.ssh_config(),
        format!("{config}Ciphers aes256-ctr,aes128-gcm@openssh.com\n"),
    )
    .unwrap();
    echo(open(&stand_in.options(&sshd)), 1);
    assert_eq!(cipher(&sshd), "aes256-ctr");
}

#[test]
fn sharing_in_the_users_configuration_does_not_get_in_the_way() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let config = fs::read_to_string(sshd.ssh_config()).unwrap();
    let socket = sshd.home().join("mux");
    let sharing = format!(
        "ControlMaster auto\nControlPath {}\nControlPersist 60\nRequestTTY force\nRemoteCommand date\n",
        socket.display()
    );
    fs::write(sshd.ssh_config(), config + &sharing).unwrap();
    echo(open(&stand_in.options(&sshd)), 1000);
    assert!(!socket.exists());
}

#[test]
fn ssh_given_with_e_works_in_one_login_even_with_an_upload() {
    let (sshd, stand_in) = (Sshd::start(), StandIn::new());
    let options = RemoteOptions {
        shell: Some(sshd.shell()),
        ..stand_in.bare_options()
    };
    echo(open(&options), 10 << 20);
    assert_eq!(sshd.logins(), 1);
    let err = fails("no-such-host.invalid", &options);
    assert!(err.contains("no host of this name"), "{err}");
}

/// Where a far side looks for commands: not where an agent may be installed on this machine.
const FAR_PATH: &str = "/usr/bin:/bin";

/// Options for a command that runs words as they are, as `docker exec -i` does, with a far home
/// of its own.
fn wrapped(stand_in: &StandIn, dir: &TempDir, script: &str) -> RemoteOptions {
    let wrapper = dir.path().join("wrapper");
    let home = format!("export HOME='{}' PATH={FAR_PATH}", dir.path().display());
    executable(&wrapper, &format!("{home}\n{script}"));
    RemoteOptions {
        shell: Some(format!("'{}' -i", wrapper.display())),
        ..stand_in.bare_options()
    }
}

#[test]
fn command_that_executes_words_gets_host_and_words() {
    let (stand_in, dir) = (StandIn::new(), TempDir::new().unwrap());
    let script = "[ \"$1 $2\" = '-i box' ] || exit 9; shift 2; exec \"$@\"";
    let options = wrapped(&stand_in, &dir, script);
    echo(
        open_agent(&host("box"), &options, &Silent, &Cancel::new()).unwrap(),
        1 << 20,
    );
    assert!(dir.path().join(".cache/cutover").exists());
}

#[test]
fn wrapper_without_a_host_is_given_an_empty_one() {
    let (stand_in, dir) = (StandIn::new(), TempDir::new().unwrap());
    let options = RemoteOptions {
        shell: Some(format!("env HOME={} PATH={FAR_PATH}", dir.path().display())),
        ..stand_in.bare_options()
    };
    echo(
        open_agent(&host(""), &options, &Silent, &Cancel::new()).unwrap(),
        1 << 20,
    );
    let err = open_agent(&host(""), &stand_in.bare_options(), &Silent, &Cancel::new())
        .err()
        .unwrap();
    assert!(matches!(err, Error::Usage(_)), "{err}");
}

#[test]
fn sudo_that_asks_for_a_password_is_explained() {
    let (stand_in, dir) = (StandIn::new(), TempDir::new().unwrap());
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    executable(
        &bin.join("sudo"),
        "echo 'sudo: a password is required' >&2; exit 1",
    );
    let script = format!("shift 2; PATH={}:$PATH exec \"$@\"", bin.display());
    let mut options = wrapped(&stand_in, &dir, &script);
    options.sudo = true;
    let err = fails("box", &options);
    assert!(err.contains("asks for a password"), "{err}");

    executable(
        &bin.join("sudo"),
        "[ \"$1 $2\" = '-n --' ] && shift 2 && exec \"$@\"",
    );
    echo(
        open_agent(&host("box"), &options, &Silent, &Cancel::new()).unwrap(),
        1000,
    );
}

#[test]
fn command_behind_a_terminal_is_refused() {
    let (stand_in, dir) = (StandIn::new(), TempDir::new().unwrap());
    let options = wrapped(
        &stand_in,
        &dir,
        "printf 'cutover-agent 1 x\\r\\n'; exec cat",
    );
    let err = fails("box", &options);
    assert!(err.contains("behind a terminal"), "{err}");
}

#[test]
fn what_is_no_shell_is_an_error_at_once_that_shows_what_it_printed() {
    let (stand_in, dir) = (StandIn::new(), TempDir::new().unwrap());
    let started = Instant::now();
    for (script, expected) in [
        (
            "printf '\\037\\000\\001'; sleep 60",
            "printed \"\\#037\\#000\"",
        ),
        (
            "yes no agent | head -c 100000; sleep 60",
            "printed \"no agent",
        ),
        (
            "echo hello; exit 4",
            "printed \"hello\" before the agent started",
        ),
        ("no-such-command", "the remote shell ended (exit code 127)"),
    ] {
        let err = fails("box", &wrapped(&stand_in, &dir, script));
        assert!(err.contains(expected), "{err}");
    }
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_shell_that_greets_and_then_says_nothing_is_given_up_soon() {
    let (stand_in, dir) = (StandIn::new(), TempDir::new().unwrap());
    let started = Instant::now();
    let mut options = wrapped(&stand_in, &dir, "echo hello; sleep 60");
    options.connect_timeout = Duration::from_secs(600);
    let err = fails("box", &options);
    assert!(err.contains("printed \"hello\" and then nothing"), "{err}");
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_command_that_says_nothing_is_given_up_in_time() {
    let (stand_in, dir) = (StandIn::new(), TempDir::new().unwrap());
    // Without a terminal: nobody could type a password.
    let probe = std::process::Command::new("sh")
        .args(["-c", "exec 2>/dev/null; : </dev/tty"])
        .status();
    if probe.unwrap().success() {
        // Past the test runner, which keeps what a test that passes prints to itself.
        let line =
            b"SKIPPED: a_command_that_says_nothing_is_given_up_in_time: a terminal is there\n";
        std::io::stderr().write_all(line).unwrap();
        return;
    }
    let mut options = wrapped(&stand_in, &dir, "sleep 60");
    options.connect_timeout = Duration::from_secs(1);
    let started = Instant::now();
    let err = fails("box", &options);
    assert!(
        err.contains("no agent started on box within 1 seconds"),
        "{err}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_interrupt_ends_the_opening() {
    let (sshd, stand_in) = (Sshd::with("ForceCommand sleep 60"), StandIn::new());
    let dir = TempDir::new().unwrap();
    let silent = wrapped(&stand_in, &dir, "exec sleep 60");
    // As when Ctrl-C reaches the command before us.
    let interrupted = wrapped(&stand_in, &dir, "sleep 0.48; kill -INT $$");
    for (name, options) in [
        (HOST, stand_in.options(&sshd)),
        ("box", silent),
        ("box", interrupted),
    ] {
        let cancel = Cancel::new();
        let stop = cancel.clone();
        let stopper = thread::spawn(move || {
            thread::sleep(Duration::from_millis(500));
            stop.cancel();
        });
        let started = Instant::now();
        let outcome = open_agent(&host(name), &options, &Silent, &cancel).map(|_| ());
        assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{name}");
        stopper.join().unwrap();
    }
}

#[test]
fn missing_command_is_named() {
    let stand_in = StandIn::new();
    let options = RemoteOptions {
        shell: Some("/nowhere/docker exec -i".into()),
        ..stand_in.bare_options()
    };
    let err = fails("box", &options);
    assert!(err.contains("cannot run /nowhere/docker"), "{err}");
}

#[test]
fn command_that_is_never_finished_ends_when_aborted() {
    let (stand_in, dir) = (StandIn::new(), TempDir::new().unwrap());
    // A child that holds the streams and outlives the command itself.
    let script = "printf 'cutover-agent 1 x\\n'; trap '' TERM; sleep 30 & wait; wait";
    let mut link = open_agent(
        &host("box"),
        &wrapped(&stand_in, &dir, script),
        &Silent,
        &Cancel::new(),
    )
    .unwrap();
    let mut reader = link.reader;
    let blocked = thread::spawn(move || reader.read(&mut [0; 16]).unwrap());
    let started = Instant::now();
    link.guard.abort();
    assert_eq!(blocked.join().unwrap(), 0);
    assert!(started.elapsed() < Duration::from_secs(10));
}
