//! How mirrors are, as people and programs read it: in full, as a line for each root, as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::human::{bytes, count, counted, elapsed, entries, printable};
use super::plan::Colours;
use crate::mirror::status::{GenerationStatus, RootStatus, State, Status, WatchMeans, moment};

/// How many problems and places of drift are shown; the rest are in the JSON.
const MOST_SHOWN: usize = 5;

/// Characters of a digest that tell it from others well enough.
const DIGEST_SHOWN: usize = 16;

/// Width of the column of titles.
const TITLE: usize = 10;

/// All mirrors for people, a paragraph for each root.
pub fn status_text(statuses: &[Status], now: SystemTime, colours: Colours) -> String {
    let each: Vec<String> = statuses
        .iter()
        .map(|status| mirror(status, now, colours))
        .collect();
    each.join("\n")
}

/// All mirrors for programs: one array, on one line.
pub fn status_json(statuses: &[Status]) -> String {
    // Strings, numbers and lists of them always serialize.
    serde_json::to_string(statuses).unwrap_or_default() + "\n"
}

/// A line for each root: what changes in it is worth a new line in a log.
pub fn status_lines(statuses: &[Status]) -> Vec<String> {
    let lines = statuses.iter().flat_map(|status| {
        let roots = status.roots.iter();
        roots.map(|root| line(status, root))
    });
    lines.collect()
}

fn line(status: &Status, root: &RootStatus) -> String {
    let mut said = format!("{}/{}: {}", status.name, root.name, root.state.word());
    if let Some(agreed) = &root.agreed {
        said += &format!(", agreed {}", moment(agreed.at_s));
    }
    for (what, total) in [
        ("problems", root.problems_total),
        ("paths of drift", root.drift_total),
    ] {
        if total > 0 {
            said += &format!(", {} {what}", count(total));
        }
    }
    if let Some(reason) = &root.reason {
        said += &format!(": {reason}");
    }
    // One line, whatever a reason has.
    printable(&said).replace('\n', " ")
}

fn mirror(status: &Status, now: SystemTime, colours: Colours) -> String {
    let mut out = Out::default();
    let running = status
        .roots
        .iter()
        .any(|root| root.state != State::Stopped)
        .then(|| {
            format!(
                "running for {} as process {}",
                age(status.started_s, now),
                status.pid
            )
        });
    let facts = [status.plan.clone(), running];
    let facts: Vec<String> = facts.into_iter().flatten().collect();
    out.line(&match facts.is_empty() {
        true => status.name.clone(),
        false => format!("{} ({})", status.name, facts.join(", ")),
    });
    for root in &status.roots {
        root_rows(&mut out, root, now, colours);
    }
    out.text
}

fn root_rows(out: &mut Out, root: &RootStatus, now: SystemTime, colours: Colours) {
    out.line(&format!(
        "  {}: {} -> {}",
        root.name, root.source, root.destination
    ));
    let since = format!(
        " for {}, since {}",
        age(root.since_s, now),
        moment(root.since_s)
    );
    out.coloured_row("state", root.state, &since, colours);
    if let Some(reason) = &root.reason {
        out.row("", reason);
    }
    match (root.oldest_change_ms, root.known_lag(now)) {
        (_, None) => out.row("lag", "not known yet"),
        (None, Some(_)) => out.row("lag", "none"),
        (Some(_), Some(lag)) => out.row("lag", &elapsed(lag)),
    }
    match &root.agreed {
        None => out.row("agreed", "not yet"),
        Some(agreed) => {
            let digest: String = agreed.digest.chars().take(DIGEST_SHOWN).collect();
            out.row(
                "agreed",
                &format!(
                    "{} ago, {}: {}, {}, both {digest}",
                    age(agreed.at_s, now),
                    moment(agreed.at_s),
                    entries(agreed.entries),
                    bytes(agreed.bytes)
                ),
            );
        }
    }
    let today = &root.today;
    out.row(
        "today",
        &format!(
            "{}, {}, {} on the wire",
            counted(today.files, "file", "files"),
            bytes(today.bytes),
            bytes(today.wire_bytes)
        ),
    );
    out.row("watch", &watch(root));
    out.named("problems", &root.problems, root.problems_total);
    out.named("drift", &root.drift, root.drift_total);
    if let Some(kept) = generations(&root.generations, now) {
        out.row("kept", &kept);
    }
}

fn watch(root: &RootStatus) -> String {
    let totals = &root.totals;
    let means = match root.watch.means {
        // Until its first round a root is watched by nothing.
        WatchMeans::Interval if totals.rounds == 0 => "not yet".to_owned(),
        WatchMeans::Inotify => counted(root.watch.directories, "directory", "directories"),
        WatchMeans::Interval => "none: all is read from time to time".to_owned(),
    };
    match (totals.missed, totals.overflows) {
        (0, 0) => means,
        (missed, overflows) => format!(
            "{means}; {} missed, {}",
            count(missed),
            counted(overflows, "overflow", "overflows")
        ),
    }
}

fn generations(kept: &[GenerationStatus], now: SystemTime) -> Option<String> {
    let (newest, oldest) = (kept.first()?, kept.last()?);
    let number = counted(kept.len() as u64, "generation", "generations");
    let newest = format!("{} ({} ago)", newest.id, age(newest.made_s, now));
    Some(match kept.len() {
        1 => format!("{number}: {newest}"),
        _ => format!(
            "{number}: from {} ({} ago) to {newest}",
            oldest.id,
            age(oldest.made_s, now)
        ),
    })
}

/// How long ago something was; nothing where a clock says that it will be.
fn age(at_s: u64, now: SystemTime) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(at_s));
    let age = at.and_then(|at| now.duration_since(at).ok());
    let whole = Duration::from_secs(age.unwrap_or_default().as_secs());
    match whole.as_secs() {
        // No fraction: the clock of the status has none.
        secs @ 0..60 => format!("{secs} s"),
        secs if secs >= 48 * 3600 => format!("{} days", secs / 86_400),
        _ => elapsed(whole),
    }
}

/// Rows with a title each. All text is of both hosts' making, and is made printable.
#[derive(Default)]
struct Out {
    text: String,
}

impl Out {
    fn line(&mut self, text: &str) {
        self.text += &printable(text).replace('\n', " ");
        self.text.push('\n');
    }

    fn row(&mut self, title: &str, text: &str) {
        self.line(&format!("    {title:<TITLE$}{text}"));
    }

    fn coloured_row(&mut self, title: &str, state: State, rest: &str, colours: Colours) {
        let colour = match state {
            State::Watching => 32,
            State::Scanning | State::Syncing => 36,
            State::Waiting => 33,
            State::Stopped => 31,
        };
        let word = match colours {
            Colours::Some => format!("\x1b[{colour}m{}\x1b[0m", state.word()),
            Colours::None => state.word().to_owned(),
        };
        self.text += &format!("    {title:<TITLE$}{word}{rest}\n");
    }

    fn named(&mut self, title: &str, names: &[String], total: u64) {
        if total == 0 {
            return;
        }
        self.row(title, &count(total));
        let shown = names.len().min(MOST_SHOWN);
        for name in &names[..shown] {
            self.row("", name);
        }
        if total > shown as u64 {
            self.row("", &format!("and {} more", count(total - shown as u64)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::status::{Agreed, Today, Totals, Watch};

    const NOW_S: u64 = 1_795_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW_S)
    }

    fn status() -> Status {
        let root = RootStatus {
            name: "data".into(),
            source: "/srv/app".into(),
            destination: "new:/srv/app".into(),
            state: State::Watching,
            since_s: NOW_S - 3700,
            reason: None,
            oldest_change_ms: None,
            agreed: Some(Agreed {
                at_s: NOW_S - 2,
                digest: "0123456789abcdef0123".into(),
                entries: 1234,
                bytes: 3 << 30,
            }),
            today: Today {
                day: "2026-11-18".into(),
                files: 12,
                bytes: 4 << 20,
                wire_bytes: 1 << 20,
            },
            watch: Watch {
                means: WatchMeans::Inotify,
                directories: 56,
            },
            totals: Totals {
                rounds: 9,
                ..Totals::default()
            },
            drift: Vec::new(),
            drift_total: 0,
            problems: Vec::new(),
            problems_total: 0,
            generations: Vec::new(),
            history: Vec::new(),
        };
        Status {
            version: 1,
            name: "app".into(),
            plan: Some("/etc/app.toml".into()),
            pid: 77,
            started_s: NOW_S - 7200,
            roots: vec![root],
        }
    }

    #[test]
    fn a_root_is_told_in_full() {
        let text = status_text(&[status()], now(), Colours::None);
        let expected = "\
app (/etc/app.toml, running for 2 h 00 min as process 77)
  data: /srv/app -> new:/srv/app
    state     watching for 1 h 01 min, since 2026-11-18T10:05:00Z
    lag       none
    agreed    2 s ago, 2026-11-18T11:06:38Z: 1,234 entries, 3.00 GiB, both 0123456789abcdef
    today     12 files, 4.00 MiB, 1.00 MiB on the wire
    watch     56 directories
";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_wrong_is_shown_and_the_rest_counted() {
        let mut status = status();
        let root = &mut status.roots[0];
        root.state = State::Waiting;
        root.reason = Some("new: no route to host".into());
        root.oldest_change_ms = Some((NOW_S - 90) * 1000);
        root.drift = (0..7).map(|n| format!("file{n}\x1b[2J")).collect();
        root.drift_total = 9;
        let text = status_text(&[status.clone()], now(), Colours::Some);
        for part in [
            "\x1b[33mwaiting\x1b[0m for",
            "              new: no route to host\n",
            "lag       1 min 30 s\n",
            "drift     9\n",
            "              file4\\#033[2J\n              and 4 more\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        let lines = status_lines(&[status]);
        let expected = "app/data: waiting, agreed 2026-11-18T11:06:38Z, 9 paths of drift: \
                        new: no route to host";
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn how_a_root_is_watched_is_not_said_before_it_is() {
        let mut status = status();
        let root = &mut status.roots[0];
        root.watch = Watch {
            means: WatchMeans::Interval,
            directories: 0,
        };
        root.totals = Totals::default();
        let text = status_text(&[status.clone()], now(), Colours::None);
        assert!(text.contains("watch     not yet\n"), "{text}");
        status.roots[0].totals.rounds = 1;
        let text = status_text(&[status], now(), Colours::None);
        assert!(text.contains("watch     none: all is read"), "{text}");
    }

    #[test]
    fn before_the_first_round_is_over_nobody_knows_the_lag() {
        let mut status = status();
        let root = &mut status.roots[0];
        (root.state, root.agreed, root.totals) = (State::Syncing, None, Totals::default());
        let text = status_text(&[status], now(), Colours::None);
        assert!(text.contains("lag       not known yet\n"), "{text}");
    }

    #[test]
    fn programs_get_one_array() {
        let text = status_json(&[status(), status()]);
        let read: Vec<Status> = serde_json::from_str(&text).unwrap();
        assert_eq!(read, [status(), status()]);
        assert_eq!(status_json(&[]), "[]\n");
    }
}
