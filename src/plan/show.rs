//! A plan as it would be carried out, in values to be printed: every root with both ends and sizes,
//! whose its entries become, and every command with the host and the user that it runs on and as.

use serde::Serialize;

use super::hosts::Hosts;
use super::model::{FenceOff, KeepState, Limit, OnFailure, Sync, When};
use super::read::Loaded;
use super::resolve::{Resolved, ResolvedRoot, Tried, Verb};
use crate::error::Result;
use crate::events::Side;
use crate::path::escape;
use crate::protocol::errand::{self, HostFacts, Measured, Probe, RootKind};
use crate::session::Host;

/// A plan as it would be carried out.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: String,
    /// The digest of the file.
    pub digest: String,
    /// The host where it is now.
    pub source: ShownHost,
    /// The host where it shall be.
    pub destination: ShownHost,
    /// The roots, in the plan's order.
    pub roots: Vec<ShownRoot>,
    /// How they are synced, a sentence each.
    pub sync: Vec<String>,
    /// Whose entries become, a sentence each.
    pub owners: Vec<String>,
    /// The commands, in the order of a switch.
    pub commands: Vec<ShownCommand>,
    /// What must hold on the destination, a sentence each.
    pub checks: Vec<String>,
    /// How the switch goes, a sentence each.
    pub switch: Vec<String>,
}

/// A host.
#[derive(Clone, Debug, Serialize)]
pub struct ShownHost {
    /// As the plan names it.
    pub host: String,
    /// As it names itself.
    pub name: String,
    /// Who does the work there.
    pub user: String,
    /// Whose home that is.
    pub home: String,
}

/// A root.
#[derive(Clone, Debug, Serialize)]
pub struct ShownRoot {
    /// What it is called.
    pub name: String,
    /// Its path on the source.
    pub source: String,
    /// Its path on the destination.
    pub destination: String,
    /// The root that it lies within and is synced with.
    pub within: Option<String>,
    /// False for one that is optional and missing.
    pub present: bool,
    /// What is at the source; `None` where nothing is.
    pub source_size: Option<Size>,
    /// What is at the destination; `None` where nothing is.
    pub destination_size: Option<Size>,
    /// Its filter rules.
    pub filters: Vec<String>,
    /// What it must have.
    pub required: Vec<String>,
}

/// How much is below a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Entries.
    pub entries: u64,
    /// Content, in bytes.
    pub bytes: u64,
}

/// A command.
#[derive(Clone, Debug, Serialize)]
pub struct ShownCommand {
    /// What it is for: a verb, or a hook's moment.
    pub what: String,
    /// On which side.
    pub side: &'static str,
    /// On which host.
    pub host: String,
    /// As which user.
    pub user: String,
    /// Its words; one where a shell reads them.
    pub words: Vec<String>,
    /// Whether a shell reads it.
    pub shell: bool,
    /// Where, if that is not the home.
    pub dir: Option<String>,
    /// How long it may take.
    pub timeout_s: u64,
}

/// Asks both hosts what is there, and describes the plan.
///
/// # Errors
///
/// Those of the hosts.
pub fn show(loaded: &Loaded, resolved: &Resolved, hosts: &mut Hosts) -> Result<Shown> {
    let seen = hosts.both(|side, host| {
        let sizes = resolved.roots.iter().map(|root| size(root, side, host));
        let sizes: Vec<_> = sizes.collect::<Result<_>>()?;
        let facts = host.facts()?;
        Ok((shown_host(host, facts), sizes))
    })?;
    let ((source, source_sizes), (destination, sizes)) = (seen.source, seen.destination);
    let roots = resolved
        .roots
        .iter()
        .zip(source_sizes.into_iter().zip(sizes));
    let roots = roots
        .map(|(root, sizes)| shown_root(resolved, root, sizes))
        .collect();
    let plan = &resolved.plan;
    Ok(Shown {
        name: plan.name.clone(),
        file: escape(loaded.path.as_os_str().as_encoded_bytes()).into_owned(),
        digest: loaded.digest.to_string(),
        commands: commands(resolved, &source, &destination),
        source,
        destination,
        roots,
        sync: sync(&plan.sync),
        owners: owners(resolved),
        checks: resolved
            .checks()
            .iter()
            .map(|check| describe(&check.name, &check.what))
            .collect(),
        switch: switch(resolved),
    })
}

fn size(root: &ResolvedRoot, side: Side, host: &mut Host) -> Result<Option<Size>> {
    if root.facts.of(side).kind != RootKind::Dir {
        return Ok(None);
    }
    let Measured { entries, bytes, .. } = host.measure(root.path(side))?;
    Ok(Some(Size { entries, bytes }))
}

fn shown_host(host: &Host, facts: HostFacts) -> ShownHost {
    ShownHost {
        host: host.name().to_owned(),
        name: facts.name,
        user: facts.user,
        home: facts.home,
    }
}

fn shown_root(
    resolved: &Resolved,
    root: &ResolvedRoot,
    (source_size, destination_size): (Option<Size>, Option<Size>),
) -> ShownRoot {
    let mut written = resolved.plan.roots.iter();
    let written = written.find(|written| written.name == root.name);
    let rules = root.options.selection.rules.iter();
    let holder = root.held_by.and_then(|holder| resolved.roots.get(holder));
    ShownRoot {
        name: root.name.clone(),
        source: root.source.clone(),
        destination: root.destination.clone(),
        within: holder.map(|holder| holder.name.clone()),
        present: root.present,
        source_size,
        destination_size,
        filters: rules.map(|rule| escape(&rule.0).into_owned()).collect(),
        required: written.map_or_else(Vec::new, |written| written.required.clone()),
    }
}

fn sync(sync: &Sync) -> Vec<String> {
    let mut told = Vec::new();
    let limit = match &sync.max_delete {
        None => "refused where more than half of a root, and over 100 entries, would go".to_owned(),
        Some(Limit::Entries(most)) => format!("refused where more than {most} entries would go"),
        Some(Limit::Share(share)) => format!("refused where more than {share} would go"),
    };
    told.push(match sync.delete {
        true => format!("what the source does not have is deleted; {limit}"),
        false => "nothing is deleted at the destination".to_owned(),
    });
    if sync.trash {
        told.push("what is deleted or replaced goes to .cutover-trash in the root".to_owned());
    }
    if sync.checksum {
        told.push("files are compared by content".to_owned());
    }
    if let Some(rate) = sync
        .bwlimit
        .as_ref()
        .map(|rate| rate.bytes_per_s())
        .filter(|&rate| rate > 0)
    {
        told.push(format!("at most {}/s", indicatif::BinaryBytes(rate)));
    }
    told
}

fn owners(resolved: &Resolved) -> Vec<String> {
    let owner = &resolved.plan.owner;
    let mut told = Vec::new();
    if let Some(chown) = &owner.chown {
        told.push(format!("all entries become {chown}'s"));
    }
    for (noun, rules) in [("users", &owner.usermap), ("groups", &owner.groupmap)] {
        if !rules.is_empty() {
            told.push(format!("{noun} are mapped: {}", rules.join(", ")));
        }
    }
    if owner.chown.is_none() {
        told.push(match owner.numeric_ids {
            true => "owners keep their numbers".to_owned(),
            false => "owners keep their names, and their numbers where the destination does not \
                      know them"
                .to_owned(),
        });
    }
    if !owner.chmod.is_empty() {
        told.push(format!("modes are changed: {}", owner.chmod.join(", ")));
    }
    told
}

/// When and where a switch or a rollback runs something of its own.
const STEPS: [(Step, Option<Side>); 9] = [
    (Step::Hooks(When::BeforeStop), None),
    (Step::Verb(Verb::Stop), Some(Side::Source)),
    (Step::Verb(Verb::Status), Some(Side::Source)),
    (Step::Hooks(When::AfterStop), None),
    (Step::Hooks(When::BeforeStart), None),
    (Step::Verb(Verb::Doctor), Some(Side::Destination)),
    (Step::Verb(Verb::Start), Some(Side::Destination)),
    (Step::Verb(Verb::Status), Some(Side::Destination)),
    (Step::Hooks(When::AfterSwitch), None),
];

/// The same of a rollback.
const STEPS_BACK: [(Step, Option<Side>); 3] = [
    (Step::Verb(Verb::Stop), Some(Side::Destination)),
    (Step::Verb(Verb::Start), Some(Side::Source)),
    (Step::Hooks(When::AfterRollback), None),
];

#[derive(Clone, Copy)]
enum Step {
    Verb(Verb),
    Hooks(When),
}

fn commands(resolved: &Resolved, source: &ShownHost, destination: &ShownHost) -> Vec<ShownCommand> {
    let mut shown = Vec::new();
    let mut add = |what: String, side: Side, command: errand::Command| {
        let host = match side {
            Side::Source => source,
            Side::Destination => destination,
        };
        shown.push(ShownCommand {
            what,
            side: side.noun(),
            host: host.host.clone(),
            user: command.user.unwrap_or_else(|| host.user.clone()),
            words: command.words,
            shell: command.shell,
            dir: command.dir,
            timeout_s: command.timeout.as_secs(),
        });
    };
    let forward = STEPS.into_iter().map(|step| ("", step));
    let back = STEPS_BACK.into_iter().map(|step| (" (rollback)", step));
    for (note, (step, side)) in forward.chain(back) {
        match (step, side) {
            (Step::Verb(verb), Some(side)) => {
                if let Some(command) = resolved.action(verb, side) {
                    add(format!("{}{note}", verb.word()), side, command);
                }
            }
            (Step::Hooks(when), _) => {
                for (side, command) in resolved.hooks(when) {
                    add(format!("hook {}", when.word()), side, command);
                }
            }
            (Step::Verb(_), None) => {}
        }
    }
    shown
}

/// A check in a sentence.
fn describe(name: &str, what: &Tried) -> String {
    let text = |contains: &Option<String>| match contains {
        Some(text) => format!(" and contains {text:?}"),
        None => String::new(),
    };
    let told = match what {
        Tried::Command { command, contains } => {
            format!(
                "`{}` exits with 0{}",
                command.words.join(" "),
                text(contains)
            )
        }
        Tried::Probe(Probe::Http {
            url,
            status,
            contains,
            ..
        }) => format!("{url} answers {status}{}", text(contains)),
        Tried::Probe(Probe::Tcp { address, .. }) => format!("{address} accepts connections"),
        Tried::Probe(Probe::ReadableAs { root, user }) => {
            format!("{user} can read all below {root}")
        }
        Tried::Probe(Probe::File {
            path,
            exists,
            owner,
            group,
            mode,
            contains,
        }) => {
            let mut told = match exists {
                true => format!("{path} is there"),
                false => format!("{path} is not there"),
            };
            for (noun, name) in [("owner", owner), ("group", group)] {
                told += &name
                    .as_ref()
                    .map_or(String::new(), |name| format!(", {noun} {name}"));
            }
            told += &mode.map_or(String::new(), |mode| format!(", mode {mode:04o}"));
            told + &text(contains)
        }
    };
    format!("{name}: {told}")
}

fn switch(resolved: &Resolved) -> Vec<String> {
    let switch = &resolved.plan.switch;
    let failed = match switch.on_failure {
        OnFailure::Stop => "a step that fails stops it, and it says which side is live",
        OnFailure::Rollback => "a step that fails takes it back",
    };
    let kept = match switch.keep {
        KeepState::Auto => "by reflinks, or else by hard links",
        KeepState::Reflink => "by reflinks",
        KeepState::HardLink => "by hard links",
        KeepState::Copy => "as a copy",
    };
    let fenced = match switch.fence {
        FenceOff::Marker => "by a marker",
        FenceOff::ReadOnly => "by a marker, and may not be written to",
        FenceOff::Rename => "by a marker, and gets .moved at the end of its name",
    };
    vec![
        failed.to_owned(),
        format!("the destination's state before the last sync is kept {kept}"),
        format!("the source is fenced off {fenced}"),
    ]
}
