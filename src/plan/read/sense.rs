//! What a plan of the right shape can still get wrong: paths, patterns, owners and modes that are
//! none, names that nothing has, keys that contradict each other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use toml::de::DeValue;

use super::{Fault, hint};
use crate::filter::{self, Rules};
use crate::options::{DeleteLimit, Ownership};
use crate::plan::model::{
    Action, Check, Command, End, Expect, Limit, Override, Owner, Plan, Root, Service, Sync, Words,
};
use crate::plan::{parse_mode, root_variable};
use crate::session::ModeRules;
use crate::transport::Location;

/// All faults of a plan; the document tells where in the text each is.
pub(super) fn faults(plan: &Plan, document: &DeValue<'_>) -> Vec<Fault> {
    let mut sense = Sense {
        document,
        faults: Vec::new(),
        roots: plan.roots.iter().map(|root| root.name.as_str()).collect(),
    };
    if !is_name(&plan.name, "-_.") {
        sense.fault(
            "name",
            "a name has letters, digits, `-`, `_` and `.`, and something of it",
        );
    }
    sense.end(&plan.source, "source");
    sense.end(&plan.destination, "destination");
    sense.roots(&plan.roots);
    sense.sync(&plan.sync);
    sense.owner(&plan.owner);
    sense.service(&plan.service);
    for (n, hook) in plan.hooks.iter().enumerate() {
        sense.action(&hook.run, &format!("hook.{n}.run"));
    }
    for (n, expect) in plan.expects.iter().enumerate() {
        sense.expect(expect, &format!("expect.{n}"));
    }
    sense.checks(&plan.checks, plan.service.user.is_some());
    sense.faults
}

struct Sense<'a> {
    document: &'a DeValue<'a>,
    faults: Vec<Fault>,
    roots: Vec<&'a str>,
}

impl<'a> Sense<'a> {
    /// Adds a fault of what stands at a place such as `root.0.path`.
    fn fault(&mut self, place: &str, what: impl Into<String>) {
        let at = offset(self.document, place);
        self.faults.push(Fault::new(at, what));
    }

    fn end(&mut self, end: &End, place: &str) {
        if let Some(host) = &end.host {
            match Location::parse(OsStr::new(&format!("{host}:"))) {
                Ok(Location::Remote(remote)) if remote.path.is_empty() => {}
                Ok(_) => self.fault(
                    &format!("{place}.host"),
                    format!("{host:?} is no host: write [USER@]HOST, and paths in [[root]]"),
                ),
                Err(err) => self.fault(&format!("{place}.host"), err.to_string()),
            }
        }
        if end.shell.is_some() && !end.ssh.is_empty() {
            self.fault(
                &format!("{place}.ssh"),
                "`shell` takes the place of ssh: use one of them",
            );
        }
        for (key, is_given) in [
            ("ssh", !end.ssh.is_empty()),
            ("sudo", end.sudo),
            ("agent", end.agent.is_some()),
        ] {
            if end.is_here() && is_given {
                let what = format!("`{key}` is for another host: name it with `host`");
                self.fault(&format!("{place}.{key}"), what);
            }
        }
        self.variables(&end.env, &format!("{place}.env"));
    }

    fn variables(&mut self, env: &BTreeMap<String, String>, place: &str) {
        for name in env.keys().filter(|name| !is_variable(name)) {
            self.fault(place, format!("{name:?} is no name of a variable"));
        }
    }

    fn roots(&mut self, roots: &[Root]) {
        if roots.is_empty() {
            let what = "the plan has no root: add [[root]] with a `name` and a `path`";
            self.faults.push(Fault::new(0, what));
        }
        let mut variables = BTreeMap::new();
        for (n, root) in roots.iter().enumerate() {
            let place = format!("root.{n}");
            if !is_name(&root.name, "-_") {
                let what = "a root's name has letters, digits, `-` and `_`, and something of it";
                self.fault(&format!("{place}.name"), what);
            }
            if let Some(other) = variables.insert(root_variable(&root.name), &root.name) {
                let what = match *other == root.name {
                    true => format!("two roots are called `{other}`"),
                    false => format!("`{}` and `{other}` would share a variable", root.name),
                };
                self.fault(&format!("{place}.name"), what);
            }
            self.path(&root.path, &format!("{place}.path"));
            if let Some(path) = &root.destination {
                self.path(path, &format!("{place}.destination"));
            }
            for (n, name) in root.required.iter().enumerate() {
                if name.is_empty() || name.starts_with('/') || has_dots(name) {
                    let what = format!("{name:?} is no name below the root");
                    self.fault(&format!("{place}.required.{n}"), what);
                }
            }
            self.filters(&root.filters, &format!("{place}.filters"));
            for (n, pattern) in root.secrets.iter().enumerate() {
                if let Err(err) = Rules::parse(&[filter::exclude(pattern.as_bytes())]) {
                    self.fault(&format!("{place}.secrets.{n}"), err.to_string());
                }
            }
        }
    }

    fn path(&mut self, path: &str, place: &str) {
        if !(path.starts_with(['/', '~']) || path.starts_with("${")) {
            let what = format!("{path:?} is not absolute: begin it with /, ~ or ${{VARIABLE}}");
            self.fault(place, what);
        } else if has_dots(path) {
            self.fault(
                place,
                format!("{path:?} has `..` in it: write where it leads"),
            );
        }
    }

    fn filters(&mut self, filters: &[String], place: &str) {
        for (n, text) in filters.iter().enumerate() {
            let parsed = filter::parse_filter_arg(text.as_bytes());
            if let Err(err) = parsed.and_then(|rules| Rules::parse(&rules)) {
                self.fault(&format!("{place}.{n}"), err.to_string());
            }
        }
    }

    fn sync(&mut self, sync: &Sync) {
        if let Some(Limit::Share(share)) = &sync.max_delete {
            let limit: Result<DeleteLimit, String> = share.parse();
            match limit {
                Ok(DeleteLimit::Percent(_)) => {}
                _ => self.fault(
                    "sync.max-delete",
                    format!("{share:?} is no share: write \"0%\" to \"100%\", or a number"),
                ),
            }
        }
        if sync.max_delete.is_some() && !sync.delete {
            self.fault(
                "sync.max-delete",
                "it limits what `delete = false` does not delete",
            );
        }
        self.filters(&sync.filters, "sync.filters");
    }

    fn owner(&mut self, owner: &Owner) {
        let has_maps = !(owner.usermap.is_empty() && owner.groupmap.is_empty());
        if let Some(chown) = &owner.chown {
            if let Err(why) = Ownership::default().give_all_to(chown) {
                self.fault("owner.chown", format!("{chown:?} is no owner: {why}"));
            }
            if has_maps {
                self.fault(
                    "owner.chown",
                    "`chown` gives all to one: take the maps out, or it",
                );
            }
        }
        for (key, rules) in [("usermap", &owner.usermap), ("groupmap", &owner.groupmap)] {
            for (n, rule) in rules.iter().enumerate() {
                let parts = rule.split(',').map(Ownership::check_rule);
                if let Err(why) = parts.collect::<Result<(), _>>() {
                    self.fault(&format!("owner.{key}.{n}"), why);
                }
            }
        }
        for (n, clause) in owner.chmod.iter().enumerate() {
            if ModeRules::parse(std::slice::from_ref(clause)).is_err() {
                let what = format!("{clause:?} is no mode: write D755, F644 or u+rwX");
                self.fault(&format!("owner.chmod.{n}"), what);
            }
        }
    }

    fn service(&mut self, service: &Service) {
        let Service {
            stop,
            start,
            status,
            doctor,
            ..
        } = service;
        self.actions([stop, start, status, doctor], "service");
        for (key, side) in [
            ("source", &service.source),
            ("destination", &service.destination),
        ] {
            let Override {
                stop,
                start,
                status,
                doctor,
                ..
            } = side;
            self.actions([stop, start, status, doctor], &format!("service.{key}"));
        }
        let units = [
            &service.unit,
            &service.source.unit,
            &service.destination.unit,
        ];
        if service.user_unit && units.iter().all(|unit| unit.is_none()) {
            self.fault(
                "service.user-unit",
                "there is no `unit` that could be the user's",
            );
        }
    }

    fn actions(&mut self, actions: [&Option<Action>; 4], place: &str) {
        for (key, action) in ["stop", "start", "status", "doctor"].iter().zip(actions) {
            if let Some(action) = action {
                self.action(action, &format!("{place}.{key}"));
            }
        }
    }

    fn action(&mut self, action: &Action, place: &str) {
        let command = match action {
            Action::Words(words) => return self.words(words, place),
            Action::Full(command) => command,
        };
        let Command {
            command: words,
            shell,
            dir,
            env,
            ..
        } = command;
        let at = format!("{place}.command");
        match (words, shell) {
            (Words::List(words), false) => self.words(words, &at),
            (Words::Line(line), true) if line.trim().is_empty() => self.fault(&at, "it is empty"),
            (Words::Line(_), true) => {}
            (Words::Line(_), false) => self.fault(
                &at,
                "only a shell takes a line apart: write the words in [ ], or add `shell = true`",
            ),
            (Words::List(_), true) => {
                self.fault(
                    &at,
                    "a shell reads one line: write the command as a text in quotes",
                );
            }
        }
        if let Some(dir) = dir {
            self.path(dir, &format!("{place}.dir"));
        }
        self.variables(env, &format!("{place}.env"));
    }

    fn words(&mut self, words: &[String], place: &str) {
        if words.first().is_none_or(|program| program.is_empty()) {
            self.fault(place, "it names no program");
        }
    }

    fn is_root(&mut self, name: &str, place: &str) {
        if !self.roots.contains(&name) {
            let hint = hint(name, &self.roots);
            self.fault(place, format!("there is no root {name:?}{hint}"));
        }
    }

    fn expect(&mut self, expect: &Expect, place: &str) {
        match expect {
            Expect::Value {
                file,
                pointer,
                is_root,
                is,
                is_not,
                tell,
                ..
            } => {
                self.path(file, &format!("{place}.file"));
                self.pointer(pointer, &format!("{place}.pointer"));
                if let Some(tell) = tell {
                    self.pointer(tell, &format!("{place}.tell"));
                }
                match is_root {
                    Some(name) => self.is_root(name, &format!("{place}.is-root")),
                    None if is.is_none() && is_not.is_empty() => {
                        self.fault(place, "it expects nothing: add `is-root`, `is` or `is-not`");
                    }
                    None => {}
                }
            }
            Expect::Variable { name, is_root, .. } => {
                if !is_variable(name) {
                    let what = format!("{name:?} is no name of a variable");
                    self.fault(&format!("{place}.name"), what);
                }
                self.is_root(is_root, &format!("{place}.is-root"));
            }
            Expect::NoOthers { paths, .. } => {
                for (n, path) in paths.iter().enumerate() {
                    self.path(path, &format!("{place}.paths.{n}"));
                }
            }
        }
    }

    /// JSON pointers are those of RFC 6901.
    fn pointer(&mut self, pointer: &str, place: &str) {
        if !(pointer.is_empty() || pointer.starts_with('/')) {
            let what = format!("{pointer:?} is no pointer: write /KEY/KEY");
            self.fault(place, what);
        }
    }

    fn checks(&mut self, checks: &[Check], has_user: bool) {
        let mut names = BTreeSet::new();
        for (n, check) in checks.iter().enumerate() {
            let place = format!("check.{n}");
            if !names.insert(check.name()) {
                let what = format!("two checks are called {:?}", check.name());
                self.fault(&format!("{place}.name"), what);
            }
            self.check(check, &place, has_user);
        }
    }

    fn check(&mut self, check: &Check, place: &str, has_user: bool) {
        match check {
            Check::Command { run, .. } => self.action(run, &format!("{place}.run")),
            Check::Http { url, status, .. } => {
                if !(url.starts_with("http://") || url.starts_with("https://")) {
                    let what = format!("{url:?} does not begin with http:// or https://");
                    self.fault(&format!("{place}.url"), what);
                }
                if !(100..600).contains(status) {
                    let what = format!("{status} is no status of HTTP");
                    self.fault(&format!("{place}.status"), what);
                }
            }
            Check::Tcp { address, .. } => {
                let port = address
                    .rsplit_once(':')
                    .map(|(host, port)| (host, port.parse::<u16>()));
                if !matches!(port, Some((host, Ok(1..))) if !host.is_empty()) {
                    let what = format!("{address:?} is no address: write HOST:PORT");
                    self.fault(&format!("{place}.address"), what);
                }
            }
            Check::File {
                path,
                exists,
                owner,
                group,
                mode,
                contains,
                ..
            } => {
                self.path(path, &format!("{place}.path"));
                if mode
                    .as_deref()
                    .is_some_and(|mode| parse_mode(mode).is_none())
                {
                    let what = "a mode is written in octal, as in \"0600\"";
                    self.fault(&format!("{place}.mode"), what);
                }
                let has_more = [owner, group, mode, contains]
                    .iter()
                    .any(|key| key.is_some());
                if !exists && has_more {
                    let what = "a file that must not be there has nothing else to check";
                    self.fault(&format!("{place}.exists"), what);
                }
            }
            Check::ReadableAs { root, user, .. } => {
                if let Some(root) = root {
                    self.is_root(root, &format!("{place}.root"));
                }
                if user.is_none() && !has_user {
                    let what = "it names no `user`, and [service] has none either";
                    self.fault(place, what);
                }
            }
        }
    }
}

/// Where the value at a place such as `root.0.path` begins; of what is not there, where the
/// nearest table around it does.
fn offset(document: &DeValue<'_>, place: &str) -> usize {
    let (mut value, mut at) = (document, 0);
    for step in place.split('.') {
        let next =
            match (value, step.parse::<usize>()) {
                (DeValue::Array(items), Ok(n)) => items.get(n).map(|item| (item.span(), item)),
                (DeValue::Table(table), _) => table
                    .iter()
                    .find(|(key, _)| key.get_ref() == step)
                    .map(|(key, value)| match value.get_ref() {
                        DeValue::Table(_) => (key.span(), value),
                        _ => (value.span(), value),
                    }),
                _ => None,
            };
        let Some((span, found)) = next else {
            break;
        };
        (value, at) = (found.get_ref(), span.start);
    }
    at
}

fn is_name(name: &str, others: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || others.contains(c);
    !name.is_empty() && name.chars().all(is_fit) && !name.starts_with(['-', '.'])
}

fn is_variable(name: &str) -> bool {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(is_fit) && name.starts_with(|c: char| !c.is_ascii_digit())
}

fn has_dots(path: &str) -> bool {
    path.split('/').any(|name| name == "..")
}
