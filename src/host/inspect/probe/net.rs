//! Whether a service answers. Asked from this host, which is where the service shall be reached.

use std::io::Read;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::events::Cancel;
use crate::path::escape;

use super::{Sentence, contains, quote};

/// How much of a body is read.
const BODY_BYTES: usize = 1 << 20;

/// No check waits longer: what is added to a clock must not overflow it.
const MOST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// How long a wish to stop may go unheard.
const PATIENCE: Duration = Duration::from_millis(50);

/// What an HTTP server shall answer.
pub(super) struct Wanted {
    pub(super) status: u16,
    pub(super) contains: Option<String>,
}

/// Asks `url` once. Redirects are answers like others, and no proxy is asked: the check is of this
/// server. Certificates of `https` must be signed by a public authority.
pub(super) fn http(
    url: String,
    wanted: Wanted,
    timeout: Duration,
    cancel: &Cancel,
) -> Result<Sentence> {
    patiently(cancel, move || {
        let shown = escape(url.as_bytes()).into_owned();
        request(&url, &wanted, timeout.min(MOST_TIMEOUT))
            .map(|found| format!("{shown} {found}"))
            .map_err(|fault| format!("{shown} {fault}"))
    })
}

fn request(url: &str, wanted: &Wanted, timeout: Duration) -> Sentence {
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return Err("is no http:// or https:// address".to_owned());
    }
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(timeout))
        .proxy(None)
        .user_agent("cutover")
        .build();
    let agent = ureq::Agent::new_with_config(config);
    let response = agent.get(url).call();
    let mut response = response.map_err(|err| format!("does not answer: {}", printable(err)))?;
    let status = response.status().as_u16();
    if status != wanted.status {
        return Err(format!("answers {status}, not {}", wanted.status));
    }
    match &wanted.contains {
        None => Ok(format!("answers {status}")),
        Some(text) => {
            search(&mut response.body_mut().as_reader(), text)?;
            Ok(format!("answers {status} with {}", quote(text)))
        }
    }
}

/// Reads until the text is found: a body may go on for ever.
fn search(body: &mut dyn Read, text: &str) -> Result<(), String> {
    let mut read = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    while read.len() < BODY_BYTES {
        let most = buffer.len().min(BODY_BYTES - read.len());
        let count = match body.read(&mut buffer[..most]) {
            Err(err) if err.kind() == std::io::ErrorKind::Interrupted => continue,
            count => count.map_err(|err| format!("breaks off: {}", printable(err)))?,
        };
        if count == 0 {
            break;
        }
        // What is new may complete what was at the end.
        let from = read.len().saturating_sub(text.len());
        read.extend_from_slice(&buffer[..count]);
        if contains(&read[from..], text.as_bytes()) {
            return Ok(());
        }
    }
    match text.is_empty() {
        true => Ok(()),
        false => Err(format!("answers without {}", quote(text))),
    }
}

/// Connects to `address` once, trying all that its name stands for.
pub(super) fn tcp(address: String, timeout: Duration, cancel: &Cancel) -> Result<Sentence> {
    patiently(cancel, move || connect(&address, timeout.min(MOST_TIMEOUT)))
}

fn connect(address: &str, timeout: Duration) -> Sentence {
    let shown = escape(address.as_bytes());
    let failed = |why: String| format!("nothing answers at {shown}: {why}");
    let begun = Instant::now();
    let addresses = address
        .to_socket_addrs()
        .map_err(|err| failed(printable(err)))?;
    let mut fault = "the name stands for no address".to_owned();
    for at in addresses {
        let left = timeout.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(failed("it took too long".to_owned()));
        }
        match TcpStream::connect_timeout(&at, left) {
            Ok(_) => return Ok(format!("something listens at {shown}")),
            Err(err) => fault = printable(err),
        }
    }
    Err(failed(fault))
}

fn printable(err: impl std::fmt::Display) -> String {
    escape(err.to_string().as_bytes()).into_owned()
}

/// Waits for `work`, or until asked to stop. Then the work is left to end by its own timeout: a
/// thread that waits for a network cannot be woken.
fn patiently(
    cancel: &Cancel,
    work: impl FnOnce() -> Sentence + Send + 'static,
) -> Result<Sentence> {
    let (done, wait) = channel();
    std::thread::spawn(move || {
        // Nobody waits any more where this fails.
        let _ = done.send(work());
    });
    loop {
        cancel.check()?;
        match wait.recv_timeout(PATIENCE) {
            Ok(sentence) => return Ok(sentence),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Ok(Err("the check itself failed".to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A server that gives every client this answer; its address.
    fn serve(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request);
                let _ = stream.write_all(&answer);
            }
        });
        address
    }

    fn answer(status: &str, body: &str) -> Vec<u8> {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
    }

    fn ask(url: &str, status: u16, contains: Option<&str>) -> Sentence {
        let contains = contains.map(str::to_owned);
        let wanted = Wanted { status, contains };
        http(url.to_owned(), wanted, SOON, &Cancel::new()).unwrap()
    }

    #[test]
    fn a_server_that_answers_as_wanted_passes() {
        let url = format!("http://{}/status", serve(answer("200 OK", "all is well")));
        assert_eq!(ask(&url, 200, None).unwrap(), format!("{url} answers 200"));
        assert!(ask(&url, 200, Some("is well")).is_ok());
        let said = ask(&url, 200, Some("is bad")).unwrap_err();
        assert!(said.ends_with("answers without \"is bad\""), "{said}");
    }

    #[test]
    fn another_status_is_told_and_no_redirect_is_followed() {
        let url = format!("http://{}/", serve(answer("503 Busy", "")));
        assert!(
            ask(&url, 200, None)
                .unwrap_err()
                .ends_with("answers 503, not 200")
        );
        let moved =
            b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n";
        let url = format!("http://{}/", serve(moved.to_vec()));
        assert!(ask(&url, 302, None).is_ok());
        assert!(ask(&url, 200, None).unwrap_err().contains("answers 302"));
    }

    #[test]
    fn of_a_long_body_the_first_mebibyte_counts() {
        let long = "x".repeat(BODY_BYTES - 3) + "end" + "late";
        let url = format!("http://{}/", serve(answer("200 OK", &long)));
        assert!(ask(&url, 200, Some("xend")).is_ok());
        assert!(ask(&url, 200, Some("late")).is_err());
    }

    #[test]
    fn where_nothing_listens_both_say_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(tcp(address.clone(), SOON, &Cancel::new()).unwrap().is_ok());
        drop(listener);
        let said = tcp(address.clone(), SOON, &Cancel::new())
            .unwrap()
            .unwrap_err();
        assert!(
            said.starts_with(&format!("nothing answers at {address}: ")),
            "{said}"
        );
        let said = ask(&format!("http://{address}/"), 200, None).unwrap_err();
        assert!(said.contains("does not answer: "), "{said}");
        assert!(
            ask("ftp://x/", 200, None)
                .unwrap_err()
                .contains("no http://")
        );
        assert!(
            tcp("no port".to_owned(), SOON, &Cancel::new())
                .unwrap()
                .is_err()
        );
    }

    #[test]
    fn a_server_that_never_answers_ends_with_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let wanted = Wanted {
            status: 200,
            contains: None,
        };
        let brief = Duration::from_millis(200);
        let said = http(url, wanted, brief, &Cancel::new())
            .unwrap()
            .unwrap_err();
        assert!(said.contains("timeout"), "{said}");
    }

    #[test]
    fn a_wish_to_stop_is_heard_before_the_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let wanted = Wanted {
            status: 200,
            contains: None,
        };
        let cancel = Cancel::new();
        let from_outside = cancel.clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            from_outside.cancel();
        });
        let begun = Instant::now();
        assert!(http(url, wanted, Duration::from_secs(60), &cancel).is_err());
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
}
