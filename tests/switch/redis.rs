//! A service that nobody here wrote: Redis from the distribution, under load, switched with
//! checks and rolled back, and no acknowledged write is lost.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::prerequisites::need;
use crate::site::{Site, port, succeeding};

/// Counts up in Redis, and remembers how far it was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Load {
    fn on(port: u16) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (until, count) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                match ask(port, "INCR counter") {
                    Some(reply) => {
                        let value = reply.trim_start_matches(':').parse().unwrap_or(0);
                        count.fetch_max(value, Ordering::Relaxed);
                    }
                    None => thread::sleep(Duration::from_millis(20)),
                }
            }
        });
        Load {
            stop,
            acknowledged,
            thread,
        }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.acknowledged.load(Ordering::Relaxed)
    }
}

/// One inline command and the first line of its reply.
fn ask(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "{command}\r\n").ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    let line = line.trim().to_string();
    (!line.is_empty() && !line.starts_with('-')).then_some(line)
}

fn counter(port: u16) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET counter\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    lines.next().unwrap().unwrap();
    lines.next().unwrap().unwrap().parse().unwrap()
}

/// A configuration that makes every acknowledged write durable.
fn configure(home: &Path, port: u16) {
    let data = home.join("redis");
    fs::create_dir_all(&data).unwrap();
    let text = format!(
        "bind 127.0.0.1\nport {port}\ndir {}\nappendonly yes\nappendfsync always\n\
         daemonize yes\npidfile {}\nsave \"\"\n",
        data.display(),
        home.join("redis.pid").display()
    );
    fs::write(home.join("redis.conf"), text).unwrap();
}

fn plan(site: &Site, from: u16, to: u16) -> std::path::PathBuf {
    let text = format!(
        "name = \"redis\"\n[source]\n[destination]\n\
         [[root]]\nname = \"data\"\npath = \"~/redis\"\nrequired = [\"appendonlydir/\"]\n\
         [service]\n\
         start = {{ command = \"redis-server $HOME/redis.conf\", shell = true }}\n\
         [service.source]\n\
         stop = [\"redis-cli\", \"-p\", \"{from}\", \"shutdown\"]\n\
         status = [\"redis-cli\", \"-p\", \"{from}\", \"-e\", \"ping\"]\n\
         [service.destination]\n\
         stop = [\"redis-cli\", \"-p\", \"{to}\", \"shutdown\"]\n\
         status = [\"redis-cli\", \"-p\", \"{to}\", \"-e\", \"ping\"]\n\
         [[check]]\nkind = \"tcp\"\nname = \"it listens\"\naddress = \"127.0.0.1:{to}\"\n\
         [[check]]\nkind = \"command\"\nname = \"it answers\"\n\
         run = [\"redis-cli\", \"-p\", \"{to}\", \"exists\", \"counter\"]\ncontains = \"1\"\n"
    );
    site.write_plan(&site.addressed(&text))
}

#[test]
fn redis_under_load_moves_and_comes_back_without_losing_an_acknowledged_write() {
    need("redis-server");
    need("redis-cli");
    let site = Site::bare();
    let (from, to) = (port(), port());
    configure(&site.old.home(), from);
    configure(&site.new.home(), to);
    succeeding(
        Command::new("redis-server")
            .arg(site.old.home().join("redis.conf"))
            .output()
            .unwrap(),
    );
    let load = Load::on(from);
    thread::sleep(Duration::from_millis(500));
    let plan = plan(&site, from, to);

    site.cutover("switch", &plan).ok();
    let acknowledged = load.end();
    assert!(acknowledged > 10, "{acknowledged}");
    assert!(
        counter(to) >= acknowledged,
        "{} {acknowledged}",
        counter(to)
    );
    assert!(TcpStream::connect(("127.0.0.1", from)).is_err());

    site.cutover("rollback", &plan).ok();
    assert!(counter(from) >= acknowledged);
    assert!(TcpStream::connect(("127.0.0.1", to)).is_err());
    let _ = Command::new("redis-cli")
        .args(["-p", &from.to_string(), "shutdown"])
        .output();
}
