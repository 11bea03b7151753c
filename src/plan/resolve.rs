//! What a plan means on its two hosts: paths expanded where they belong, roots within roots found,
//! options and commands ready to be used.

mod checks;
pub(super) mod texts;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::hosts::{Hosts, location};
use super::model::{self, Action, Check, End, Override, Plan, Root, Service, When, Words};
use super::nest::{Place, Placed, holders};
use super::read::Loaded;
use super::root_variable;
use crate::error::{Error, Result};
use crate::events::{Both, Side};
use crate::filter::{self, Rules};
use crate::options::{
    Compare, Delete, DeleteLimit, Fsync, Keep, Ownership, Selection, SyncOptions, Trash,
};
use crate::protocol::errand::{self, RootFacts, RootKind};
use crate::session::{Job, Mode};
use crate::transport::{Location, RemoteOptions, RemotePath};
use texts::Texts;

pub use checks::{ResolvedCheck, Tried};

/// A plan as it is on its hosts.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the file says.
    pub plan: Plan,
    /// Its roots, in its order.
    pub roots: Vec<ResolvedRoot>,
    /// What texts of the plan expand to, beside the roots' paths.
    pub(super) texts: Both<Texts>,
    /// The hosts, with no path.
    hosts: Both<Location>,
    remote: Both<RemoteOptions>,
}

/// A root as it is on both hosts.
#[derive(Clone, Debug)]
pub struct ResolvedRoot {
    /// What it is called.
    pub name: String,
    /// Its absolute path on the source.
    pub source: String,
    /// Its absolute path on the destination.
    pub destination: String,
    /// It lies within that root and is synced with it.
    pub held_by: Option<usize>,
    /// False for one that is optional and missing: it is left out.
    pub present: bool,
    /// How it is synced.
    pub options: SyncOptions,
    /// What was at the paths when they were resolved.
    pub facts: Both<RootFacts>,
}

/// What can be done with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// It is stopped.
    Stop,
    /// It is started.
    Start,
    /// It is asked whether it runs.
    Status,
    /// What came is repaired or migrated.
    Doctor,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 4] = [Verb::Stop, Verb::Status, Verb::Doctor, Verb::Start];

    /// Its key in a plan.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Stop => "stop",
            Verb::Start => "start",
            Verb::Status => "status",
            Verb::Doctor => "doctor",
        }
    }
}

/// Finds out what a plan means on its hosts.
///
/// # Errors
///
/// [`Error::Usage`] for a path that cannot be expanded or is not absolute then, and for roots that
/// lie within each other differently on the two sides.
pub fn resolve(loaded: &Loaded, hosts: &mut Hosts) -> Result<Resolved> {
    let plan = &loaded.plan;
    let found = hosts.both(|side, host| {
        let texts = texts::of_roots(plan, side);
        let paths = texts::expand(host, &texts, environment(plan, side))?;
        let host_name = host.name().to_owned();
        let paths: Vec<_> = texts
            .iter()
            .zip(paths)
            .map(|(text, path)| texts::absolute(text, &path, &host_name))
            .collect::<Result<_>>()?;
        let facts: Vec<_> = paths
            .iter()
            .map(|path| host.root(path))
            .collect::<Result<_>>()?;
        Ok(paths.into_iter().zip(facts).collect::<Vec<_>>())
    })?;
    let pairs = found.source.into_iter().zip(found.destination);
    let mut roots = Vec::new();
    for (root, (source, destination)) in plan.roots.iter().zip(pairs) {
        roots.push(ResolvedRoot {
            name: root.name.clone(),
            held_by: None,
            present: !(root.optional && source.1.kind == RootKind::Missing),
            options: options(plan, root)?,
            source: source.0,
            destination: destination.0,
            facts: Both {
                source: source.1,
                destination: destination.1,
            },
        });
    }
    let held = find_holders(plan, &roots)?;
    for (root, holder) in roots.iter_mut().zip(held) {
        root.held_by = holder;
    }
    let mut resolved = Resolved {
        plan: plan.clone(),
        roots,
        texts: Both::default(),
        hosts: Both {
            source: location(&plan.source)?,
            destination: location(&plan.destination)?,
        },
        remote: hosts.remote.clone(),
    };
    resolved.texts = hosts.both(|side, host| {
        Texts::expand(
            host,
            texts::of_plan(&resolved, side),
            resolved.environment(side),
        )
    })?;
    Ok(resolved)
}

/// The variables that the plan sets on one side.
fn environment(plan: &Plan, side: Side) -> BTreeMap<String, String> {
    end(plan, side).env.clone()
}

fn end(plan: &Plan, side: Side) -> &End {
    match side {
        Side::Source => &plan.source,
        Side::Destination => &plan.destination,
    }
}

fn find_holders(plan: &Plan, roots: &[ResolvedRoot]) -> Result<Vec<Option<usize>>> {
    let usage = |err: filter::FilterError| Error::Usage(err.to_string());
    let mut placed = Vec::new();
    for (root, written) in roots.iter().zip(&plan.roots) {
        let place = |side: Side| Place {
            path: root.path(side).to_owned(),
            canonical: root.facts.of(side).canonical.clone(),
        };
        placed.push(Placed {
            name: &root.name,
            places: Both {
                source: place(Side::Source),
                destination: place(Side::Destination),
            },
            present: root.present,
            rules: Rules::parse(&root.options.selection.rules).map_err(usage)?,
            has_own_filters: !written.filters.is_empty(),
        });
    }
    holders(&placed)
}

/// How a root is synced.
fn options(plan: &Plan, root: &Root) -> Result<SyncOptions> {
    let mut rules = Vec::new();
    for text in root.filters.iter().chain(&plan.sync.filters) {
        let parsed = filter::parse_filter_arg(text.as_bytes());
        rules.extend(parsed.map_err(|err| Error::Usage(format!("root {}: {err}", root.name)))?);
    }
    let sync = &plan.sync;
    let limit = match &sync.max_delete {
        None => None,
        Some(model::Limit::Entries(entries)) => Some(DeleteLimit::Entries(*entries)),
        Some(model::Limit::Share(share)) => Some(share.parse().map_err(Error::Usage)?),
    };
    let mut options = SyncOptions {
        selection: Selection {
            rules,
            ..Selection::default()
        },
        delete: sync.delete.then_some(Delete {
            excluded: false,
            max: limit,
        }),
        keep: Keep {
            trash: sync.trash.then_some(Trash::InRoot),
            backup_suffix: None,
        },
        compare: match sync.checksum {
            true => Compare::Checksum,
            false => Compare::Quick,
        },
        ownership: ownership(&plan.owner)?,
        chmod: plan.owner.chmod.clone(),
        ..SyncOptions::default()
    };
    let rate = sync.bwlimit.as_ref().map(|rate| rate.bytes_per_s());
    options.transfer.bandwidth_bytes_per_s = rate.filter(|&rate| rate > 0);
    options.write.fsync = match sync.fsync {
        model::Fsync::End => Fsync::End,
        model::Fsync::Each => Fsync::Each,
        model::Fsync::None => Fsync::None,
    };
    Ok(options)
}

fn ownership(owner: &model::Owner) -> Result<Ownership> {
    let mut ownership = Ownership {
        numeric_ids: owner.numeric_ids,
        usermap: owner.usermap.clone(),
        groupmap: owner.groupmap.clone(),
    };
    if let Some(chown) = &owner.chown {
        ownership.give_all_to(chown).map_err(Error::Usage)?;
    }
    Ok(ownership)
}

impl ResolvedRoot {
    /// Its path on one side.
    pub fn path(&self, side: Side) -> &str {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }

    /// Whether it is synced by itself.
    pub fn is_synced(&self) -> bool {
        self.present && self.held_by.is_none()
    }
}

impl Resolved {
    /// The root of this name.
    pub fn root(&self, name: &str) -> Option<&ResolvedRoot> {
        self.roots.iter().find(|root| root.name == name)
    }

    /// The run that syncs a root, or compares it. All runs of a plan share the connections of the
    /// hosts that it was resolved on.
    pub fn job(&self, root: &ResolvedRoot, mode: Mode) -> Job {
        Job {
            source: at(&self.hosts.source, &root.source),
            destination: at(&self.hosts.destination, &root.destination),
            options: root.options.clone(),
            remote: self.remote.clone(),
            mode,
        }
    }

    /// The command for a verb on one side: the side's own, the service's, or its unit's.
    pub fn action(&self, verb: Verb, side: Side) -> Option<errand::Command> {
        let service = &self.plan.service;
        if let Some(action) = written_action(service, verb, side) {
            return Some(self.command(action, side));
        }
        let word = match verb {
            Verb::Stop => "stop",
            Verb::Start => "start",
            Verb::Status => "is-active",
            Verb::Doctor => return None,
        };
        self.unit_command(word, side)
    }

    /// The command that asks whether the unit is there, where one gives commands on that side.
    pub fn unit_lookup(&self, side: Side) -> Option<errand::Command> {
        self.unit_command("cat", side)
    }

    /// `systemctl WORD UNIT`. A user's unit on the destination is that of who runs the service.
    fn unit_command(&self, word: &str, side: Side) -> Option<errand::Command> {
        let service = &self.plan.service;
        let own = &overrides(service, side).unit;
        let unit = own.as_ref().or(service.unit.as_ref())?;
        let scope = service.user_unit.then_some("--user");
        let words = ["systemctl"].into_iter().chain(scope).chain([word, unit]);
        let words = words.map(str::to_owned).collect();
        let mut command = self.command(&Action::Words(words), side);
        if service.user_unit && side == Side::Destination {
            command.user = service.user.clone();
        }
        Some(command)
    }

    /// The hooks of a moment, in the order of the plan.
    pub fn hooks(&self, when: When) -> Vec<(Side, errand::Command)> {
        let hooks = self.plan.hooks.iter().filter(|hook| hook.when == when);
        hooks
            .map(|hook| (hook.on.into(), self.command(&hook.run, hook.on.into())))
            .collect()
    }

    /// The variables of commands on one side.
    pub(super) fn environment(&self, side: Side) -> BTreeMap<String, String> {
        let mut env = environment(&self.plan, side);
        env.insert("CUTOVER_PLAN".to_owned(), self.plan.name.clone());
        env.insert("CUTOVER_SIDE".to_owned(), side.noun().to_owned());
        if let Some(first) = self.roots.first() {
            env.insert("CUTOVER_ROOT".to_owned(), first.path(side).to_owned());
        }
        for root in &self.roots {
            env.insert(root_variable(&root.name), root.path(side).to_owned());
        }
        env
    }

    fn command(&self, action: &Action, side: Side) -> errand::Command {
        let command = action.command();
        let mut env = self.environment(side);
        env.extend(command.env);
        errand::Command {
            words: match command.command {
                Words::Line(line) => vec![line],
                Words::List(words) => words,
            },
            shell: command.shell,
            user: command.user,
            dir: command
                .dir
                .map(|dir| self.texts.of(side).get(&dir).to_owned()),
            env: env.into_iter().collect(),
            timeout: command.timeout.duration(),
        }
    }
}

/// A path on a host.
fn at(host: &Location, path: &str) -> Location {
    match host {
        Location::Local(_) => Location::Local(PathBuf::from(path)),
        Location::Remote(remote) => Location::Remote(RemotePath {
            path: path.into(),
            ..remote.clone()
        }),
    }
}

/// What a service's key for one side holds.
pub(super) fn overrides(service: &Service, side: Side) -> &Override {
    match side {
        Side::Source => &service.source,
        Side::Destination => &service.destination,
    }
}

/// The command that is written for a verb on one side.
fn written_action(service: &Service, verb: Verb, side: Side) -> Option<&Action> {
    let own = overrides(service, side);
    let (own, common) = match verb {
        Verb::Stop => (&own.stop, &service.stop),
        Verb::Start => (&own.start, &service.start),
        Verb::Status => (&own.status, &service.status),
        Verb::Doctor => (&own.doctor, &service.doctor),
    };
    own.as_ref().or(common.as_ref())
}

/// All commands that are written for one side, for what in them is to be expanded.
fn actions(plan: &Plan, side: Side) -> Vec<&Action> {
    let verbs = Verb::ALL.into_iter();
    let written = verbs.filter_map(|verb| written_action(&plan.service, verb, side));
    let hooks = plan.hooks.iter().filter(|hook| Side::from(hook.on) == side);
    let checks = plan.checks.iter().filter_map(|check| match check {
        Check::Command { run, .. } if side == Side::Destination => Some(run),
        _ => None,
    });
    written
        .chain(hooks.map(|hook| &hook.run))
        .chain(checks)
        .collect()
}

#[cfg(test)]
pub(super) mod tests;
