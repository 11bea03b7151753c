//! `--print-systemd`: the unit that runs a mirror as a service, with the rights and the share of the
//! machine that it needs and no more.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Which service manager it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manager {
    /// That of the system, which runs it as this user.
    System {
        /// The user's name.
        user: String,
    },
    /// That of the user who asks.
    User,
}

/// A mirror as a unit describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// What it mirrors, for `systemctl status`.
    pub description: String,
    /// For whom it is.
    pub manager: Manager,
    /// The program, in full.
    pub program: PathBuf,
    /// All that follows the program's name on its command line, with paths as seen from `directory`.
    pub arguments: Vec<OsString>,
    /// Where the program is started, in full.
    pub directory: PathBuf,
    /// Local roots, in full: what must be mounted.
    pub roots: Vec<PathBuf>,
    /// Local directories that are written to, in full: standbys and the state.
    pub writes: Vec<PathBuf>,
}

/// What holds with every manager.
///
/// No list of system calls: one that the list's maker did not know would fail in another way than
/// one that the kernel does not know, and the latter is what there is a second way for.
const SERVICE: &str = "\
# A mirror that hangs says nothing, and is started again.
WatchdogSec=2min
Restart=on-failure
# A command line that makes no sense, and a refusal, are the same the next time.
RestartPreventExitStatus=2 5
RestartSec=10s
# It ends a file that it has begun; ssh ends with it.
KillMode=mixed
TimeoutStopSec=90s

# It stands back for what the machine is for.
Nice=10
IOSchedulingClass=best-effort
IOSchedulingPriority=7
MemoryHigh=768M
MemoryMax=1G
LimitNOFILE=65536
TasksMax=256

NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictRealtime=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
";

/// What only the system's manager can do without a user namespace, in which all files of others
/// would seem to be nobody's.
const SYSTEM_ONLY: &str = "\
ProtectSystem=strict
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectHostname=yes
";

impl Unit {
    /// The text of the unit's file.
    pub fn text(&self) -> String {
        let mut out = String::from("[Unit]\n");
        // Writing to a string cannot fail.
        let description = specifiers(&printed(&self.description));
        let _ = writeln!(out, "Description=Mirror of {description}");
        out.push_str("Documentation=man:cutover(1)\n");
        if self.is_of_system() {
            out.push_str("Wants=network-online.target\nAfter=network-online.target\n");
        }
        for root in &self.roots {
            let _ = writeln!(out, "RequiresMountsFor={}", word(root.as_os_str()));
        }
        out.push_str(
            "# It tries again for as long as it takes.\nStartLimitIntervalSec=0\n\n[Service]\n",
        );
        self.service(&mut out);
        let target = match self.manager {
            Manager::System { .. } => "multi-user.target",
            Manager::User => "default.target",
        };
        let _ = writeln!(out, "\n[Install]\nWantedBy={target}");
        out
    }

    fn service(&self, out: &mut String) {
        // `notify-reload` came with version 253; this does the same everywhere.
        out.push_str("Type=notify\nNotifyAccess=main\n");
        if let Manager::System { user } = &self.manager {
            let _ = writeln!(out, "User={}", specifiers(user));
        }
        let mut line = vec![word(self.program.as_os_str())];
        line.extend(self.arguments.iter().map(|argument| command_word(argument)));
        let _ = writeln!(out, "WorkingDirectory={}", word(self.directory.as_os_str()));
        let _ = writeln!(out, "ExecStart={}", line.join(" "));
        out.push_str("ExecReload=/bin/kill -HUP $MAINPID\n");
        out.push_str(SERVICE);
        if !self.is_of_system() {
            return;
        }
        out.push_str(SYSTEM_ONLY);
        if !self.uses_tmp() {
            out.push_str("PrivateTmp=yes\n");
        }
        if !self.writes.is_empty() {
            out.push_str(
                "# One that is not there keeps the service from starting: make it first.\n",
            );
        }
        for path in &self.writes {
            let _ = writeln!(out, "ReadWritePaths={}", word(path.as_os_str()));
        }
    }

    fn is_of_system(&self) -> bool {
        matches!(self.manager, Manager::System { .. })
    }

    fn uses_tmp(&self) -> bool {
        let is_tmp = |path: &Path| path.starts_with("/tmp") || path.starts_with("/var/tmp");
        let mut paths = self.roots.iter().chain(&self.writes);
        paths.any(|path| is_tmp(path)) || is_tmp(&self.program)
    }
}

/// One word of a command line: variables are not meant either.
fn command_word(text: &OsStr) -> String {
    word(text).replace('$', "$$")
}

/// A text as one word, as systemd.syntax(7) reads it: in quotes where it needs them.
fn word(text: &OsStr) -> String {
    let is_plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./:@=,+%$~".contains(b);
    let bytes = text.as_bytes();
    if !bytes.is_empty() && bytes.iter().all(is_plain) {
        return specifiers(&String::from_utf8_lossy(bytes));
    }
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => out.extend(['\\', c]),
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    escape(&mut out, c.encode_utf8(&mut utf8).as_bytes());
                }
                c => out.push(c),
            }
        }
        escape(&mut out, chunk.invalid());
    }
    out.push('"');
    specifiers(&out)
}

fn escape(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(out, "\\x{byte:02x}");
    }
}

/// Nothing is meant to be filled in.
fn specifiers(text: &str) -> String {
    text.replace('%', "%%")
}

/// Text on one line, and not taken for going on on the next.
fn printed(text: &str) -> String {
    crate::path::escape(text.as_bytes()).replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn unit(manager: Manager) -> Unit {
        Unit {
            description: "/srv/app 100%".into(),
            manager,
            // `systemd-analyze` looks for it.
            program: "/bin/true".into(),
            arguments: ["mirror", "--plan", "/etc/a \"b\" $c 5%.toml", "é"]
                .map(OsString::from)
                .to_vec(),
            directory: "/etc".into(),
            roots: vec!["/srv/app".into(), "/srv/with space".into()],
            writes: vec!["/var/lib/x/cutover".into()],
        }
    }

    fn system() -> Manager {
        Manager::System {
            user: "root".into(),
        }
    }

    /// What `systemd-analyze verify` has to say of a unit; `None` where it is not installed.
    fn verified(unit: &Unit) -> Option<String> {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("cutover-mirror.service");
        std::fs::write(&file, unit.text()).unwrap();
        let mut command = Command::new("systemd-analyze");
        if !unit.is_of_system() {
            command.arg("--user");
        }
        // No manual page is installed here.
        command.args(["verify", "--man=no"]).arg(&file);
        command.env("XDG_RUNTIME_DIR", temp.path());
        let output = command.output().ok()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let about_it = said.lines().filter(|line| line.contains("cutover-mirror"));
        let about_it: Vec<&str> = about_it.collect();
        match output.status.success() {
            true => Some(about_it.join("\n")),
            false => Some(said),
        }
    }

    #[test]
    fn systemd_has_nothing_to_say_against_it() {
        for manager in [system(), Manager::User] {
            match verified(&unit(manager)) {
                Some(said) => assert_eq!(said, ""),
                None => eprintln!("systemd-analyze is not installed: nothing was verified"),
            }
        }
    }

    #[test]
    fn an_argument_stays_what_it_is() {
        let text = unit(system()).text();
        let line = "ExecStart=/bin/true mirror --plan \"/etc/a \\\"b\\\" $$c 5%%.toml\" \"é\"\n";
        assert!(text.contains(line), "{text}");
        assert_eq!(word(OsStr::from_bytes(b"a\n\xff")), "\"a\\x0a\\xff\"");
        assert_eq!(word(OsStr::new("")), "\"\"");
        assert!(text.contains("Description=Mirror of /srv/app 100%%\n"));
    }

    #[test]
    fn only_the_systems_manager_shuts_directories_off() {
        let system = unit(system()).text();
        assert!(system.contains("ReadWritePaths=/var/lib/x/cutover\n"));
        assert!(system.contains("RequiresMountsFor=\"/srv/with space\"\n"));
        assert!(system.contains("PrivateTmp=yes\n"));
        let user = unit(Manager::User).text();
        for word in ["ProtectSystem", "PrivateTmp", "User=", "ReadWritePaths"] {
            assert!(!user.contains(word), "{word}");
        }
    }

    #[test]
    fn a_root_in_tmp_is_not_hidden() {
        let mut unit = unit(system());
        unit.roots.push("/tmp/scratch".into());
        assert!(!unit.text().contains("PrivateTmp"));
    }
}
