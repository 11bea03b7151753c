//! Over a real ssh server on this machine: the agent gets there, the tree gets there, and a
//! connection that breaks is told apart.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;

use crate::common::lab::{Lab, Route};
use crate::common::prerequisites::need;
use crate::common::run::{BINARY, Invocation};
use crate::common::sshd::{HOST, Sshd};
use crate::common::tree::every_kind;
use crate::needs;

/// `cutover VERB OPTIONS` over a route whose far side is the server.
fn over_ssh(sshd: &Sshd, lab: &Lab, verb: &str, route: Route, options: &[&str]) -> Invocation {
    let ssh_options = sshd.ssh_args().into_iter().map(|arg| {
        let mut option = OsString::from("--ssh-option=");
        option.push(arg);
        option
    });
    lab.cutover([verb])
        .args(options)
        .args(ssh_options)
        .args(route.endpoints(HOST, &lab.src, &lab.dst))
}

/// The option that spares the upload where that is not what the test is about.
const WITH_AGENT: [&str; 2] = ["--agent-path", BINARY];

fn every_kind_arrives_over_ssh(route: Route) {
    let sshd = Sshd::start();
    let lab = Lab::new();
    every_kind(&lab.src);
    let sync = || {
        over_ssh(
            &sshd,
            &lab,
            "sync",
            route,
            &[&WITH_AGENT[..], &["--json"]].concat(),
        )
    };
    sync().ok();
    lab.assert_synced();
    sync().ok().assert_sent_nothing();
    over_ssh(&sshd, &lab, "verify", route, &WITH_AGENT).ok();
}

#[test]
fn every_kind_is_pushed() {
    needs!(Root);
    every_kind_arrives_over_ssh(Route::Push);
}

#[test]
fn every_kind_is_pulled() {
    needs!(Root);
    every_kind_arrives_over_ssh(Route::Pull);
}

#[test]
fn every_kind_is_relayed() {
    needs!(Root);
    every_kind_arrives_over_ssh(Route::Relay);
}

#[test]
fn a_host_without_an_agent_gets_one_once() {
    needs!(Root);
    let sshd = Sshd::start();
    let lab = Lab::with_source("f a 'x'");
    let agents = || {
        let walk = walkdir::WalkDir::new(sshd.home())
            .into_iter()
            .filter_map(Result::ok);
        let files = walk.filter(|entry| entry.file_type().is_file());
        let agents = files.filter(|entry| entry.path().to_string_lossy().contains("agent"));
        agents
            .map(|entry| (entry.path().to_owned(), entry.metadata().unwrap().ino()))
            .collect::<Vec<_>>()
    };
    let cache = sshd.home().join(".cache/cutover");
    fs::create_dir_all(&cache).unwrap();
    let of_an_old_version = fs::File::create(cache.join(format!("agent-{}", "0".repeat(64))));
    let months_ago = SystemTime::now() - Duration::from_secs(90 * 24 * 3600);
    of_an_old_version.unwrap().set_modified(months_ago).unwrap();
    over_ssh(&sshd, &lab, "sync", Route::Push, &[]).ok();
    lab.assert_synced();
    let uploaded = agents();
    assert_eq!(uploaded.len(), 1, "{uploaded:?}");
    lab.source("f a 'changed'");
    over_ssh(&sshd, &lab, "sync", Route::Push, &[]).ok();
    lab.assert_synced();
    assert_eq!(agents(), uploaded, "it was uploaded again");
}

#[test]
fn runs_share_a_connection_that_is_kept() {
    needs!(Root);
    let sshd = Sshd::start();
    let lab = Lab::with_source("f a 'x'");
    let options = [&WITH_AGENT[..], &["--persist", "10m"]].concat();
    for round in 0..3 {
        lab.source(&format!("f a 'round {round}'"));
        over_ssh(&sshd, &lab, "sync", Route::Push, &options).ok();
        lab.assert_synced();
    }
    assert_eq!(sshd.logins(), 1, "{}", sshd.log());
}

#[test]
fn a_small_change_of_a_big_file_is_small_on_the_wire() {
    needs!(Root);
    let sshd = Sshd::start();
    for route in [Route::Push, Route::Pull] {
        let lab = Lab::with_source("f big random(4M) @5");
        let options = [&WITH_AGENT[..], &["--json"]].concat();
        over_ssh(&sshd, &lab, "sync", route, &options).ok();
        let path = lab.src.join("big");
        let mut content = fs::read(&path).unwrap();
        content.splice(1_000_001..1_000_001, *b"a few bytes");
        fs::write(&path, content).unwrap();
        let outcome = over_ssh(&sshd, &lab, "sync", route, &options).ok();
        lab.assert_synced();
        let wire = outcome.count("wire_sent_bytes") + outcome.count("wire_received_bytes");
        assert!(wire < 256 << 10, "{wire} bytes by {route:?}:\n{outcome}");
    }
}

#[test]
fn ssh_given_as_a_command_works_as_well() {
    needs!(Root);
    let sshd = Sshd::start();
    let lab = Lab::with_source("f a 'x'\n f it\\'s\\s$HOME 'y'");
    lab.cutover(["sync", "-e", &sshd.shell()])
        .args(WITH_AGENT)
        .args(Route::Push.endpoints(HOST, &lab.src, &lab.dst))
        .ok();
    lab.assert_synced();
}

#[test]
fn an_unknown_host_key_is_a_connection_error() {
    needs!(Root);
    let sshd = Sshd::start();
    let lab = Lab::with_source("f a 'x'");
    let strict = [
        &WITH_AGENT[..],
        &["--ssh-option=-oUserKnownHostsFile=/dev/null"],
    ]
    .concat();
    let outcome = over_ssh(&sshd, &lab, "sync", Route::Push, &strict).code(6);
    outcome.says("its host key is not known");
    let told = outcome
        .stderr
        .matches("Host key verification failed")
        .count();
    assert_eq!(told, 1, "{outcome}");
    assert!(!lab.dst.exists());
}

#[test]
fn an_interrupt_ends_a_run_that_waits_for_the_other_host() {
    let lab = Lab::with_source("f a 'x'");
    let started = lab.path("started");
    let silent = format!("sh -c 'touch {}; exec sleep 100'", started.display());
    let mut running = lab
        .cutover(["sync", "-e", &silent])
        .args(Route::Push.endpoints(HOST, &lab.src, &lab.dst))
        .spawn();
    running.wait_until("the command runs", || started.exists());
    running.signal(Signal::TERM);
    let outcome = running.limit(Duration::from_secs(10)).wait();
    assert_eq!(outcome.status.code(), Some(130), "{outcome}");
    outcome.says("interrupted");
}

#[test]
fn an_agent_that_is_not_there_is_a_connection_error() {
    needs!(Root);
    let sshd = Sshd::start();
    let lab = Lab::with_source("f a 'x'");
    let options = ["--agent-path", "/no/such/agent"];
    over_ssh(&sshd, &lab, "sync", Route::Push, &options)
        .code(6)
        .says("/no/such/agent");
}

#[test]
fn a_connection_that_breaks_is_told_and_the_next_run_finishes() {
    needs!(Root);
    for route in [Route::Push, Route::Pull] {
        let sshd = Sshd::start();
        let lab = Lab::with_source("f big random(8M)\n f a 'x'");
        let slow = [&WITH_AGENT[..], &["--bwlimit", "500K"]].concat();
        let mut running = over_ssh(&sshd, &lab, "sync", route, &slow).spawn();
        running.wait_until("something was written", || {
            fs::read_dir(&lab.dst).is_ok_and(|mut found| found.next().is_some())
        });
        sshd.cut_connections();
        let outcome = running.wait();
        assert_eq!(outcome.status.code(), Some(6), "{outcome}");
        over_ssh(&sshd, &lab, "sync", route, &WITH_AGENT).ok();
        lab.assert_synced();
    }
}

/// A server whose users end up as nobody, who may run what `rule` says with sudo. The rule holds
/// in a mount namespace of each login: it is not for this machine.
fn server_of_nobody(lab: &Lab, rule: &str) -> Sshd {
    need("sudo");
    need("unshare");
    need("setpriv");
    let sudoers = lab.path("sudoers");
    fs::write(&sudoers, format!("nobody {rule}\n")).unwrap();
    fs::set_permissions(&sudoers, fs::Permissions::from_mode(0o440)).unwrap();
    let home = lab.path("home-nobody");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(65534), Some(65534)).unwrap();
    let login = lab.path("login");
    let script = format!(
        "#!/bin/sh\n\
         mount --bind '{}' /etc/sudoers || exit 9\n\
         cd '{home}' && exec setpriv --reuid nobody --regid nogroup --clear-groups \
         env HOME='{home}' sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
        sudoers.display(),
        home = home.display(),
    );
    fs::write(&login, script).unwrap();
    fs::set_permissions(&login, fs::Permissions::from_mode(0o755)).unwrap();
    Sshd::with(&format!(
        "ForceCommand unshare --mount sh '{}'",
        login.display()
    ))
}

#[test]
fn sudo_on_the_other_host_keeps_and_reads_what_only_root_may() {
    needs!(Mount);
    for route in [Route::Push, Route::Pull] {
        let lab = Lab::new();
        every_kind(&lab.src);
        let sshd = server_of_nobody(&lab, "ALL=(root) NOPASSWD: ALL");
        over_ssh(&sshd, &lab, "sync", route, &["--sudo"]).ok();
        lab.assert_synced();
    }
}

#[test]
fn with_sudo_a_home_is_that_of_who_logged_in() {
    needs!(Mount);
    let lab = Lab::new();
    let sshd = server_of_nobody(&lab, "ALL=(root) NOPASSWD: ALL");
    // As the system's records have it, since sudo keeps no environment.
    let nobody = Command::new("getent").args(["passwd", "nobody"]).output();
    let nobody = String::from_utf8(nobody.unwrap().stdout).unwrap();
    let home = nobody.split(':').nth(5).unwrap();
    for path in ["~/not-there", "not-there"] {
        lab.cutover([
            "sync",
            "--sudo",
            "-e",
            &sshd.shell(),
            "--agent-path",
            BINARY,
        ])
        .args([format!("{HOST}:{path}").into(), lab.dst.clone()])
        .code(3)
        .says(&format!("{home}/not-there"));
    }
}

#[test]
fn sudo_that_wants_a_password_is_a_connection_error_at_once() {
    needs!(Mount);
    let lab = Lab::with_source("f a 'x'");
    let sshd = server_of_nobody(&lab, "ALL=(root) ALL");
    let started = Instant::now();
    over_ssh(&sshd, &lab, "sync", Route::Push, &["--sudo"])
        .code(6)
        .says("it asks for a password")
        .says("NOPASSWD");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(!lab.dst.exists());
}
