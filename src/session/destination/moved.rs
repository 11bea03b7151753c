//! Where entries of the destination are, before and after the moves of a plan: what is known of them
//! by one of their paths is asked for by the other.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::path::RelPath;
use crate::session::destination::plan::Plan;

/// Where entries of ours will be when the moves of a plan are done.
pub(super) struct Moved(HashMap<RelPath, RelPath>);

impl Moved {
    /// The moves that are planned so far.
    pub(super) fn of(plan: &Plan) -> Moved {
        let moves = plan.moves.iter().map(Cow::into_owned);
        Moved(moves.map(|moved| (moved.from, moved.to)).collect())
    }

    /// The same moves undone: where what will be at a path is still.
    pub(super) fn back(plan: &Plan) -> Moved {
        let moves = plan.moves.iter().map(Cow::into_owned);
        Moved(moves.map(|moved| (moved.to, moved.from)).collect())
    }

    pub(super) fn where_now(&self, path: &RelPath) -> RelPath {
        let found = path
            .ancestors()
            .find_map(|from| Some((self.0.get(&from)?, from)));
        let Some((to, from)) = found else {
            return path.clone();
        };
        let below = &path.as_bytes()[from.as_bytes().len()..];
        // Both halves are paths, so the whole is one.
        RelPath::new(&[to.as_bytes(), below].concat()).unwrap_or_else(|_| path.clone())
    }
}
