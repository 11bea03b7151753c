//! Finds paths in a line of text of whatever syntax. What is sought is known, so only its ends have
//! to be judged: it must begin as a path does, and the name that it ends with must end there.

/// What ends a path where no quotes say otherwise. A backslash begins an escape in every syntax
/// that has one; `$` and `*` begin what only a shell knows.
const ENDS: &[u8] = b"\"'`:,;<>()[]{}|&\\$*?#!";

/// What stands right after a path that is written within quotes.
const QUOTES: &[u8] = b"\"'`";

/// Paths to be found, without a slash at their end.
#[derive(Debug)]
pub(super) struct Sought(Vec<Vec<u8>>);

impl Sought {
    /// Seeks absolute paths; others, and `/` alone, are in every text and mean nothing.
    pub(super) fn new(paths: &[String]) -> Sought {
        let paths = paths
            .iter()
            .map(|path| path.trim_end_matches('/').as_bytes().to_vec());
        Sought(paths.filter(|path| path.starts_with(b"/")).collect())
    }

    /// Whether a text can name any of them: a fast no for most files.
    pub(super) fn may_be_in(&self, text: &[u8]) -> bool {
        let text = String::from_utf8_lossy(text);
        let mut paths = self.0.iter().map(|path| String::from_utf8_lossy(path));
        text.contains("\\/") || paths.any(|path| text.contains(&*path))
    }

    /// The paths in `line` that are one of those sought or lie below one, each to its end.
    ///
    /// Within quotes a path may hold a space. Whether it does is the text's secret: it does if
    /// `exists` says so.
    pub(super) fn paths_in(&self, line: &[u8], exists: &dyn Fn(&[u8]) -> bool) -> Vec<Vec<u8>> {
        let unescaped = unescape_slashes(line);
        let line = unescaped.as_deref().unwrap_or(line);
        let mut starts: Vec<_> = self
            .0
            .iter()
            .flat_map(|path| starts_of(path, line))
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let path_at = |start| path_at(line, start, exists);
        starts.into_iter().map(path_at).collect()
    }
}

/// JSON may write a slash as `\/`, and PHP's always does.
fn unescape_slashes(line: &[u8]) -> Option<Vec<u8>> {
    let is_escaped = |window: &[u8]| window == b"\\/";
    if !line.windows(2).any(is_escaped) {
        return None;
    }
    let mut unescaped = Vec::with_capacity(line.len());
    for (at, &byte) in line.iter().enumerate() {
        if byte != b'\\' || line.get(at + 1) != Some(&b'/') {
            unescaped.push(byte);
        }
    }
    Some(unescaped)
}

/// Where `path` stands in `line` as a whole path or the front of one.
fn starts_of<'a>(path: &'a [u8], line: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let length = path.len();
    let windows = line.windows(length).enumerate();
    let found = windows.filter(move |(_, window)| *window == path);
    found
        .map(|(at, _)| at)
        .filter(move |&at| begins(&line[..at]) && ends_name(&line[at + length..]))
}

/// Whether a path can begin after this text: not in the middle of another path, but after the
/// `//` of a URL.
fn begins(before: &[u8]) -> bool {
    match before.last() {
        None => true,
        Some(b'/') => before.ends_with(b"://"),
        Some(byte) => !(byte.is_ascii_alphanumeric() || b"._-~}".contains(byte) || *byte >= 0x80),
    }
}

/// Whether a name ends before this text. A dot ends it where it ends a sentence.
fn ends_name(after: &[u8]) -> bool {
    match after {
        [] => true,
        [b'/', ..] => true,
        [b'.', rest @ ..] => rest.first().is_none_or(u8::is_ascii_whitespace),
        [byte, ..] => is_end(*byte),
    }
}

fn is_end(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_control() || ENDS.contains(&byte)
}

/// The whole path that begins at `start`.
fn path_at(line: &[u8], start: usize, exists: &dyn Fn(&[u8]) -> bool) -> Vec<u8> {
    let text = &line[start..];
    let end = text.iter().position(|&byte| is_end(byte));
    let plain = &text[..end.unwrap_or(text.len())];
    let quote = line[..start].last().filter(|byte| QUOTES.contains(byte));
    if let Some(quote) = quote
        && text[plain.len()..].starts_with(b" ")
        && let Some(end) = text.iter().position(|byte| byte == quote)
        && exists(&text[..end])
    {
        return text[..end].to_vec();
    }
    let mut path = plain;
    while let [front @ .., b'.'] = path {
        path = front;
    }
    path.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths_in(line: &str) -> Vec<String> {
        let sought = Sought::new(&["/home/u".to_owned(), "/srv/app/".to_owned()]);
        let exists = |path: &[u8]| path == b"/home/u/My Files/x";
        let found = sought.paths_in(line.as_bytes(), &exists);
        let text = |path| String::from_utf8(path).unwrap();
        found.into_iter().map(text).collect()
    }

    #[test]
    fn paths_are_found_in_every_syntax() {
        for (line, path) in [
            ("\"dir\": \"/home/u/.app\",", "/home/u/.app"),
            ("dir = '/home/u'", "/home/u"),
            ("DIR=/home/u/x/y.db", "/home/u/x/y.db"),
            ("cd /srv/app && run", "/srv/app"),
            ("file:///srv/app/index.html", "/srv/app/index.html"),
            (r#""\/srv\/app\/db""#, "/srv/app/db"),
            ("It is in /home/u.", "/home/u"),
            ("It is in /home/u/x.", "/home/u/x"),
            ("--dir=/srv/app/", "/srv/app/"),
            ("<path>/srv/app/a</path>", "/srv/app/a"),
            ("x: /srv/app/${name}", "/srv/app/"),
            ("\"/home/u/My Files/x\"", "/home/u/My Files/x"),
            ("sh -c \"/home/u/run --all\"", "/home/u/run"),
            (r#"say \"/home/u/a\" now"#, "/home/u/a"),
        ] {
            assert_eq!(paths_in(line), [path], "{line}");
        }
    }

    #[test]
    fn lists_of_paths_are_taken_apart() {
        let found = paths_in("PATH=/home/u/bin:/usr/bin:/srv/app/bin");
        assert_eq!(found, ["/home/u/bin", "/srv/app/bin"]);
    }

    #[test]
    fn other_paths_are_not_found() {
        for line in [
            "/home/user",
            "/home/u-old",
            "/home/u.bak",
            "/mnt/home/u",
            "../home/u",
            "backup/home/u",
            "${ROOT}/home/u",
            "~/home/u",
            "/srv/application",
        ] {
            assert!(paths_in(line).is_empty(), "{line}");
        }
    }

    #[test]
    fn a_text_without_any_is_told_at_once() {
        let sought = Sought::new(&["/home/ü".to_owned()]);
        for text in ["a = \"/home/ü/x\"", "\u{fffd} /home/ü", r#""\/home\/ü""#] {
            assert!(sought.may_be_in(text.as_bytes()), "{text}");
        }
        assert!(!sought.may_be_in(b"/home/u"));
    }

    #[test]
    fn what_is_no_absolute_path_is_not_sought() {
        let sought = Sought::new(&["/".to_owned(), "".to_owned(), "etc".to_owned()]);
        assert!(sought.paths_in(b"/ etc / /", &|_| false).is_empty());
    }
}
