//! Who and what this host is.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::fs::{Users, boot_id};
use crate::path::escape;
use crate::protocol::errand::HostFacts;
use crate::transport::{Whose, expand_home};

/// This host, as seen by the user who runs its errands.
pub(super) fn host() -> HostFacts {
    let uid = Users::effective_uid();
    let user = Users::new().user_name(uid);
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    HostFacts {
        name: escape(rustix::system::uname().nodename().to_bytes()).into_owned(),
        boot_id: boot_id(),
        // A clock before 1970 is as wrong as one at its beginning.
        clock_ms: clock.map_or(0, |since| since.as_millis() as u64),
        user: user.map_or_else(|| uid.to_string(), |name| escape(&name).into_owned()),
        uid,
        home: escape(&expand_home(b"~", Whose::Own)).into_owned(),
    }
}

/// Which of these users, and which of these groups, exist, by name or by number.
pub(super) fn known(users: &[String], groups: &[String]) -> (Vec<bool>, Vec<bool>) {
    let here = Users::new();
    let number = |name: &String| name.parse().ok();
    let user = |name: &String| {
        let named = number(name).and_then(|uid| here.user_name(uid));
        here.uid_of(name).is_some() || named.is_some()
    };
    let group = |name: &String| {
        let named = number(name).and_then(|gid| here.group_name(gid));
        here.gid_of(name).is_some() || named.is_some()
    };
    (
        users.iter().map(user).collect(),
        groups.iter().map(group).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_told() {
        let host = host();
        assert_eq!(host.uid, Users::effective_uid());
        assert!(!host.name.is_empty() && host.home.starts_with('/'));
        assert_eq!(host.boot_id.len(), 36);
        assert!(host.clock_ms > 1_600_000_000_000);
    }

    #[test]
    fn who_exists_is_told_in_order() {
        let names = ["no-such-one", "root", "3999999999", "0"].map(String::from);
        let expected = vec![false, true, false, true];
        assert_eq!(known(&names, &names), (expected.clone(), expected));
    }
}
