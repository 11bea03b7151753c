//! The scenarios: what is asked for over which trees, who contends, and the rounds that measure it.

use crate::calls::{self, Calls};
use crate::job::{Flags, Job, Taken, Tool, Watch};
use crate::set::{Set, Trees};
use crate::stage::{Place, Stage};

/// What is measured.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    far: bool,
    round_trip_ms: u32,
    place: Place,
    flags: Flags,
    trees: Trees,
    tools: &'static [Tool],
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

pub(crate) const PAIR: &[Tool] = &[Tool::Cutover, Tool::Rsync];

impl Scenario {
    /// A push over ssh against rsync alone, with what `rsync -a` keeps.
    const fn ssh(name: &'static str, about: &'static str, place: Place, trees: Trees) -> Scenario {
        Scenario {
            name,
            about,
            far: true,
            round_trip_ms: 0,
            place,
            flags: PLAIN,
            trees,
            tools: PAIR,
        }
    }

    /// The same on one host.
    const fn local(
        name: &'static str,
        about: &'static str,
        place: Place,
        trees: Trees,
    ) -> Scenario {
        Scenario {
            far: false,
            ..Scenario::ssh(name, about, place, trees)
        }
    }

    const fn flags(self, flags: Flags) -> Scenario {
        Scenario { flags, ..self }
    }

    const fn over(self, round_trip_ms: u32) -> Scenario {
        Scenario {
            round_trip_ms,
            ..self
        }
    }

    pub(crate) const fn on(self, place: Place) -> Scenario {
        Scenario { place, ..self }
    }

    pub(crate) const fn against(self, tools: &'static [Tool]) -> Scenario {
        Scenario { tools, ..self }
    }
}

/// All scenarios, in the order in which they share data.
pub(crate) const ALL: [Scenario; 17] = {
    use Place::{Disk, Memory};
    use Tool::{Cp, Cutover, Durable, Rclone, Rsync, RsyncGcm, Tar};
    let bulk: &[Tool] = &[Cutover, Rsync, RsyncGcm, Tar];
    let here: &[Tool] = &[Cutover, Rsync, Cp, Rclone];
    [
        Scenario::ssh(
            "unchanged-ssh",
            "nothing changed, as rsync -a",
            Disk,
            Trees::Same,
        ),
        Scenario::ssh(
            "unchanged-full-ssh",
            "nothing changed, as rsync -aHAX",
            Disk,
            Trees::Same,
        )
        .flags(FULL),
        Scenario::ssh(
            "one-changed-ssh",
            "one file changed",
            Disk,
            Trees::OneChanged,
        ),
        Scenario::ssh(
            "one-changed-50ms-ssh",
            "one file changed, 50 ms away",
            Disk,
            Trees::OneChanged,
        )
        .over(50),
        Scenario::ssh(
            "one-changed-200ms-ssh",
            "one file changed, 200 ms away",
            Disk,
            Trees::OneChanged,
        )
        .over(200),
        Scenario::ssh(
            "added-50ms-ssh",
            "1000 files more, 50 ms away",
            Disk,
            Trees::ManyAdded,
        )
        .over(50),
        Scenario::ssh(
            "added-200ms-ssh",
            "1000 files more, 200 ms away",
            Disk,
            Trees::ManyAdded,
        )
        .over(200),
        Scenario::ssh(
            "one-added-ssh",
            "one more file in a huge directory",
            Disk,
            Trees::OneAdded,
        ),
        Scenario::ssh(
            "checksum-ssh",
            "nothing changed, by content",
            Disk,
            Trees::SameContent,
        )
        .flags(CHECKSUM),
        Scenario::ssh("moved-ssh", "a directory was renamed", Disk, Trees::Moved).flags(MIRROR),
        Scenario::ssh(
            "small-ssh-disk",
            "first copy of small files",
            Disk,
            Trees::New,
        )
        .against(&[Cutover, Durable, Rsync, Tar]),
        Scenario::local(
            "small-local-disk",
            "first copy of small files",
            Disk,
            Trees::New,
        )
        .against(here),
        Scenario::ssh(
            "small-ssh-memory",
            "first copy of small files",
            Memory,
            Trees::New,
        )
        .against(bulk),
        Scenario::local(
            "small-local-memory",
            "first copy of small files",
            Memory,
            Trees::New,
        )
        .against(here),
        Scenario::ssh(
            "big-new-ssh",
            "first copy of a large file",
            Memory,
            Trees::BigNew,
        )
        .against(bulk),
        Scenario::ssh(
            "big-edited-ssh",
            "200 pages of a large file",
            Memory,
            Trees::BigEdited,
        )
        .against(&[Cutover, Rsync, RsyncGcm]),
        Scenario::local(
            "big-unlike-local",
            "nothing left of a file",
            Memory,
            Trees::BigUnlike,
        )
        .flags(DELTA),
    ]
};

/// The scenario of this name.
pub(crate) fn named(name: &str) -> Scenario {
    let mut all = ALL.into_iter();
    all.find(|scenario| scenario.name == name).unwrap()
}

/// What was measured.
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) size: String,
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

impl Contender {
    fn new(tool: Tool) -> Contender {
        Contender {
            tool,
            runs: Vec::new(),
            calls: None,
            wrong: Vec::new(),
        }
    }

    /// Counts the system calls of one more run.
    fn count_calls(&mut self, job: &Job<'_>) {
        job.watched(Watch::Strace);
        let counted = |side| calls::read(&job.figures(side));
        self.calls = Some([counted("near"), counted("far")]);
    }
}

/// Runs every contender once a round, in turning order, and checks what each run left.
pub(crate) fn measure(
    scenario: &Scenario,
    stage: &Stage,
    rounds: usize,
    count_calls: bool,
) -> Outcome {
    let set = Set::prepare(stage, scenario.place, scenario.trees);
    let tools = scenario.tools.iter();
    let mut contenders: Vec<Contender> = tools
        .filter(|tool| tool.is_installed(stage))
        .map(|&tool| Contender::new(tool))
        .collect();
    let job = |tool| Job {
        stage,
        tool,
        flags: scenario.flags,
        far: scenario.far,
        round_trip_ms: scenario.round_trip_ms,
        src: &set.src,
        dst: set.dst(tool),
    };
    if set.is_same() || set.is_followed() {
        // Repeated runs are what the scenario is about: state and caches are there.
        for contender in &contenders {
            job(contender.tool).run();
        }
    }
    let last = contenders.len() - 1;
    for round in 0..rounds {
        set.advance();
        for turn in 0..=last {
            let index = (round + turn) % contenders.len();
            let contender = &mut contenders[index];
            set.reset();
            contender.runs.push(job(contender.tool).run());
            // Where runs have nothing to write, the last one's result is all others' too.
            if !set.is_same() || (round, turn) == (rounds - 1, last) {
                contender.wrong.extend(set.difference(contender.tool));
            }
        }
    }
    // Over a link they are the same, and take long.
    if count_calls && stage.has_strace && scenario.round_trip_ms == 0 {
        set.advance();
        // tar's far side is not ours to prefix.
        let watched = contenders.iter_mut().filter(|one| one.tool != Tool::Tar);
        for contender in watched {
            set.reset();
            contender.count_calls(&job(contender.tool));
        }
    }
    set.clear(contenders.iter().map(|contender| contender.tool));
    Outcome {
        name: scenario.name,
        about: scenario.about,
        size: set.size(),
        entries: set.entries,
        contenders,
    }
}
