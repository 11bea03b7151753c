//! Errands over a connection: asked one after the other, with output as it comes; what becomes of
//! a command when either end goes.

use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cutover::error::{Error, ErrorClass};
use cutover::events::{Cancel, Silent};
use cutover::protocol::errand::{Command, Errand, Exit, Expand, KeepMeans};
use cutover::protocol::frame::encode_message;
use cutover::protocol::message::Open;
use cutover::session::Host;
use cutover::transport::RemoteOptions;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::lab::Lab;
use crate::common::run::BINARY;
use crate::common::sshd::{HOST, Sshd};
use crate::{far, far_with, is_alive, needs, remote, shell};

/// How long anything here may take to be noticed.
const SOON: Duration = Duration::from_secs(20);

fn over_ssh(sshd: &Sshd, lab: &Lab, cancel: &Cancel) -> Host {
    let options = RemoteOptions {
        ssh_args: sshd.ssh_args(),
        agent_path: Some(BINARY.into()),
        control_dir: Some(lab.path("ssh")),
        ..RemoteOptions::default()
    };
    Host::reach(&remote(HOST), &options, &Silent, cancel).unwrap()
}

fn lines_of(host: &mut Host, command: Command) -> (Exit, Vec<String>) {
    let mut lines = Vec::new();
    let exit = host
        .run(command, &mut |line| lines.push(line.text))
        .unwrap();
    (exit, lines)
}

fn wait_until_gone(group: &str) {
    let start = Instant::now();
    while is_alive(group) {
        assert!(start.elapsed() < SOON, "the command goes on");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_connection_serves_many_errands() {
    needs!(Root);
    let (sshd, lab) = (Sshd::start(), Lab::new());
    let mut host = over_ssh(&sshd, &lab, &Cancel::new());
    assert_eq!(host.name(), HOST);
    let facts = host.facts().unwrap();
    assert_eq!(facts.home, sshd.home().to_str().unwrap());
    assert_eq!((facts.uid, facts.user.as_str()), (0, "root"));
    let expanded = host.expand(Expand {
        texts: vec!["~/x".into(), "${NO_SUCH_VAR}".into(), "$A${B:-b}".into()],
        env: vec![("A".into(), "/a".into())],
        user: None,
    });
    let expanded = expanded.unwrap();
    assert_eq!(expanded[0], Ok(format!("{}/x", facts.home)));
    assert!(expanded[1].as_ref().unwrap_err().contains("NO_SUCH_VAR"));
    assert_eq!(expanded[2].as_deref(), Ok("/ab"));
    let names = ["root".to_string(), "no-such-one".to_string()];
    let known = host.known(&names, &names).unwrap();
    assert_eq!(known, (vec![true, false], vec![true, false]));
    let (exit, lines) = lines_of(&mut host, shell("pwd; echo $A"));
    assert_eq!((exit, &lines[0]), (Exit::Code(0), &facts.home));
    host.finish().unwrap();
    assert_eq!(sshd.logins(), 1);
}

#[test]
fn output_comes_while_the_command_runs() {
    needs!(Root);
    let (sshd, lab) = (Sshd::start(), Lab::new());
    let mut host = over_ssh(&sshd, &lab, &Cancel::new());
    let go = lab.path("go");
    let waits = format!(
        "echo first; while [ ! -e {} ]; do sleep 0.02; done",
        go.display()
    );
    let exit = host.run(shell(&waits), &mut |line| {
        // It would wait for ever, were the line told only at the end.
        assert_eq!(line.text, "first");
        std::fs::write(&go, "").unwrap();
    });
    assert_eq!(exit.unwrap(), Exit::Code(0));
    host.finish().unwrap();
}

#[test]
fn much_output_over_a_slow_reader_comes_whole() {
    let lab = Lab::new();
    let mut host = far(&lab);
    let mut count = 0;
    let exit = host.run(shell("seq 1 200000"), &mut |line| {
        count += 1;
        assert_eq!(line.text, count.to_string());
        if count % 20_000 == 0 {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!((exit.unwrap(), count), (Exit::Code(0), 200_000));
    host.finish().unwrap();
}

#[test]
fn a_command_that_takes_too_long_is_ended_and_the_host_goes_on() {
    needs!(Root);
    let (sshd, lab) = (Sshd::start(), Lab::new());
    let mut host = over_ssh(&sshd, &lab, &Cancel::new());
    let hangs = Command {
        timeout: Duration::from_millis(300),
        ..shell("echo $$; sleep 1000")
    };
    let (exit, lines) = lines_of(&mut host, hangs);
    assert_eq!(exit, Exit::TimedOut);
    assert!(!is_alive(&lines[0]));
    assert_eq!(lines_of(&mut host, shell("exit 3")).0, Exit::Code(3));
    host.finish().unwrap();
}

#[test]
fn a_failed_errand_names_the_host_and_is_not_the_end() {
    let lab = Lab::new();
    let mut host = far(&lab);
    let err = host.keep("relative", "id", KeepMeans::Auto).unwrap_err();
    assert_eq!(err.class(), ErrorClass::Usage);
    assert!(err.to_string().starts_with("far: relative"), "{err}");
    host.facts().unwrap();
    host.finish().unwrap();
    lab.wait_for_agents_to_end();
}

#[test]
fn an_interrupt_ends_the_far_command() {
    needs!(Root);
    let (sshd, lab) = (Sshd::start(), Lab::new());
    let cancel = Cancel::new();
    let mut host = over_ssh(&sshd, &lab, &cancel);
    let (start, mut group) = (Instant::now(), String::new());
    let ended = host.run(shell("echo $$; sleep 1000"), &mut |line| {
        group = line.text;
        cancel.cancel();
    });
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert!(start.elapsed() < SOON);
    wait_until_gone(&group);
    assert!(host.facts().is_err(), "it is gone");
}

#[test]
fn a_connection_that_is_cut_ends_the_far_command() {
    needs!(Root);
    let (sshd, lab) = (Sshd::start(), Lab::new());
    let mut host = over_ssh(&sshd, &lab, &Cancel::new());
    let mut group = String::new();
    let err = host
        .run(shell("echo $$; sleep 1000"), &mut |line| {
            group = line.text;
            sshd.cut_connections();
        })
        .unwrap_err();
    assert_eq!(err.class(), ErrorClass::Connection, "{err}");
    wait_until_gone(&group);
}

#[test]
fn a_host_that_is_let_go_of_ends_by_itself() {
    let lab = Lab::new();
    drop(far(&lab));
    lab.wait_for_agents_to_end();
}

#[test]
fn an_agent_whose_near_side_dies_ends_what_it_runs() {
    let lab = Lab::new();
    let mut agent = std::process::Command::new(BINARY);
    lab.isolate(agent.arg("agent"), "far");
    let mut agent = agent
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = agent.stdin.take().unwrap();
    let pid_file = lab.path("pid");
    let run = Errand::Run(shell(&format!(
        "echo $$ > {0}.draft; mv {0}.draft {0}; sleep 1000",
        pid_file.display()
    )));
    for frame in [
        encode_message(&Open::Errands { sudo: false }),
        encode_message(&run),
    ] {
        stdin.write_all(&frame.unwrap()).unwrap();
    }
    let start = Instant::now();
    while !pid_file.exists() {
        assert!(start.elapsed() < SOON, "it does not start");
        thread::sleep(Duration::from_millis(10));
    }
    let group = std::fs::read_to_string(&pid_file).unwrap();
    assert!(is_alive(group.trim()));
    // The way a killed process closes its descriptors.
    drop((stdin, agent.stdout.take()));
    wait_until_gone(group.trim());
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || sender.send(agent.wait().unwrap()));
    ended.recv_timeout(SOON).expect("the agent ends");
}

#[test]
fn a_command_does_not_outlive_its_agent() {
    let lab = Lab::new();
    let mut host = far(&lab);
    let agent = *lab.far_pids().last().unwrap();
    let mut group = String::new();
    let ended = host.run(shell("echo $$; exec sleep 1000"), &mut |line| {
        group = line.text;
        kill_process(Pid::from_raw(agent as i32).unwrap(), Signal::KILL).unwrap();
    });
    assert_eq!(ended.unwrap_err().class(), ErrorClass::Connection);
    wait_until_gone(&group);
}

#[test]
fn silence_is_not_the_end() {
    // Longer than the minute after which an end without heartbeats is given up.
    if std::env::var_os("CUTOVER_SOAK").is_none() {
        return;
    }
    let lab = Lab::new();
    let mut host = far(&lab);
    for _ in 0..2 {
        let silent = Command {
            timeout: Duration::from_secs(600),
            ..shell("sleep 75; echo done")
        };
        let (exit, lines) = lines_of(&mut host, silent);
        assert_eq!(
            (exit, &lines[..]),
            (Exit::Code(0), &["done".to_string()][..])
        );
        thread::sleep(Duration::from_secs(75));
    }
    host.finish().unwrap();
}

#[test]
fn errands_without_waiting_are_refused() {
    let lab = Lab::new();
    let mut agent = std::process::Command::new(BINARY);
    lab.isolate(agent.arg("agent"), "far");
    let mut agent = agent
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = agent.stdin.take().unwrap();
    let open = encode_message(&Open::Errands { sudo: false }).unwrap();
    let run = encode_message(&Errand::Run(shell("sleep 1000"))).unwrap();
    let flood = [open, run.repeat(10)].concat();
    stdin.write_all(&flood).unwrap();
    let mut said = String::new();
    agent
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(agent.wait().unwrap().code(), Some(6), "{said}");
    assert!(said.contains("without waiting"), "{said}");
}

#[test]
fn a_command_runs_as_another_user() {
    needs!(Root);
    let (sshd, lab) = (Sshd::start(), Lab::new());
    let mut host = over_ssh(&sshd, &lab, &Cancel::new());
    let as_nobody = Command {
        user: Some("nobody".to_string()),
        dir: Some("/".to_string()),
        ..shell("id -un; id -gn; echo $USER; cat /proc/self/status | grep CapEff")
    };
    let (exit, lines) = lines_of(&mut host, as_nobody);
    assert_eq!(exit, Exit::Code(0), "{lines:?}");
    assert_eq!(lines[0], "nobody");
    assert_ne!(lines[1], "root");
    assert_eq!(lines[2], "nobody");
    assert!(lines[3].ends_with("0000000000000000"), "{lines:?}");
    host.finish().unwrap();
}

#[test]
fn another_user_has_none_of_the_agents_groups() {
    needs!(Root);
    let lab = Lab::new();
    let mut host = far_with(&lab, "--groups 0,4,20");
    let groups = |user: Option<&str>| Command {
        user: user.map(str::to_string),
        dir: Some("/".to_string()),
        ..shell("id -G")
    };
    assert_eq!(lines_of(&mut host, groups(None)).1, ["0 4 20"]);
    let (_, lines) = lines_of(&mut host, groups(Some("nobody")));
    let theirs: Vec<&str> = lines[0].split(' ').collect();
    assert!(
        !theirs.contains(&"0") && !theirs.contains(&"20"),
        "{lines:?}"
    );
    host.finish().unwrap();
}
