//! Words and quoting: how a command given with `-e` is taken apart, and how ours is put together
//! for a shell that we do not know.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::location::RemotePath;
use crate::error::{Error, Result};

/// Where the host goes in a command that wants more words after it: `kubectl exec -i {} --`.
const HOST_PLACE: &str = "{}";

/// Splits a command as rsync splits its `-e`: at spaces; quotes of either kind keep spaces, a
/// doubled quote within quotes is one quote, and backslashes mean nothing.
pub(super) fn split_words(command: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' => words.extend(word.take()),
            '\'' | '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(inner) if inner != c => word.push(inner),
                        Some(_) if chars.next_if_eq(&c).is_some() => word.push(c),
                        Some(_) => break,
                        None => {
                            return Err(Error::Usage(format!(
                                "{command:?} has a quote that is not closed"
                            )));
                        }
                    }
                }
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if words.is_empty() {
        return Err(Error::Usage("a command or its options are empty".into()));
    }
    Ok(words)
}

/// The whole command line that runs `far` by way of `shell`, a command given with `-e`.
///
/// The host replaces a word that is `{}`; without one it follows the command's own words, unless
/// it is empty. Then comes `far`: as one argument, quoted for a login shell, where a word of the
/// command is named like ssh (`ssh`, `rsh`, `autossh`, `my-ssh`, ...), since these join their
/// arguments and let the far user's shell split them again; word for word otherwise, since
/// `docker exec`, `kubectl exec`, `sudo` and their like execute them as they are.
pub(super) fn command_line(
    shell: &str,
    remote: &RemotePath,
    far: &[Vec<u8>],
) -> Result<Vec<OsString>> {
    let words = split_words(shell)?;
    let joins = words.iter().any(|word| is_like_ssh(word));
    let placed = words.iter().any(|word| word == HOST_PLACE);
    let destination = remote.destination();
    let mut line: Vec<OsString> = words
        .into_iter()
        .map(|word| {
            if word == HOST_PLACE {
                destination.clone()
            } else {
                word
            }
        })
        .map(OsString::from)
        .collect();
    if !placed && !destination.is_empty() {
        line.push(destination.into());
    }
    if joins {
        line.push(OsString::from_vec(join_for_login_shell(far)));
    } else {
        line.extend(far.iter().cloned().map(OsString::from_vec));
    }
    Ok(line)
}

fn is_like_ssh(word: &str) -> bool {
    let name = word.rsplit('/').next().unwrap_or(word);
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    !word.starts_with('-')
        && (stem.ends_with("ssh") || stem.ends_with("rsh") || stem == "plink" || stem == "dbclient")
}

/// One line that executes `words`, whichever shell the far user has.
pub(super) fn join_for_login_shell(words: &[Vec<u8>]) -> Vec<u8> {
    let mut line = b"exec".to_vec();
    for word in words {
        line.push(b' ');
        line.extend(quote(word));
    }
    line
}

/// Quotes a word for sh, csh and fish alike.
///
/// Within single quotes csh expands `!` and fish reads backslashes, so these two leave the
/// quotes, as a single quote must; a backslash before them means the same to all.
fn quote(word: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'\''];
    for &byte in word {
        match byte {
            b'\'' | b'\\' | b'!' => quoted.extend([b'\'', b'\\', byte, b'\'']),
            _ => quoted.push(byte),
        }
    }
    quoted.push(b'\'');
    quoted
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn at(host: &str) -> RemotePath {
        RemotePath {
            user: None,
            host: host.into(),
            port: None,
            path: Vec::new(),
        }
    }

    fn line(shell: &str, host: &str) -> Vec<String> {
        let far = [b"sh".to_vec(), b"it's".to_vec()];
        command_line(shell, &at(host), &far)
            .unwrap()
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    #[test]
    fn words_split_as_rsync_splits_them() {
        let split = |command| split_words(command).unwrap();
        assert_eq!(split("ssh  -p 2222"), ["ssh", "-p", "2222"]);
        assert_eq!(split("a 'b c'd \"e''f\""), ["a", "b cd", "e''f"]);
        assert_eq!(split("a 'it''s' \"\" \\"), ["a", "it's", "", "\\"]);
        assert!(split_words("a 'b").is_err());
        assert!(split_words("  ").is_err());
    }

    #[test]
    fn ssh_gets_one_argument_and_others_get_words() {
        let joined = "exec 'sh' 'it'\\''s'";
        assert_eq!(line("ssh -p 22", "h"), ["ssh", "-p", "22", "h", joined]);
        assert_eq!(line("/opt/my-ssh.sh", "h"), ["/opt/my-ssh.sh", "h", joined]);
        assert_eq!(
            line("docker exec -i", "box"),
            ["docker", "exec", "-i", "box", "sh", "it's"]
        );
    }

    #[test]
    fn host_goes_where_the_braces_are_and_nowhere_when_empty() {
        assert_eq!(
            line("kubectl exec -i {} --", "pod"),
            ["kubectl", "exec", "-i", "pod", "--", "sh", "it's"]
        );
        assert_eq!(line("sudo -u bob", ""), ["sudo", "-u", "bob", "sh", "it's"]);
    }

    #[test]
    fn joined_words_come_out_of_a_shell_unchanged() {
        let awkward = b"it's $HOME `x` \"y\" \\n ! * ~ ; \xff".to_vec();
        let line = join_for_login_shell(&[b"printf".to_vec(), b"%s".to_vec(), awkward.clone()]);
        for shell in ["dash", "bash"] {
            let output = Command::new(shell)
                .arg("-c")
                .arg(OsString::from_vec(line.clone()))
                .output()
                .unwrap();
            assert_eq!(output.stdout, awkward, "{shell}");
        }
    }
}
