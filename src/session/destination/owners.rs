//! The destination's answers about owners: which of its numbers a user or group of the source
//! becomes, and whether it can be given at all.

use crate::error::{Error, Result};
use crate::fs::{Process, Users};
use crate::options::Ownership;
use crate::protocol::message::{OwnerQuery, OwnerReply};

/// Resolves owners by the run's rules.
pub(crate) struct Resolver {
    users: Users,
    numeric: bool,
    user_rules: Vec<MapRule>,
    group_rules: Vec<MapRule>,
    /// Who this process is, where it cannot give entries to others.
    confined: Option<Process>,
}

/// One rule of `--usermap` or `--groupmap`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MapRule {
    from: From,
    to: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum From {
    /// Any name that matches, `*` standing for anything; not those without a name.
    Name(String),
    /// Those without a name.
    Nameless,
    /// A range of numbers, ends included.
    Ids(u32, u32),
}

impl Resolver {
    /// Parses the rules; names on their right side are looked up here.
    pub(crate) fn new(ownership: &Ownership) -> Result<Resolver> {
        let users = Users::new();
        let user_rules = parse_all("user", &ownership.usermap, |name| users.uid_of(name))?;
        let group_rules = parse_all("group", &ownership.groupmap, |name| users.gid_of(name))?;
        Ok(Resolver {
            users,
            numeric: ownership.numeric_ids,
            user_rules,
            group_rules,
            confined: None,
        })
    }

    /// For a process that cannot give entries to others.
    pub(crate) fn confined(self) -> Resolver {
        Resolver {
            confined: Some(Process::current()),
            ..self
        }
    }

    /// The answer to one question.
    pub(crate) fn resolve(&self, query: &OwnerQuery) -> OwnerReply {
        let rules = if query.is_group {
            &self.group_rules
        } else {
            &self.user_rules
        };
        let mapped = rules.iter().find(|rule| rule.matches(query));
        let id = match mapped {
            Some(rule) => rule.to,
            // The super-user is who has number 0, whatever the name.
            None if self.numeric || query.id == 0 => query.id,
            None => query
                .name
                .as_deref()
                .and_then(|name| self.id_of(query.is_group, name))
                .unwrap_or(query.id),
        };
        self.confine(query.is_group, id)
    }

    fn id_of(&self, is_group: bool, name: &str) -> Option<u32> {
        if is_group {
            self.users.gid_of(name)
        } else {
            self.users.uid_of(name)
        }
    }

    /// What this process can hold of it: its own user, and groups that it is in.
    fn confine(&self, is_group: bool, id: u32) -> OwnerReply {
        let Some(me) = &self.confined else {
            return OwnerReply { id, held: true };
        };
        let held = if is_group {
            me.gid == id || me.groups.contains(&id)
        } else {
            me.uid == id
        };
        let fallback = if is_group { me.gid } else { me.uid };
        OwnerReply {
            id: if held { id } else { fallback },
            held,
        }
    }
}

impl MapRule {
    fn matches(&self, query: &OwnerQuery) -> bool {
        match (&self.from, &query.name) {
            (From::Ids(low, high), _) => (*low..=*high).contains(&query.id),
            (From::Nameless, name) => name.is_none(),
            (From::Name(pattern), Some(name)) => matches_star(pattern.as_bytes(), name.as_bytes()),
            (From::Name(pattern), None) => pattern == "*",
        }
    }
}

/// `noun` is what the rules map. Which option they came from is not known here: `--chown` is rules
/// too.
fn parse_all(
    noun: &str,
    texts: &[String],
    look_up: impl Fn(&str) -> Option<u32>,
) -> Result<Vec<MapRule>> {
    texts
        .iter()
        .flat_map(|text| text.split(','))
        .map(|text| {
            let (from, to) = text
                .split_once(':')
                .ok_or_else(|| Error::Usage(format!("'{text}' maps no {noun}: write FROM:TO")))?;
            let to = to.parse().ok().or_else(|| look_up(to)).ok_or_else(|| {
                Error::Usage(format!(
                    "there is no {noun} '{to}' at the destination: name one that is known there, \
                     or give a number"
                ))
            })?;
            Ok(MapRule {
                from: parse_from(from),
                to,
            })
        })
        .collect()
}

fn parse_from(text: &str) -> From {
    if text.is_empty() {
        return From::Nameless;
    }
    let range = match text.split_once('-') {
        Some((low, high)) => low.parse().ok().zip(high.parse().ok()),
        None => text.parse().ok().map(|id| (id, id)),
    };
    match range {
        Some((low, high)) => From::Ids(low, high),
        None => From::Name(text.to_string()),
    }
}

/// Whether `name` matches a pattern in which `*` stands for any bytes.
fn matches_star(pattern: &[u8], name: &[u8]) -> bool {
    let mut parts = pattern.split(|&byte| byte == b'*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts.filter(|part| !part.is_empty()) {
        let Some(at) = rest.windows(part.len()).position(|window| window == part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(usermap: &[&str], numeric_ids: bool) -> Resolver {
        let ownership = Ownership {
            numeric_ids,
            usermap: usermap.iter().map(|rule| rule.to_string()).collect(),
            groupmap: Vec::new(),
        };
        Resolver::new(&ownership).unwrap()
    }

    fn user(id: u32, name: Option<&str>) -> OwnerQuery {
        OwnerQuery {
            is_group: false,
            id,
            name: name.map(str::to_string),
        }
    }

    #[test]
    fn a_name_is_looked_up_and_an_unknown_one_keeps_its_number() {
        let plain = resolver(&[], false);
        assert_eq!(plain.resolve(&user(4711, Some("root"))).id, 0);
        assert_eq!(
            plain.resolve(&user(4711, Some("no-such-user-here"))).id,
            4711
        );
        assert_eq!(plain.resolve(&user(4711, None)).id, 4711);
        assert_eq!(
            resolver(&[], true).resolve(&user(4711, Some("root"))).id,
            4711
        );
    }

    #[test]
    fn the_first_matching_rule_decides() {
        let mapped = resolver(&["1000-1999:5", "ad*n:6", ":7", "*:8"], false);
        assert_eq!(mapped.resolve(&user(1500, Some("admin"))).id, 5);
        assert_eq!(mapped.resolve(&user(10, Some("admin"))).id, 6);
        assert_eq!(mapped.resolve(&user(10, None)).id, 7);
        assert_eq!(mapped.resolve(&user(10, Some("alice"))).id, 8);
    }

    #[test]
    fn a_rule_without_a_colon_or_with_an_unknown_target_is_a_usage_error() {
        for bad in ["alice", "1:no-such-user-here"] {
            let ownership = Ownership {
                usermap: vec![bad.to_string()],
                ..Ownership::default()
            };
            assert!(Resolver::new(&ownership).is_err(), "{bad}");
        }
    }
}
