//! Why an entry does or does not take part, for a person to read. Apart from the decision itself
//! because it asks for every ancestor and keeps what it found.

use std::fmt;

use crate::events::Side;
use crate::path::RelPath;

use super::pattern::Subject;
use super::{Rule, Rules, Verdict};

/// What was decided about a path, where on the way to it, and by which rule.
#[derive(Debug)]
pub struct Explanation<'a> {
    /// The path itself, or the topmost ancestor that is excluded.
    pub decided_at: RelPath,
    /// What was decided.
    pub verdict: Verdict<'a>,
    /// The rule that decided; `None` when none matched, which includes.
    pub rule: Option<&'a Rule>,
}

impl Rules {
    /// Asks for each ancestor of `path` from the top and then for `path` itself, as a scan does,
    /// and says which rule decided.
    ///
    /// Rules from per-directory files count only as far as these rules have
    /// [entered](Self::enter).
    pub fn explain(&self, path: &RelPath, is_dir: bool, side: Side) -> Explanation<'_> {
        let mut way: Vec<RelPath> = path.ancestors().collect();
        let mut explanation = Explanation {
            decided_at: RelPath::root(),
            verdict: Verdict::Include,
            rule: None,
        };
        while let Some(step) = way.pop() {
            let (Some(dir), Some(name)) = (step.parent(), step.file_name()) else {
                continue;
            };
            let enters = is_dir || !way.is_empty();
            let mut subject = Subject::new(dir.as_bytes(), name.as_bytes(), enters);
            let (verdict, rule) = self.judge(&mut subject, side);
            explanation = Explanation {
                decided_at: step,
                verdict,
                rule,
            };
            if verdict.is_excluded() {
                break;
            }
        }
        explanation
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.verdict {
            Verdict::Include => "included",
            Verdict::Exclude(_) => "excluded",
            Verdict::Protect(_) => "included, and protected from deletion",
        };
        let Some(rule) = self.rule else {
            return write!(f, "{outcome}: no rule matches");
        };
        write!(f, "{outcome}: {} matches ", self.decided_at)?;
        match rule.file() {
            Some(file) => write!(f, "{file} line {} ", rule.number())?,
            None => write!(f, "rule {} ", rule.number())?,
        }
        write!(f, "`{}`", rule.text())
    }
}
