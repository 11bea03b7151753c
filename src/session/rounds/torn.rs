//! SQLite databases that were written to while they were copied. A copy of one that was at rest is
//! what a power cut would have left, and opens; another may be of two moments.

use std::collections::BTreeSet;
use std::io::Read;

use crate::fs::Dir;
use crate::path::{Name, RelPath};
use crate::watch::Dirty;

/// What SQLite puts beside a database, after its name.
const COMPANIONS: [&[u8]; 3] = [b"-wal", b"-journal", b"-shm"];

/// How a database begins (<https://www.sqlite.org/fileformat.html>, section 1.3).
const HEADER: &[u8; 16] = b"SQLite format 3\0";

/// Databases whose last copy is of more than one moment.
#[derive(Debug, Default)]
pub(super) struct Torn(BTreeSet<RelPath>);

impl Torn {
    /// Takes in a round that is over: what it sent (all, for `None`), and which entries changed
    /// since it began. Returns the databases that are torn now, if they are others.
    pub(super) fn take(
        &mut self,
        root: &Dir,
        sent: Option<&Dirty>,
        changed: &[(RelPath, Name)],
    ) -> Option<Vec<RelPath>> {
        let was_sent = |dir: &RelPath| sent.is_none_or(|sent| sent.contains(dir));
        let before = self.0.clone();
        self.0
            .retain(|path| !was_sent(&path.parent().unwrap_or_default()));
        let hit = changed.iter().filter(|(dir, _)| was_sent(dir));
        self.0
            .extend(hit.filter_map(|(dir, name)| database(root, dir, name)));
        (self.0 != before).then(|| self.0.iter().cloned().collect())
    }
}

/// The database that an entry is, or is beside.
fn database(root: &Dir, dir: &RelPath, name: &Name) -> Option<RelPath> {
    let bytes = name.as_bytes();
    let stem = COMPANIONS
        .iter()
        .find_map(|suffix| bytes.strip_suffix(*suffix));
    let name = match stem {
        Some(stem) => Name::new(stem).ok()?,
        None => name.clone(),
    };
    let mut header = [0; HEADER.len()];
    let mut file = root.open_dir(dir).ok()?.open_file(&name).ok()?;
    file.read_exact(&mut header).ok()?;
    (header == *HEADER).then(|| dir.join(&name))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::watch::{Now, Pending};

    #[test]
    fn a_database_is_torn_until_a_round_finds_it_at_rest() {
        let base = tempfile::tempdir().unwrap();
        std::fs::write(
            base.path().join("app.db"),
            [HEADER.as_slice(), &[0; 84]].concat(),
        )
        .unwrap();
        std::fs::write(base.path().join("notes"), "text").unwrap();
        let root = Dir::open_root(base.path()).unwrap();
        let change = |name: &str| (RelPath::root(), Name::new(name.as_bytes()).unwrap());
        let path = RelPath::new(b"app.db").unwrap();
        let mut torn = Torn::default();
        assert_eq!(torn.take(&root, None, &[change("notes")]), None);
        let now = torn.take(&root, None, &[change("app.db-wal"), change("app.db")]);
        assert_eq!(now, Some(vec![path]));
        let now = Now::by_clocks();
        let mut pending = Pending::new(Duration::ZERO, Duration::ZERO);
        pending.note(&RelPath::new(b"d").unwrap(), None, now);
        let elsewhere = pending.take_all();
        assert_eq!(
            torn.take(&root, Some(&elsewhere), &[]),
            None,
            "not sent again"
        );
        pending.note_subtree(&RelPath::root(), now);
        let everything = pending.take_all();
        assert_eq!(torn.take(&root, Some(&everything), &[]), Some(Vec::new()));
    }

    #[test]
    fn a_database_beneath_what_was_sent_is_torn_as_well() {
        let base = tempfile::tempdir().unwrap();
        std::fs::create_dir(base.path().join("d")).unwrap();
        std::fs::write(base.path().join("d/app.db"), HEADER).unwrap();
        let root = Dir::open_root(base.path()).unwrap();
        let mut pending = Pending::new(Duration::ZERO, Duration::ZERO);
        pending.note_subtree(&RelPath::root(), Now::by_clocks());
        let everything = pending.take_all();
        let changed = [(RelPath::new(b"d").unwrap(), Name::new(b"app.db").unwrap())];
        let now = Torn::default().take(&root, Some(&everything), &changed);
        assert_eq!(now, Some(vec![RelPath::new(b"d/app.db").unwrap()]));
    }
}
