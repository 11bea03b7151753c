//! What appears on the two streams, for people and for programs, event by event.

use std::io::{self, Write};
use std::time::Duration;

use super::*;
use crate::entry::EntryKind;
use crate::events::{Action, Changes, Churn, ChurnKind, Item, Phase, Problem, Side, Warning};
use crate::path::RelPath;

/// A stream that can be read back.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(lock(&self.0).clone()).unwrap()
    }
}

/// A stream that fails in one way.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn view(act: Act) -> View {
    View {
        act,
        format: Format::People,
        detail: Detail::Normal,
        items: true,
        progress: ShowProgress::No,
        direction: Direction::Sent,
        reach: Reach::Far,
    }
}

/// Shows a whole run; returns what stood on standard output and standard error.
fn show(view: View, events: Vec<Event>, outcome: Result<Summary, Error>) -> (String, String) {
    let (out, err) = (Page::default(), Page::default());
    let screen = Screen::new(Box::new(out.clone()), Box::new(err.clone()), None);
    let ui = Ui::on(Arc::new(screen), None, view);
    for event in events {
        ui.observe(event);
    }
    assert!(matches!(ui.close(&outcome, 3), Output::Written));
    (out.text(), err.text())
}

fn path(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap()
}

fn item(name: &[u8], action: Action, new: bool) -> Event {
    Event::Item(Item {
        path: path(name),
        kind: EntryKind::File,
        action,
        changes: Changes {
            new,
            size: !new,
            ..Changes::default()
        },
    })
}

fn problem(act: &str) -> Event {
    Event::Problem(Problem {
        side: Side::Source,
        act: act.to_owned(),
        path: path(b"secret"),
        reason: "permission denied\x1b[31m".to_owned(),
        os_error: Some(13),
    })
}

#[test]
fn what_is_in_changed_files_adds_up() {
    let done = Summary {
        files_sent: 1,
        changed_bytes: 7168,
        literal_bytes: 1024,
        matched_bytes: 2048,
        ..summary()
    };
    let (out, _) = show(view(Act::Sync), vec![], Ok(done));
    let said = "7.00 KiB in changed files: 1.00 KiB copied, 2.00 KiB taken from old versions, \
                4.00 KiB in holes\n";
    assert!(out.contains(said), "{out}");
}

fn summary() -> Summary {
    Summary {
        source_entries: 1200,
        destination_entries: 1100,
        source_bytes: 5 << 20,
        elapsed: Duration::from_millis(1500),
        ..Summary::default()
    }
}

#[test]
fn a_sync_ends_with_what_it_did_and_what_it_left() {
    let done = Summary {
        files_sent: 2,
        moved: 1,
        extraneous: 7,
        changed_bytes: 3072,
        literal_bytes: 1024,
        matched_bytes: 2048,
        wire_sent_bytes: 1500,
        wire_received_bytes: 80,
        ..summary()
    };
    let (out, err) = show(
        view(Act::Sync),
        vec![item(b"a", Action::Transfer, true)],
        Ok(done),
    );
    assert_eq!(
        out,
        "<f+++++++++ a\n\
         scanned   1,200 entries at the source (5.00 MiB), 1,100 at the destination\n\
         changed   2 sent, 1 moved\n\
         data      3.00 KiB in changed files: 1.00 KiB copied, 2.00 KiB taken from old versions\n\
         wire      1.46 KiB to the destination, 80 B back\n\
         left      7 entries only at the destination (--delete removes what the source does not \
         have)\n\
         time      1.50 s\n"
    );
    assert_eq!(err, "");
}

#[test]
fn a_dry_run_does_not_say_that_nothing_was_copied() {
    let planned = Summary {
        files_sent: 2,
        changed_bytes: 3072,
        ..summary()
    };
    let (out, _) = show(view(Act::DryRun), vec![], Ok(planned));
    assert!(
        out.contains("\ndata      3.00 KiB in changed files\n"),
        "{out}"
    );
}

#[test]
fn data_is_told_though_nothing_was_known_of_it() {
    let grown = Summary {
        files_sent: 1,
        literal_bytes: 2048,
        ..summary()
    };
    let (out, _) = show(view(Act::Sync), vec![], Ok(grown));
    assert!(
        out.contains("\ndata      2.00 KiB in changed files: 2.00 KiB copied, "),
        "{out}"
    );
}

#[test]
fn there_is_no_wire_within_one_host() {
    let here = View {
        reach: Reach::Here,
        ..view(Act::Sync)
    };
    let done = Summary {
        wire_sent_bytes: 1500,
        ..summary()
    };
    let (out, _) = show(here, vec![], Ok(done));
    assert!(!out.contains("wire"), "{out}");
}

#[test]
fn delete_is_not_advised_to_who_was_told_that_nothing_is_deleted() {
    let warning = Event::Warning(Warning {
        topic: "delete".to_owned(),
        entries: 7,
        message: "nothing is deleted".to_owned(),
    });
    let left = Summary {
        extraneous: 7,
        ..summary()
    };
    let (out, _) = show(view(Act::Sync), vec![warning], Ok(left));
    assert!(
        out.contains("left      7 entries only at the destination\n"),
        "{out}"
    );
}

#[test]
fn an_idle_sync_says_that_nothing_changed() {
    let (out, _) = show(view(Act::Sync), vec![], Ok(summary()));
    assert!(out.contains("changed   nothing\n"), "{out}");
    assert!(!out.contains("wire"), "{out}");
}

#[test]
fn troubles_go_to_standard_error_and_are_summed_up() {
    let done = Summary {
        problems: 3,
        churn: 1,
        ..summary()
    };
    let churn = Event::Churn(Churn {
        path: path(b"log"),
        kind: ChurnKind::Vanished,
    });
    let warning = Event::Warning(Warning {
        topic: "owner".to_owned(),
        entries: 12,
        message: "cannot set owners without root".to_owned(),
    });
    let events = vec![
        problem("read"),
        warning,
        problem("open"),
        problem("read"),
        churn,
    ];
    let (out, err) = show(view(Act::Sync), events, Ok(done));
    assert!(
        out.contains(
            "failed    3 entries: cannot read 2 at the source, cannot open 1 at the source\n\
             unsettled 1 entry changed during the run (run again to catch up)\n"
        ),
        "{out}"
    );
    assert_eq!(
        err,
        "cutover: cannot read secret at the source: permission denied\\#033[31m\n\
         cutover: cannot open secret at the source: permission denied\\#033[31m\n\
         cutover: cannot read secret at the source: permission denied\\#033[31m\n\
         cutover: log vanished before it could be copied\n\
         cutover: warning: cannot set owners without root (12 entries)\n"
    );
}

#[test]
fn quiet_leaves_only_errors() {
    let quiet = View {
        detail: Detail::Quiet,
        ..view(Act::Sync)
    };
    let events = vec![item(b"a", Action::Transfer, true), problem("read")];
    let (out, err) = show(quiet, events, Ok(summary()));
    assert_eq!(out, "");
    assert!(err.starts_with("cutover: cannot read secret"), "{err}");
}

#[test]
fn notes_are_for_the_verbose() {
    let note = || vec![Event::Note("using AES-GCM".to_owned())];
    let (_, err) = show(view(Act::Sync), note(), Ok(summary()));
    assert_eq!(err, "");
    let verbose = View {
        detail: Detail::Verbose,
        ..view(Act::Sync)
    };
    let (_, err) = show(verbose, note(), Ok(summary()));
    assert_eq!(err, "using AES-GCM\n");
}

#[test]
fn an_interrupted_sync_says_how_to_go_on() {
    let (out, err) = show(view(Act::Sync), vec![], Err(Error::Interrupted));
    assert_eq!(out, "");
    assert_eq!(
        err,
        "cutover: interrupted; run the same command again to go on: what was finished is kept\n"
    );
}

#[test]
fn a_comparison_ends_with_a_verdict() {
    let (out, _) = show(view(Act::Verify), vec![], Ok(summary()));
    assert_eq!(
        out,
        "identical: 1,200 entries, 5.00 MiB compared by content, in 1.50 s\n"
    );
    let differs = Summary {
        differs: true,
        ..summary()
    };
    let events = vec![
        item(b"a", Action::Transfer, true),
        item(b"b", Action::Transfer, false),
        item(b"c", Action::Delete, false),
    ];
    let (out, _) = show(view(Act::Diff(Compare::Quick)), events, Ok(differs));
    assert_eq!(
        out,
        "<f+++++++++ a\n\
         <f.s....... b\n\
         *extra      c\n\
         different: 1 changed, 1 missing at the destination, 1 only at the destination; 1,200 \
         entries, 5.00 MiB compared by size and time, in 1.50 s\n"
    );
}

#[test]
fn what_could_not_be_compared_is_not_called_identical() {
    let unread = Summary {
        problems: 1,
        ..summary()
    };
    let (out, _) = show(view(Act::Verify), vec![problem("read")], Ok(unread));
    assert!(
        out.contains("\nnot proven: 1 entry was not compared; the rest is identical"),
        "{out}"
    );
}

fn json(events: Vec<Event>, outcome: Result<Summary, Error>) -> Vec<serde_json::Value> {
    let programs = View {
        format: Format::Json,
        ..view(Act::Sync)
    };
    let (out, _) = show(programs, events, outcome);
    let lines: Vec<serde_json::Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for line in &lines {
        assert_eq!(line["v"], 1, "{line}");
        assert!(line["event"].is_string(), "{line}");
    }
    lines
}

#[test]
fn every_event_is_a_json_line() {
    let warning = Warning {
        topic: "owner".to_owned(),
        entries: 2,
        message: "m".to_owned(),
    };
    let lines = json(
        vec![
            Event::Phase(Phase::Scanning),
            Event::Scanned {
                side: Side::Source,
                entries: 5,
            },
            item(
                b"b",
                Action::Move {
                    from: path(b"a\xff"),
                },
                false,
            ),
            problem("read"),
            Event::Churn(Churn {
                path: path(b"log"),
                kind: ChurnKind::Changed,
            }),
            Event::Warning(warning),
        ],
        Ok(summary()),
    );
    let events: Vec<_> = lines.iter().map(|l| l["event"].as_str().unwrap()).collect();
    assert_eq!(
        events,
        [
            "phase", "progress", "item", "problem", "churn", "warning", "summary"
        ]
    );
    assert_eq!(lines[0]["phase"], "scanning");
    assert_eq!(lines[1]["scanned_source"], 5);
    assert_eq!(lines[2]["action"], "move");
    assert_eq!(lines[2]["from"], "a\\#377");
    assert_eq!(lines[2]["from_base16"], "61ff");
    assert_eq!(lines[2]["changes"], serde_json::json!(["size"]));
    assert_eq!(lines[3]["os_error"], 13);
    assert_eq!(lines[4]["kind"], "changed");
    assert_eq!(lines[5]["topic"], "owner");
    assert_eq!(lines[6]["source_entries"], 1200);
    assert_eq!(lines[6]["elapsed_ms"], 1500);
    assert_eq!(lines[6]["exit_code"], 3);
}

#[test]
fn json_paths_are_exact_where_text_is_not() {
    let named = |name| {
        let lines = json(
            vec![item(name, Action::Transfer, true)],
            Err(Error::Interrupted),
        );
        (lines[0]["path"].clone(), lines[0]["path_base16"].clone())
    };
    assert_eq!(named(b"plain"), ("plain".into(), serde_json::Value::Null));
    assert_eq!(named(b"a\nb"), ("a\\#012b".into(), "610a62".into()));
    assert_eq!(named(b"\xfe"), ("\\#376".into(), "fe".into()));
}

#[test]
fn progress_in_json_is_paced() {
    let done = |files| Event::Done { files, bytes: 0 };
    let lines = json((0..100).map(done).collect(), Ok(summary()));
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn an_error_is_the_last_json_line() {
    let lines = json(vec![], Err(Error::Refused("the source is empty".into())));
    assert_eq!(lines[0]["event"], "error");
    assert_eq!(lines[0]["class"], "refused");
    assert_eq!(lines[0]["message"], "refused: the source is empty");
}

fn broken(act: Act, kind: io::ErrorKind) -> (bool, Output) {
    let cancel = Cancel::default();
    let held = act.only_reports().then(|| cancel.clone());
    let screen = Screen::new(Box::new(Broken(kind)), Box::new(io::sink()), held);
    let ui = Ui::on(Arc::new(screen), None, view(act));
    ui.observe(item(b"a", Action::Transfer, true));
    let cancelled = cancel.is_cancelled();
    (cancelled, ui.close(&Err(Error::Interrupted), 130))
}

#[test]
fn a_report_without_a_reader_is_cancelled_and_a_sync_is_not() {
    let pipe = io::ErrorKind::BrokenPipe;
    assert!(matches!(
        broken(Act::Verify, pipe),
        (true, Output::ReaderLeft)
    ));
    assert!(matches!(
        broken(Act::Sync, pipe),
        (false, Output::ReaderLeft)
    ));
}

#[test]
fn a_full_disk_under_the_output_is_told() {
    let full = io::ErrorKind::StorageFull;
    assert!(matches!(
        broken(Act::Verify, full),
        (true, Output::Failed(_))
    ));
}
