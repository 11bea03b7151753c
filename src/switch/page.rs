//! The report as one HTML file without outside resources, readable in light and dark and on paper.

use std::fmt::Write;

use super::journal::What;
use super::report::Report;
use crate::plan::Verdict;

const STYLE: &str = include_str!("page.css");

/// The report as an HTML page.
pub fn page(report: &Report) -> String {
    let mut out = String::new();
    let title = format!("{}: {}", report.plan, outcome(report));
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\
         <h1>{title}</h1><p class=\"lead\">{source} to {destination}, begun {began}. \
         At its end {live}.</p>",
        title = text(&title),
        source = text(&report.source),
        destination = text(&report.destination),
        began = text(&report.began),
        live = report.live,
    );
    checklist(&mut out, report);
    roots(&mut out, report);
    steps(&mut out, report);
    findings(&mut out, report);
    let _ = write!(
        out,
        "<footer>cutover {}, {}</footer></body></html>",
        env!("CARGO_PKG_VERSION"),
        text(&report.id)
    );
    out
}

fn outcome(report: &Report) -> &'static str {
    match report.end {
        Some(What::Switched) => "switched",
        Some(What::RolledBack) => "rolled back",
        _ => "not finished",
    }
}

fn checklist(out: &mut String, report: &Report) {
    if report.checks.is_empty() {
        return;
    }
    let title = match report.goes_back() {
        true => "Checks before it went back",
        false => "Checks",
    };
    let _ = write!(
        out,
        "<h2>{title}</h2><table><tr><th></th><th>check</th><th>found</th></tr>"
    );
    for check in &report.checks {
        row(
            out,
            &[mark(check.holds), text(&check.name), text(&check.said)],
        );
    }
    out.push_str("</table>");
}

fn roots(out: &mut String, report: &Report) {
    out.push_str(
        "<h2>Roots</h2><table><tr><th>root</th><th>from</th><th>to</th><th>entries</th>\
         <th>bytes</th><th>digest of both when compared</th></tr>",
    );
    for root in &report.roots {
        let number = |figure: Option<u64>| figure.map(grouped).unwrap_or_default();
        let digest = match (&root.digest, &root.within) {
            (_, Some(holder)) => format!("within {}", text(holder)),
            (Some(digest), None) => format!("<code>{}</code>", text(digest)),
            (None, None) => String::new(),
        };
        row(
            out,
            &[
                text(&root.name),
                format!("<code>{}</code>", text(&root.source)),
                format!("<code>{}</code>", text(&root.destination)),
                number(root.entries),
                number(root.bytes),
                digest,
            ],
        );
    }
    out.push_str("</table>");
}

fn steps(out: &mut String, report: &Report) {
    out.push_str(
        "<h2>Steps</h2><table><tr><th></th><th>step</th><th>begun</th><th>took</th><th></th></tr>",
    );
    for step in &report.steps {
        let sign = match step.what {
            What::Ended => mark(true),
            What::Failed => mark(false),
            _ => "<span class=\"open\">?</span>".to_string(),
        };
        let took = step
            .elapsed_ms
            .map(|ms| format!("{:.1} s", ms as f64 / 1000.0))
            .unwrap_or_default();
        row(
            out,
            &[
                sign,
                text(step.step.title()),
                text(&step.began),
                took,
                text(step.note.as_deref().unwrap_or_default()),
            ],
        );
    }
    out.push_str("</table>");
}

fn findings(out: &mut String, report: &Report) {
    if report.findings.is_empty() {
        return;
    }
    out.push_str("<h2>Preflight</h2><table><tr><th></th><th>subject</th><th>found</th></tr>");
    for finding in &report.findings {
        let sign = match finding.verdict {
            Verdict::Ok => mark(true),
            Verdict::Warning => "<span class=\"open\">!</span>".to_string(),
            Verdict::Fail => mark(false),
        };
        row(out, &[sign, text(&finding.subject), text(&finding.message)]);
    }
    out.push_str("</table>");
}

fn row(out: &mut String, cells: &[String]) {
    out.push_str("<tr>");
    for cell in cells {
        let _ = write!(out, "<td>{cell}</td>");
    }
    out.push_str("</tr>");
}

fn mark(good: bool) -> String {
    match good {
        true => "<span class=\"good\">✓</span>".to_string(),
        false => "<span class=\"bad\">✗</span>".to_string(),
    }
}

/// A number with thin spaces between its thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Text that is only text: names come from two hosts.
fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_become_markup() {
        assert_eq!(
            text("<b a=\"'&'\">"),
            "&lt;b a=&quot;&#39;&amp;&#39;&quot;&gt;"
        );
    }

    #[test]
    fn thousands_stand_apart() {
        let plain = |number| grouped(number).replace('\u{202f}', " ");
        assert_eq!(plain(0), "0");
        assert_eq!(plain(999), "999");
        assert_eq!(plain(1_234_567), "1 234 567");
    }
}
