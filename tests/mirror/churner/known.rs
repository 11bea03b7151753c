//! What a churner knows to be in its tree, so that it need not walk it before every act.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::common::tree::Noise;

/// What an entry is, as far as the choice of an act depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file of so many bytes.
    File(u64),
    /// A directory.
    Dir,
    /// A symlink or a FIFO.
    Other,
}

impl Kind {
    /// Whether it is a regular file.
    pub fn is_file(self) -> bool {
        matches!(self, Kind::File(_))
    }
}

/// All entries but the root, by path, in one order whatever order they are listed in.
#[derive(Default)]
pub struct Known {
    entries: BTreeMap<PathBuf, Kind>,
    bytes: u64,
}

impl Known {
    /// Looks at everything.
    pub fn of(root: &Path) -> Known {
        let mut known = Known::default();
        known.look(root, Path::new(""));
        known
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// What their files hold, a file with several names several times.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is such an entry.
    pub fn has(&self, path: &Path) -> bool {
        self.entries.contains_key(path)
    }

    /// How many entries are below a directory.
    pub fn count_below(&self, dir: &Path) -> usize {
        self.below(dir).count() - 1
    }

    /// How many levels deep the entries below a directory go, counted from it.
    pub fn depth_below(&self, dir: &Path) -> usize {
        let depths = self.below(dir).map(|path| path.components().count());
        depths.max().unwrap_or(0) - dir.components().count()
    }

    /// One of the entries that `suits`.
    pub fn pick(&self, random: &mut Noise, suits: impl Fn(Kind) -> bool) -> Option<PathBuf> {
        let suiting = || self.entries.iter().filter(|(_, kind)| suits(**kind));
        let count = suiting().count() as u64;
        let at = random.number().checked_rem(count)?;
        suiting().nth(at as usize).map(|(path, _)| path.clone())
    }

    /// The file that holds the most.
    pub fn largest(&self) -> Option<PathBuf> {
        let files = self.entries.iter().filter_map(|(path, kind)| match kind {
            Kind::File(bytes) => Some((bytes, path)),
            _ => None,
        });
        files.max().map(|(_, path)| path.clone())
    }

    /// Looks again at a path and all below it, be it there or not.
    pub fn look(&mut self, root: &Path, path: &Path) {
        let gone: Vec<_> = self.below(path).map(Path::to_path_buf).collect();
        for path in gone {
            if let Some(Kind::File(bytes)) = self.entries.remove(&path) {
                self.bytes -= bytes;
            }
        }
        for entry in WalkDir::new(root.join(path)) {
            let Ok(entry) = entry else { continue };
            let path = entry.path().strip_prefix(root).unwrap();
            if path.as_os_str().is_empty() {
                continue;
            }
            let kind = match entry.file_type() {
                kind if kind.is_dir() => Kind::Dir,
                kind if kind.is_file() => Kind::File(entry.metadata().map_or(0, |meta| meta.len())),
                _ => Kind::Other,
            };
            if let Kind::File(bytes) = kind {
                self.bytes += bytes;
            }
            self.entries.insert(path.into(), kind);
        }
    }

    /// A path and those below it, which follow it: paths are ordered by their components.
    fn below<'a>(&'a self, top: &'a Path) -> impl Iterator<Item = &'a Path> {
        let from = self.entries.range(top.to_path_buf()..);
        let paths = from.map(|(path, _)| path.as_path());
        paths.take_while(move |path| path.starts_with(top))
    }
}
