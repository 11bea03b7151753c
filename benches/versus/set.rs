//! A scenario's trees: made once, brought to where a run finds them, compared after it.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::data::{self, Content};
use crate::dump::Dump;
use crate::job::Tool;
use crate::stage::{Place, Stage, remove};
use crate::tools::{copy, listed_by_rsync};

/// Up to this many entries results are compared by the tests' own account of a tree; it holds
/// about a kilobyte an entry. Larger trees are compared by rsync.
const DUMP_ENTRIES: usize = 250_000;

/// The directories of all sets.
const NAMES: [&str; 7] = ["same", "changed", "flat", "grown", "small", "moved", "big"];

/// What is at the source, and at the destination before each run.
///
/// Where the source goes on changing, each contender has a destination of its own, as its last run
/// left it: a standby that is synced again and again, with whatever its tool remembers of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trees {
    /// The same on both sides.
    Same,
    /// The same on both sides, of files with content.
    SameContent,
    /// Many small files; nothing.
    New,
    /// One file of a tree grows.
    OneChanged,
    /// One file more in a huge directory.
    OneAdded,
    /// A thousand small files more, here and there.
    ManyAdded,
    /// A directory gets another name.
    Moved,
    /// 200 pages of a large file change.
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
    /// What contenders that have none of their own write to in turn.
    dst: PathBuf,
    /// Files, for figures by the file.
    pub(crate) entries: usize,
    /// The source's account, until it changes.
    account: RefCell<Option<Dump>>,
}

impl<'a> Set<'a> {
    /// Makes what earlier scenarios have not, and removes what this one does not share.
    pub(crate) fn prepare(stage: &'a Stage, place: Place, trees: Trees) -> Set<'a> {
        let sizes = stage.sizes;
        let (name, entries) = match trees {
            Trees::Same => ("same", sizes.files),
            Trees::OneChanged => ("changed", sizes.files.min(100_000)),
            Trees::OneAdded => ("flat", sizes.files.min(100_000)),
            Trees::ManyAdded => ("grown", sizes.small_files),
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
            account: RefCell::default(),
        };
        set.make();
        set
    }

    fn make(&self) {
        let (stage, src, sizes) = (self.stage, &self.src, self.stage.sizes);
        let tree = |root: &Path, content| {
            stage.make(root, |root| {
                data::tree(root, self.entries, sizes.levels, content)
            });
        };
        let big = |path: &Path, seed| stage.make(path, |path| data::big(path, sizes.big_mib, seed));
        match self.trees {
            Trees::Same | Trees::OneChanged | Trees::ManyAdded => tree(src, Content::Holes),
            Trees::OneAdded => stage.make(src, |src| data::flat(src, self.entries)),
            Trees::SameContent | Trees::New => tree(src, Content::Noise),
            Trees::Moved => tree(&src.join("moved"), Content::Noise),
            Trees::BigEdited | Trees::BigNew => big(&src.join("file"), 1),
            Trees::BigUnlike => {
                big(&src.join("file"), 1);
                big(&self.home.join("unlike/file"), 2);
            }
        }
        if self.is_same() {
            stage.make_copy(src, &self.dst);
        }
    }

    /// How large it is, for people.
    pub(crate) fn size(&self) -> String {
        let sizes = self.stage.sizes;
        match self.trees {
            Trees::BigEdited | Trees::BigUnlike | Trees::BigNew => format!("{} MiB", sizes.big_mib),
            Trees::OneChanged if sizes.levels != 2 => {
                format!("{} files at depth {}", self.entries, sizes.levels)
            }
            _ => format!("{} files", self.entries),
        }
    }

    /// Where a contender writes to.
    pub(crate) fn dst(&self, tool: Tool) -> PathBuf {
        match self.is_followed() {
            true => self.home.join(format!("standby-{tool:?}")),
            false => self.dst.clone(),
        }
    }

    /// Whether the source goes on changing.
    pub(crate) fn is_followed(&self) -> bool {
        use Trees::{BigEdited, ManyAdded, Moved, OneAdded, OneChanged};
        matches!(
            self.trees,
            OneChanged | OneAdded | ManyAdded | Moved | BigEdited
        )
    }

    /// Whether a run finds nothing to do.
    pub(crate) fn is_same(&self) -> bool {
        matches!(self.trees, Trees::Same | Trees::SameContent)
    }

    /// Changes the source as it does from one round to the next, never the same way twice.
    pub(crate) fn advance(&self) {
        if !self.is_followed() {
            return;
        }
        self.account.take();
        let (src, levels, seed) = (&self.src, self.stage.sizes.levels, self.stage.new_seed());
        match self.trees {
            Trees::OneChanged => append(&src.join(data::dir(7, levels)).join("file-0000357.dat")),
            Trees::OneAdded => {
                data::empty(&src.join(format!("new-{seed}.dat")), seed);
                data::age_at(src, seed);
            }
            Trees::ManyAdded => data::add(src, self.entries, levels, seed),
            Trees::Moved => {
                let name = fs::read_dir(src).unwrap().next().unwrap().unwrap().path();
                fs::rename(name, src.join(format!("moved-{seed}"))).unwrap();
                data::age_at(src, seed);
            }
            Trees::BigEdited => data::edit(&src.join("file"), seed),
            _ => unreachable!("it is not followed"),
        }
    }

    /// Makes a destination that is shared what it is before a run, and lets the disk come to rest.
    pub(crate) fn reset(&self) {
        match self.trees {
            Trees::New | Trees::BigNew => self.put_away(),
            Trees::BigUnlike => {
                self.put_away();
                copy(&self.home.join("unlike"), &self.dst);
            }
            _ => {}
        }
        if !self.is_same() {
            rustix::fs::sync();
        }
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

    /// Removes what was put away, and from memory what the contenders wrote.
    pub(crate) fn clear(&self, tools: impl Iterator<Item = Tool>) {
        remove(&self.spent());
        if self.place == Place::Memory {
            tools.for_each(|tool| remove(&self.dst(tool)));
        }
    }

    fn spent(&self) -> PathBuf {
        self.home.join("spent")
    }

    /// How a contender's destination differs from the source, by an account that shares no code
    /// with ours.
    pub(crate) fn difference(&self, tool: Tool) -> Option<String> {
        let dst = self.dst(tool);
        if self.entries > DUMP_ENTRIES {
            return listed_by_rsync(&self.src, &dst, &[]);
        }
        let mut account = self.account.borrow_mut();
        let source = account.get_or_insert_with(|| Dump::of(&self.src));
        let copy = Dump::of(&dst);
        let lines = match tool {
            // It gave directories no times before its version 1.66.
            Tool::Rclone => {
                let source = source.clone().without("mtime");
                source.differences(&copy.without("mtime"))
            }
            _ => source.differences(&copy),
        };
        lines.into_iter().next()
    }
}

fn append(path: &Path) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(b"one more line\n").unwrap();
}
