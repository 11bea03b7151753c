//! A program that changes a tree at random, as people and services do: what a mirror must keep up
//! with. The same seed on the same tree makes the same changes, times apart.

mod acts;
mod known;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use walkdir::WalkDir;

use crate::common::tree::Noise;
use acts::{ACTS, Act, LIGHTEN, THIN_OUT};
use known::{Kind, Known};

/// How many acts a report tells.
const TOLD: usize = 200;

/// How deep directories are moved and filled, about, so that a path fits one system call.
const MOST_LEVELS: usize = 10;

/// Names that have been trouble somewhere; numbers make more of them.
const STEMS: [&[u8]; 12] = [
    b"file",
    b"notes.txt",
    b"a b",
    b"-rf",
    b".hidden",
    b"na\xc3\xafve",
    b"new\nline",
    b"raw\xff\xfe",
    b"back\\slash",
    b"'quoted\"",
    b"*",
    b"long-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789-0123456789",
];

/// How large a tree may become before something is deleted.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Entries.
    pub entries: usize,
    /// Content.
    pub bytes: u64,
    /// Files that come at once, at most.
    pub burst: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            entries: 2000,
            bytes: 32 << 20,
            burst: 300,
        }
    }
}

/// Changes one tree.
pub struct Churner {
    root: PathBuf,
    /// Where directories go that leave the tree, to come back later.
    aside: PathBuf,
    seed: u64,
    random: Noise,
    bounds: Bounds,
    known: Known,
    count: u64,
    done: BTreeMap<&'static str, u64>,
    log: VecDeque<String>,
}

impl Churner {
    /// One for the tree at `root`, which is there. What it moves out of the tree is kept beside it,
    /// in a directory with `-aside` added to its name.
    pub fn new(root: &Path, seed: u64, bounds: Bounds) -> Churner {
        let mut aside = root.as_os_str().to_os_string();
        aside.push("-aside");
        Churner {
            root: root.into(),
            aside: aside.into(),
            seed,
            random: Noise::seeded(&seed.to_le_bytes()),
            bounds,
            known: Known::of(root),
            count: 0,
            done: BTreeMap::new(),
            log: VecDeque::new(),
        }
    }

    /// Changes something.
    pub fn act(&mut self) {
        self.count += 1;
        let makes_room = match self.bounds {
            Bounds { entries, .. } if self.known.len() > entries => self.try_act(&THIN_OUT),
            Bounds { bytes, .. } if self.known.bytes() > bytes => self.try_act(&LIGHTEN),
            _ => false,
        };
        if makes_room {
            return;
        }
        loop {
            let act = self.choose();
            if self.try_act(act) {
                return;
            }
        }
    }

    /// Changes something so many times.
    pub fn acts(&mut self, count: u64) {
        for _ in 0..count {
            self.act();
        }
    }

    /// Changes something all the time, with a pause of up to `pause` after each act.
    pub fn churn_for(&mut self, time: Duration, pause: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.act();
            let pause_us = self.below(pause.as_micros() as u64 + 1);
            std::thread::sleep(Duration::from_micros(pause_us));
        }
    }

    /// What was done last and how to have it done again.
    pub fn report(&self) -> String {
        let mut text = format!("seed {}, {} acts; the last:\n", self.seed, self.count);
        for line in &self.log {
            text += &format!("  {line}\n");
        }
        text
    }

    /// How often each act was done.
    pub fn done(&self) -> &BTreeMap<&'static str, u64> {
        &self.done
    }

    fn choose(&mut self) -> &'static Act {
        let mut at = self.below(ACTS.iter().map(|act| act.weight).sum());
        let chosen = ACTS.iter().find(|act| {
            let is_it = at < act.weight;
            at = at.saturating_sub(act.weight);
            is_it
        });
        chosen.unwrap()
    }

    /// Whether it was done, or failed half-way; either is a change.
    fn try_act(&mut self, act: &Act) -> bool {
        let line = match (act.run)(self) {
            Ok(None) => return false,
            Ok(Some((told, touched))) => {
                for path in touched {
                    self.known.look(&self.root, &path);
                }
                *self.done.entry(act.name).or_default() += 1;
                format!("{} {}: {told}", self.count, act.name)
            }
            Err(err) => {
                // Somebody else changes the tree too.
                self.known = Known::of(&self.root);
                format!("{} {}: {err}", self.count, act.name)
            }
        };
        self.log.push_back(line);
        if self.log.len() > TOLD {
            self.log.pop_front();
        }
        true
    }
}

/// What the acts choose by.
impl Churner {
    fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Touches the other names of the files at and below a path whose names are about to go. What was
    /// written through these a moment ago is told of their directories only, and once they have gone
    /// unread nobody can know of it before all is read again.
    fn lose(&self, path: &Path) -> io::Result<()> {
        let shared = |meta: &Metadata| meta.is_file() && meta.nlink() > 1;
        let going = WalkDir::new(self.at(path)).into_iter().flatten();
        let going: HashSet<_> = going
            .filter_map(|entry| entry.metadata().ok().filter(shared))
            .map(|meta| meta.ino())
            .collect();
        if going.is_empty() {
            return Ok(());
        }
        for other in WalkDir::new(&self.root).into_iter().flatten() {
            let meta = other.metadata()?;
            if shared(&meta) && going.contains(&meta.ino()) {
                fs::set_permissions(other.path(), meta.permissions())?;
            }
        }
        Ok(())
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.number() % bound
    }

    fn pick(&mut self, suits: impl Fn(Kind) -> bool) -> Option<PathBuf> {
        self.known.pick(&mut self.random, suits)
    }

    fn name(&mut self) -> PathBuf {
        let mut name = STEMS[self.below(STEMS.len() as u64) as usize].to_vec();
        name.extend(self.below(30).to_string().bytes());
        PathBuf::from(OsStr::from_bytes(&name))
    }

    /// A path in some directory that nothing has.
    fn free_path(&mut self) -> PathBuf {
        let dir = self.pick(|kind| kind == Kind::Dir).unwrap_or_default();
        // Now and then the root, which is not among the known.
        let is_too_deep = dir.components().count() >= MOST_LEVELS - 2;
        let dir = match self.below(5) == 0 || is_too_deep {
            true => PathBuf::new(),
            false => dir,
        };
        loop {
            let path = dir.join(self.name());
            if !self.known.has(&path) {
                return path;
            }
            if self.below(10) == 0 {
                return dir.join(format!("another-{}", self.count));
            }
        }
    }

    /// Whether a directory would lie too deep under another name.
    fn is_too_deep(&self, from: &Path, to: &Path) -> bool {
        to.components().count() + self.known.depth_below(from) > MOST_LEVELS
    }

    /// Small as a rule.
    fn content(&mut self) -> Vec<u8> {
        let most = match self.below(20) {
            0 => 600_000,
            1..5 => 40_000,
            _ => 3000,
        };
        let length = self.below(most);
        self.random.bytes(length)
    }

    /// Makes a directory with a few entries.
    fn fill(&mut self, path: &Path) -> io::Result<()> {
        let top = self.at(path);
        fs::create_dir(&top)?;
        let mut dir = top;
        for _ in 0..self.below(3) {
            dir.push(self.name());
            fs::create_dir(&dir)?;
        }
        for _ in 0..self.below(5) {
            let name = self.name();
            fs::write(dir.join(name), self.content())?;
        }
        Ok(())
    }
}
