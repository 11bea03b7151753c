//! Which names take part: rsync's filter rules with rsync's meanings, on raw bytes.
//!
//! [`Rules`] decides about one entry at a time and reads nothing. What the command line says
//! becomes rules in `read`, the only place here that opens files; rules that stand in the tree
//! itself are read by whoever scans it and handed to [`Rules::enter`].

mod dir_merge;
mod explain;
mod glob;
mod pattern;
mod read;
mod syntax;

use std::borrow::Cow;
use std::sync::Arc;

use crate::events::Side;
use crate::options::RuleText;
use crate::path::{RelPath, escape};

use dir_merge::{DirMerge, Layer};
use pattern::{Pattern, Subject};
use syntax::{Action, Defaults, RuleLine, Sides, Statement};

pub use explain::Explanation;
pub use read::{Default, cvs_excludes, exclude, include, parse_filter_arg, read_rule_file};
pub use syntax::FilterError;

/// Compiled rules; the first that matches decides. A clone shares them.
#[derive(Clone, Debug)]
pub struct Rules {
    slots: Arc<[Slot]>,
    dir_merges: Arc<[DirMerge]>,
    /// For each of `dir_merges`, the innermost file's rules for the directory at hand.
    layers: Vec<Option<Arc<Layer>>>,
    unsided: Unsided,
    /// Whether the two sides can be answered differently.
    sided: bool,
}

/// What a rule is for that names no side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsided {
    Both,
    /// With `--delete-excluded` such a rule hides, and protects nothing.
    SourceOnly,
}

/// One place in the list of rules.
#[derive(Debug)]
enum Slot {
    Rule(Rule),
    /// The rules of per-directory files stand here: an index into `dir_merges`.
    DirMerge(usize),
}

/// One rule, as a verdict names it.
#[derive(Debug)]
pub struct Rule {
    action: Action,
    sides: Sides,
    negated: bool,
    perishable: bool,
    pattern: Pattern,
    text: RuleText,
    number: usize,
    file: Option<Arc<str>>,
}

/// What the rules say of one entry.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// The entry takes part. At the destination it may be deleted when the source lacks it.
    Include,
    /// The entry does not exist for the run: neither listed, compared, entered nor deleted.
    Exclude(&'a Rule),
    /// At the destination alone: the entry takes part, but is not deleted when the source lacks
    /// it.
    Protect(&'a Rule),
}

impl Verdict<'_> {
    /// Whether the entry does not exist for the run.
    pub fn is_excluded(&self) -> bool {
        matches!(self, Verdict::Exclude(_))
    }
}

/// How firm a protection must be to count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Firmness {
    Any,
    /// Perishable rules are passed over.
    NotPerishable,
}

impl Rule {
    fn new(line: &RuleLine, number: usize, base: &[u8], file: Option<Arc<str>>) -> Rule {
        Rule {
            action: line.action,
            sides: line.sides,
            negated: line.negated,
            perishable: line.perishable,
            pattern: Pattern::compile(&line.pattern, base),
            text: line.to_text(),
            number,
            file,
        }
    }

    /// The rule in its long form, made printable.
    pub fn text(&self) -> Cow<'_, str> {
        escape(&self.text.0)
    }

    /// Its place among the rules given, or its line in its file; from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The per-directory file it stands in, beneath the root and made printable.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    fn excludes(&self) -> bool {
        self.action == Action::Exclude
    }
}

impl Rules {
    /// Compiles rules in their long form, one a text; an empty text says nothing.
    ///
    /// Rules that name files to be read at the start (`. FILE`, `-C`) are refused:
    /// [`parse_filter_arg`] has replaced them by then.
    pub fn parse(texts: &[RuleText]) -> Result<Rules, FilterError> {
        let mut slots = Vec::new();
        let mut dir_merges: Vec<DirMerge> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let number = index + 1;
            match syntax::parse(&text.0, Defaults::default())? {
                Statement::Nothing => {}
                Statement::Clear => {
                    slots.clear();
                    dir_merges.clear();
                }
                Statement::Rule(line) => {
                    slots.push(Slot::Rule(Rule::new(&line, number, b"", None)));
                }
                Statement::DirMerge(line) => {
                    let dir_merge = DirMerge::new(&text.0, &line)?;
                    if line.hides_file {
                        let hide = RuleLine::plain(Action::Exclude, dir_merge.file());
                        slots.push(Slot::Rule(Rule::new(&hide, number, b"", None)));
                    }
                    // A file that is merged already keeps its first place, as in rsync.
                    if dir_merges.iter().all(|m| m.file() != dir_merge.file()) {
                        slots.push(Slot::DirMerge(dir_merges.len()));
                        dir_merges.push(dir_merge);
                    }
                }
                Statement::Merge(_) | Statement::CvsExcludes(_) => {
                    return Err(FilterError::rule(
                        &text.0,
                        "is replaced by what it reads before a run begins",
                        "pass it through `parse_filter_arg`",
                    ));
                }
            }
        }
        let sided = slots
            .iter()
            .any(|slot| matches!(slot, Slot::Rule(rule) if rule.sides != Sides::Unsaid));
        Ok(Rules {
            slots: slots.into(),
            layers: vec![None; dir_merges.len()],
            dir_merges: dir_merges.into(),
            unsided: Unsided::Both,
            sided,
        })
    }

    /// The same rules for a run that deletes excluded entries: a rule that names no side hides
    /// from the source's listing and protects nothing.
    pub fn for_delete_excluded(mut self) -> Rules {
        self.unsided = Unsided::SourceOnly;
        self.sided = true;
        self
    }

    /// Whether everything takes part, whatever its name.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// What becomes of the entry `name` in `dir`, whose own ancestors were asked before.
    pub fn decide(&self, dir: &RelPath, name: &[u8], is_dir: bool, side: Side) -> Verdict<'_> {
        if self.slots.is_empty() {
            return Verdict::Include;
        }
        self.judge(&mut Subject::new(dir.as_bytes(), name, is_dir), side)
            .0
    }

    /// Whether an entry of the destination survives in a directory that is being deleted: it is
    /// protected there by a rule that is not perishable. The directory then stays too.
    pub fn keeps_in_deleted_dir(&self, dir: &RelPath, name: &[u8], is_dir: bool) -> bool {
        let mut subject = Subject::new(dir.as_bytes(), name, is_dir);
        self.first_match(&mut subject, Side::Destination, Firmness::NotPerishable)
            .is_some_and(Rule::excludes)
    }

    /// The verdict, and the rule that led to it, which for an inclusion may be none.
    fn judge(&self, subject: &mut Subject<'_>, side: Side) -> (Verdict<'_>, Option<&Rule>) {
        let hiding = self.first_match(subject, Side::Source, Firmness::Any);
        let hidden = hiding.is_some_and(Rule::excludes);
        let asked = match side {
            Side::Destination if self.sided => self.first_match(subject, side, Firmness::Any),
            _ => hiding,
        };
        let verdict = match asked.filter(|rule| rule.excludes()) {
            None => Verdict::Include,
            Some(rule) if hidden => Verdict::Exclude(rule),
            Some(rule) => Verdict::Protect(rule),
        };
        (verdict, asked)
    }

    fn first_match(
        &self,
        subject: &mut Subject<'_>,
        side: Side,
        firmness: Firmness,
    ) -> Option<&Rule> {
        self.rules().find(|rule| {
            self.concerns(rule, side)
                && (firmness == Firmness::Any || !rule.perishable)
                && rule.pattern.matches(subject) != rule.negated
        })
    }

    /// All rules that hold for the directory at hand, the first to be asked first.
    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.slots.iter().flat_map(|slot| {
            let (rule, layer) = match slot {
                Slot::Rule(rule) => (Some(rule), None),
                Slot::DirMerge(index) => (None, self.layers[*index].as_deref()),
            };
            rule.into_iter().chain(Layer::rules_outwards(layer))
        })
    }

    fn concerns(&self, rule: &Rule, side: Side) -> bool {
        match (rule.sides, self.unsided) {
            (Sides::Unsaid, Unsided::SourceOnly) => side == Side::Source,
            (sides, _) => sides.include(side),
        }
    }
}

#[cfg(test)]
mod tests;
