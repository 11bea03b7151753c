//! Exit codes: what scripts read of a run.

use crate::error::Error;
use crate::events::Summary;
use crate::session::Mode;

/// Done; nothing differs.
const DONE: u8 = 0;
/// The two sides differ (`diff`, `verify`).
const DIFFERENT: u8 = 1;
/// Some entries failed.
pub(super) const FAILED: u8 = 3;
/// Some entries would not hold still, and nothing else was wrong.
const CHURN: u8 = 4;

/// The exit code of a run, as the README documents them.
///
/// What failed comes before what differs, since a comparison with holes is not to be relied on;
/// what differs comes before churn, which may be nothing.
pub fn exit_code(mode: Mode, outcome: &Result<Summary, Error>) -> u8 {
    let summary = match outcome {
        Ok(summary) => summary,
        Err(err) => return err.class().exit_code(),
    };
    let differs = summary.differs && matches!(mode, Mode::Diff | Mode::Verify);
    match summary {
        _ if summary.problems > 0 => FAILED,
        _ if differs => DIFFERENT,
        _ if summary.churn > 0 => CHURN,
        _ => DONE,
    }
}

/// The exit code of a run that was stopped because nobody reads its lines any more: a comparison
/// has told of a difference by then, since it has no other lines before its verdict.
pub(super) fn exit_code_without_reader(mode: Mode) -> u8 {
    match mode {
        Mode::Sync => DONE,
        Mode::Diff | Mode::Verify => DIFFERENT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorClass, RemoteError};
    use std::io;

    fn ended(problems: u64, differs: bool, churn: u64) -> Result<Summary, Error> {
        Ok(Summary {
            problems,
            differs,
            churn,
            ..Summary::default()
        })
    }

    #[test]
    fn a_finished_run_is_judged_by_its_worst() {
        use Mode::{Diff, Sync, Verify};
        let cases = [
            (Sync, ended(0, false, 0), 0),
            (Sync, ended(0, true, 0), 0),
            (Sync, ended(0, true, 2), 4),
            (Sync, ended(1, true, 2), 3),
            (Diff, ended(0, false, 0), 0),
            (Diff, ended(0, true, 0), 1),
            (Verify, ended(0, false, 0), 0),
            (Verify, ended(0, true, 0), 1),
            (Verify, ended(0, true, 1), 1),
            (Verify, ended(0, false, 1), 4),
            (Verify, ended(1, true, 0), 3),
        ];
        for (mode, outcome, code) in cases {
            assert_eq!(exit_code(mode, &outcome), code, "{mode:?} {outcome:?}");
        }
    }

    #[test]
    fn an_error_is_told_by_its_class_whichever_end_it_came_from() {
        let remote = |class| {
            Error::Remote(RemoteError {
                class,
                message: String::new(),
            })
        };
        let cases = [
            (Error::Usage("x".into()), 2),
            (Error::io("open", "x", io::ErrorKind::NotFound), 3),
            (Error::Refused("x".into()), 5),
            (Error::Connection("x".into()), 6),
            (Error::protocol("x"), 6),
            (Error::Locked("x".into()), 7),
            (Error::Interrupted, 130),
            (remote(ErrorClass::Refused), 5),
            (remote(ErrorClass::Locked), 7),
        ];
        for (err, code) in cases {
            let outcome = Err(err);
            assert_eq!(exit_code(Mode::Sync, &outcome), code, "{outcome:?}");
        }
    }

    #[test]
    fn a_comparison_cut_short_by_its_reader_has_found_something() {
        assert_eq!(exit_code_without_reader(Mode::Verify), 1);
        assert_eq!(exit_code_without_reader(Mode::Sync), 0);
    }
}
