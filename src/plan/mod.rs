//! Plans: everything that belongs together when a service moves, in one file. Read, resolved on
//! both hosts, looked at before anything is done, and synced root by root.

mod hosts;
pub mod model;
mod nest;
mod preflight;
pub mod preset;
mod read;
mod resolve;
mod run;
pub mod schema;
mod show;
pub mod units;
mod words;

pub use hosts::{Attempt, Hosts};
pub use preflight::{Finding, Verdict, preflight, unreachable};
pub use read::{Loaded, load, load_bytes};
pub use resolve::{Resolved, ResolvedCheck, ResolvedRoot, Tried, Verb, resolve};
pub use run::{run_roots, sync_warm, total};
pub use show::{Shown, ShownCommand, ShownHost, ShownRoot, Size, show};

/// The variable that tells commands where a root is.
fn root_variable(name: &str) -> String {
    let letter = |c: char| {
        if c == '-' {
            '_'
        } else {
            c.to_ascii_uppercase()
        }
    };
    let name: String = name.chars().map(letter).collect();
    format!("CUTOVER_ROOT_{name}")
}

/// Permission bits in octal.
fn parse_mode(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|digit| digit.is_ascii_digit());
    let mode = u16::from_str_radix(text, 8).ok()?;
    (digits && mode <= 0o7777).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_have_variables_that_a_shell_can_name() {
        assert_eq!(root_variable("state"), "CUTOVER_ROOT_STATE");
        assert_eq!(root_variable("my-work_2"), "CUTOVER_ROOT_MY_WORK_2");
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("0600"), Some(0o600));
        assert_eq!(parse_mode("4755"), Some(0o4755));
        for bad in ["", "888", "+600", "rw", "17777"] {
            assert_eq!(parse_mode(bad), None, "{bad}");
        }
    }
}
