//! A mirror's face from outside: its page, its status and its metrics over real sockets, and
//! `cutover status` beside it, all of a board that is made up.

// Helpers of tests unwrap as tests do.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cutover::fs::Places;
use cutover::mirror::board::{Board, Brought, Ends, Extent};
use cutover::mirror::control::Control;
use cutover::mirror::page::Page;
use cutover::mirror::requests::Requests;
use cutover::mirror::status::{GenerationStatus, State, Status, Watch, WatchMeans};
use cutover::protocol::errand::KeepMeans;

/// A mirror of two roots, one of which has everything that a root can have.
fn board(plan: Option<String>) -> Board {
    let ends = |name: &str| Ends {
        name: name.to_owned(),
        source: format!("/srv/{name}"),
        destination: format!("standby:/srv/{name}"),
    };
    let board = Board::create(
        "forge".to_owned(),
        plan,
        vec![ends("data"), ends("od\"d\\na\nme")],
    );
    let root = board.root(0);
    root.watch(Watch {
        means: WatchMeans::Inotify,
        directories: 321,
    });
    root.round(
        Brought {
            files: 12,
            bytes: 3 << 20,
            wire_bytes: 1 << 20,
        },
        Extent::Full,
    );
    root.agreed("ab".repeat(32), 4711, 5 << 30);
    root.problems(vec!["</script><b>file".to_owned()], 1);
    root.drift(vec!["changed\there".to_owned()], 1);
    root.generations(vec![GenerationStatus {
        id: "20261123T000000Z".to_owned(),
        made_s: 1_795_392_000,
        means: KeepMeans::Reflink,
        entries: 4700,
    }]);
    root.pending(Some(SystemTime::now() - Duration::from_secs(600)));
    root.state(State::Syncing, None);
    board.root(1).state(State::Watching, None);
    board
}

struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends `request` as it is and reads until the other side closes.
fn exchange(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Answer {
        code: code.unwrap_or(0),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

fn get(page: &Page, path: &str, headers: &str) -> Answer {
    let address = page.address();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost:9463\r\n{headers}\r\n");
    exchange(address, &request)
}

fn near() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[test]
fn status_is_served_as_it_is_on_the_board() {
    let board = board(None);
    let page = Page::open(near(), None, board.clone()).unwrap();
    let answer = get(&page, "/status.json", "");
    assert_eq!(answer.code, 200, "{}", answer.head);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("date").is_some());
    let mut told: Status = serde_json::from_str(&answer.body).unwrap();
    let mut shown = board.snapshot();
    // A sample may fall between the two.
    for root in told.roots.iter_mut().chain(&mut shown.roots) {
        root.history.clear();
    }
    assert_eq!(told, shown);
    let means = "\"means\":\"reflink\"";
    assert!(answer.body.contains(means), "{}", answer.body);

    board.root(1).state(State::Waiting, Some("why".to_owned()));
    let told: Status = serde_json::from_str(&get(&page, "/status.json", "").body).unwrap();
    assert_eq!(told.roots[1].reason.as_deref(), Some("why"));
    page.finish();
}

#[test]
fn the_page_runs_its_own_script_and_nothing_else() {
    let page = Page::open(near(), None, board(None)).unwrap();
    let answer = get(&page, "/", "");
    assert_eq!(answer.code, 200);
    let policy = answer.header("content-security-policy").unwrap();
    let nonce = policy
        .split_once("script-src 'nonce-")
        .and_then(|(_, rest)| rest.split_once('\''))
        .map(|(nonce, _)| nonce.to_owned())
        .unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let body = &answer.body;
    assert_eq!(body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
    for outside in [
        "src=",
        "@import",
        "url(",
        "innerHTML",
        "style=",
        "onclick",
        "@NONCE@",
    ] {
        assert!(!body.contains(outside), "{outside}");
    }
    for theirs in ["https://", "//cdn"] {
        assert!(!body.contains(theirs), "{theirs}");
    }
    assert!(body.contains("prefers-color-scheme: dark"));
    let again = get(&page, "/", "");
    assert_ne!(again.header("content-security-policy"), Some(policy));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    page.finish();
}

#[test]
fn only_what_is_there_is_served_and_only_by_get() {
    let page = Page::open(near(), None, board(None)).unwrap();
    assert_eq!(get(&page, "/nothing", "").code, 404);
    assert_eq!(get(&page, "/../etc/passwd", "").code, 404);
    let post = "POST /status.json HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(exchange(page.address(), post).code, 405);
    let head = exchange(page.address(), "HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((head.code, head.body.as_str()), (200, ""));
    page.finish();
}

#[test]
fn a_page_of_somebody_else_cannot_read_it_under_another_name() {
    let page = Page::open(near(), None, board(None)).unwrap();
    for path in ["/", "/metrics", "/status.json", "/nothing"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: evil.example:9463\r\n\r\n");
        let answer = exchange(page.address(), &request);
        assert_eq!(answer.code, 421, "{path}");
        assert!(!answer.body.contains("forge"), "{path}");
    }
    let nameless = exchange(page.address(), "GET /metrics HTTP/1.0\r\n\r\n");
    assert_eq!(nameless.code, 421);
    page.finish();
}

fn token_file(temp: &tempfile::TempDir, mode: u32) -> PathBuf {
    let path = temp.path().join("token");
    std::fs::write(&path, "s3cret\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path
}

#[test]
fn others_see_nothing_without_the_token() {
    let temp = tempfile::tempdir().unwrap();
    let any = SocketAddr::from(([0, 0, 0, 0], 0));
    let refused = Page::open(any, None, board(None)).unwrap_err();
    assert_eq!(refused.class().exit_code(), 2, "{refused}");
    let open = Page::open(any, Some(&token_file(&temp, 0o644)), board(None));
    assert!(open.unwrap_err().to_string().contains("chmod 600"));

    let page = Page::open(any, Some(&token_file(&temp, 0o600)), board(None)).unwrap();
    let near = SocketAddr::from(([127, 0, 0, 1], page.address().port()));
    let ask = |path: &str, headers: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: host.example\r\n{headers}\r\n");
        exchange(near, &request)
    };
    for path in ["/metrics", "/status.json"] {
        let answer = ask(path, "");
        assert_eq!(answer.code, 401, "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert!(!answer.body.contains("forge"));
        assert_eq!(ask(path, "Authorization: Bearer wrong\r\n").code, 401);
        assert_eq!(ask(path, "Authorization: Bearer s3cret\r\n").code, 200);
    }
    // The page has nothing in it but the question for the token.
    let answer = ask("/", "");
    assert_eq!(answer.code, 200);
    assert!(answer.body.contains("data-token=\"yes\"") && !answer.body.contains("forge"));
    page.finish();
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let page = Page::open(near(), None, board(None)).unwrap();
    let begun = Instant::now();
    let silent: Vec<TcpStream> = (0..40)
        .map(|at| {
            let mut stream = TcpStream::connect(page.address()).unwrap();
            if at % 2 == 0 {
                stream.write_all(b"GET / HTTP/1.1\r\nHo").unwrap();
            }
            stream
        })
        .collect();
    // All places are taken; the limits free them.
    assert_eq!(get(&page, "/metrics", "").code, 200);
    assert!(begun.elapsed() < Duration::from_secs(15));
    let mut first = &silent[0];
    first
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut rest = Vec::new();
    let _ = first.read_to_end(&mut rest);
    drop(silent);

    let long = format!("X: {}\r\n", "x".repeat(64 << 10));
    let request = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{long}\r\n");
    let mut stream = TcpStream::connect(page.address()).unwrap();
    // It may close before all is written.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(get(&page, "/metrics", "").code, 200);
    page.finish();
}

/// A metric's name, its labels and its value.
type Sample = (String, Vec<(String, String)>, f64);

/// The text format, read strictly.
fn samples(text: &str) -> Vec<Sample> {
    let mut found = Vec::new();
    let mut family = None;
    for line in text.strip_suffix('\n').unwrap().split('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty());
            family = Some((name.to_owned(), None));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let (of, known) = family.as_mut().unwrap();
            assert_eq!((name, &known), (of.as_str(), &&mut None), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            *known = Some(kind.to_owned());
        } else {
            let (name, rest) = line.split_once('{').unwrap();
            let (of, kind) = family.as_ref().unwrap();
            assert!(name == of && kind.is_some(), "{line}");
            let is_letter = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().all(is_letter), "{line}");
            let (labels, rest) = labels(rest);
            let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
            found.push((name.to_owned(), labels, value));
        }
    }
    found
}

/// Labels up to the brace that closes them, and what follows it.
fn labels(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let (label, rest) = text.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => value.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    c @ ('\\' | '"') => c,
                    c => panic!("\\{c} is no escape"),
                }),
                (_, c) => value.push(c),
            }
        };
        found.push((label.to_owned(), value));
        let rest = &rest[end + 1..];
        match rest.strip_prefix(',') {
            Some(rest) => text = rest,
            None => return (found, rest.strip_prefix('}').unwrap()),
        }
    }
}

#[test]
fn metrics_are_read_by_whoever_reads_strictly() {
    let page = Page::open(near(), None, board(None)).unwrap();
    let answer = get(&page, "/metrics", "");
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(answer.header("content-type"), Some(kind));
    let samples = samples(&answer.body);
    let of = |name: &str, root: &str| {
        let mut all = samples.iter();
        let found = all.find(|(found, labels, _)| {
            found == name && labels.iter().any(|(key, of)| key == "root" && of == root)
        });
        found.map(|(_, _, value)| *value)
    };
    let lag = of("cutover_mirror_lag_seconds", "data").unwrap();
    assert!((600.0..660.0).contains(&lag), "{lag}");
    let no_round_yet = of("cutover_mirror_lag_seconds", "od\"d\\na\nme");
    assert_eq!(no_round_yet, None);
    let bytes = of("cutover_mirror_bytes_total", "data");
    assert_eq!(bytes, Some(f64::from(3 << 20)));
    let agreed = of("cutover_mirror_last_agreement_timestamp_seconds", "data").unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!((now.as_secs_f64() - agreed).abs() < 60.0);
    let never = "cutover_mirror_last_agreement_timestamp_seconds";
    assert_eq!(of(never, "od\"d\\na\nme"), None);
    let states: f64 = samples
        .iter()
        .filter(|(name, _, _)| name == "cutover_mirror_state")
        .map(|(_, _, value)| value)
        .sum();
    assert_eq!(states, 2.0);
    assert!(
        samples
            .iter()
            .any(|(name, _, _)| name == "cutover_build_info")
    );
    page.finish();
}

#[test]
fn promtool_has_nothing_to_say_against_the_metrics() {
    let page = Page::open(near(), None, board(None)).unwrap();
    let text = get(&page, "/metrics", "").body;
    page.finish();
    let program = std::env::var_os("PROMTOOL").unwrap_or("promtool".into());
    let begun = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = begun else {
        eprintln!("promtool is not installed: the metrics were read by this test's parser only");
        return;
    };
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// The directories of a user of this test's own.
fn home() -> (tempfile::TempDir, Places) {
    let temp = tempfile::tempdir().unwrap();
    let places = Places {
        runtime: Some(temp.path().join("run")),
        state: Some(temp.path().join("state")),
    };
    (temp, places)
}

fn status(temp: &tempfile::TempDir, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cutover"))
        .arg("status")
        .args(args)
        .env("XDG_RUNTIME_DIR", temp.path().join("run"))
        .env("XDG_STATE_HOME", temp.path().join("state"))
        .output()
        .unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

#[test]
fn a_terminal_is_told_how_the_mirrors_are() {
    let (temp, places) = home();
    let none = status(&temp, &[]);
    assert_eq!(none.status.code(), Some(1));
    assert_eq!(
        text(&none.stderr),
        "cutover: no mirror is running as this user\n"
    );
    assert_eq!(text(&status(&temp, &["--json"]).stdout), "[]\n");

    let plan = temp.path().join("forge.toml");
    std::fs::write(&plan, "").unwrap();
    let plan = plan.to_str().unwrap();
    let board = board(Some(plan.to_owned()));
    let control = Control::open(&places, &board, &Requests::default()).unwrap();
    let told = status(&temp, &[]);
    assert_eq!(told.status.code(), Some(1), "it has drift and problems");
    let said = text(&told.stdout);
    for part in [
        "forge (",
        "  data: /srv/data -> standby:/srv/data\n",
        "state     syncing for",
        "lag       10 min",
        "abababababababab",
        "problems  1\n              </script><b>file\n",
        "drift     1\n              changed\\#011here\n",
        "1 generation: 20261123T000000Z",
    ] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let root = board.root(0);
    root.drift(Vec::new(), 0);
    root.problems(Vec::new(), 0);
    assert_eq!(status(&temp, &[plan]).status.code(), Some(0));
    let json = status(&temp, &["--json", plan]).stdout;
    let statuses: Vec<Status> = serde_json::from_slice(&json).unwrap();
    assert_eq!(statuses[0].roots.len(), 2);

    let other = temp.path().join("other.toml");
    std::fs::write(&other, "").unwrap();
    let other = other.to_str().unwrap();
    assert_eq!(status(&temp, &[other]).status.code(), Some(1));
    assert_eq!(status(&temp, &["/nonexistent"]).status.code(), Some(2));

    control.finish().unwrap();
    let ended = status(&temp, &[]);
    assert_eq!(ended.status.code(), Some(1));
    let said = text(&ended.stdout);
    assert!(
        said.contains("stopped") && said.contains("last seen 20"),
        "{said}"
    );
}

#[test]
fn a_pipe_gets_a_line_for_each_change() {
    let (temp, places) = home();
    let board = board(None);
    let control = Control::open(&places, &board, &Requests::default()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_cutover"))
        .args(["status", "--watch"])
        .env("XDG_RUNTIME_DIR", temp.path().join("run"))
        .env("XDG_STATE_HOME", temp.path().join("state"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("forge/data: syncing, agreed "));
    assert!(next().contains("watching"));
    let full = Some("the standby is full".to_owned());
    board.root(1).state(State::Waiting, full);
    assert!(next().ends_with("waiting: the standby is full"));
    child.kill().unwrap();
    child.wait().unwrap();
    control.finish().unwrap();
}
