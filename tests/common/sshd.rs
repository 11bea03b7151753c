//! A real sshd on loopback, with keys, configuration and far home of its own, for tests that
//! need ssh as it is. Apart from `mod.rs` because few test crates want it.

// Each test crate uses its own part of it.
#![allow(dead_code)]
// A helper that fails has said what it expects, as a test that unwraps has.
#![allow(clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The server's usual place. Not searched for: it must be started by its absolute path.
const SSHD: &str = "/usr/sbin/sshd";

/// The alias that the client's configuration gives the server.
pub(crate) const HOST: &str = "cutover-test";

/// How long a server may take to listen on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running server. Dropping it ends it and all of its connections.
pub(crate) struct Sshd {
    dir: TempDir,
    child: Child,
    port: u16,
}

impl Sshd {
    /// Starts a server that accepts one key for the user who runs the test.
    ///
    /// # Panics
    ///
    /// When there is no sshd: a test of ssh that does not test it must not pass.
    pub(crate) fn start() -> Sshd {
        Sshd::with("")
    }

    /// Starts a server with further lines for its configuration, which win over the defaults.
    pub(crate) fn with(settings: &str) -> Sshd {
        Sshd::launch(settings, None)
    }

    /// Starts a server with mounts and processes of its own, after a shell has run `setup` among
    /// them. Whatever is started there ends with it.
    pub(crate) fn on_own_machine(setup: &str) -> Sshd {
        Sshd::launch("", Some(setup))
    }

    fn launch(settings: &str, setup: Option<&str>) -> Sshd {
        assert!(
            Path::new(SSHD).exists(),
            "{SSHD} is missing: install the OpenSSH server (openssh-server)"
        );
        // sshd insists on it. Distributions make it when they start their own server.
        fs::create_dir_all("/run/sshd").expect("sshd needs /run/sshd: run the tests as root");
        let dir = TempDir::with_prefix("sshd-").unwrap();
        for key in ["host_key", "user_key"] {
            run(Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(dir.path().join(key)));
        }
        fs::create_dir_all(dir.path().join("home/bin")).unwrap();
        let port = free_port();
        fs::write(
            dir.path().join("sshd_config"),
            server_config(dir.path(), port, settings),
        )
        .unwrap();
        fs::write(
            dir.path().join("ssh_config"),
            client_config(dir.path(), port),
        )
        .unwrap();
        let host_key = fs::read_to_string(dir.path().join("host_key.pub")).unwrap();
        fs::write(
            dir.path().join("known_hosts"),
            format!("[127.0.0.1]:{port} {host_key}"),
        )
        .unwrap();
        let child = spawn_server(dir.path(), setup);
        let mut sshd = Sshd { dir, child, port };
        sshd.wait_until_listening();
        sshd
    }

    /// The far user's home as far as commands can tell: where caches go. `bin` in it is first in
    /// the far `PATH`, which holds nothing of the near one.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    /// The client configuration that leads here as [`HOST`] and never prompts.
    pub(crate) fn ssh_config(&self) -> PathBuf {
        self.dir.path().join("ssh_config")
    }

    /// The arguments that make ssh use it. An ssh that is started with another `HOME` still
    /// reads the configuration of the user who runs it.
    pub(crate) fn ssh_args(&self) -> Vec<OsString> {
        vec!["-F".into(), self.ssh_config().into()]
    }

    /// A command for `-e`.
    pub(crate) fn shell(&self) -> String {
        format!("ssh -F {}", self.ssh_config().display())
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The server's process, of which those of its connections are children.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the server has logged, at its first level of debugging.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    /// How many connections have logged in.
    pub(crate) fn logins(&self) -> usize {
        self.log().matches("Accepted publickey").count()
    }

    /// Ends all connections, as a server that restarts does.
    pub(crate) fn cut_connections(&self) {
        let pid = self.child.id();
        let children =
            fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace() {
            // One may just have ended by itself.
            let _ = Command::new("kill")
                .arg(child)
                .stderr(Stdio::null())
                .status();
        }
    }

    /// Ends the server and all connections, as a host that goes down does.
    pub(crate) fn stop(&mut self) {
        // Its connections first: they have left its process group, and would outlive it.
        self.cut_connections();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was, after [`Sshd::stop`].
    pub(crate) fn start_again(&mut self) {
        self.child = spawn_server(self.dir.path(), None);
        self.wait_until_listening();
    }

    fn wait_until_listening(&mut self) {
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("sshd ended ({status}):\n{}", self.log());
            }
            assert!(Instant::now() < deadline, "sshd does not listen");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts the server so that it dies with the test's thread, should that not get to drop it.
fn spawn_server(dir: &Path, setup: Option<&str>) -> Child {
    let log = fs::File::create(dir.join("log")).unwrap();
    let mut server = Command::new("setpriv");
    // `unshare` waits for its child whatever else it is asked to do.
    let end = if setup.is_some() { "KILL" } else { "TERM" };
    server.args(["--pdeathsig", end]);
    if let Some(setup) = setup {
        let script = format!("{setup}\nexec \"$@\"");
        server.args([
            "unshare",
            "--mount",
            "--ipc",
            "--pid",
            "--fork",
            "--kill-child",
        ]);
        server.args(["--mount-proc", "sh", "-c", &script, "sh"]);
    }
    server
        .args([SSHD, "-D", "-e", "-f"])
        .arg(dir.join("sshd_config"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("setpriv is missing: install util-linux")
}

fn server_config(dir: &Path, port: u16, settings: &str) -> String {
    let dir = dir.display();
    format!(
        "{settings}\n\
         Port {port}\n\
         ListenAddress 127.0.0.1\n\
         HostKey {dir}/host_key\n\
         AuthorizedKeysFile {dir}/user_key.pub\n\
         PermitRootLogin yes\n\
         PasswordAuthentication no\n\
         KbdInteractiveAuthentication no\n\
         UsePAM no\n\
         UseDNS no\n\
         StrictModes no\n\
         PrintMotd no\n\
         PidFile none\n\
         MaxStartups 100\n\
         MaxSessions 100\n\
         LogLevel DEBUG1\n\
         SetEnv HOME={dir}/home PATH={dir}/home/bin:/usr/bin:/bin\n"
    )
}

fn client_config(dir: &Path, port: u16) -> String {
    let user = Command::new("id").arg("-un").output().unwrap().stdout;
    let user = String::from_utf8(user).unwrap();
    let dir = dir.display();
    format!(
        "Host {HOST}\n\
         HostName 127.0.0.1\n\
         Port {port}\n\
         Host *\n\
         User {user}\
         IdentityFile {dir}/user_key\n\
         IdentitiesOnly yes\n\
         UserKnownHostsFile {dir}/known_hosts\n\
         GlobalKnownHostsFile /dev/null\n\
         StrictHostKeyChecking yes\n\
         BatchMode yes\n"
    )
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
