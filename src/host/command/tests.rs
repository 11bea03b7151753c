//! Commands as a plan has them, run here.

use std::cell::RefCell;
use std::thread;

use super::*;

fn command(words: &[&str]) -> Command {
    Command {
        words: words.iter().map(ToString::to_string).collect(),
        shell: false,
        user: None,
        dir: None,
        env: Vec::new(),
        timeout: Duration::from_secs(60),
    }
}

fn shell(line: &str) -> Command {
    Command {
        shell: true,
        ..command(&[line])
    }
}

/// How it ended, and what it wrote: errors with a `!` before them.
fn outcome(command: &Command) -> (Exit, Vec<String>) {
    let lines = RefCell::new(Vec::new());
    let exit = run(command, &Cancel::new(), &mut |line| {
        let mark = if line.is_stderr { "!" } else { "" };
        lines.borrow_mut().push(format!("{mark}{}", line.text));
    });
    (exit.unwrap(), lines.into_inner())
}

fn why_not(command: &Command) -> String {
    match outcome(command) {
        (Exit::NotStarted(why), lines) if lines.is_empty() => why,
        other => panic!("it started: {other:?}"),
    }
}

/// Whether any process is in this group and not merely waiting to be reaped.
fn is_alive(group: &str) -> bool {
    let stats = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.into_iter().any(|stat| {
        let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        fields.first() != Some(&"Z") && fields.get(2) == Some(&group)
    })
}

#[test]
fn words_reach_the_program_as_they_are() {
    let (exit, lines) = outcome(&command(&["printf", "%s|", "a b", "$HOME", "*"]));
    assert_eq!(
        (exit, lines),
        (Exit::Code(0), vec!["a b|$HOME|*|".to_string()])
    );
}

#[test]
fn a_shell_reads_the_line_only_when_it_shall() {
    let line = "for i in 1 2; do echo $i; done; echo e >&2; exit 7";
    let (exit, mut lines) = outcome(&shell(line));
    lines.sort();
    assert_eq!(exit, Exit::Code(7));
    assert_eq!(lines, ["!e", "1", "2"]);
    assert!(why_not(&command(&[line])).contains("PATH"));
}

#[test]
fn a_signal_is_told_from_an_exit() {
    assert_eq!(outcome(&shell("kill -9 $$")).0, Exit::Signal(9));
}

#[test]
fn lines_are_cut_and_made_printable() {
    let line = r"printf 'a\tb\r\nx\033[1m\377'; printf '\nlast'";
    assert_eq!(outcome(&shell(line)).1, ["a b", "x\\#033[1m\\#377", "last"]);
    let (_, lines) = outcome(&shell(
        "head -c 100000 /dev/zero | tr '\\0' x; echo; echo next",
    ));
    assert_eq!(lines.len(), 2);
    assert_eq!((lines[0].len(), lines[1].as_str()), (8192, "next"));
}

#[test]
fn all_of_much_output_comes() {
    let (exit, lines) = outcome(&shell("seq 1 100000"));
    assert_eq!((exit, lines.len()), (Exit::Code(0), 100_000));
}

#[test]
fn it_has_nothing_to_read_and_a_session_of_its_own() {
    assert_eq!(outcome(&command(&["cat"])), (Exit::Code(0), vec![]));
    let (_, lines) = outcome(&shell("cut -d' ' -f 1,5,6 /proc/self/stat; echo $$"));
    let numbers: Vec<&str> = lines[0].split(' ').collect();
    assert_eq!(numbers[1], numbers[2], "{lines:?}");
    assert_eq!(numbers[1], lines[1], "{lines:?}");
}

#[test]
fn variables_and_directory_are_those_that_were_given() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let given = Command {
        dir: Some(dir.to_str().unwrap().to_string()),
        env: vec![("CUTOVER_X".to_string(), "a b".to_string())],
        ..shell("pwd; echo \"$CUTOVER_X\"; test -n \"$PATH\"")
    };
    let expected = vec![dir.display().to_string(), "a b".to_string()];
    assert_eq!(outcome(&given), (Exit::Code(0), expected));
}

#[test]
fn what_cannot_start_says_why() {
    assert!(why_not(&command(&["no-such-program"])).contains("no-such-program in PATH"));
    assert!(why_not(&command(&["/no/such/program"])).contains("/no/such/program"));
    assert!(why_not(&command(&["/etc/passwd"])).contains("denied"));
    assert!(why_not(&command(&[])).contains("no command"));
    let nowhere = Command {
        dir: Some("/no/such/dir".to_string()),
        ..command(&["true"])
    };
    assert!(why_not(&nowhere).contains("/no/such/dir"));
    let by_nobody = Command {
        user: Some("no-such-user".to_string()),
        ..command(&["true"])
    };
    assert!(why_not(&by_nobody).contains("no-such-user"));
    let with_nul = Command {
        env: vec![("A".to_string(), "\0".to_string())],
        ..command(&["true"])
    };
    assert!(why_not(&with_nul).contains("true"));
}

#[test]
fn a_command_that_takes_too_long_is_killed_with_all_that_it_started() {
    let hangs = Command {
        timeout: Duration::from_millis(300),
        ..shell("sleep 1000 & echo $$; sleep 1000")
    };
    let start = Instant::now();
    let (exit, lines) = outcome(&hangs);
    assert_eq!(exit, Exit::TimedOut);
    assert!(start.elapsed() < TIMEOUT_GRACE, "{:?}", start.elapsed());
    assert!(!is_alive(&lines[0]), "{lines:?}");
}

#[test]
fn a_command_that_does_not_want_to_end_is_killed_after_a_while() {
    let stubborn = Command {
        timeout: Duration::from_millis(300),
        ..shell("trap '' TERM; echo $$; (trap '' TERM; while :; do sleep 1; done); sleep 1000")
    };
    let start = Instant::now();
    let (exit, lines) = outcome(&stubborn);
    assert_eq!(exit, Exit::TimedOut);
    assert!(start.elapsed() >= TIMEOUT_GRACE, "{:?}", start.elapsed());
    thread::sleep(Duration::from_millis(100));
    assert!(!is_alive(&lines[0]), "{lines:?}");
}

#[test]
fn an_interrupted_command_ends_at_once() {
    let cancel = Cancel::new();
    let (start, group) = (Instant::now(), RefCell::new(String::new()));
    let ended = run(&shell("echo $$; sleep 1000"), &cancel, &mut |line| {
        *group.borrow_mut() = line.text;
        cancel.cancel();
    });
    assert!(matches!(ended, Err(Error::Interrupted)), "{ended:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(!is_alive(&group.borrow()));
}

#[test]
fn a_service_that_is_left_running_does_not_hold_the_command() {
    let start = Instant::now();
    let (exit, lines) = outcome(&shell("echo started; sleep 1000 & echo $!"));
    assert_eq!((exit, lines[0].as_str()), (Exit::Code(0), "started"));
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
    let pid: i32 = lines[1].parse().unwrap();
    let pid = Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).expect("it still runs");
}

#[test]
fn another_user_has_a_login_of_its_own() {
    if !Users::is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let as_nobody = Command {
        user: Some("nobody".to_string()),
        ..shell("id -un; id -G; echo $USER $LOGNAME; echo $HOME; test -z \"$XDG_CACHE_HOME\"")
    };
    let (exit, lines) = outcome(&as_nobody);
    let nobody = Login::of("nobody").unwrap();
    let groups: Vec<String> = nobody.groups.iter().map(ToString::to_string).collect();
    assert_eq!(exit, Exit::Code(0), "{lines:?}");
    assert_eq!(
        lines,
        [
            "nobody",
            &groups.join(" "),
            "nobody nobody",
            &nobody.home.display().to_string()
        ]
    );
}
