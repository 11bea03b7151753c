//! One run from its first event to its exit code: the same for every command that has one.

use std::sync::Arc;

use crate::error::Error;
use crate::events::{Observer, Summary};
use crate::session::{Cancel, Mode};
use crate::ui::{Output, Ui, View, printable};

use super::exit::{FAILED, exit_code, exit_code_without_reader};
use super::signals;

/// Runs `work` under the eyes of whom `view` describes, stopped by signals; returns the exit
/// code.
pub(super) fn observed(
    mode: Mode,
    view: View,
    work: impl FnOnce(Arc<dyn Observer>, &Cancel) -> Result<Summary, Error>,
) -> Result<u8, Error> {
    let cancel = Cancel::default();
    signals::cancel_on_signals(&cancel)?;
    let ui = Arc::new(Ui::open(view, &cancel));
    let observer: Arc<dyn Observer> = Arc::<Ui>::clone(&ui);
    let outcome = work(observer, &cancel);
    let code = exit_code(mode, &outcome);
    Ok(match ui.close(&outcome, code) {
        Output::Written => code,
        Output::ReaderLeft if matches!(outcome, Err(Error::Interrupted)) => {
            exit_code_without_reader(mode)
        }
        Output::ReaderLeft => code,
        Output::Failed(err) => {
            let err = printable(&err.to_string());
            eprintln!("cutover: cannot write to standard output: {err}");
            FAILED
        }
    })
}
