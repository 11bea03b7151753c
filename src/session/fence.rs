//! Refuses to sync from or to a root that a switch has fenced off: its service lives elsewhere now,
//! and what is changed on one of two sides would be lost.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::events::Side;
use crate::fs::{Dir, marker_name};
use crate::host::marker;
use crate::path::escape;
use crate::protocol::errand::MarkerRole;
use crate::protocol::message::Mode;

/// Refuses a sync of an open root whose marker says that it is fenced off.
pub(crate) fn refuse_fenced(root: &Dir, path: &Path, side: Side, mode: Mode) -> Result<()> {
    if mode != Mode::Sync {
        return Ok(());
    }
    let file = path.join(marker_name().as_os_str());
    let file = file.as_os_str().as_bytes();
    let marker = marker::read(root).map_err(|err| Error::io("read", file, err))?;
    let Some(marker) = marker.filter(|marker| marker.role == MarkerRole::Fenced) else {
        return Ok(());
    };
    let direction = match side {
        Side::Source => "from",
        Side::Destination => "to",
    };
    Err(Error::Refused(format!(
        "{path} was switched to {other} by the plan {plan}, and nothing is synced {direction} it any \
         more; go back with `cutover rollback PLAN`, or, if the switch is to be forgotten, remove \
         {file}",
        path = escape(path.as_os_str().as_bytes()),
        other = escape(marker.other.as_bytes()),
        plan = escape(marker.plan.as_bytes()),
        file = escape(file),
    )))
}
