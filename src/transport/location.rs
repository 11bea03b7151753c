//! Where a tree is, as the command line names it: a local directory or a path on a host. Apart
//! from `remote` because naming a place needs no connection.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use uzers::os::unix::UserExt;

use crate::error::{Error, Result};
use crate::path::escape;

/// Where a tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// On this machine.
    Local(PathBuf),
    /// On another.
    Remote(RemotePath),
}

/// A path on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemotePath {
    /// The user to log in as; `None` leaves it to ssh and its configuration.
    pub user: Option<String>,
    /// A host name, an address or an alias of ssh's configuration. Empty only where a command
    /// takes ssh's place and needs no host, such as `-e 'sudo -u bob'`.
    pub host: String,
    /// The port; only the URL form carries one.
    pub port: Option<u16>,
    /// Raw bytes, relative to the far user's home unless absolute; empty is the home itself.
    /// See [`expand_home`].
    pub path: Vec<u8>,
}

impl Location {
    /// Reads `[user@]host:path`, `[user@][address]:path`, `ssh://[user@]host[:port][/path]` or a
    /// local path. As rsync and scp rule, a colon makes a remote path only when no slash stands
    /// before it: `./a:b` is local.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for an empty argument, a host or user that could not be one, and rsync's
    /// daemon forms, whose protocol this is not.
    pub fn parse(arg: &OsStr) -> Result<Location> {
        let bytes = arg.as_bytes();
        if bytes.is_empty() {
            return Err(Error::Usage("a path is empty: use . for here".into()));
        }
        if let Some(rest) = bytes.strip_prefix(b"ssh://") {
            return parse_url(rest).map(Location::Remote);
        }
        let head_len = position(bytes, b'/').unwrap_or(bytes.len());
        let Some(colon) = host_end(&bytes[..head_len]) else {
            return Ok(Location::Local(PathBuf::from(arg)));
        };
        let path = &bytes[colon + 1..];
        if path.starts_with(b":") || bytes.starts_with(b"rsync://") {
            return Err(Error::Usage(format!(
                "{} names an rsync daemon, which cutover does not speak to: use host:path",
                escape(bytes)
            )));
        }
        let (user, host) = parse_authority(&bytes[..colon])?;
        Ok(Location::Remote(RemotePath {
            user,
            host,
            port: None,
            path: path.to_vec(),
        }))
    }
}

impl RemotePath {
    /// `user@host`, as ssh takes it.
    pub fn destination(&self) -> String {
        match &self.user {
            Some(user) => format!("{user}@{}", self.host),
            None => self.host.clone(),
        }
    }
}

impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bracketed = self.host.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        write!(f, "{open}{}{close}:{}", self.host, escape(&self.path))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Local(path) => f.write_str(&escape(path.as_os_str().as_bytes())),
            Location::Remote(remote) => remote.fmt(f),
        }
    }
}

fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|&byte| byte == wanted)
}

/// Where the colon after the host is, in the part of an argument before its first slash.
fn host_end(head: &[u8]) -> Option<usize> {
    let host_start = head.iter().rposition(|&b| b == b'@').map_or(0, |at| at + 1);
    if head[host_start..].starts_with(b"[") {
        let close = head.windows(2).position(|pair| pair == b"]:")?;
        return Some(close + 1);
    }
    position(head, b':')
}

/// Reads what follows `ssh://`.
fn parse_url(rest: &[u8]) -> Result<RemotePath> {
    let head_len = position(rest, b'/').unwrap_or(rest.len());
    let (head, path) = rest.split_at(head_len);
    let bracket = head.iter().rposition(|&b| b == b']').unwrap_or(0);
    let colon = head[bracket..].iter().position(|&b| b == b':');
    let (authority, port) = match colon.map(|at| at + bracket) {
        Some(colon) => (&head[..colon], Some(parse_port(&head[colon + 1..])?)),
        None => (head, None),
    };
    let (user, host) = parse_authority(authority)?;
    // As git reads it: `/~/x` is in the home, anything else from the root.
    let path = percent_decode(path);
    let path = match path.strip_prefix(b"/~") {
        Some(tail) if tail.is_empty() || tail[0] == b'/' => [b"~", tail].concat(),
        _ => path,
    };
    Ok(RemotePath {
        user,
        host,
        port,
        path,
    })
}

fn parse_port(digits: &[u8]) -> Result<u16> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|text| text.parse().ok())
        .filter(|&port| port != 0)
        .ok_or_else(|| Error::Usage(format!("{} is not a port", escape(digits))))
}

fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&b| char::from(b).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            // Two hexadecimal digits make at most 255.
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

/// Splits `[user@]host`, where an address may stand in brackets.
fn parse_authority(bytes: &[u8]) -> Result<(Option<String>, String)> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Error::Usage(format!("{} is not a host name", escape(bytes))))?;
    let (user, host) = match text.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, text),
    };
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if user.is_some_and(|user| user.is_empty() || !is_plain(user)) {
        return Err(Error::Usage(format!("{text:?} has no valid user name")));
    }
    if !is_plain(host) || (host.is_empty() && user.is_some()) {
        return Err(Error::Usage(format!("{text:?} is not a valid host name")));
    }
    Ok((user.map(str::to_owned), host.to_owned()))
}

/// Whether `word` can be neither an option nor anything to a shell: what OpenSSH itself has
/// refused in host names since 9.6, because `ProxyCommand` and `Match exec` hand them to one.
fn is_plain(word: &str) -> bool {
    !word.starts_with('-')
        && !word
            .chars()
            .any(|c| c.is_whitespace() || c.is_control() || "'`\"$\\;&<>|(){}[]".contains(c))
}

/// Makes a path as it came from the command line absolute on the machine where this runs.
///
/// `~` and `~user` stand for homes, and a relative path starts in the home of `whose`, as
/// with rsync and scp. A `~user` that does not exist is an ordinary name, as in a shell.
pub fn expand_home(path: &[u8], whose: Whose) -> Vec<u8> {
    let home = || match whose {
        Whose::Own => own_home(),
        Whose::Caller => caller_home().unwrap_or_else(own_home),
    };
    expand(path, home, |user| {
        let user = uzers::get_user_by_name(OsStr::from_bytes(user))?;
        Some(user.home_dir().to_path_buf())
    })
}

/// The user that a home is looked for of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Who this process runs as.
    Own,
    /// Who had sudo start this process: who logged in.
    Caller,
}

fn caller_home() -> Option<PathBuf> {
    let uid = std::env::var("SUDO_UID").ok()?.parse().ok()?;
    let user = uzers::get_user_by_uid(uid)?;
    Some(user.home_dir().to_path_buf())
}

fn own_home() -> PathBuf {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.is_absolute())
        .or_else(|| {
            let user = uzers::get_user_by_uid(uzers::get_effective_uid())?;
            Some(user.home_dir().to_path_buf())
        })
        .unwrap_or_else(|| PathBuf::from("/"))
}

fn expand(
    path: &[u8],
    own: impl Fn() -> PathBuf,
    home_of: impl Fn(&[u8]) -> Option<PathBuf>,
) -> Vec<u8> {
    if path.starts_with(b"/") {
        return path.to_vec();
    }
    let (base, tail) = match path.strip_prefix(b"~") {
        None => (own(), path),
        Some(rest) => {
            let (user, tail) = rest.split_at(position(rest, b'/').unwrap_or(rest.len()));
            let home = if user.is_empty() {
                Some(own())
            } else {
                home_of(user)
            };
            match home {
                Some(home) => (home, tail),
                None => (own(), path),
            }
        }
    };
    let tail = &tail[tail.iter().take_while(|&&b| b == b'/').count()..];
    if tail.is_empty() {
        return base.into_os_string().into_vec();
    }
    base.join(OsStr::from_bytes(tail))
        .into_os_string()
        .into_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(arg: &str) -> (Option<String>, String, Option<u16>, String) {
        match Location::parse(OsStr::new(arg)).unwrap() {
            Location::Remote(r) => {
                let path = String::from_utf8(r.path).unwrap();
                (r.user, r.host, r.port, path)
            }
            Location::Local(path) => panic!("{path:?} is local"),
        }
    }

    fn parts(
        user: &str,
        host: &str,
        port: Option<u16>,
        path: &str,
    ) -> (Option<String>, String, Option<u16>, String) {
        let user = (!user.is_empty()).then(|| user.to_owned());
        (user, host.to_owned(), port, path.to_owned())
    }

    #[test]
    fn host_forms_are_read() {
        assert_eq!(remote("h:"), parts("", "h", None, ""));
        assert_eq!(remote("h:a/b:c"), parts("", "h", None, "a/b:c"));
        assert_eq!(remote("u@h:/srv"), parts("u", "h", None, "/srv"));
        assert_eq!(remote("[::1]:x"), parts("", "::1", None, "x"));
        assert_eq!(
            remote("u@[fe80::1%eth0]:"),
            parts("u", "fe80::1%eth0", None, "")
        );
        assert_eq!(remote(":/srv"), parts("", "", None, "/srv"));
        assert_eq!(remote("a@b@h:x").0.as_deref(), Some("a@b"));
    }

    #[test]
    fn urls_are_read() {
        assert_eq!(
            remote("ssh://u@h:2222/srv/a"),
            parts("u", "h", Some(2222), "/srv/a")
        );
        assert_eq!(remote("ssh://h"), parts("", "h", None, ""));
        assert_eq!(
            remote("ssh://[::1]:22/~/x"),
            parts("", "::1", Some(22), "~/x")
        );
        assert_eq!(remote("ssh://h/a%20b%2"), parts("", "h", None, "/a b%2"));
    }

    #[test]
    fn slash_before_colon_is_local() {
        for local in ["./a:b", "/a:b", "a/b:c", "plain", "[dir]", "[x]/a:b"] {
            let parsed = Location::parse(OsStr::new(local)).unwrap();
            assert_eq!(parsed, Location::Local(PathBuf::from(local)));
        }
    }

    #[test]
    fn raw_bytes_stay_as_they_are() {
        let arg = OsStr::from_bytes(b"h:\xff\xfe");
        let Location::Remote(remote) = Location::parse(arg).unwrap() else {
            panic!("local");
        };
        assert_eq!(remote.path, b"\xff\xfe");
    }

    #[test]
    fn what_could_be_an_option_or_a_command_is_refused() {
        for bad in [
            "",
            "-oProxyCommand=x:",
            "-l@h:",
            "u@-h:x",
            "@h:x",
            "u@:x",
            "h;x:y",
            "$(x):y",
            "a b:c",
            "h::module",
            "rsync://h/m",
            "ssh://h:0/x",
            "ssh://h:99999/x",
        ] {
            let err = Location::parse(OsStr::new(bad)).unwrap_err();
            assert!(matches!(err, Error::Usage(_)), "{bad}: {err}");
        }
    }

    #[test]
    fn homes_are_expanded() {
        let expanded = |path: &str| {
            let own = || PathBuf::from("/home/me");
            let home_of = |user: &[u8]| (user == b"bob").then(|| PathBuf::from("/home/bob"));
            String::from_utf8(expand(path.as_bytes(), own, home_of)).unwrap()
        };
        assert_eq!(expanded(""), "/home/me");
        assert_eq!(expanded("a/b"), "/home/me/a/b");
        assert_eq!(expanded("~"), "/home/me");
        assert_eq!(expanded("~//x"), "/home/me/x");
        assert_eq!(expanded("~bob/x"), "/home/bob/x");
        assert_eq!(expanded("~nobody-here/x"), "/home/me/~nobody-here/x");
        assert_eq!(expanded("/~/x"), "/~/x");
    }

    #[test]
    fn display_reads_back() {
        for form in ["u@h:/srv/a", "u@[::1]:x", "h:"] {
            assert_eq!(Location::parse(OsStr::new(form)).unwrap().to_string(), form);
        }
    }
}
