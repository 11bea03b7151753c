//! What a child becomes between `fork` and `exec`: the head of a session of its own, and another
//! user. No tree is touched here; it is in `fs` because it takes `unsafe`.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Gid, Signal, Uid, set_parent_process_death_signal, setsid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::users::Login;

/// Makes the child that `command` will start the head of a session and of a process group, so that
/// it can be ended with all that it started, and as which user it runs, which takes root. It is
/// killed when the thread that started it ends.
pub fn lead_session(command: &mut Command, login: Option<&Login>) {
    let identity = login.map(|login| {
        let groups: Vec<Gid> = login.groups.iter().copied().map(Gid::from_raw).collect();
        (Uid::from_raw(login.uid), Gid::from_raw(login.gid), groups)
    });
    let become_it = move || {
        setsid()?;
        if let Some((uid, gid, groups)) = &identity {
            set_thread_groups(groups)?;
            set_thread_res_gid(*gid, *gid, *gid)?;
            set_thread_res_uid(*uid, *uid, *uid)?;
        }
        // Last: a change of user takes it back.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(())
    };
    // SAFETY: between `fork` and `exec` only one thread is left, and locks that others held stay
    // held. The closure takes none and allocates nothing: it makes plain system calls, with what
    // was made before the fork, and an `Errno` becomes an `io::Error` without allocating.
    unsafe {
        command.pre_exec(become_it);
    }
}
