//! The page of a running mirror, as a browser shows it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::browser::Browser;
use crate::common::lab::{Lab, Route};
use crate::common::prerequisites::need;
use crate::common::run::BINARY;
use crate::common::sshd::{HOST, Sshd};

const LIMIT: Duration = Duration::from_secs(120);

/// The lag that the page shows, in seconds.
const LAG: &str = "Number(document.querySelector('section').dataset.lag)";

/// A mirror over ssh that serves its page.
struct Shown {
    child: Child,
    /// Where its page is.
    address: String,
}

impl Shown {
    fn start(lab: &Lab, sshd: &Sshd) -> Shown {
        let mut command = Command::new(BINARY);
        lab.isolate(&mut command, "near");
        let mut child = command
            .args(["mirror", "--listen", "127.0.0.1:0", "--settle", "100ms"])
            .arg(format!("--ssh-option=-F{}", sshd.ssh_config().display()))
            .args(["--agent-path", BINARY])
            .args(Route::Push.endpoints(HOST, &lab.src, &lab.dst))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let (queue, lines) = mpsc::channel();
        thread::spawn(move || {
            // To its end, so that the mirror can always write.
            let lines = said.lines().map_while(Result::ok);
            lines.for_each(|line| queue.send(line).unwrap_or(()));
        });
        let address = loop {
            let line = lines.recv_timeout(LIMIT).unwrap();
            if let Some(address) = line.strip_prefix("http://") {
                break address.trim_end_matches('/').to_owned();
            }
        };
        Shown { child, address }
    }

    fn metrics(&self) -> String {
        let address = &self.address;
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{head}");
        body.to_owned()
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lag_on_the_page_rises_while_the_standby_is_cut_off_and_falls_afterwards() {
    let lab = Lab::with_source("f a random(9000) @5\n d dir @6\n f dir/b 'text' @7");
    let mut sshd = Sshd::start();
    let shown = Shown::start(&lab, &sshd);
    let mut browser = Browser::start(&lab.path("browser"));
    browser.open(&format!("http://{}/", shown.address));
    browser.wait_for("document.querySelector('.state')?.textContent === 'watching'");
    browser.wait_for(&format!("{LAG} === 0"));

    sshd.stop();
    fs::write(lab.src.join("dir/b"), "what the standby lacks").unwrap();
    browser.wait_for(&format!("{LAG} > 2"));
    let before = browser.value(LAG).as_f64().unwrap();
    browser.wait_for(&format!("{LAG} > {}", before + 2.0));
    browser.wait_for("document.querySelector('.state').textContent === 'waiting'");
    browser.wait_for("document.querySelector('.reason').textContent.length > 0");

    sshd.start_again();
    browser.wait_for(&format!("{LAG} === 0"));
    browser.wait_for("document.querySelector('.state').textContent === 'watching'");
    assert_eq!(
        fs::read(lab.dst.join("dir/b")).unwrap(),
        b"what the standby lacks"
    );
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);
    let own = [
        format!("http://{}/", shown.address),
        format!("http://{}/status.json", shown.address),
        // Its icon is in it.
        "data:,".to_owned(),
    ];
    for request in &browser.requests {
        assert!(own.contains(request), "{request}");
    }
}

#[test]
fn the_page_is_light_or_dark_as_people_like_it() {
    let lab = Lab::with_source("f a random(9000) @5");
    let sshd = Sshd::start();
    let shown = Shown::start(&lab, &sshd);
    let mut browser = Browser::start(&lab.path("browser"));
    browser.open(&format!("http://{}/", shown.address));
    browser.wait_for("document.querySelector('.state')?.textContent === 'watching'");
    let [light, dark] = ["light", "dark"].map(|scheme| {
        browser.prefer(scheme);
        browser.wait_for(&format!(
            "matchMedia('(prefers-color-scheme: {scheme})').matches"
        ));
        [
            brightness(&mut browser, "backgroundColor"),
            brightness(&mut browser, "color"),
        ]
    });
    // What is written stands out from what it is written on.
    assert!(light[0] > 200.0 && light[1] < 90.0, "{light:?}");
    assert!(dark[0] < 60.0 && dark[1] > 180.0, "{dark:?}");
    assert!(browser.errors.is_empty(), "{:?}", browser.errors);
}

/// How bright a colour of the page is, from 0 to 255.
fn brightness(browser: &mut Browser, property: &str) -> f64 {
    let parts = format!(
        "getComputedStyle(document.body).{property}.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    );
    let parts: Vec<f64> = serde_json::from_value(browser.value(&parts)).unwrap();
    parts.iter().sum::<f64>() / 3.0
}

#[test]
fn promtool_accepts_the_metrics_of_a_running_mirror() {
    need("promtool");
    let lab = Lab::with_source("f a random(9000) @5\n d dir @6\n f dir/b 'text' @7");
    let sshd = Sshd::start();
    let shown = Shown::start(&lab, &sshd);
    let agreed = "cutover_mirror_last_agreement_timestamp_seconds{";
    let began = Instant::now();
    let metrics = loop {
        let metrics = shown.metrics();
        if metrics.contains(agreed) {
            break metrics;
        }
        assert!(began.elapsed() < LIMIT, "{metrics}");
        thread::sleep(Duration::from_millis(100));
    };
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(metrics.as_bytes()).unwrap();
    drop(stdin);
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// What the page is held against notices what it is there for.
#[test]
fn a_page_that_fails_and_asks_elsewhere_is_noticed() {
    let lab = Lab::new();
    let mut browser = Browser::start(&lab.path("browser"));
    browser.open("data:text/html,<script>fetch('http://127.0.0.1:9/x'); throw 'oh'</script>");
    browser.wait_for("document.readyState === 'complete'");
    assert!(!browser.errors.is_empty());
    let elsewhere = "http://127.0.0.1:9/x".to_owned();
    assert!(
        browser.requests.contains(&elsewhere),
        "{:?}",
        browser.requests
    );
}
