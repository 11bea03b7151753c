//! A scenario's trees: made once, brought back to where they were before each run, compared after
//! it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::data::{self, Content};
use crate::dump::Dump;
use crate::stage::{Place, Stage, copy, remove};

/// Up to this many entries results are compared by the tests' own account of a tree; it holds
/// about a kilobyte an entry. Larger trees are compared by rsync.
const DUMP_ENTRIES: usize = 250_000;

/// The directories of all sets.
const NAMES: [&str; 6] = ["same", "changed", "added", "small", "moved", "big"];

/// What is at the source, and at the destination before each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trees {
    /// The same on both sides.
    Same,
    /// The same on both sides, of files with content.
    SameContent,
    /// Many small files; nothing.
    New,
    /// The same but for one file.
    OneChanged,
    /// One huge directory; the same but for one file.
    OneAdded,
    /// A tree; the same tree under another name.
    Moved,
    /// A large file; what it was before 200 pages changed.
    BigEdited,
    /// A large file; another of the same size.
    BigUnlike,
    /// A large file; nothing.
    BigNew,
}

/// A scenario's trees in their places.
pub(crate) struct Set<'a> {
    stage: &'a Stage,
    trees: Trees,
    place: Place,
    home: PathBuf,
    pub(crate) src: PathBuf,
    pub(crate) dst: PathBuf,
    /// Files, for figures by the file.
    pub(crate) entries: usize,
}

impl<'a> Set<'a> {
    /// Makes what earlier scenarios have not, and removes what this one does not share.
    pub(crate) fn prepare(stage: &'a Stage, place: Place, trees: Trees) -> Set<'a> {
        let sizes = stage.sizes;
        let (name, entries) = match trees {
            Trees::Same => ("same", sizes.files),
            Trees::OneChanged => ("changed", sizes.files.min(100_000)),
            Trees::OneAdded => ("added", sizes.files.min(100_000)),
            Trees::SameContent | Trees::New => ("small", sizes.small_files),
            Trees::Moved => ("moved", sizes.small_files),
            Trees::BigEdited | Trees::BigUnlike | Trees::BigNew => ("big", 1),
        };
        let base = stage.dir(place);
        let home = base.join(name);
        // One set at a time in each place.
        let others = NAMES.iter().filter(|other| **other != name);
        others.for_each(|other| stage.clear(&base.join(other)));
        let set = Set {
            stage,
            trees,
            place,
            src: home.join("src"),
            // A set that two scenarios share has a destination for each.
            dst: home.join(if trees == Trees::New { "new" } else { "dst" }),
            home,
            entries,
        };
        set.make();
        set
    }

    fn make(&self) {
        let (stage, src, sizes) = (self.stage, &self.src, self.stage.sizes);
        match self.trees {
            Trees::Same | Trees::OneChanged => {
                stage.make(src, |src| data::tree(src, self.entries, Content::Holes));
            }
            Trees::OneAdded => stage.make(src, |src| data::flat(src, self.entries)),
            Trees::SameContent | Trees::New => {
                stage.make(src, |src| data::tree(src, self.entries, Content::Noise));
            }
            Trees::Moved => {
                let after = src.join("after");
                stage.make(&after, |after| {
                    data::tree(after, self.entries, Content::Noise)
                });
                stage.make_copy(src, &self.home.join("old"));
                let old = self.home.join("old");
                if old.join("after").exists() {
                    fs::rename(old.join("after"), old.join("before")).unwrap();
                }
            }
            Trees::BigEdited | Trees::BigUnlike | Trees::BigNew => {
                let file = |dir: &str| self.home.join(dir).join("file");
                stage.make(&file("old"), |path| data::big(path, sizes.big_mib, 1));
                stage.make(&file("unlike"), |path| data::big(path, sizes.big_mib, 2));
                stage.make(&file("src"), |path| {
                    copy(&self.home.join("old"), path.parent().unwrap());
                    data::edit(path);
                });
            }
        }
        if self.is_repeated() {
            stage.make_copy(src, &self.dst);
        }
    }

    /// Whether the destination is as the run before left it.
    pub(crate) fn is_repeated(&self) -> bool {
        use Trees::{OneAdded, OneChanged, Same, SameContent};
        matches!(self.trees, Same | SameContent | OneChanged | OneAdded)
    }

    /// Whether a run finds nothing to do.
    pub(crate) fn is_same(&self) -> bool {
        matches!(self.trees, Trees::Same | Trees::SameContent)
    }

    /// Makes the destination what it is before a run, and lets the disk come to rest.
    pub(crate) fn reset(&self) {
        match self.trees {
            Trees::Same | Trees::SameContent => return,
            Trees::New | Trees::BigNew => self.put_away(),
            Trees::OneChanged => append(&self.some_file()),
            Trees::OneAdded => fs::remove_file(self.dst.join("file-0000001.dat")).unwrap(),
            Trees::Moved | Trees::BigEdited => self.replace("old"),
            Trees::BigUnlike => self.replace("unlike"),
        }
        rustix::fs::sync();
    }

    /// Moves what the last run made out of the way. In memory it goes at once. On a disk it stays
    /// until the scenario is over: ext4 does not reuse the inodes of what was deleted within the
    /// last half minute, and looking for others took more processor time than the copy itself.
    fn put_away(&self) {
        if self.place == Place::Memory || !self.dst.exists() {
            return remove(&self.dst);
        }
        let spent = self.spent();
        fs::create_dir_all(&spent).unwrap();
        let number = fs::read_dir(&spent).unwrap().count();
        fs::rename(&self.dst, spent.join(number.to_string())).unwrap();
    }

    /// Removes what was put away.
    pub(crate) fn clear(&self) {
        remove(&self.spent());
    }

    fn spent(&self) -> PathBuf {
        self.home.join("spent")
    }

    fn replace(&self, original: &str) {
        self.put_away();
        copy(&self.home.join(original), &self.dst);
    }

    fn some_file(&self) -> PathBuf {
        self.src.join("group-000/dir-00007/file-0000357.dat")
    }

    /// How the destination differs from the source, by an account that shares no code with ours.
    pub(crate) fn difference(&self) -> Option<String> {
        if self.entries <= DUMP_ENTRIES {
            let lines = Dump::of(&self.src).differences(&Dump::of(&self.dst));
            return lines.into_iter().next();
        }
        listed_by_rsync(&self.src, &self.dst)
    }
}

/// The first line that rsync would itemize, where there is an rsync to ask.
fn listed_by_rsync(src: &Path, dst: &Path) -> Option<String> {
    let output = Command::new("rsync")
        .args(["-aHAXni", "--delete"])
        .args([src.join(""), dst.join("")])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned)
}

fn append(path: &Path) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(b"one more line\n").unwrap();
}
