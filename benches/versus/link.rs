//! A link with a delay: the benchmark's program started again as ssh's `ProxyCommand`. In user
//! space, because many kernels lack netem, and one mechanism everywhere keeps results comparable.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The first argument that makes the program a link.
pub(crate) const WORD: &str = "--link";

/// What a pipe holds: nothing that was written at once is split further.
const PIECE_BYTES: usize = 64 << 10;

/// Serves `--link MILLISECONDS HOST PORT` if that is what the arguments say.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut args = std::env::args().skip(1);
    if args.next()? != WORD {
        return None;
    }
    let mut arg = |what| args.next().unwrap_or_else(|| panic!("no {what}"));
    let round_trip = Duration::from_millis(arg("round trip").parse().unwrap());
    let (host, port) = (arg("host"), arg("port").parse().unwrap());
    serve(round_trip, (&host, port)).unwrap();
    Some(ExitCode::SUCCESS)
}

/// Carries bytes between standard input and output and a server, until the server ends.
fn serve(round_trip: Duration, server: (&str, u16)) -> io::Result<()> {
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // Nothing can be said before the connection's own round trip.
    thread::sleep(round_trip);
    let server = TcpStream::connect(server)?;
    server.set_nodelay(true)?;
    let there = server.try_clone()?;
    thread::spawn(move || {
        carry(input, &there, round_trip / 2);
        // The server may have ended first.
        let _ = there.shutdown(Shutdown::Write);
    });
    carry(server, output, round_trip / 2);
    Ok(())
}

/// Carries bytes one way until either end is gone, each `delay` after it came. As fast as they
/// come: what is under way has no bound but the windows of ssh's channels, 2 MiB each.
fn carry(mut from: impl Read + Send, mut to: impl Write, delay: Duration) {
    let (queue, pieces) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut piece = vec![0; PIECE_BYTES];
            loop {
                // A connection that breaks has ended. The end travels as long as all before it.
                let len = from.read(&mut piece).unwrap_or(0);
                let sent = queue.send((Instant::now() + delay, piece[..len].to_vec()));
                if len == 0 || sent.is_err() {
                    return;
                }
            }
        });
        for (due, piece) in pieces {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if piece.is_empty() || to.write_all(&piece).is_err() {
                return;
            }
        }
    });
}
