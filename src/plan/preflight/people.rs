//! Users and groups: those that the plan names, those that own what is moved, and whether we may
//! act for them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, View};
use crate::events::Side;
use crate::plan::model::{Check, When};
use crate::plan::resolve::{Resolved, Tried, Verb};
use crate::protocol::errand;

/// Who is looked for, with what for.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) users: BTreeMap<String, Want>,
    pub(super) groups: BTreeMap<String, Want>,
}

/// What somebody is looked for for.
#[derive(Clone, Debug)]
pub(super) struct Want {
    /// As in "NAME, WHAT FOR, does not exist".
    what_for: String,
    /// The plan names them; others own entries, which then keep their numbers.
    is_named: bool,
}

impl Wanted {
    fn user(&mut self, name: &str, what_for: impl Into<String>, is_named: bool) {
        want(&mut self.users, name, what_for.into(), is_named);
    }

    /// One whose rights a process takes on: a number alone is not enough for that.
    fn login(&mut self, name: &str, what_for: String) {
        let is_named = true;
        self.users
            .insert(name.to_owned(), Want { what_for, is_named });
    }

    fn group(&mut self, name: &str, what_for: impl Into<String>, is_named: bool) {
        want(&mut self.groups, name, what_for.into(), is_named);
    }
}

/// A number needs nobody to have it.
fn want(wants: &mut BTreeMap<String, Want>, name: &str, what_for: String, is_named: bool) {
    if !name.is_empty() && name.parse::<u32>().is_err() {
        wants
            .entry(name.to_owned())
            .or_insert(Want { what_for, is_named });
    }
}

/// Who must be known on one side.
pub(super) fn wanted(resolved: &Resolved, side: Side) -> Wanted {
    let mut wanted = Wanted::default();
    for (what_for, command) in commands(resolved, side) {
        if let Some(user) = &command.user {
            wanted.login(user, format!("whom `{what_for}` runs as"));
        }
    }
    if side == Side::Source {
        return wanted;
    }
    let plan = &resolved.plan;
    if let Some(user) = &plan.service.user {
        wanted.user(user, "who runs the service", true);
    }
    let Some(first) = resolved.roots.first() else {
        return wanted;
    };
    let ownership = &first.options.ownership;
    for target in targets(&ownership.usermap) {
        wanted.user(target, "whom [owner] gives entries to", true);
    }
    for target in targets(&ownership.groupmap) {
        wanted.group(target, "which [owner] gives entries to", true);
    }
    for check in &plan.checks {
        match check {
            Check::File { owner, group, .. } => {
                let what_for = format!("of check {:?}", check.name());
                wanted.user(owner.as_deref().unwrap_or_default(), &what_for, true);
                wanted.group(group.as_deref().unwrap_or_default(), &what_for, true);
            }
            Check::ReadableAs {
                user: Some(user), ..
            } => wanted.login(user, format!("of check {:?}", check.name())),
            _ => {}
        }
    }
    for root in resolved.roots.iter().filter(|root| root.present) {
        let facts = &root.facts.source;
        if ownership.numeric_ids {
            break;
        }
        if ownership.usermap.is_empty() {
            wanted.user(&facts.owner, format!("who owns root {}", root.name), false);
        }
        if ownership.groupmap.is_empty() {
            wanted.group(&facts.group, format!("whose root {} is", root.name), false);
        }
    }
    wanted
}

/// The right sides of maps.
fn targets(rules: &[String]) -> impl Iterator<Item = &str> {
    let parts = rules.iter().flat_map(|rules| rules.split(','));
    parts.filter_map(|rule| rule.split_once(':').map(|(_, to)| to))
}

/// All commands of one side, with what they are called.
pub(super) fn commands(resolved: &Resolved, side: Side) -> Vec<(String, errand::Command)> {
    let verbs = Verb::ALL.into_iter();
    let mut commands: Vec<_> = verbs
        .filter_map(|verb| Some((verb.word().to_owned(), resolved.action(verb, side)?)))
        .collect();
    for when in When::ALL {
        let hooks = resolved
            .hooks(when)
            .into_iter()
            .filter(|(on, _)| *on == side);
        commands.extend(hooks.map(|(_, command)| (format!("hook {}", when.word()), command)));
    }
    if side == Side::Destination {
        let checks = resolved.checks().into_iter();
        commands.extend(checks.filter_map(|check| match check.what {
            Tried::Command { command, .. } => Some((format!("check {}", check.name), command)),
            Tried::Probe(_) => None,
        }));
    }
    commands
}

pub(super) fn judge(view: &View<'_>, findings: &mut Findings) {
    for side in [Side::Source, Side::Destination] {
        existing(view, side, findings);
        acting(view, side, findings);
    }
    giving(view, findings);
}

fn existing(view: &View<'_>, side: Side, findings: &mut Findings) {
    let subject = format!("{} users", side.noun());
    let people = match &view.seen.of(side).people {
        Ok(people) => people,
        Err(why) => return findings.unknown(&subject, "users and groups", why),
    };
    let wanted = wanted(view.resolved, side);
    let mut is_fine = true;
    for (noun, wants, known, make) in [
        ("user", &wanted.users, &people.users, "useradd"),
        ("group", &wanted.groups, &people.groups, "groupadd"),
    ] {
        for (name, want) in wants {
            if known.get(name) == Some(&true) {
                continue;
            }
            is_fine = false;
            let message = format!(
                "{noun} {name}, {}, does not exist at the {}",
                want.what_for,
                side.noun()
            );
            if want.is_named {
                let advice = format!("make it there ({make} {name}), or name another in the plan");
                findings.fail(&subject, message, advice);
            } else {
                let advice = format!(
                    "make it there ({make} {name}), or say in [owner] whose its entries become: \
                     they keep their number otherwise"
                );
                findings.warning(&subject, message, advice);
            }
        }
    }
    let names: BTreeSet<_> = wanted.users.keys().chain(wanted.groups.keys()).collect();
    let names: Vec<_> = names.into_iter().map(String::as_str).collect();
    if is_fine && !names.is_empty() {
        findings.ok(&subject, format!("all exist: {}", names.join(", ")));
    }
}

/// Whether we may run what is to be run as others.
fn acting(view: &View<'_>, side: Side, findings: &mut Findings) {
    let facts = &view.seen.of(side).facts;
    if facts.uid == 0 {
        return;
    }
    let is_another = |user: &String| *user != facts.user && *user != facts.uid.to_string();
    for (what, command) in commands(view.resolved, side) {
        if let Some(user) = command.user.filter(is_another) {
            let message = format!(
                "`{what}` is to run as {user} at the {}, but {} may run nothing as others",
                side.noun(),
                facts.user
            );
            let advice = format!("log in there as root or as {user}, or set `sudo = true`");
            findings.fail(&format!("{} users", side.noun()), message, advice);
        }
    }
}

/// Whether entries can be given to their owners.
fn giving(view: &View<'_>, findings: &mut Findings) {
    let facts = &view.seen.destination.facts;
    if facts.uid == 0 {
        return;
    }
    let ownership = view
        .resolved
        .roots
        .first()
        .map(|root| &root.options.ownership);
    let is_given = ownership.is_some_and(|given| {
        let mut users = targets(&given.usermap);
        users.any(|user| user != facts.user && user != facts.uid.to_string())
    });
    let roots = view.resolved.roots.iter().filter(|root| root.present);
    let mut owners = roots.map(|root| root.facts.source.owner.as_str());
    let is_others = ownership.is_some_and(|given| given.usermap.is_empty())
        && owners.any(|owner| owner != facts.user);
    if is_given || is_others {
        findings.warning(
            "destination users",
            format!(
                "{} may not give entries to others: all become its own",
                facts.user
            ),
            "log in there as root, or set `sudo = true`",
        );
    }
}
