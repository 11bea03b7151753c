//! `--chmod`: clauses that change the modes of entries on their way, as rsync writes them.

use crate::entry::EntryKind;
use crate::error::{Error, Result};

/// Parsed clauses, applied in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModeRules(Vec<Clause>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    dirs: bool,
    others: bool,
    change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Octal(u16),
    Symbolic(Symbolic),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Symbolic {
    /// Which of user, group and others, as a mask of permission bits.
    who: u16,
    op: char,
    read: bool,
    write: bool,
    execute: bool,
    /// `X`: execute for directories and what somebody may execute already.
    execute_if: bool,
    setid: bool,
    sticky: bool,
}

impl ModeRules {
    /// Parses clauses such as `D755`, `F644` and `u+rwX,go-w`.
    pub(crate) fn parse(texts: &[String]) -> Result<ModeRules> {
        let clauses = texts
            .iter()
            .flat_map(|text| text.split(','))
            .map(|text| {
                parse_clause(text).ok_or_else(|| {
                    Error::Usage(format!(
                        "--chmod: cannot read '{text}'; write modes like D755, F644 or u+rwX"
                    ))
                })
            })
            .collect::<Result<_>>()?;
        Ok(ModeRules(clauses))
    }

    /// The mode that an entry gets.
    pub(crate) fn apply(&self, kind: EntryKind, mode: u16) -> u16 {
        if kind == EntryKind::Symlink {
            return mode;
        }
        let is_dir = kind == EntryKind::Dir;
        self.0
            .iter()
            .filter(|clause| if is_dir { clause.dirs } else { clause.others })
            .fold(mode, |mode, clause| match clause.change {
                Change::Octal(mode) => mode,
                Change::Symbolic(change) => change.apply(mode, is_dir),
            })
    }
}

impl Symbolic {
    fn apply(&self, mode: u16, is_dir: bool) -> u16 {
        let execute = self.execute || (self.execute_if && (is_dir || mode & 0o111 != 0));
        let mut bits = 0;
        for (wanted, each) in [(self.read, 0o444), (self.write, 0o222), (execute, 0o111)] {
            if wanted {
                bits |= each & self.who;
            }
        }
        if self.setid {
            bits |= if self.who & 0o700 != 0 { 0o4000 } else { 0 };
            bits |= if self.who & 0o070 != 0 { 0o2000 } else { 0 };
        }
        if self.sticky {
            bits |= 0o1000;
        }
        match self.op {
            '+' => mode | bits,
            '-' => mode & !bits,
            _ => (mode & !self.who) | bits,
        }
    }
}

fn parse_clause(text: &str) -> Option<Clause> {
    let (dirs, others, rest) = match text.chars().next()? {
        'D' => (true, false, &text[1..]),
        'F' => (false, true, &text[1..]),
        _ => (true, true, text),
    };
    let change = if rest.starts_with(|c: char| c.is_ascii_digit()) {
        let mode = u16::from_str_radix(rest, 8).ok()?;
        Change::Octal((mode <= 0o7777).then_some(mode)?)
    } else {
        Change::Symbolic(parse_symbolic(rest)?)
    };
    Some(Clause {
        dirs,
        others,
        change,
    })
}

fn parse_symbolic(text: &str) -> Option<Symbolic> {
    let at = text.find(['+', '-', '='])?;
    let mut who = 0;
    for c in text[..at].chars() {
        who |= match c {
            'u' => 0o700,
            'g' => 0o070,
            'o' => 0o007,
            'a' => 0o777,
            _ => return None,
        };
    }
    let mut change = Symbolic {
        who: if at == 0 { 0o777 } else { who },
        op: text[at..].chars().next()?,
        read: false,
        write: false,
        execute: false,
        execute_if: false,
        setid: false,
        sticky: false,
    };
    for c in text[at + 1..].chars() {
        match c {
            'r' => change.read = true,
            'w' => change.write = true,
            'x' => change.execute = true,
            'X' => change.execute_if = true,
            's' => change.setid = true,
            't' => change.sticky = true,
            _ => return None,
        }
    }
    Some(change)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(text: &str, kind: EntryKind, mode: u16) -> u16 {
        ModeRules::parse(&[text.to_string()])
            .unwrap()
            .apply(kind, mode)
    }

    #[test]
    fn clauses_apply_in_order_to_their_kind() {
        use EntryKind::{Dir, File, Symlink};
        assert_eq!(apply("D755,F644", Dir, 0o700), 0o755);
        assert_eq!(apply("D755,F644", File, 0o700), 0o644);
        assert_eq!(apply("u+rwX,go-w", File, 0o466), 0o644);
        assert_eq!(apply("a+X", File, 0o644), 0o644);
        assert_eq!(apply("a+X", File, 0o744), 0o755);
        assert_eq!(apply("a+X", Dir, 0o644), 0o755);
        assert_eq!(apply("g=r", File, 0o775), 0o745);
        assert_eq!(apply("Dg+s", Dir, 0o755), 0o2755);
        assert_eq!(apply("+t", Dir, 0o777), 0o1777);
        assert_eq!(apply("600", Symlink, 0o777), 0o777);
    }

    #[test]
    fn nonsense_is_a_usage_error() {
        for bad in ["", "888", "u", "z+r", "u+q", "D", "99999"] {
            assert!(ModeRules::parse(&[bad.to_string()]).is_err(), "{bad}");
        }
    }
}
