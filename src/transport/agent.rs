//! What is said on a link before the protocol begins: how the far side is asked to start an
//! agent, what it answers, and how it gets a copy of ours when it has none.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::digest::ContentHash;

/// The protocol that follows the preamble. An agent of another number that is found on the far
/// host is passed over in favour of a copy of our own.
pub const PROTOCOL: u32 = 1;

/// What every line of an answer holds, whatever a login shell printed in front of it.
const MARK: &[u8] = b"cutover-agent";

/// How much a login shell may print before the agent starts: far above any greeting seen, and
/// little enough to hold.
const NOISE_MAX_BYTES: usize = 64 << 10;

/// How long it may say nothing once it has printed something that is no answer: startup files
/// of a shell may take seconds, also on a busy host.
pub(super) const QUIET_LIMIT: Duration = Duration::from_secs(10);

/// Bytes written at a time while uploading.
const CHUNK_BYTES: usize = 64 << 10;

/// The script that finds, takes in and starts an agent.
const SCRIPT: &str = include_str!("start.sh");

/// The line with which an agent begins its stream: `cutover-agent PROTOCOL VERSION`.
///
/// `cutover agent --protocol` prints the same line and exits.
pub fn agent_preamble() -> String {
    format!("cutover-agent {PROTOCOL} {}\n", env!("CARGO_PKG_VERSION"))
}

/// The BLAKE3 of this process's own executable, which `cutover agent --self-hash` prints.
///
/// # Errors
///
/// When the executable cannot be read.
pub fn self_hash() -> io::Result<ContentHash> {
    // Not its path: that may have another file by now.
    hash_executable(Path::new("/proc/self/exe"))
}

/// The BLAKE3 of an executable.
pub(super) fn hash_executable(path: &Path) -> io::Result<ContentHash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().into())
}

/// The words that start an agent on the far side: `sh`, the script and its parameters.
pub(super) fn start_words(
    hash: ContentHash,
    agent_path: Option<&[u8]>,
    sudo: bool,
) -> Vec<Vec<u8>> {
    // One line, since csh wants a backslash before a newline within quotes.
    let script: Vec<&str> = SCRIPT
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    vec![
        b"sh".to_vec(),
        b"-c".to_vec(),
        script.join(" ").into_bytes(),
        b"cutover".to_vec(),
        hash.to_string().into_bytes(),
        agent_path.unwrap_or_default().to_vec(),
        if sudo {
            b"sudo -n --".to_vec()
        } else {
            Vec::new()
        },
        PROTOCOL.to_string().into_bytes(),
    ]
}

/// What the far side said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// An agent runs; the next byte is the first of the stream.
    Started {
        /// Its version.
        version: String,
    },
    /// An agent runs that we do not understand.
    Incompatible {
        /// Its version.
        version: String,
    },
    /// An agent runs behind a terminal, which changes bytes.
    Terminal,
    /// There is no agent, and the script waits for one.
    Missing {
        /// The far system, as `uname -s` says.
        system: String,
        /// Its processor, as `uname -m` says.
        machine: String,
    },
    /// A copy was sent and could not be used.
    Failed(Step),
    /// The stream ended.
    Ended,
    /// Something was printed that is no answer, and nothing for [`QUIET_LIMIT`] after it.
    Quiet,
    /// More was printed than a greeting can be, or other than text.
    Noise,
}

/// What can go wrong with a copy on the far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It could not be written.
    Store,
    /// It does not run.
    Run,
    /// It runs and is not what was sent.
    Hash,
}

/// Reads one answer and not a byte more, however long the first byte takes, keeping what came before it in `noise`.
pub(super) async fn read_answer(
    stream: &mut UnixStream,
    noise: &mut Vec<u8>,
) -> io::Result<Answer> {
    let start = noise.len();
    let mut line_start = start;
    loop {
        // A byte at a time: an answer is one short line, and what follows is the agent's.
        let mut byte = [0];
        let read = match noise.len() == start {
            true => stream.read(&mut byte).await?,
            false => match timeout(QUIET_LIMIT, stream.read(&mut byte)).await {
                Ok(read) => read?,
                Err(_) => return Ok(Answer::Quiet),
            },
        };
        if read == 0 {
            return Ok(Answer::Ended);
        }
        noise.push(byte[0]);
        if byte[0] == b'\n' {
            if let Some(answer) = parse_answer(&noise[line_start..]) {
                noise.truncate(line_start);
                return Ok(answer);
            }
            line_start = noise.len();
        }
        if byte[0] == 0 || noise.len() - start > NOISE_MAX_BYTES {
            return Ok(Answer::Noise);
        }
    }
}

/// Reads a line that may be an answer. A login shell that printed no newline, such as one that
/// sets the terminal's title, may stand before it on the same line.
fn parse_answer(line: &[u8]) -> Option<Answer> {
    let at = line.windows(MARK.len()).rposition(|part| part == MARK)?;
    let text = std::str::from_utf8(&line[at..]).ok()?.strip_suffix('\n')?;
    let garbled = text.ends_with('\r');
    let words: Vec<&str> = text.trim_end().split(' ').collect();
    match words[..] {
        ["cutover-agent", _, _] if garbled => Some(Answer::Terminal),
        ["cutover-agent", protocol, version] => {
            let version = version.to_owned();
            if protocol == PROTOCOL.to_string() {
                Some(Answer::Started { version })
            } else {
                Some(Answer::Incompatible { version })
            }
        }
        ["cutover-agent-missing", system, machine] => Some(Answer::Missing {
            system: system.to_owned(),
            machine: machine.to_owned(),
        }),
        ["cutover-agent-failed", "store"] => Some(Answer::Failed(Step::Store)),
        ["cutover-agent-failed", "run"] => Some(Answer::Failed(Step::Run)),
        ["cutover-agent-failed", "hash"] => Some(Answer::Failed(Step::Hash)),
        _ => None,
    }
}

/// Sends an executable to the waiting script: its size on a line, then its bytes. `stall` is
/// how long a chunk may take.
pub(super) async fn upload(
    stream: &mut UnixStream,
    executable: &mut File,
    stall: Duration,
) -> io::Result<()> {
    let size = executable.metadata()?.len();
    let mut chunk = format!("{size}\n").into_bytes();
    // Exactly the size that was announced: the far side reads on after it.
    let mut executable = executable.take(size);
    loop {
        timeout(stall, stream.write_all(&chunk)).await??;
        chunk.resize(CHUNK_BYTES, 0);
        let len = executable.read(&mut chunk)?;
        if len == 0 {
            return Ok(());
        }
        chunk.truncate(len);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn answer_to(said: &[u8]) -> (Answer, Vec<u8>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (mut near, mut far) = UnixStream::pair().unwrap();
            let said = said.to_vec();
            let say = async move {
                // The reader may be content with less.
                let _ = far.write_all(&said).await;
            };
            let mut noise = Vec::new();
            let (answer, ()) = tokio::join!(
                async {
                    let answer = read_answer(&mut near, &mut noise).await.unwrap();
                    let mut rest = Vec::new();
                    near.read_to_end(&mut rest).await.unwrap();
                    (answer, rest)
                },
                say
            );
            (answer.0, noise, answer.1)
        })
    }

    #[test]
    fn preamble_is_read_without_a_byte_of_the_stream() {
        let preamble = agent_preamble();
        let said = [
            b"motd\n\x1b]0;title\x07",
            preamble.as_bytes(),
            b"\n\0stream",
        ];
        let (answer, noise, rest) = answer_to(&said.concat());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        assert_eq!(answer, Answer::Started { version });
        assert_eq!(noise, b"motd\n");
        assert_eq!(rest, b"\n\0stream");
    }

    #[test]
    fn other_answers_are_told_apart() {
        let answer = |said: &str| answer_to(said.as_bytes()).0;
        assert!(matches!(
            answer("cutover-agent 999 9.0\n"),
            Answer::Incompatible { .. }
        ));
        assert_eq!(answer("cutover-agent 1 0.1.0\r\n"), Answer::Terminal);
        assert_eq!(
            answer("cutover-agent-failed run\n"),
            Answer::Failed(Step::Run)
        );
        assert_eq!(answer("cutover-agent 1 0.1.0"), Answer::Ended);
        assert_eq!(answer("cutover-agent-x\nbash: no\n"), Answer::Ended);
    }

    #[test]
    fn endless_noise_is_given_up() {
        for flood in [vec![b'y'; 100_000], b"y\n".repeat(50_000)] {
            let (answer, noise, _) = answer_to(&flood);
            assert_eq!(answer, Answer::Noise);
            assert!(noise.len() <= NOISE_MAX_BYTES + 1);
        }
    }

    #[test]
    fn what_is_no_text_is_given_up_at_once() {
        let (answer, noise, _) = answer_to(b"\x1f\0\0\0binary");
        assert_eq!(answer, Answer::Noise);
        assert_eq!(noise, b"\x1f\0");
    }

    #[test]
    fn script_is_one_line_of_posix_shell_that_needs_no_escape() {
        let words = start_words(ContentHash::of(b"x"), None, false);
        let script = std::str::from_utf8(&words[2]).unwrap();
        assert!(!script.contains(['\n', '\'', '\\', '!']), "{script}");
        for shell in ["dash", "bash"] {
            let checked = Command::new(shell)
                .args(["-n", "-c", script])
                .status()
                .unwrap();
            assert!(checked.success(), "{shell}");
        }
    }

    #[test]
    fn own_hash_is_that_of_the_running_executable() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(self_hash().unwrap(), ContentHash::of(&bytes));
    }
}
