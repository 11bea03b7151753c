//! A headless Chromium, led over its DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).
//! By a pipe instead of a socket: JSON with a NUL after each message, and nothing else to speak.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::prerequisites::need;

/// A browser on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// A browser with one page. Dropping it ends it.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    /// What the page asked for, in order.
    pub requests: Vec<String>,
    /// What went wrong in it.
    pub errors: Vec<String>,
}

impl Browser {
    /// Starts it with all that it keeps in `home`.
    ///
    /// # Panics
    ///
    /// When there is none: a test of the page that does not show it must not pass.
    pub fn start(home: &Path) -> Browser {
        need("chromium");
        // It reads from descriptor 3 and writes to 4.
        let line =
            "exec setpriv --pdeathsig TERM chromium \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null";
        let mut child = Command::new("sh")
            .args([
                "-c",
                line,
                "sh",
                "--headless=new",
                "--remote-debugging-pipe",
            ])
            // Root has no sandbox, a machine for tests no graphics, a container little /dev/shm.
            .args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            .args(["--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--window-size=1000,760"])
            .arg(format!("--user-data-dir={}", home.display()))
            .env("HOME", home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (queue, messages) = mpsc::channel();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut text = Vec::new();
            while output.read_until(0, &mut text).is_ok_and(|len| len > 0) {
                text.pop();
                let message = serde_json::from_slice(&text).unwrap();
                text.clear();
                if queue.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            input: child.stdin.take().unwrap(),
            child,
            messages,
            session: None,
            last_id: 0,
            requests: Vec::new(),
            errors: Vec::new(),
        };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": page["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", target);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Network", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// Leads the page to an address.
    pub fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened.get("errorText").is_none(), "{opened}");
    }

    /// What an expression is in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "returnByValue": true });
        let told = self.call("Runtime.evaluate", asked);
        assert!(told.get("exceptionDetails").is_none(), "{told}");
        told["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    pub fn wait_for(&mut self, expression: &str) {
        let began = Instant::now();
        while self.value(expression) != json!(true) {
            let shown = "document.body?.innerText";
            assert!(
                began.elapsed() < PATIENCE,
                "{expression}: {}",
                self.value(shown)
            );
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Has the page shown as to people who like it `light` or `dark`.
    pub fn prefer(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": [feature] }),
        );
    }

    /// Says one thing, and takes in what happens until it is answered.
    fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.input.write_all(&bytes).unwrap();
        loop {
            let said = self.messages.recv_timeout(PATIENCE);
            let mut said = said.unwrap_or_else(|err| panic!("{method}: {err}"));
            if said["id"] == json!(self.last_id) {
                assert!(said.get("error").is_none(), "{method}: {said}");
                return said["result"].take();
            }
            self.note(&said);
        }
    }

    fn note(&mut self, event: &Value) {
        let params = &event["params"];
        match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                let url = params["request"]["url"].as_str().unwrap();
                self.requests.push(url.to_owned());
            }
            Some("Runtime.exceptionThrown") => self.errors.push(params.to_string()),
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.errors.push(params.to_string());
            }
            Some("Log.entryAdded") if params["entry"]["level"] == "error" => {
                self.errors.push(params["entry"].to_string());
            }
            _ => {}
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
