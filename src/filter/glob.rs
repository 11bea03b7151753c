//! Wildcards on raw bytes: `*`, `**`, `?`, classes and backslash, as rsync reads them. Apart from
//! `pattern` because it knows only a text and a glob, not which part of a path is the text.
//!
//! Matching backtracks to one `*` and one `**` at most. That is enough: once the part after a
//! later star has matched somewhere, an earlier star of the same kind has nothing to gain from
//! taking more. So no pattern is worse than its length times the square of the text's, and stars
//! stop at slashes, which keeps the square to one component's length in practice.

/// A compiled wildcard pattern.
///
/// Its literal ends are kept apart: comparing them first rejects nearly all names. 20 rules on a
/// name cost 84 ns so, and 318 ns when the tokens were walked for each.
#[derive(Debug, Clone)]
pub(super) struct Glob {
    head: Box<[u8]>,
    tokens: Box<[Token]>,
    tail: Box<[u8]>,
}

#[derive(Debug, Clone)]
enum Token {
    /// This byte.
    Byte(u8),
    /// `?`: any byte but a slash.
    Any,
    /// `[...]`: one of these bytes but no slash, even where a class is negated or names it.
    Class(Box<ByteSet>),
    /// `*`: any bytes but slashes.
    Star,
    /// `**`: any bytes.
    DoubleStar,
    /// Nothing at the start, or any bytes that end in a slash.
    AnyLevel,
}

/// Where a glob begins to match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// At the first byte.
    Text,
    /// At the first byte or after any slash.
    AnyLevel,
}

/// A star that was passed, and how much of the text it has taken so far.
#[derive(Clone, Copy)]
struct Resume {
    token: usize,
    at: usize,
}

/// Whether `pattern` has a wildcard at all; without one a backslash is only a backslash.
pub(super) fn has_wildcard(pattern: &[u8]) -> bool {
    pattern.iter().any(|b| matches!(b, b'*' | b'?' | b'['))
}

impl Glob {
    /// Compiles `pattern`; `None` when nothing can match it, as with a class that is not closed.
    pub(super) fn compile(pattern: &[u8], start: Start) -> Option<Glob> {
        let mut tokens = Vec::with_capacity(pattern.len() + 1);
        if start == Start::AnyLevel {
            tokens.push(Token::AnyLevel);
        }
        let mut rest = pattern;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            tokens.push(match byte {
                b'\\' => {
                    let (&escaped, after) = rest.split_first()?;
                    rest = after;
                    Token::Byte(escaped)
                }
                b'?' => Token::Any,
                b'*' => {
                    let more = rest.iter().take_while(|&&b| b == b'*').count();
                    rest = &rest[more..];
                    if more == 0 {
                        Token::Star
                    } else {
                        Token::DoubleStar
                    }
                }
                b'[' => {
                    let (class, after) = parse_class(rest)?;
                    rest = after;
                    Token::Class(Box::new(class))
                }
                literal => Token::Byte(literal),
            });
        }
        let head: Box<[u8]> = tokens.iter().map_while(Token::literal).collect();
        tokens.drain(..head.len());
        let tail_len = tokens.iter().rev().map_while(Token::literal).count();
        let tail = tokens.split_off(tokens.len() - tail_len);
        Some(Glob {
            head,
            tokens: tokens.into_boxed_slice(),
            tail: tail.iter().filter_map(Token::literal).collect(),
        })
    }

    /// Whether all of `text` matches.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let Some(middle_len) = text.len().checked_sub(self.head.len() + self.tail.len()) else {
            return false;
        };
        // Byte by byte: the ends are a few bytes and the first differs, which costs less than
        // the call of `memcmp` that comparing slices is.
        self.tail
            .iter()
            .rev()
            .eq(text.iter().rev().take(self.tail.len()))
            && self.head.iter().eq(text.iter().take(self.head.len()))
            && self.middle_matches(&text[self.head.len()..][..middle_len])
    }

    /// Whether a text that ends in `end` can match, judged by the literal tail alone.
    pub(super) fn can_end_in(&self, end: &[u8]) -> bool {
        let mut pairs = self.tail.iter().rev().zip(end.iter().rev());
        pairs.all(|(ours, theirs)| ours == theirs)
    }

    fn middle_matches(&self, text: &[u8]) -> bool {
        let mut here = Resume { token: 0, at: 0 };
        let mut star: Option<Resume> = None;
        let mut deep: Option<Resume> = None;
        loop {
            match self.tokens.get(here.token) {
                Some(Token::Star) => {
                    star = Some(here);
                    here.token += 1;
                    continue;
                }
                Some(Token::DoubleStar | Token::AnyLevel) => {
                    (star, deep) = (None, Some(here));
                    here.token += 1;
                    continue;
                }
                Some(token) if text.get(here.at).is_some_and(|&b| token.takes(b)) => {
                    here.token += 1;
                    here.at += 1;
                    continue;
                }
                None if here.at == text.len() => return true,
                _ => {}
            }
            // What follows the last star does not match here: the star takes one byte more, or,
            // where it must stop, the deep one before it does.
            if let Some(last) = star.as_mut().filter(|s| text.get(s.at) != Some(&b'/')) {
                if last.at == text.len() {
                    return false;
                }
                last.at += 1;
                here = *last;
            } else if let Some(last) = deep.as_mut() {
                let Some(at) = self.tokens[last.token].advance(text, last.at) else {
                    return false;
                };
                last.at = at;
                star = None;
                here = *last;
            } else {
                return false;
            }
            here.token += 1;
        }
    }
}

impl Token {
    fn literal(&self) -> Option<u8> {
        match self {
            Token::Byte(literal) => Some(*literal),
            _ => None,
        }
    }

    fn takes(&self, byte: u8) -> bool {
        match self {
            Token::Byte(literal) => *literal == byte,
            Token::Any => byte != b'/',
            Token::Class(set) => byte != b'/' && set.holds(byte),
            Token::Star | Token::DoubleStar | Token::AnyLevel => false,
        }
    }

    /// The next place in `text` after `at` where a deep token may end; `None` when there is none.
    fn advance(&self, text: &[u8], at: usize) -> Option<usize> {
        let rest = text.get(at..)?;
        match self {
            Token::AnyLevel => Some(at + rest.iter().position(|&b| b == b'/')? + 1),
            _ => (!rest.is_empty()).then_some(at + 1),
        }
    }
}

/// A set of byte values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ByteSet([u64; 4]);

impl ByteSet {
    fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    fn holds(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    fn negate(&mut self) {
        for word in &mut self.0 {
            *word = !*word;
        }
    }
}

/// Reads a class from after its `[`; gives it and what follows its `]`.
///
/// A `]` that comes first is a member, a `-` between two members is a range, and a backslash
/// takes away any meaning. `None` for a class that is not closed or has an unknown `[:name:]`.
fn parse_class(pattern: &[u8]) -> Option<(ByteSet, &[u8])> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let mut rest = &pattern[usize::from(negated)..];
    let mut set = ByteSet::default();
    // The member that a `-` would start a range from.
    let mut low: Option<u8> = None;
    let mut first = true;
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        if byte == b']' && !first {
            break;
        }
        first = false;
        if let (b'-', Some(from)) = (byte, low)
            && !matches!(rest.first()?, b']')
        {
            let (to, after) = parse_member(rest)?;
            rest = after;
            (from..=to).for_each(|b| set.insert(b));
            low = None;
        } else if let (b'[', Some((name, after))) = (byte, split_posix_name(rest)) {
            rest = after;
            let member = posix_class(name)?;
            (0..=u8::MAX).filter(member).for_each(|b| set.insert(b));
            low = None;
        } else {
            let member = if byte == b'\\' {
                let (&escaped, after) = rest.split_first()?;
                rest = after;
                escaped
            } else {
                byte
            };
            set.insert(member);
            low = Some(member);
        }
    }
    if negated {
        set.negate();
    }
    Some((set, rest))
}

/// One member of a class, its backslash taken off.
fn parse_member(pattern: &[u8]) -> Option<(u8, &[u8])> {
    match pattern.split_first()? {
        (b'\\', after) => after.split_first().map(|(&b, after)| (b, after)),
        (&byte, after) => Some((byte, after)),
    }
}

/// The name in `:name:]` and what follows; `None` when the text is not of that form.
fn split_posix_name(pattern: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = pattern.strip_prefix(b":")?;
    let end = inner.iter().position(|&b| b == b']')?;
    Some((inner[..end].strip_suffix(b":")?, &inner[end + 1..]))
}

/// The members of a POSIX class; bytes beyond ASCII are in none, as in UTF-8 and C locales.
fn posix_class(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |b| matches!(b, b' '..=b'~'),
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |b| matches!(b, b' ' | b'\t'..=b'\r'),
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::compile(pattern.as_bytes(), Start::Text)
            .is_some_and(|glob| glob.matches(text.as_bytes()))
    }

    #[test]
    fn one_star_stops_at_a_slash_and_two_do_not() {
        assert!(matches("a*b", "axyb"));
        assert!(!matches("a*b", "ax/yb"));
        assert!(matches("a**b", "ax/yb"));
        assert!(matches("*", ""));
        assert!(!matches("*", "a/b"));
        assert!(matches("**", "a/b"));
        assert!(matches("a/***", "a/b/c"));
    }

    #[test]
    fn a_question_mark_is_one_byte_but_no_slash() {
        assert!(matches("a?c", "abc"));
        assert!(!matches("a?c", "a/c"));
        assert!(!matches("a?", "a"));
        assert!(!matches("?", "ü"));
    }

    #[test]
    fn classes_have_ranges_negation_and_names() {
        assert!(matches("[a-c]", "b") && !matches("[a-c]", "d"));
        assert!(matches("[!a-c]", "d") && !matches("[^a-c]", "b"));
        assert!(matches("[[:alpha:]_]", "x") && matches("[[:alpha:]_]", "_"));
        assert!(!matches("[[:digit:]]", "x"));
        assert!(matches("[]x]", "]") && matches("[!]x]", "a"));
        assert!(matches("[a-]", "-") && matches("[-a]", "-"));
        assert!(matches(r"[\]-a]", "^") && matches(r"[a\-c]", "-"));
        assert!(!matches(r"[a\-c]", "b"));
        assert!(matches("[[:x]", ":") && matches("[[:]", "["));
        assert!(!matches("[c-a]", "b"));
        assert!(!matches("a[!b]c", "a/c") && !matches("a[/]c", "a/c"));
    }

    #[test]
    fn a_broken_class_matches_nothing() {
        for broken in ["[a", "[", "[!", "[a-", "[[:nonsense:]]", r"[a\", "[]"] {
            assert!(!matches(broken, broken), "{broken}");
            assert!(!matches(broken, "a"), "{broken}");
        }
    }

    #[test]
    fn a_backslash_takes_away_meaning() {
        assert!(matches(r"\*?", "*x") && !matches(r"\*?", "ax"));
        assert!(matches(r"\[*", "[a"));
        assert!(!matches("*\\", "a\\"));
    }

    #[test]
    fn any_level_starts_after_a_slash_only() {
        let glob = Glob::compile(b"b/**c", Start::AnyLevel).unwrap();
        assert!(glob.matches(b"b/c") && glob.matches(b"a/b/x/c"));
        assert!(!glob.matches(b"ab/c"));
    }

    #[test]
    fn a_hostile_pattern_takes_polynomial_time() {
        // A backtracking matcher without a bound does not finish this within a lifetime.
        let text = "a".repeat(4000);
        assert!(!matches(&format!("{}b", "*a".repeat(60)), &text));
        let deep = "a/".repeat(1000);
        let glob = Glob::compile(format!("{}b", "**a".repeat(30)).as_bytes(), Start::AnyLevel);
        assert!(!glob.unwrap().matches(deep.as_bytes()));
    }

    /// The meaning of a pattern written down as plainly as can be; exponential.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => {
                (0..=text.len()).any(|taken| reference(rest, &text[taken..]))
            }
            [b'*', rest @ ..] => (0..=text.len())
                .take_while(|&taken| !text[..taken].contains(&b'/'))
                .any(|taken| reference(rest, &text[taken..])),
            [b'?', rest @ ..] => {
                text.first().is_some_and(|&b| b != b'/') && reference(rest, &text[1..])
            }
            [b'[', b'!', b'a', b']', rest @ ..] => {
                text.first().is_some_and(|b| !b"a/".contains(b)) && reference(rest, &text[1..])
            }
            [b'[', b'a', b'-', b'b', b']', rest @ ..] => {
                text.first().is_some_and(|b| b"ab".contains(b)) && reference(rest, &text[1..])
            }
            [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
                text.first() == Some(literal) && reference(rest, &text[1..])
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn matching_agrees_with_a_naive_reference(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "a", "b", "/", "*", "*", "**", "?", "[a-b]", "[!a]", r"\*", r"\b",
                ]),
                0..8,
            ),
            text in "[ab/*]{0,10}",
        ) {
            let pattern = parts.concat();
            let glob = Glob::compile(pattern.as_bytes(), Start::Text).unwrap();
            prop_assert_eq!(
                glob.matches(text.as_bytes()),
                reference(pattern.as_bytes(), text.as_bytes())
            );
            let levels = Glob::compile(pattern.as_bytes(), Start::AnyLevel).unwrap();
            let expected = (0..=text.len())
                .filter(|&at| at == 0 || text.as_bytes()[at - 1] == b'/')
                .any(|at| reference(pattern.as_bytes(), &text.as_bytes()[at..]));
            prop_assert_eq!(levels.matches(text.as_bytes()), expected);
        }
    }
}
