//! The scenarios: what is in the trees before each run, what is asked for, who contends, and the
//! rounds that measure it.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::calls::{self, Calls};
use crate::data::{self, Content};
use crate::dump::Dump;
use crate::job::{Flags, Job, Taken, Tool, Watch};
use crate::stage::{Place, Stage, copy, remove};

/// Up to this many entries results are compared by the tests' own account of a tree; it holds
/// about a kilobyte an entry. Larger trees are compared by rsync.
const DUMP_ENTRIES: usize = 250_000;

/// What is measured.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    far: bool,
    place: Place,
    flags: Flags,
    trees: Trees,
    tools: &'static [Tool],
}

/// What is at the source, and at the destination before each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trees {
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

/// Modes, owners and times: what `rsync -a` keeps.
const PLAIN: Flags = Flags {
    cutover: &["--no-xattrs", "--no-acls", "--no-hard-links"],
    rsync: &["-a"],
};

/// Hard links, ACLs and extended attributes too.
const FULL: Flags = Flags {
    cutover: &[],
    rsync: &["-aHAX"],
};

const CHECKSUM: Flags = Flags {
    cutover: &["--no-xattrs", "--no-acls", "--no-hard-links", "--checksum"],
    rsync: &["-a", "--checksum"],
};

const DELTA: Flags = Flags {
    cutover: &[
        "--no-xattrs",
        "--no-acls",
        "--no-hard-links",
        "--no-whole-file",
    ],
    rsync: &["-a", "--no-whole-file"],
};

const MIRROR: Flags = Flags {
    cutover: &[
        "--no-xattrs",
        "--no-acls",
        "--no-hard-links",
        "--delete",
        "--max-delete=100%",
    ],
    rsync: &["-a", "--delete"],
};

const PAIR: &[Tool] = &[Tool::Cutover, Tool::Rsync];

/// All scenarios, in the order in which they share data.
pub(crate) fn all() -> Vec<Scenario> {
    use Place::{Disk, Memory};
    use Tool::{Cp, Cutover, Durable, Rsync, RsyncGcm, Tar};
    let ssh = |name, about, place, trees, flags, tools| Scenario {
        name,
        about,
        far: true,
        place,
        flags,
        trees,
        tools,
    };
    let local = |name, about, place, trees, flags, tools| Scenario {
        far: false,
        ..ssh(name, about, place, trees, flags, tools)
    };
    let bulk: &[Tool] = &[Cutover, Rsync, RsyncGcm, Tar];
    vec![
        ssh(
            "unchanged-ssh",
            "nothing changed, as rsync -a",
            Disk,
            Trees::Same,
            PLAIN,
            PAIR,
        ),
        ssh(
            "unchanged-full-ssh",
            "nothing changed, as rsync -aHAX",
            Disk,
            Trees::Same,
            FULL,
            PAIR,
        ),
        ssh(
            "one-changed-ssh",
            "one file changed",
            Disk,
            Trees::OneChanged,
            PLAIN,
            PAIR,
        ),
        ssh(
            "one-added-ssh",
            "one file added to a huge directory",
            Disk,
            Trees::OneAdded,
            PLAIN,
            PAIR,
        ),
        ssh(
            "checksum-ssh",
            "nothing changed, by content",
            Disk,
            Trees::SameContent,
            CHECKSUM,
            PAIR,
        ),
        ssh(
            "moved-ssh",
            "a directory was renamed",
            Disk,
            Trees::Moved,
            MIRROR,
            PAIR,
        ),
        ssh(
            "small-ssh-disk",
            "first copy of small files, ext4",
            Disk,
            Trees::New,
            PLAIN,
            &[Cutover, Durable, Rsync, Tar],
        ),
        local(
            "small-local-disk",
            "first copy of small files, ext4",
            Disk,
            Trees::New,
            PLAIN,
            &[Cutover, Rsync, Cp],
        ),
        ssh(
            "small-ssh-memory",
            "first copy of small files, tmpfs",
            Memory,
            Trees::New,
            PLAIN,
            bulk,
        ),
        local(
            "small-local-memory",
            "first copy of small files, tmpfs",
            Memory,
            Trees::New,
            PLAIN,
            &[Cutover, Rsync, Cp],
        ),
        ssh(
            "big-new-ssh",
            "first copy of a large file, tmpfs",
            Memory,
            Trees::BigNew,
            PLAIN,
            bulk,
        ),
        ssh(
            "big-edited-ssh",
            "200 pages of a large file changed, tmpfs",
            Memory,
            Trees::BigEdited,
            PLAIN,
            &[Cutover, Rsync, RsyncGcm],
        ),
        local(
            "big-unlike-local",
            "a large file of which nothing is left, tmpfs",
            Memory,
            Trees::BigUnlike,
            DELTA,
            PAIR,
        ),
    ]
}

/// What was measured.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) entries: usize,
    pub(crate) contenders: Vec<Contender>,
}

/// One contender's runs, by round.
pub(crate) struct Contender {
    pub(crate) tool: Tool,
    pub(crate) runs: Vec<Taken>,
    /// The near side's system calls and the far side's, where they were counted.
    pub(crate) calls: Option<[Calls; 2]>,
    /// How results differed from the source. Must be empty.
    pub(crate) wrong: Vec<String>,
}

/// A scenario's trees in their places.
struct Set<'a> {
    stage: &'a Stage,
    trees: Trees,
    home: PathBuf,
    src: PathBuf,
    dst: PathBuf,
    entries: usize,
}

/// Runs every contender once a round, in turning order, and checks what each run left.
pub(crate) fn measure(
    scenario: &Scenario,
    stage: &Stage,
    rounds: usize,
    count_calls: bool,
) -> Outcome {
    let set = Set::prepare(scenario, stage);
    let tools = scenario
        .tools
        .iter()
        .filter(|tool| tool.is_installed(stage));
    let mut contenders: Vec<Contender> = tools
        .map(|&tool| Contender {
            tool,
            runs: Vec::new(),
            calls: None,
            wrong: Vec::new(),
        })
        .collect();
    let job = |tool| Job {
        stage,
        tool,
        flags: scenario.flags,
        far: scenario.far,
        src: &set.src,
        dst: &set.dst,
    };
    if set.is_repeated() {
        // Repeated runs are what the scenario is about: state and caches are there.
        for contender in &contenders {
            job(contender.tool).run();
        }
    }
    let last = contenders.len() - 1;
    for round in 0..rounds {
        for turn in 0..=last {
            let index = (round + turn) % contenders.len();
            let contender = &mut contenders[index];
            set.reset();
            contender.runs.push(job(contender.tool).run());
            // Where runs have nothing to write, the last one's result is all others' too.
            if !set.is_same() || (round, turn) == (rounds - 1, last) {
                contender.wrong.extend(set.difference());
            }
        }
    }
    for contender in &mut contenders {
        if count_calls && stage.has_strace && contender.tool != Tool::Tar {
            set.reset();
            let job = job(contender.tool);
            job.watched(Watch::Strace);
            let counted = |side| calls::read(&job.figures(side));
            contender.calls = Some([counted("near"), counted("far")]);
        }
    }
    Outcome {
        name: scenario.name,
        about: scenario.about,
        entries: set.entries,
        contenders,
    }
}

impl<'a> Set<'a> {
    fn prepare(scenario: &Scenario, stage: &'a Stage) -> Set<'a> {
        let sizes = stage.sizes;
        let trees = scenario.trees;
        let (name, entries) = match trees {
            Trees::Same => ("same", sizes.files),
            Trees::OneChanged => ("changed", sizes.files.min(100_000)),
            Trees::OneAdded => ("added", sizes.files.min(100_000)),
            Trees::SameContent | Trees::New => ("small", sizes.small_files),
            Trees::Moved => ("moved", sizes.small_files),
            Trees::BigEdited | Trees::BigUnlike | Trees::BigNew => ("big", 1),
        };
        let base = stage.dir(scenario.place);
        let home = base.join(name);
        // One set a time on each filesystem.
        for other in fs::read_dir(base)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            if other != home
                && ["same", "changed", "added", "small", "moved", "big"]
                    .iter()
                    .any(|name| other.ends_with(name))
            {
                stage.clear(&other);
            }
        }
        let set = Set {
            stage,
            trees,
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
    fn is_repeated(&self) -> bool {
        use Trees::{OneAdded, OneChanged, Same, SameContent};
        matches!(self.trees, Same | SameContent | OneChanged | OneAdded)
    }

    fn is_same(&self) -> bool {
        matches!(self.trees, Trees::Same | Trees::SameContent)
    }

    /// Makes the destination what it is before a run, and lets the disk come to rest.
    fn reset(&self) {
        match self.trees {
            Trees::Same | Trees::SameContent => return,
            Trees::New | Trees::BigNew => remove(&self.dst),
            Trees::OneChanged => append(&self.some_file()),
            Trees::OneAdded => fs::remove_file(self.dst.join("file-0000001.dat")).unwrap(),
            Trees::Moved | Trees::BigEdited => self.replace("old"),
            Trees::BigUnlike => self.replace("unlike"),
        }
        rustix::fs::sync();
    }

    fn replace(&self, original: &str) {
        remove(&self.dst);
        copy(&self.home.join(original), &self.dst);
    }

    fn some_file(&self) -> PathBuf {
        self.src.join("group-000/dir-00007/file-0000357.dat")
    }

    /// How the destination differs from the source, by an account that shares no code with ours.
    fn difference(&self) -> Option<String> {
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
