//! PostgreSQL from the distribution with the preset as it is shipped: under load it moves to
//! another machine and comes back, and no acknowledged row is lost.

use std::fs;
use std::process::{Child, Command, Output, Stdio};

use crate::common::prerequisites::need;
use crate::common::sshd::{HOST, Sshd};
use crate::needs;
use crate::site::{Site, succeeding};

/// Places of a server that must be each machine's own.
const OWN: [&str; 5] = [
    "/etc/postgresql",
    "/run/postgresql",
    "/var/lib/postgresql",
    "/var/log/postgresql",
    "/dev/shm",
];

/// The newest version that is installed.
fn version() -> String {
    let installed = fs::read_dir("/usr/lib/postgresql").unwrap();
    let names = installed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let versions = names.filter_map(|name| name.parse::<u32>().ok());
    versions.max().unwrap().to_string()
}

/// A machine with a cluster `main` that does not run.
fn machine(version: &str) -> Sshd {
    let mut setup = String::from("set -e\n");
    for place in OWN {
        setup += &format!(
            "mkdir -p {place}; mount -t tmpfs -o mode=1777 own {place}; chown postgres: {place}\n"
        );
    }
    // Nothing but sockets: whoever runs the tests may have a server of their own.
    setup +=
        &format!("pg_createcluster --pgoption listen_addresses= {version} main >/dev/null 2>&1\n");
    Sshd::on_own_machine(&setup)
}

fn ssh(machine: &Sshd, command: &str) -> Command {
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(machine.ssh_config());
    ssh.args([HOST, command]).stdin(Stdio::null());
    ssh
}

fn on(machine: &Sshd, command: &str) -> Output {
    ssh(machine, command).output().unwrap()
}

/// The shell's words that run SQL as the server's administrator.
const PSQL: &str = "cd /; setpriv --reuid postgres --regid postgres --clear-groups psql -qtAXc";

fn sql(machine: &Sshd, text: &str) -> Output {
    on(machine, &format!("{PSQL} '{text}'"))
}

fn rows(machine: &Sshd) -> usize {
    let output = succeeding(sql(machine, "SELECT count(DISTINCT id) FROM heard"));
    let count = String::from_utf8(output.stdout).unwrap();
    count.trim().parse().unwrap()
}

/// Adds one row after the other, and says so of each that was acknowledged.
struct Load<'a> {
    machine: &'a Sshd,
    adding: Child,
}

impl Load<'_> {
    fn on(machine: &Sshd) -> Load<'_> {
        let add = format!(
            "id=0; until [ -e /run/postgresql/enough ]; do id=$((id + 1)); \
             ({PSQL} \"INSERT INTO heard VALUES ($id)\") && echo $id || sleep 0.05; done"
        );
        let adding = ssh(machine, &add)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Load { machine, adding }
    }

    /// Returns how many were acknowledged.
    fn end(self) -> usize {
        succeeding(on(self.machine, "touch /run/postgresql/enough"));
        let said = succeeding(self.adding.wait_with_output().unwrap()).stdout;
        String::from_utf8(said).unwrap().lines().count()
    }
}

#[test]
fn postgresql_under_load_moves_by_its_preset_and_comes_back_without_losing_an_acknowledged_row() {
    needs!(Mount);
    for command in ["pg_createcluster", "unshare", "setpriv"] {
        need(command);
    }
    let version = version();
    let site = Site::of(machine(&version), machine(&version));
    let start = format!("pg_ctlcluster {version} main start");
    succeeding(on(&site.old, &start));
    succeeding(sql(&site.old, "CREATE TABLE heard (id bigint)"));
    let load = Load::on(&site.old);
    let set = format!("version={version}");
    let init = ["plan", "init", "--preset", "postgres", "--set", &set];
    let made = site.lab.cutover(init).ok();
    let plan = site.write_plan(&site.addressed(&made.stdout));

    site.cutover("switch", &plan).ok();
    let acknowledged = load.end();
    assert!(acknowledged > 10, "{acknowledged}");
    // The last row may have been written, and its acknowledgement lost with the connection.
    let moved = rows(&site.new);
    assert!(
        [acknowledged, acknowledged + 1].contains(&moved),
        "{moved} {acknowledged}"
    );
    assert!(!sql(&site.old, "SELECT 1").status.success());
    succeeding(sql(&site.new, "INSERT INTO heard VALUES (-1)"));

    site.cutover("rollback", &plan).ok();
    assert_eq!(rows(&site.old), moved, "as it was when it stopped");
    assert!(!sql(&site.new, "SELECT 1").status.success());
}
