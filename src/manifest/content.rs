//! Hashes of what entries hold, made on demand: one file's, or a whole directory's.

use crate::delta::{UntilCancelled, hash_file};
use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::error::Result;
use crate::fs::{self, ListScratch};
use crate::manifest::listing::Lister;
use crate::path::RelPath;

/// The hash of one file; `None` where it cannot be read.
pub fn hash_of(lister: &Lister<'_>, path: &RelPath) -> Option<Digest> {
    let dir = lister.root.open_dir(&path.parent()?).ok()?;
    let file = dir.open_file(&path.file_name()?).ok()?;
    let len = fs::stat_file(&file).ok()?.meta.size;
    let file = UntilCancelled(&file, lister.cancel);
    hash_file(&file, len).ok().map(|hash| Digest(hash.0))
}

/// The hash of all content in a directory: over the paths and content hashes of its files, in the
/// order of a walk by name. `None` where something cannot be read. Hashes that the state knows
/// are not made again.
pub fn hash_tree(lister: &Lister<'_>, top: &RelPath) -> Result<Option<Digest>> {
    let mut hasher = blake3::Hasher::new();
    let mut scratch = ListScratch::new();
    let mut stack = vec![top.clone()];
    while let Some(dir) = stack.pop() {
        lister.cancel.check()?;
        let Ok(open) = lister.root.open_dir(&dir) else {
            return Ok(None);
        };
        let Ok(listing) = lister.stats(&open, &dir, &mut scratch) else {
            return Ok(None);
        };
        let subdirs = listing
            .rows
            .iter()
            .filter(|row| row.entry.meta.kind == EntryKind::Dir);
        let subdirs: Vec<_> = subdirs.map(|row| dir.join(&row.entry.name)).collect();
        stack.extend(subdirs.into_iter().rev());
        let known = lister.known_facts(&open).unwrap_or_default();
        for row in &listing.rows {
            if row.entry.meta.kind != EntryKind::File {
                continue;
            }
            let fact = known
                .find(row.stat.ino)
                .map(|(_, fact)| fact)
                .filter(|fact| fact.matches(&row.stat));
            let hash = match fact {
                Some(fact) => fact.hash,
                None => match lister.hash(&open, &row.entry.name) {
                    Ok(hash) => hash,
                    Err(_) => return Ok(None),
                },
            };
            let path = dir.join(&row.entry.name);
            // Relative to the top, which has another name on the other side.
            let below = &path.as_bytes()[top.as_bytes().len()..];
            hasher.update(&(below.len() as u64).to_le_bytes());
            hasher.update(below);
            hasher.update(&hash.0);
        }
    }
    Ok(Some(hasher.finalize().into()))
}
