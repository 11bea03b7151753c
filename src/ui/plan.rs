//! Plans as people and programs read them: the table of a preflight, and what a plan would do.

use serde::Serialize;

use crate::plan::{Finding, Shown, ShownHost, ShownRoot, Verdict};

use super::human::{bytes, count, counted, printable};
use super::json::event_line;

/// Whether words may be coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// As on a terminal.
    Some,
    /// As in a file.
    None,
}

/// The widest a column of subjects becomes: beyond it, one long name would push all others away.
const MAX_SUBJECT: usize = 24;

/// The table of a preflight, with the count at its end.
pub fn findings_table(findings: &[Finding], colours: Colours) -> String {
    let longest = findings
        .iter()
        .map(|finding| finding.subject.chars().count())
        .max();
    let width = longest.unwrap_or_default().min(MAX_SUBJECT);
    let indent = " ".repeat(VERDICT_WIDTH + width + 2);
    let mut table = String::new();
    for finding in findings {
        let subject = printable(&finding.subject);
        let message = printable(&finding.message).replace('\n', &format!("\n{indent}"));
        let verdict = coloured(finding.verdict, colours);
        table += &format!("{verdict} {subject:<width$} {message}\n");
        if let Some(advice) = &finding.advice {
            let advice = printable(advice).replace('\n', &format!("\n{indent}   "));
            table += &format!("{indent}-> {advice}\n");
        }
    }
    table + &conclusion(findings) + "\n"
}

/// The longest of the verdicts.
const VERDICT_WIDTH: usize = 7;

fn coloured(verdict: Verdict, colours: Colours) -> String {
    let (word, colour) = match verdict {
        Verdict::Ok => ("ok", 32),
        Verdict::Warning => ("warning", 33),
        Verdict::Fail => ("FAIL", 31),
    };
    let padded = format!("{word:<VERDICT_WIDTH$}");
    match colours {
        Colours::Some => format!("\x1b[{colour}m{padded}\x1b[0m"),
        Colours::None => padded,
    }
}

fn conclusion(findings: &[Finding]) -> String {
    let [ok, warnings, fails] = counts(findings);
    let consequence = match fails {
        0 => "nothing is in the way",
        _ => "a switch would be refused",
    };
    format!(
        "{ok} ok, {}, {}: {consequence}",
        counted(warnings, "warning", "warnings"),
        counted(fails, "fail", "fails"),
    )
}

fn counts(findings: &[Finding]) -> [u64; 3] {
    [Verdict::Ok, Verdict::Warning, Verdict::Fail].map(|verdict| {
        let of_it = findings.iter().filter(|finding| finding.verdict == verdict);
        of_it.count() as u64
    })
}

#[derive(Serialize)]
struct VerdictLine<'a> {
    plan: &'a str,
    ok: u64,
    warnings: u64,
    fails: u64,
    exit_code: u8,
}

/// A preflight for programs.
pub fn findings_json(plan: &str, findings: &[Finding], exit_code: u8) -> String {
    let [ok, warnings, fails] = counts(findings);
    let lines: String = findings
        .iter()
        .map(|finding| event_line("finding", finding))
        .collect();
    let last = VerdictLine {
        plan,
        ok,
        warnings,
        fails,
        exit_code,
    };
    lines + &event_line("verdict", last)
}

/// A plan for programs.
pub fn plan_json(shown: &Shown) -> String {
    event_line("plan", shown)
}

/// A plan for people.
pub fn plan_text(shown: &Shown) -> String {
    let mut out = Out::default();
    out.row("plan", &format!("{} ({})", shown.name, shown.file));
    out.row("source", &host(&shown.source));
    out.row("destination", &host(&shown.destination));
    for root in &shown.roots {
        out.gap();
        out.row(
            "root",
            &format!("{}: {} -> {}", root.name, root.source, root.destination),
        );
        for line in root_lines(root) {
            out.row("", &line);
        }
    }
    out.gap();
    out.rows("sync", &shown.sync);
    out.rows("owners", &shown.owners);
    if !shown.commands.is_empty() {
        out.gap();
    }
    for command in &shown.commands {
        let words = match command.shell {
            true => format!("sh -c {:?}", command.words.join(" ")),
            false => command.words.join(" "),
        };
        let dir = command
            .dir
            .as_ref()
            .map_or(String::new(), |dir| format!(" in {dir}"));
        let text = format!(
            "at the {}, {}, as {}{dir}, at most {} s: {words}",
            command.side, command.host, command.user, command.timeout_s
        );
        out.row(&command.what, &text);
    }
    out.gap();
    out.rows("checks", &shown.checks);
    out.rows("switch", &shown.switch);
    out.text
}

/// Rows with a title each.
#[derive(Default)]
struct Out {
    text: String,
}

impl Out {
    fn row(&mut self, title: &str, text: &str) {
        let (title, text) = (printable(title), printable(text));
        // What begins at the margin is a title, and no text of a plan can make one.
        let text = text.replace('\n', &format!("\n{:18}", ""));
        self.text += &format!("{title:<17} {text}\n");
    }

    fn rows(&mut self, title: &str, texts: &[String]) {
        let titles = std::iter::once(title).chain(std::iter::repeat(""));
        for (title, text) in titles.zip(texts) {
            self.row(title, text);
        }
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }
}

fn host(host: &ShownHost) -> String {
    let ShownHost {
        host,
        name,
        user,
        home,
    } = host;
    format!("{host} ({name}), as {user}, home {home}")
}

fn root_lines(root: &ShownRoot) -> Vec<String> {
    let mut lines = Vec::new();
    let size = |size: &Option<crate::plan::Size>| match size {
        Some(size) => format!("{} entries, {}", count(size.entries), bytes(size.bytes)),
        None => "nothing there".to_owned(),
    };
    lines.push(format!(
        "{}; at the destination {}",
        size(&root.source_size),
        size(&root.destination_size)
    ));
    if !root.present {
        lines.push("left out: it is optional and missing".to_owned());
    }
    if let Some(holder) = &root.within {
        lines.push(format!("lies within root {holder} and is synced with it"));
    }
    if !root.required.is_empty() {
        lines.push(format!("must have {}", root.required.join(", ")));
    }
    if !root.filters.is_empty() {
        lines.push(format!("filters: {}", root.filters.join(" | ")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(verdict: Verdict, subject: &str, advice: Option<&str>) -> Finding {
        Finding {
            verdict,
            subject: subject.to_owned(),
            message: "one\ntwo".to_owned(),
            advice: advice.map(str::to_owned),
        }
    }

    #[test]
    fn a_table_has_what_to_do_below_what_was_found() {
        let findings = [
            finding(Verdict::Ok, "source", None),
            finding(Verdict::Fail, "root state", Some("do it")),
        ];
        let expected = "\
ok      source     one
                   two
FAIL    root state one
                   two
                   -> do it
1 ok, 0 warnings, 1 fail: a switch would be refused
";
        assert_eq!(findings_table(&findings, Colours::None), expected);
        assert!(findings_table(&findings, Colours::Some).contains("\x1b[31mFAIL   \x1b[0m"));
    }

    #[test]
    fn a_hostile_message_cannot_move_the_cursor() {
        let mut finding = finding(Verdict::Ok, "x", None);
        finding.message = "\x1b[2J".to_owned();
        assert!(!findings_table(&[finding], Colours::None).contains('\x1b'));
    }

    #[test]
    fn programs_read_a_line_for_each_finding_and_one_verdict() {
        let findings = [finding(Verdict::Warning, "space", Some("do it"))];
        let lines = findings_json("move", &findings, 0);
        let lines: Vec<serde_json::Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0]["event"], "finding");
        assert_eq!(lines[0]["verdict"], "warning");
        assert_eq!(lines[1]["event"], "verdict");
        assert_eq!(lines[1]["warnings"], 1);
    }
}
