//! Tries whether something holds on this host, as a plan's checks ask: the answer is a sentence
//! either way, to be shown as it is.

mod file;
mod net;
mod readable;

use crate::error::Result;
use crate::events::Cancel;
use crate::protocol::errand::Probe;

/// What was found, or what is wrong.
type Sentence = Result<String, String>;

/// Tries once. What does not hold is no error; a wish to stop is.
pub(super) fn attempt(probe: &Probe, cancel: &Cancel) -> Result<Sentence> {
    match probe {
        Probe::Http {
            url,
            status,
            contains,
            timeout,
        } => {
            let wanted = net::Wanted {
                status: *status,
                contains: contains.clone(),
            };
            net::http(url.clone(), wanted, *timeout, cancel)
        }
        Probe::Tcp { address, timeout } => net::tcp(address.clone(), *timeout, cancel),
        Probe::File {
            path,
            exists,
            owner,
            group,
            mode,
            contains,
        } => {
            let wanted = file::Wanted {
                exists: *exists,
                owner: owner.as_deref(),
                group: group.as_deref(),
                mode: *mode,
                contains: contains.as_deref(),
            };
            cancel.check()?;
            Ok(file::check(path, &wanted))
        }
        Probe::ReadableAs { root, user } => readable::check(root, user, cancel),
    }
}

/// Whether `text` holds `part`.
fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// What a plan's text shows of itself in a sentence: it may be long, and hold anything.
fn quote(text: &str) -> String {
    const SHOWN: usize = 80;
    let shown: String = text.chars().take(SHOWN).collect();
    let rest = if shown.len() < text.len() { "..." } else { "" };
    format!("\"{}{rest}\"", crate::path::escape(shown.as_bytes()))
}
