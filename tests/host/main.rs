//! What hosts do for a plan, asked through an agent: over a real ssh server, or behind a pipe
//! where the connection is not the point.

// As in the other black-box tests.
#![allow(clippy::unwrap_used, unreachable_pub)]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "not every part of the kit is needed here")]
mod common;

mod fence;
mod keep;
mod reach;

use std::path::Path;
use std::time::Duration;

use cutover::events::{Cancel, Silent};
use cutover::protocol::errand::Command;
use cutover::session::Host;
use cutover::transport::{RemoteOptions, RemotePath};

use common::lab::{FAR, Lab};
use common::run::{BINARY, install};

/// Who starts the agent of tests, and needs nothing of the host's name.
fn remote(host: &str) -> RemotePath {
    RemotePath {
        user: None,
        host: host.to_string(),
        port: None,
        path: Vec::new(),
    }
}

/// The far side behind a pipe.
fn far(lab: &Lab) -> Host {
    let options = RemoteOptions {
        shell: lab.far_options()[1].to_str().map(str::to_string),
        agent_path: Some(BINARY.into()),
        ..RemoteOptions::default()
    };
    Host::reach(&remote(FAR), &options, &Silent, &Cancel::new()).unwrap()
}

/// The same for a user with this id, without any privilege; only root can.
fn far_by_user(lab: &Lab, uid: u32) -> Host {
    let ids = format!("--reuid {uid} --regid {uid} --clear-groups");
    for (_, dir) in lab.home(FAR) {
        std::os::unix::fs::chown(dir, Some(uid), Some(uid)).unwrap();
    }
    far_with(lab, &ids)
}

/// The same with other ids, as setpriv has them; only root can.
fn far_with(lab: &Lab, ids: &str) -> Host {
    // The build directory may be in a place that only this user can enter.
    let binary = lab.path("cutover");
    install(Path::new(BINARY), &binary);
    let script = lab.far_options()[1].clone();
    let script = script.to_str().unwrap();
    let options = RemoteOptions {
        shell: Some(format!("setpriv {ids} {script}")),
        agent_path: Some(binary.into_os_string().into_encoded_bytes()),
        ..RemoteOptions::default()
    };
    Host::reach(&remote(FAR), &options, &Silent, &Cancel::new()).unwrap()
}

/// A line for a shell.
fn shell(line: &str) -> Command {
    Command {
        words: vec![line.to_string()],
        shell: true,
        user: None,
        dir: None,
        env: Vec::new(),
        timeout: Duration::from_secs(60),
    }
}

/// A path as a plan has it.
fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Whether any process is in this group and not merely waiting to be reaped.
fn is_alive(group: &str) -> bool {
    let stats = std::fs::read_dir("/proc").unwrap().flatten();
    let mut stats =
        stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.any(|stat| {
        let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        fields.first() != Some(&"Z") && fields.get(2) == Some(&group)
    })
}
