//! From what the command line says to rules in their long form: options, rule files, CVS's
//! excludes. The only part of `filter` that opens files, and it does so in `read_rule_bytes`.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::options::RuleText;
use crate::path::escape;

use super::syntax::{self, Action, Defaults, FilterError, Form, RuleLine, Statement};

/// How deep rule files may merge each other; deeper is a file that merges itself.
const MERGE_DEPTH_MAX: usize = 16;

/// What `-C` excludes before any file is read, as rsync's manual lists it.
const CVS_EXCLUDES: &str = "RCS SCCS CVS CVS.adm RCSLOG cvslog.* tags TAGS .make.state \
    .nse_depinfo *~ #* .#* ,* _$* *$ *.old *.bak *.BAK *.orig *.rej .del-* *.a *.olb *.o *.obj \
    *.so *.exe *.Z *.elc *.ln core .svn/ .git/ .hg/ .bzr/";

/// What a line of a rule file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// A pattern to exclude, unless it begins with `+ ` (`--exclude-from`).
    Exclude,
    /// A pattern to include, unless it begins with `- ` (`--include-from`).
    Include,
    /// A rule (`--filter='. FILE'`).
    Filter,
}

/// What ends a line of a rule file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Separator {
    /// A newline, a carriage return or both.
    Line,
    /// A NUL (`--from0`).
    Nul,
}

/// The rule that `--exclude PATTERN` means: `+ PATTERN` and `- PATTERN` are taken as they are,
/// `!` clears, and the empty pattern says nothing.
pub fn exclude(pattern: &[u8]) -> RuleText {
    from_option(pattern, Action::Exclude)
}

/// The rule that `--include PATTERN` means, with the same exceptions as [`exclude`].
pub fn include(pattern: &[u8]) -> RuleText {
    from_option(pattern, Action::Include)
}

fn from_option(pattern: &[u8], action: Action) -> RuleText {
    match pattern {
        b"" | b"!" | [b'-' | b'+', b' ', ..] => RuleText(pattern.to_vec()),
        _ => RuleLine::plain(action, pattern).to_text(),
    }
}

/// The rules that `--filter TEXT` means, with the files it names read and put in their place.
///
/// File names are relative to the working directory, in merged files too.
pub fn parse_filter_arg(text: &[u8]) -> Result<Vec<RuleText>, FilterError> {
    let mut rules = Vec::new();
    let statement = syntax::parse(text, Defaults::default())?;
    expand(statement, Separator::Line, 0, &mut rules)?;
    Ok(rules)
}

/// The rules in the file at `path`, or on standard input for `-`.
pub fn read_rule_file(
    path: &Path,
    default: Default,
    nul_separated: bool,
) -> Result<Vec<RuleText>, FilterError> {
    let form = match default {
        Default::Exclude => Form::Prefixed(Action::Exclude),
        Default::Include => Form::Prefixed(Action::Include),
        Default::Filter => Form::Rules,
    };
    let separator = if nul_separated {
        Separator::Nul
    } else {
        Separator::Line
    };
    let defaults = Defaults {
        form,
        ..Defaults::default()
    };
    let mut rules = Vec::new();
    expand_file(path, defaults, separator, 0, &mut rules)?;
    Ok(rules)
}

/// The rules that `-C` (`--cvs-exclude`) means; rsync puts them after all others.
pub fn cvs_excludes() -> Result<Vec<RuleText>, FilterError> {
    let mut rules = parse_filter_arg(b":C")?;
    rules.extend(parse_filter_arg(b"-C")?);
    Ok(rules)
}

fn expand(
    statement: Statement,
    separator: Separator,
    depth: usize,
    rules: &mut Vec<RuleText>,
) -> Result<(), FilterError> {
    match statement {
        Statement::Nothing => {}
        Statement::Clear => rules.push(RuleText(b"!".to_vec())),
        Statement::Rule(line) => rules.push(line.to_text()),
        Statement::DirMerge(line) => rules.push(line.to_dir_merge_text()),
        Statement::CvsExcludes(line) => expand_cvs(&line, rules)?,
        Statement::Merge(line) => {
            if depth == MERGE_DEPTH_MAX {
                let wrong = format!("is merged {MERGE_DEPTH_MAX} files deep");
                let instead = "look for a file that merges itself";
                return Err(FilterError::rule(&line.file, wrong, instead));
            }
            if line.hides_file {
                let name = line.file.rsplit(|&b| b == b'/').next().unwrap_or_default();
                rules.push(RuleLine::plain(Action::Exclude, name).to_text());
            }
            let path = Path::new(OsStr::from_bytes(&line.file));
            expand_file(path, line.defaults, separator, depth + 1, rules)?;
        }
    }
    Ok(())
}

fn expand_file(
    path: &Path,
    defaults: Defaults,
    separator: Separator,
    depth: usize,
    rules: &mut Vec<RuleText>,
) -> Result<(), FilterError> {
    let shown = escape(path.as_os_str().as_bytes()).into_owned();
    let content = read_rule_bytes(path).map_err(|source| FilterError::File {
        path: shown.clone(),
        source,
    })?;
    for statement in statements(&content, defaults, separator) {
        let (number, statement) = statement.map_err(|(number, err)| err.at(&shown, number))?;
        expand(statement, separator, depth, rules).map_err(|err| err.at(&shown, number))?;
    }
    Ok(())
}

/// Puts CVS's own excludes, `~/.cvsignore` and `$CVSIGNORE` in the place of `-C`.
fn expand_cvs(line: &RuleLine, rules: &mut Vec<RuleText>) -> Result<(), FilterError> {
    for pattern in CVS_EXCLUDES.split_ascii_whitespace() {
        let built_in = RuleLine {
            perishable: true,
            pattern: pattern.into(),
            ..line.clone()
        };
        rules.push(built_in.to_text());
    }
    let mut words = Vec::new();
    if let Some(home) = std::env::var_os("HOME") {
        let path = Path::new(&home).join(".cvsignore");
        match read_rule_bytes(&path) {
            Ok(content) => words.extend(content),
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let path = escape(path.as_os_str().as_bytes()).into_owned();
                return Err(FilterError::File { path, source });
            }
        }
    }
    if let Some(ignored) = std::env::var_os("CVSIGNORE") {
        words.push(b' ');
        words.extend(ignored.as_bytes());
    }
    for word in words.split(u8::is_ascii_whitespace) {
        let pattern = word.to_vec();
        match word {
            b"" => {}
            b"!" => rules.push(RuleText(pattern)),
            _ => rules.push(
                RuleLine {
                    pattern,
                    ..line.clone()
                }
                .to_text(),
            ),
        }
    }
    Ok(())
}

/// The content of a rule file; `-` is standard input.
fn read_rule_bytes(path: &Path) -> io::Result<Vec<u8>> {
    if path.as_os_str() != "-" {
        return std::fs::read(path);
    }
    let mut content = Vec::new();
    io::stdin().lock().read_to_end(&mut content)?;
    Ok(content)
}

/// What the lines of a rule file say, each with its number from 1; errors have theirs too.
pub(super) fn statements(
    content: &[u8],
    defaults: Defaults,
    separator: Separator,
) -> impl Iterator<Item = Result<(usize, Statement), (usize, FilterError)>> {
    let end = match separator {
        Separator::Line => b'\n',
        Separator::Nul => 0,
    };
    let numbered = content.split(move |&b| b == end).zip(1..);
    numbered.flat_map(move |(line, number)| {
        texts(line, defaults, separator)
            .into_iter()
            .map(move |text| match syntax::parse(&text, defaults) {
                Ok(statement) => Ok((number, statement)),
                Err(err) => Err((number, err)),
            })
    })
}

/// The rules on one line, without comments.
fn texts(line: &[u8], defaults: Defaults, separator: Separator) -> Vec<Cow<'_, [u8]>> {
    if !defaults.words {
        // A carriage return ends a line too, alone or before the newline.
        return line
            .split(|&b| b == b'\r' && separator == Separator::Line)
            .filter(|text| !matches!(text.first(), None | Some(b'#' | b';')))
            .map(Cow::Borrowed)
            .collect();
    }
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let mut texts = Vec::new();
    while let Some(word) = words.next() {
        let complete =
            defaults.form != Form::Rules || word.contains(&b'_') || matches!(word, b"!" | b"clear");
        // The space after a rule's name does not end the rule.
        let pattern = if complete { None } else { words.next() };
        texts.push(match pattern {
            Some(pattern) => Cow::Owned([word, pattern].join(&b' ')),
            None => Cow::Borrowed(word),
        });
    }
    texts
}
