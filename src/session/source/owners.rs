//! The source's table of owners: what its users and groups are called at the destination. Each is
//! asked for once; those that earlier runs met are asked for in the first message, so that the
//! common case waits for nothing.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::fs::Users;
use crate::manifest::owners::OwnerMap;
use crate::manifest::recorded::OwnerNames;
use crate::manifest::state::State;
use crate::protocol::conn::Outbox;
use crate::protocol::message::{FromSource, OwnerQuery, OwnerReply};
use crate::protocol::queue::Queue;

/// More owners than this are not asked for in the first message.
const REMEMBERED: usize = 256;

type Key = (bool, u32);

/// Who knows the names of the source's owners.
pub(super) enum Names<'a> {
    /// This host.
    Host(Box<Users>),
    /// The manifest that stands for the source.
    Manifest(&'a OwnerNames),
}

/// Owners and their numbers at the destination.
pub(super) struct OwnerTable<'a> {
    outbox: Outbox,
    replies: &'a Queue<Vec<OwnerReply>>,
    names: Names<'a>,
    known: Mutex<HashMap<Key, OwnerReply>>,
    /// One question at a time, so that replies find their question.
    asking: Mutex<()>,
    unheld: AtomicU64,
}

impl<'a> OwnerTable<'a> {
    pub(super) fn new(
        outbox: Outbox,
        replies: &'a Queue<Vec<OwnerReply>>,
        names: Names<'a>,
    ) -> OwnerTable<'a> {
        OwnerTable {
            outbox,
            replies,
            names,
            known: Mutex::default(),
            asking: Mutex::default(),
            unheld: AtomicU64::new(0),
        }
    }

    /// Takes the answers to questions that were asked in the first message.
    pub(super) fn learn(&self, queries: Vec<OwnerQuery>, replies: &[OwnerReply]) -> Result<()> {
        if queries.len() != replies.len() {
            return Err(Error::protocol("answers that do not fit the questions"));
        }
        let mut known = self.known();
        for (query, reply) in queries.into_iter().zip(replies) {
            // A number can have changed its name since; then it is asked for again.
            if query.name == self.name(query.is_group, query.id) {
                known.insert((query.is_group, query.id), *reply);
            }
        }
        Ok(())
    }

    /// How many entries get another owner than theirs, and whom it concerns.
    pub(super) fn unheld(&self) -> Option<(u64, String)> {
        let entries = self.unheld.load(Ordering::Relaxed);
        if entries == 0 {
            return None;
        }
        let mut whose: Vec<String> = self
            .known()
            .iter()
            .filter(|(_, reply)| !reply.held)
            .map(|((is_group, id), _)| {
                let what = if *is_group { "group" } else { "user" };
                let name = self.name(*is_group, *id).unwrap_or_else(|| id.to_string());
                format!("{what} {name}")
            })
            .collect();
        whose.sort();
        let shown = whose.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = if whose.len() > 5 { ", ..." } else { "" };
        Some((
            entries,
            format!(
                "ownership ({shown}{more}) is not kept: the receiver is not \
                 root; run it as root, with --sudo, or store ownership with --fake-super"
            ),
        ))
    }

    fn look_up(&self, is_group: bool, id: u32) -> io::Result<OwnerReply> {
        let key = (is_group, id);
        let known = self.known().get(&key).copied();
        match known {
            Some(reply) => Ok(reply),
            None => self.ask(key).map_err(io::Error::other),
        }
    }

    fn ask(&self, key: Key) -> Result<OwnerReply> {
        let _one_at_a_time = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reply) = self.known().get(&key) {
            return Ok(*reply);
        }
        let query = OwnerQuery {
            is_group: key.0,
            id: key.1,
            name: self.name(key.0, key.1),
        };
        self.outbox.say(&FromSource::Owners(vec![query]))?;
        let replies = self.replies.pop().ok_or(Error::Interrupted)?;
        let [reply] = replies[..] else {
            return Err(Error::protocol("answers that do not fit the questions"));
        };
        self.known().insert(key, reply);
        Ok(reply)
    }

    fn name(&self, is_group: bool, id: u32) -> Option<String> {
        match (&self.names, is_group) {
            (Names::Host(users), false) => users.user_name(id).and_then(text),
            (Names::Host(users), true) => users.group_name(id).and_then(text),
            (Names::Manifest(names), false) => names.users.get(&id).cloned(),
            (Names::Manifest(names), true) => names.groups.get(&id).cloned(),
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Key, OwnerReply>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that is no text is as good as none: the destination keeps the number.
fn text(name: Vec<u8>) -> Option<String> {
    String::from_utf8(name).ok()
}

impl OwnerMap for OwnerTable<'_> {
    fn owner(&self, uid: u32, gid: u32) -> io::Result<(u32, u32)> {
        let (user, group) = (self.look_up(false, uid)?, self.look_up(true, gid)?);
        Ok((user.id, group.id))
    }

    fn count(&self, uid: u32, gid: u32, entries: u64) {
        let known = self.known();
        let is_held = |key: Key| known.get(&key).is_none_or(|reply| reply.held);
        if !is_held((false, uid)) || !is_held((true, gid)) {
            self.unheld.fetch_add(entries, Ordering::Relaxed);
        }
    }
}

/// The owners that earlier runs met.
pub(super) fn remembered(state: Option<&State>) -> Vec<OwnerQuery> {
    let note = state.and_then(|state| state.note("owners"));
    note.and_then(|bytes| postcard::from_bytes(&bytes).ok())
        .unwrap_or_default()
}

/// The owners of this run, to be remembered.
pub(super) fn to_note(table: &OwnerTable<'_>) -> Vec<u8> {
    let mut keys: Vec<Key> = table.known().keys().copied().collect();
    keys.sort_unstable();
    let queries: Vec<OwnerQuery> = keys
        .into_iter()
        .take(REMEMBERED)
        .map(|(is_group, id)| OwnerQuery {
            is_group,
            id,
            name: table.name(is_group, id),
        })
        .collect();
    // A list of plain values can always be written; without it the next run asks again.
    postcard::to_stdvec(&queries).unwrap_or_default()
}
