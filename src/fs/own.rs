//! The names in a root that are cutover's own. Whatever is done with a root, they take no part in
//! it: on neither side are they listed, compared, synced or deleted.

use crate::path::Name;

/// Where deleted and replaced entries go, unless another place was given.
const TRASH: &str = ".cutover-trash";

/// Where former states of the root are kept.
const KEPT: &str = ".cutover-kept";

/// What says what the root is in a plan.
const MARKER: &str = ".cutover-marker";

/// Whether `name`, in a root, is one of ours.
pub fn is_own_name(name: &[u8]) -> bool {
    [TRASH, KEPT, MARKER]
        .iter()
        .any(|own| own.as_bytes() == name)
}

/// The trash's name in a root.
pub fn trash_name() -> Name {
    own(TRASH)
}

/// The name, in a root, of the directory that keeps its former states.
pub fn kept_name() -> Name {
    own(KEPT)
}

/// The marker's name in a root.
pub fn marker_name() -> Name {
    own(MARKER)
}

fn own(name: &str) -> Name {
    Name::new(name.as_bytes()).expect("a short name without a slash")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_ours() {
        for name in [trash_name(), kept_name(), marker_name()] {
            assert!(is_own_name(name.as_bytes()), "{name}");
        }
        for other in [&b".cutover"[..], b".cutover-trash2", b"cutover-kept", b""] {
            assert!(!is_own_name(other), "{other:?}");
        }
    }
}
