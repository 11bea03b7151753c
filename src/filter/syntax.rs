//! The grammar of filter rules: what one line says, and the line that says it. Knows neither
//! files nor paths; those are in `read` and `pattern`.

use std::fmt;

use crate::events::Side;
use crate::options::RuleText;
use crate::path::escape;

/// The longest rule in bytes. The kernel takes no longer path in one call, so that a longer
/// pattern is an accident or an attack.
const RULE_MAX: usize = 4096;

/// A rule or rule file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A rule that makes no sense here.
    Rule {
        /// The rule as written, made printable.
        rule: String,
        /// The file and line it stands in, if it does.
        place: Option<String>,
        /// What is wrong with it.
        wrong: String,
        /// What to write instead.
        instead: String,
    },
    /// A rule file that cannot be read.
    File {
        /// Its path, made printable.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilterError::Rule {
                rule,
                place,
                wrong,
                instead,
            } => {
                write!(f, "filter rule `{rule}`")?;
                if let Some(place) = place {
                    write!(f, " ({place})")?;
                }
                write!(f, " {wrong}; {instead}")
            }
            FilterError::File { path, source } => write!(f, "cannot read rules {path}: {source}"),
        }
    }
}

impl From<FilterError> for crate::error::Error {
    fn from(err: FilterError) -> Self {
        crate::error::Error::Usage(err.to_string())
    }
}

impl FilterError {
    pub(super) fn rule(
        rule: &[u8],
        wrong: impl Into<String>,
        instead: impl Into<String>,
    ) -> FilterError {
        let shown = &rule[..rule.len().min(crate::path::NAME_MAX)];
        FilterError::Rule {
            rule: escape(shown).into_owned(),
            place: None,
            wrong: wrong.into(),
            instead: instead.into(),
        }
    }

    /// Says where the rule stands, unless a file further in has said it.
    pub(super) fn at(mut self, file: &str, line: usize) -> FilterError {
        if let FilterError::Rule { place, .. } = &mut self {
            place.get_or_insert_with(|| format!("{file} line {line}"));
        }
        self
    }
}

/// What a matching rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Exclude,
    Include,
}

/// The sides that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sides {
    /// Both, as nothing else was said; with `--delete-excluded` the source alone.
    #[default]
    Unsaid,
    /// `s`: hides or shows.
    Source,
    /// `r`: protects or puts at risk.
    Destination,
    /// `sr`.
    Both,
}

impl Sides {
    pub(super) fn include(self, side: Side) -> bool {
        match self {
            Sides::Unsaid | Sides::Both => true,
            Sides::Source => side == Side::Source,
            Sides::Destination => side == Side::Destination,
        }
    }

    fn from_letters(modifiers: &Modifiers<'_>) -> Sides {
        match (modifiers.has(b's'), modifiers.has(b'r')) {
            (false, false) => Sides::Unsaid,
            (true, false) => Sides::Source,
            (false, true) => Sides::Destination,
            (true, true) => Sides::Both,
        }
    }

    fn letters(self) -> &'static [u8] {
        match self {
            Sides::Unsaid => b"",
            Sides::Source => b"s",
            Sides::Destination => b"r",
            Sides::Both => b"sr",
        }
    }
}

/// How the lines of a rule file are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Form {
    /// Each line is a rule.
    #[default]
    Rules,
    /// Each line is a pattern, whatever it begins with.
    Patterns(Action),
    /// Each line is a pattern, but `- `, `+ ` and `!` are understood (`--exclude-from`).
    Prefixed(Action),
    /// Each word is an excluded pattern, but `!` is understood (`.cvsignore`).
    Cvs,
}

/// What the rules of a file are, unless they say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Defaults {
    pub(super) form: Form,
    /// Rules end at any white space instead of at the line's end.
    pub(super) words: bool,
    pub(super) sides: Sides,
    pub(super) perishable: bool,
}

/// One line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// An empty line.
    Nothing,
    /// `!`: what came before is forgotten.
    Clear,
    Rule(RuleLine),
    /// `-C`: CVS's own excludes stand here, each a rule like this one.
    CvsExcludes(RuleLine),
    /// `.`: the file's rules stand here.
    Merge(MergeLine),
    /// `:`: the rules of the file of this name in each directory stand here.
    DirMerge(MergeLine),
}

/// A rule with a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleLine {
    pub(super) action: Action,
    pub(super) sides: Sides,
    /// The rule holds for what does not match.
    pub(super) negated: bool,
    /// The rule does not hold in directories that are being deleted.
    pub(super) perishable: bool,
    pub(super) pattern: Vec<u8>,
}

/// A rule that names a file of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MergeLine {
    pub(super) file: Vec<u8>,
    pub(super) defaults: Defaults,
    /// The file itself is excluded.
    pub(super) hides_file: bool,
    /// Subdirectories have the rules too.
    pub(super) inherited: bool,
}

impl RuleLine {
    pub(super) fn plain(action: Action, pattern: &[u8]) -> RuleLine {
        RuleLine {
            action,
            sides: Sides::Unsaid,
            negated: false,
            perishable: false,
            pattern: pattern.to_vec(),
        }
    }

    /// The rule in its long form.
    pub(super) fn to_text(&self) -> RuleText {
        let mut text = vec![match self.action {
            Action::Exclude => b'-',
            Action::Include => b'+',
        }];
        text.extend(self.negated.then_some(b'!'));
        text.extend(self.sides.letters());
        text.extend(self.perishable.then_some(b'p'));
        text.push(b' ');
        text.extend(&self.pattern);
        RuleText(text)
    }
}

impl MergeLine {
    /// The rule in its long form, as a `dir-merge`.
    pub(super) fn to_dir_merge_text(&self) -> RuleText {
        let mut text = vec![b':'];
        match self.defaults.form {
            Form::Rules | Form::Prefixed(_) => {}
            Form::Patterns(Action::Exclude) => text.push(b'-'),
            Form::Patterns(Action::Include) => text.push(b'+'),
            Form::Cvs => text.push(b'C'),
        }
        text.extend(self.hides_file.then_some(b'e'));
        text.extend((!self.inherited).then_some(b'n'));
        text.extend(self.defaults.words.then_some(b'w'));
        text.extend(self.defaults.sides.letters());
        text.extend(self.defaults.perishable.then_some(b'p'));
        text.push(b' ');
        text.extend(&self.file);
        RuleText(text)
    }
}

/// The rule names, short and long, as rsync's manual lists them.
const KEYWORDS: [(u8, &str); 9] = [
    (b'-', "exclude"),
    (b'+', "include"),
    (b'.', "merge"),
    (b':', "dir-merge"),
    (b'H', "hide"),
    (b'S', "show"),
    (b'P', "protect"),
    (b'R', "risk"),
    (b'!', "clear"),
];

/// Reads one line of a rule file that is read with `defaults`.
pub(super) fn parse(text: &[u8], defaults: Defaults) -> Result<Statement, FilterError> {
    if text.len() > RULE_MAX {
        let wrong = format!("is longer than {RULE_MAX} bytes");
        return Err(FilterError::rule(text, wrong, "write a shorter pattern"));
    }
    if text.is_empty() {
        return Ok(Statement::Nothing);
    }
    let (action, pattern) = match defaults.form {
        Form::Rules => return parse_rule(text, defaults),
        Form::Cvs | Form::Prefixed(_) if text == b"!" => return Ok(Statement::Clear),
        Form::Cvs => (Action::Exclude, text),
        Form::Patterns(action) => (action, text),
        Form::Prefixed(action) => match text {
            [b'-', b' ', pattern @ ..] => (Action::Exclude, pattern),
            [b'+', b' ', pattern @ ..] => (Action::Include, pattern),
            _ => (action, text),
        },
    };
    if pattern.is_empty() {
        return Err(no_argument(text, "pattern"));
    }
    Ok(Statement::Rule(RuleLine {
        sides: defaults.sides,
        perishable: defaults.perishable,
        ..RuleLine::plain(action, pattern)
    }))
}

fn parse_rule(text: &[u8], defaults: Defaults) -> Result<Statement, FilterError> {
    let (keyword, rest) = split_keyword(text).ok_or_else(|| {
        FilterError::rule(
            text,
            "does not begin with a rule name",
            "write `- PATTERN` to exclude or `+ PATTERN` to include",
        )
    })?;
    if keyword == b'!' {
        if !rest.is_empty() {
            let instead = "write `!` alone, or `-! PATTERN` to exclude what does not match";
            return Err(FilterError::rule(
                text,
                "clears all rules and takes no pattern",
                instead,
            ));
        }
        return Ok(Statement::Clear);
    }
    let separator = rest.iter().position(|b| matches!(b, b' ' | b'_'));
    let modifiers = Modifiers(&rest[..separator.unwrap_or(rest.len())]);
    let argument = separator.map_or(&b""[..], |at| &rest[at + 1..]);
    modifiers.check(text, keyword)?;
    if matches!(keyword, b'.' | b':') {
        let merge = parse_merge(text, &modifiers, argument, defaults)?;
        return Ok(match keyword {
            b'.' => Statement::Merge(merge),
            _ => Statement::DirMerge(merge),
        });
    }
    let (action, own_sides) = match keyword {
        b'-' => (Action::Exclude, Sides::from_letters(&modifiers)),
        b'+' => (Action::Include, Sides::from_letters(&modifiers)),
        b'H' => (Action::Exclude, Sides::Source),
        b'S' => (Action::Include, Sides::Source),
        b'P' => (Action::Exclude, Sides::Destination),
        _ => (Action::Include, Sides::Destination),
    };
    let line = RuleLine {
        action,
        sides: choose_sides(text, own_sides, defaults)?,
        negated: modifiers.has(b'!'),
        perishable: modifiers.has(b'p') || defaults.perishable,
        pattern: argument.to_vec(),
    };
    match (modifiers.has(b'C'), argument.is_empty()) {
        (true, true) => Ok(Statement::CvsExcludes(line)),
        (true, false) => Err(FilterError::rule(
            text,
            "stands for CVS's own excludes and takes no pattern",
            "leave out the `C` or the pattern",
        )),
        (false, true) => Err(no_argument(text, "pattern")),
        (false, false) => Ok(Statement::Rule(line)),
    }
}

fn parse_merge(
    text: &[u8],
    modifiers: &Modifiers<'_>,
    argument: &[u8],
    defaults: Defaults,
) -> Result<MergeLine, FilterError> {
    let form = match [b'-', b'+', b'C'].map(|letter| modifiers.has(letter)) {
        [false, false, false] => Form::Rules,
        [true, false, false] => Form::Patterns(Action::Exclude),
        [false, true, false] => Form::Patterns(Action::Include),
        [false, false, true] => Form::Cvs,
        _ => {
            let instead = "write one of `-`, `+` and `C`";
            return Err(FilterError::rule(
                text,
                "reads its file in two ways",
                instead,
            ));
        }
    };
    let file = match (argument, form) {
        (b"", Form::Cvs) => b".cvsignore",
        (b"", _) => return Err(no_argument(text, "file")),
        (file, _) => file,
    };
    Ok(MergeLine {
        file: file.to_vec(),
        defaults: Defaults {
            form,
            words: modifiers.has(b'w') || form == Form::Cvs,
            sides: choose_sides(text, Sides::from_letters(modifiers), defaults)?,
            perishable: modifiers.has(b'p') || defaults.perishable,
        },
        hides_file: modifiers.has(b'e'),
        inherited: !(modifiers.has(b'n') || form == Form::Cvs),
    })
}

/// The letters between a rule's name and its argument.
struct Modifiers<'a>(&'a [u8]);

impl Modifiers<'_> {
    fn has(&self, letter: u8) -> bool {
        self.0.contains(&letter)
    }

    /// Refuses letters that rsync would refuse for this rule, and those that have no meaning here.
    fn check(&self, text: &[u8], keyword: u8) -> Result<(), FilterError> {
        let known: &[u8] = match keyword {
            b'-' | b'+' => b"!/Csrpx",
            b'.' | b':' => b"-+Cenw/srpx",
            _ => b"!/px",
        };
        for &letter in self.0 {
            let (wrong, instead) = match letter {
                b'/' => (
                    "matches absolute paths, which differ between the two ends".into(),
                    "write the path from the root of the transfer, as in `- /dir/name`".into(),
                ),
                b'x' => (
                    "is for names of extended attributes, which are not filtered".into(),
                    "leave it out".into(),
                ),
                _ if known.contains(&letter) => continue,
                _ => (
                    format!("has the unknown modifier `{}`", escape(&[letter])),
                    format!(
                        "modifiers here are {}; a space or `_` goes before the pattern",
                        escape(known)
                    ),
                ),
            };
            return Err(FilterError::rule(text, wrong, instead));
        }
        Ok(())
    }
}

/// The short form of a rule's name, and what follows the name and its comma.
fn split_keyword(text: &[u8]) -> Option<(u8, &[u8])> {
    let long = KEYWORDS.iter().find_map(|(short, long)| {
        let rest = text.strip_prefix(long.as_bytes())?;
        matches!(rest.first(), None | Some(b' ' | b'_' | b',')).then_some((*short, rest))
    });
    let (short, rest) = long.or_else(|| {
        let (first, rest) = text.split_first()?;
        KEYWORDS
            .iter()
            .any(|(short, _)| short == first)
            .then_some((*first, rest))
    })?;
    Some((short, rest.strip_prefix(b",").unwrap_or(rest)))
}

/// A rule's own sides, or those of its file; rsync has no rule for both being said.
fn choose_sides(text: &[u8], own: Sides, defaults: Defaults) -> Result<Sides, FilterError> {
    match (own, defaults.sides) {
        (own, Sides::Unsaid) => Ok(own),
        (Sides::Unsaid, given) => Ok(given),
        _ => Err(FilterError::rule(
            text,
            "names a side in a file that was merged for one side",
            "leave the side out here or where the file is merged",
        )),
    }
}

fn no_argument(text: &[u8], what: &str) -> FilterError {
    let shown = escape(text).trim_end().to_owned();
    FilterError::rule(
        text,
        format!("has no {what}"),
        format!("write `{shown} {}`", what.to_uppercase()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(rule: &str) -> String {
        match parse(rule.as_bytes(), Defaults::default()).unwrap() {
            Statement::Rule(line) => escape(&line.to_text().0).into_owned(),
            Statement::Clear => "!".into(),
            Statement::DirMerge(line) => escape(&line.to_dir_merge_text().0).into_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn fault_of(rule: &str) -> String {
        parse(rule.as_bytes(), Defaults::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn short_and_long_names_say_the_same() {
        for (rule, canonical) in [
            ("- a b ", "- a b "),
            ("-_a", "- a"),
            ("-  a", "-  a"),
            ("exclude a", "- a"),
            ("exclude_a", "- a"),
            ("exclude,s a", "-s a"),
            ("-,s a", "-s a"),
            ("-, a", "- a"),
            ("-sr a", "-sr a"),
            ("-p! a", "-!p a"),
            ("include a", "+ a"),
            ("hide,p a", "-sp a"),
            ("S a", "+s a"),
            ("protect a", "-r a"),
            ("R! a", "+!r a"),
            ("clear", "!"),
            ("!", "!"),
            ("dir-merge,n- .x", ":-n .x"),
            (":C", ":Cnw .cvsignore"),
        ] {
            assert_eq!(text_of(rule), canonical, "{rule}");
        }
    }

    #[test]
    fn canonical_text_means_the_same_rule() {
        for rule in ["-!srp a", "+r /x/**", ":+enwsp .f", ":Cnw .cvsignore"] {
            assert_eq!(text_of(&text_of(rule)), text_of(rule));
        }
    }

    #[test]
    fn a_faulty_rule_is_named_with_the_way_out() {
        for (rule, expected) in [
            ("-foo", "unknown modifier `f`"),
            ("-\tfoo", "unknown modifier `\\#011`"),
            ("H,s foo", "unknown modifier `s`"),
            ("-s,p foo", "unknown modifier `,`"),
            ("foo", "does not begin with a rule name"),
            (" - foo", "does not begin with a rule name"),
            ("excludes foo", "does not begin with a rule name"),
            ("- ", "has no pattern; write `- PATTERN`"),
            ("exclude", "has no pattern; write `exclude PATTERN`"),
            (".", "has no file; write `. FILE`"),
            ("!foo", "takes no pattern"),
            ("clear foo", "takes no pattern"),
            ("-/ foo", "as in `- /dir/name`"),
            ("-x user.foo", "extended attributes"),
            ("-C foo", "takes no pattern"),
            (".-+ f", "in two ways"),
        ] {
            let fault = fault_of(rule);
            assert!(fault.contains(expected), "{rule}: {fault}");
        }
        let long = format!("- {}", "a".repeat(RULE_MAX));
        assert!(fault_of(&long).contains("longer than 4096 bytes"));
    }

    #[test]
    fn a_fault_is_a_usage_error() {
        let err = parse(b"foo", Defaults::default()).unwrap_err();
        assert!(matches!(err.into(), crate::error::Error::Usage(_)));
    }
}
