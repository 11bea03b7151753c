//! What is found out about roots without changing them.

use crate::error::Result;
use crate::events::Cancel;
use crate::protocol::errand::{Answer, Errand};

/// Runs an errand that only looks; `None` where it does something else.
pub(super) fn answer(_errand: &Errand, _cancel: &Cancel) -> Option<Result<Answer>> {
    None
}
