//! One pattern and the paths it matches: anchoring, directories, and how much of a path is
//! looked at. Apart from `glob`, which knows bytes but not paths, and from `syntax`, which knows
//! rules but not what they match.

use super::glob::{Glob, Start, has_wildcard};

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    matcher: Matcher,
    /// A trailing slash: files do not match.
    dirs_only: bool,
    /// The directory that a leading slash means; empty for the root of the transfer.
    base: Box<[u8]>,
}

#[derive(Debug, Clone)]
enum Matcher {
    /// Nothing; a broken class.
    Never,
    /// The name is these bytes.
    Name(Box<[u8]>),
    /// The path is these bytes.
    Path(Box<[u8]>),
    /// The path is these bytes, or ends in a slash and these bytes.
    PathEnd(Box<[u8]>),
    /// The name matches.
    NameGlob(Glob),
    /// As much of the path as `reach` says matches.
    PathGlob {
        glob: Glob,
        reach: Reach,
        /// A directory is looked at with a slash after its name, so that `dir/***` is also `dir`.
        dir_slash: bool,
    },
}

/// How much of a path a glob looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// All of it, from beneath the base.
    Whole,
    /// All of it with a slash before, so that `**/x` also matches `x` at the root.
    WholeAfterSlash,
    /// The last so many components, and nothing if there are fewer.
    Last(usize),
}

impl Pattern {
    /// Compiles what a rule says after its prefix. A leading slash means the directory `base`.
    pub(super) fn compile(text: &[u8], base: &[u8]) -> Pattern {
        let (text, dirs_only) = match text.strip_suffix(b"/") {
            Some(stem) if !stem.is_empty() => (stem, true),
            _ => (text, false),
        };
        let anchored = text.starts_with(b"/");
        Pattern {
            matcher: Matcher::compile(text, anchored),
            dirs_only,
            base: if anchored {
                base.into()
            } else {
                Box::default()
            },
        }
    }

    /// Whether the entry at hand matches.
    pub(super) fn matches(&self, subject: &mut Subject<'_>) -> bool {
        if self.dirs_only && !subject.is_dir {
            return false;
        }
        match &self.matcher {
            Matcher::Never => false,
            Matcher::Name(literal) => **literal == *subject.name,
            Matcher::NameGlob(glob) => glob.matches(subject.name),
            // The literal's last component is the name, or the path need not be joined to know.
            Matcher::Path(literal) => {
                literal.ends_with(subject.name)
                    && beneath(&self.base, subject.path().whole()) == Some(literal)
            }
            Matcher::PathEnd(literal) => {
                literal.ends_with(subject.name)
                    && subject
                        .path()
                        .after_slash()
                        .strip_suffix(&**literal)
                        .is_some_and(|before| before.ends_with(b"/"))
            }
            Matcher::PathGlob {
                glob,
                reach,
                dir_slash,
            } => {
                if !glob.can_end_in(subject.name) {
                    return false;
                }
                let slash = *dir_slash && subject.is_dir;
                let path = subject.path();
                let text = match reach {
                    Reach::Whole => beneath(&self.base, path.whole()),
                    Reach::WholeAfterSlash => Some(path.after_slash()),
                    Reach::Last(count) => path.last(*count),
                };
                text.is_some_and(|text| glob.matches(path.with_slash(text, slash)))
            }
        }
    }
}

impl Matcher {
    fn compile(text: &[u8], anchored: bool) -> Matcher {
        let body = if anchored { &text[1..] } else { text };
        let inner_slashes = body.iter().filter(|&&b| b == b'/').count();
        if !has_wildcard(body) {
            return match (anchored, inner_slashes) {
                (true, _) => Matcher::Path(body.into()),
                (false, 0) => Matcher::Name(body.into()),
                (false, _) => Matcher::PathEnd(body.into()),
            };
        }
        let crosses_slashes = body.windows(2).any(|pair| pair == b"**");
        let (start, reach) = match (anchored, crosses_slashes) {
            (true, _) => (Start::Text, Reach::Whole),
            (false, true) if body.starts_with(b"**") => (Start::Text, Reach::WholeAfterSlash),
            (false, true) => (Start::AnyLevel, Reach::Whole),
            (false, false) => (Start::Text, Reach::Last(inner_slashes + 1)),
        };
        let Some(glob) = Glob::compile(body, start) else {
            return Matcher::Never;
        };
        if reach == Reach::Last(1) {
            return Matcher::NameGlob(glob);
        }
        Matcher::PathGlob {
            glob,
            reach,
            dir_slash: body.ends_with(b"***"),
        }
    }
}

/// What is left of `path` beneath `base`; `None` when it is not beneath it.
fn beneath<'a>(base: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if base.is_empty() {
        return Some(path);
    }
    path.strip_prefix(base)?.strip_prefix(b"/")
}

/// The entry that patterns are held against.
pub(super) struct Subject<'a> {
    dir: &'a [u8],
    name: &'a [u8],
    is_dir: bool,
    joined: Option<Joined>,
}

impl<'a> Subject<'a> {
    pub(super) fn new(dir: &'a [u8], name: &'a [u8], is_dir: bool) -> Subject<'a> {
        Subject {
            dir,
            name,
            is_dir,
            joined: None,
        }
    }

    /// The joined path, made when the first rule asks for it: most rules look at the name alone.
    fn path(&mut self) -> &Joined {
        self.joined
            .get_or_insert_with(|| Joined::new(self.dir, self.name))
    }
}

/// How long a path may be to be joined without allocating; longer ones are rare.
const INLINE_BYTES: usize = 256;

/// A path with a slash before it and one after it, so that each reading of it is a slice.
struct Joined {
    inline: [u8; INLINE_BYTES],
    spilled: Vec<u8>,
    len: usize,
}

impl Joined {
    fn new(dir: &[u8], name: &[u8]) -> Joined {
        let between: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        let len = dir.len() + between.len() + name.len() + 2;
        let mut joined = Joined {
            inline: [0; INLINE_BYTES],
            spilled: Vec::new(),
            len,
        };
        let buffer = if len <= INLINE_BYTES {
            &mut joined.inline[..]
        } else {
            joined.spilled.resize(len, 0);
            &mut joined.spilled[..]
        };
        let mut at = 0;
        for part in [b"/", dir, between, name, b"/"] {
            buffer[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        joined
    }

    fn bytes(&self) -> &[u8] {
        if self.spilled.is_empty() {
            &self.inline[..self.len]
        } else {
            &self.spilled
        }
    }

    fn whole(&self) -> &[u8] {
        &self.bytes()[1..self.len - 1]
    }

    fn after_slash(&self) -> &[u8] {
        &self.bytes()[..self.len - 1]
    }

    fn last(&self, count: usize) -> Option<&[u8]> {
        let path = self.after_slash();
        let mut slashes = (0..path.len()).rev().filter(|&at| path[at] == b'/');
        slashes.nth(count - 1).map(|at| &path[at + 1..])
    }

    /// `tail`, which ends where the path ends, with or without the slash after it.
    fn with_slash(&self, tail: &[u8], slash: bool) -> &[u8] {
        let start = self.len - 1 - tail.len();
        &self.bytes()[start..self.len - usize::from(!slash)]
    }
}
