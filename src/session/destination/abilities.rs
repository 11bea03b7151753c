//! What the destination can hold: found out once for a filesystem, then remembered.

use std::path::Path;

use crate::error::{Error, Result};
use crate::fs::{self, Abilities, Dir};
use crate::manifest::state::State;
use crate::session::destination::DestinationRole;
use crate::session::root::DestinationRoot;
use crate::session::state_notes;

impl DestinationRole<'_> {
    /// What the destination can hold: found out once for a filesystem, then remembered.
    pub(super) fn abilities(
        &self,
        root: &DestinationRoot,
        state: Option<&State>,
    ) -> Result<Abilities> {
        let Some(dir) = &root.dir else {
            // Not there yet, and a dry run makes nothing.
            return probe(&root.nearest()?, self.root);
        };
        let key = state_notes(dir)
            .into_iter()
            .find(|(name, _)| *name == "device");
        let same_device = key
            .is_some_and(|(name, value)| state.and_then(|state| state.note(name)) == Some(value));
        if same_device
            && let Some(note) = state.and_then(|state| state.note("abilities"))
            && let Ok((me, abilities)) = postcard::from_bytes::<(u32, Abilities)>(&note)
            && me == fs::Process::current().uid
        {
            return Ok(abilities);
        }
        probe(dir, self.root)
    }
}

/// What the next run need not find out again.
pub(super) fn note(dir: &Dir) -> Option<(&'static str, Vec<u8>)> {
    let abilities = fs::probe(dir).ok()?;
    let me = fs::Process::current().uid;
    // Plain values can always be written; without the note the next run probes again.
    let note = postcard::to_stdvec(&(me, abilities)).unwrap_or_default();
    Some(("abilities", note))
}

fn probe(dir: &Dir, path: &Path) -> Result<Abilities> {
    fs::probe(dir).map_err(|err| Error::io("probe", path.as_os_str().as_encoded_bytes(), err))
}
