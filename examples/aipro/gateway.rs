//! The gateway itself: a process that holds the lock, writes a row and a line twenty times a
//! second, and answers over HTTP.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::state::Place;

const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs until SIGTERM.
pub(crate) fn run(place: &Place) -> Result<(), String> {
    let config = place.insist()?;
    let lock = lock(place)?;
    let port = config["gateway"]["port"].as_u64().unwrap_or(18_789);
    let listener = TcpListener::bind(("127.0.0.1", port as u16))
        .map_err(|err| format!("port {port}: {err}"))?;
    (&lock)
        .write_all(format!("{}\n", std::process::id()).as_bytes())
        .map_err(|err| err.to_string())?;
    let channels = place.dir.join("credentials/telegram.json").exists();
    thread::spawn(move || serve(&listener, channels));
    let stop = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&stop))
        .map_err(|err| err.to_string())?;
    remember(place, &stop).map_err(|err| err.to_string())?;
    fs::remove_file(lock_path(place)).map_err(|err| err.to_string())
}

/// Writes until it shall stop.
fn remember(place: &Place, stop: &AtomicBool) -> Result<(), Box<dyn std::error::Error>> {
    let database = rusqlite::Connection::open(place.database())?;
    database.execute_batch(
        "PRAGMA journal_mode = WAL;
         CREATE TABLE IF NOT EXISTS heard (id INTEGER PRIMARY KEY, text TEXT NOT NULL);",
    )?;
    let mut session = OpenOptions::new()
        .create(true)
        .append(true)
        .open(place.sessions().join("current.jsonl"))?;
    while !stop.load(Ordering::Relaxed) {
        database.execute("INSERT INTO heard (text) VALUES (?1)", ["a line"])?;
        let row = database.last_insert_rowid();
        writeln!(session, "{{\"heard\": {row}}}")?;
        thread::sleep(PAUSE);
    }
    // What was heard last is in the session as well as in the database.
    session.sync_all()?;
    Ok(())
}

fn serve(listener: &TcpListener, channels: bool) {
    for stream in listener.incoming().flatten() {
        // Whoever asks may go before the answer.
        let _ = answer(&stream, channels);
    }
}

fn answer(mut stream: &TcpStream, channels: bool) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    while lines
        .next()
        .transpose()?
        .is_some_and(|line| !line.is_empty())
    {}
    let telegram = if channels { "connected" } else { "logged out" };
    let body = format!("{{\"status\": \"running\", \"telegram\": \"{telegram}\"}}\n");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

/// Starts in the background and waits until it answers.
pub(crate) fn start(place: &Place) -> Result<(), String> {
    place.insist()?;
    if pid(place).is_some() {
        return Err("it runs already".to_string());
    }
    let mut command = Command::new(std::env::current_exe().map_err(|err| err.to_string())?);
    if let Some(profile) = &place.profile {
        command.args(["--profile", profile]);
    }
    let log = File::create(place.dir.join("gateway.log")).map_err(|err| err.to_string())?;
    command
        .args(["gateway", "run"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(|err| err.to_string())?;
    wait_for(|| pid(place).is_some()).map_err(|()| {
        let log = fs::read_to_string(place.dir.join("gateway.log")).unwrap_or_default();
        format!("it did not start: {}", log.trim())
    })
}

/// Stops it and waits until it is gone.
pub(crate) fn stop(place: &Place) -> Result<(), String> {
    let Some(pid) = pid(place) else {
        return Ok(());
    };
    kill_process(pid, Signal::TERM).map_err(|err| err.to_string())?;
    wait_for(|| test_kill_process(pid).is_err()).map_err(|()| "it does not stop".to_string())
}

/// Says whether it runs.
pub(crate) fn status(place: &Place) -> ExitCode {
    match pid(place) {
        Some(pid) => {
            println!("status: running (process {pid}), telegram: connected");
            ExitCode::SUCCESS
        }
        None => {
            println!("status: stopped");
            ExitCode::from(3)
        }
    }
}

/// Who holds the lock. A lock file that nobody holds is one that came with a copy.
fn pid(place: &Place) -> Option<Pid> {
    let file = File::open(lock_path(place)).ok()?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let text = fs::read_to_string(lock_path(place)).ok()?;
    Pid::from_raw(text.trim().parse().ok()?)
}

fn lock(place: &Place) -> Result<File, String> {
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .open(lock_path(place))
        .map_err(|err| err.to_string())?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| "it runs already".to_string())?;
    file.set_len(0).map_err(|err| err.to_string())?;
    Ok(file)
}

fn lock_path(place: &Place) -> std::path::PathBuf {
    place.dir.join("gateway.lock")
}

fn wait_for(mut is_so: impl FnMut() -> bool) -> Result<(), ()> {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > until {
            return Err(());
        }
        thread::sleep(PAUSE);
    }
    Ok(())
}
