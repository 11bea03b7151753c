//! Both hosts of a plan: reached at once, asked at once, and for as long as they are, one ssh
//! connection to each that all roots share.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::model::{End, Plan};
use crate::error::{Error, Result};
use crate::events::{Both, Cancel, Observer, Side};
use crate::session::Host;
use crate::transport::{Location, RemoteOptions};

/// How long a connection stays after its last use, unless the user says otherwise: over the pauses
/// between roots, and for the next command on the same plan, which then need not ask for a
/// password again.
const LINGER: Duration = Duration::from_secs(60);

/// Both hosts of a plan.
pub struct Hosts {
    /// Where it is now.
    pub source: Host,
    /// Where it shall be.
    pub destination: Host,
    /// How they are reached, for those who open further sessions.
    pub(super) remote: Both<RemoteOptions>,
}

/// What became of reaching both.
pub struct Attempt {
    /// Each host, or why it was not reached.
    pub hosts: Both<Result<Host>>,
    remote: Both<RemoteOptions>,
}

impl Hosts {
    /// Reaches both hosts at the same time, with what `connection` says and the plan does not.
    ///
    /// # Errors
    ///
    /// The source's fault before the destination's; as of [`Host::reach`].
    pub fn reach(
        plan: &Plan,
        connection: &RemoteOptions,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Result<Hosts> {
        Hosts::attempt(plan, connection, observer, cancel).into_hosts()
    }

    /// The same for those who want to know of both.
    pub fn attempt(
        plan: &Plan,
        connection: &RemoteOptions,
        observer: &dyn Observer,
        cancel: &Cancel,
    ) -> Attempt {
        let remote = Both {
            source: way(&plan.source, connection),
            destination: way(&plan.destination, connection),
        };
        let reach = |end: &End, options| match location(end)? {
            Location::Local(_) => Ok(Host::here_until(cancel)),
            Location::Remote(far) => Host::reach(&far, options, observer, cancel),
        };
        let hosts = thread::scope(|scope| {
            let destination = scope.spawn(|| reach(&plan.destination, &remote.destination));
            Both {
                source: reach(&plan.source, &remote.source),
                destination: destination.join().unwrap_or_else(|_| Err(panicked())),
            }
        });
        Attempt { hosts, remote }
    }

    /// The host of one side.
    pub fn of(&mut self, side: Side) -> &mut Host {
        match side {
            Side::Source => &mut self.source,
            Side::Destination => &mut self.destination,
        }
    }

    /// Asks both at the same time.
    pub fn both<T: Send>(
        &mut self,
        ask: impl Fn(Side, &mut Host) -> Result<T> + Sync,
    ) -> Result<Both<T>> {
        let (source, destination) = (&mut self.source, &mut self.destination);
        let (source, destination) = thread::scope(|scope| {
            let asked = scope.spawn(|| ask(Side::Destination, destination));
            let answered = ask(Side::Source, source);
            (answered, asked.join().unwrap_or_else(|_| Err(panicked())))
        });
        Ok(Both {
            source: source?,
            destination: destination?,
        })
    }

    /// Lets both go. The connections end by themselves when nobody takes them up again.
    ///
    /// # Errors
    ///
    /// As of [`Host::finish`].
    pub fn finish(self) -> Result<()> {
        let source = self.source.finish();
        self.destination.finish().and(source)
    }
}

impl Attempt {
    /// Both hosts.
    ///
    /// # Errors
    ///
    /// The source's fault before the destination's.
    pub fn into_hosts(self) -> Result<Hosts> {
        Ok(Hosts {
            source: self.hosts.source?,
            destination: self.hosts.destination?,
            remote: self.remote,
        })
    }
}

fn panicked() -> Error {
    Error::protocol("the thread that asked the destination panicked")
}

/// How an end is reached: as the plan says, and for the rest as `connection` does.
fn way(end: &End, connection: &RemoteOptions) -> RemoteOptions {
    RemoteOptions {
        shell: end.shell.clone(),
        ssh_args: end.ssh.iter().map(OsString::from).collect(),
        agent_path: end.agent.clone().map(String::into_bytes),
        sudo: end.sudo,
        persist: connection.persist.or(Some(LINGER)),
        ..connection.clone()
    }
}

/// Where an end is: on a host, with an empty path.
pub(super) fn location(end: &End) -> Result<Location> {
    if end.is_here() {
        return Ok(Location::Local(PathBuf::new()));
    }
    let host = end.host.as_deref().unwrap_or_default();
    Location::parse(OsStr::new(&format!("{host}:")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_without_a_host_is_this_machine() {
        let end = End::default();
        assert!(matches!(location(&end).unwrap(), Location::Local(_)));
        let end = End {
            host: Some("me@there".into()),
            ..End::default()
        };
        assert_eq!(location(&end).unwrap().to_string(), "me@there:");
        let end = End {
            shell: Some("sudo -u bob".into()),
            ..End::default()
        };
        assert_eq!(location(&end).unwrap().to_string(), ":");
    }

    #[test]
    fn the_plan_says_how_each_end_is_reached() {
        let end = End {
            ssh: vec!["-p".into(), "2222".into()],
            agent: Some("/opt/cutover".into()),
            sudo: true,
            ..End::default()
        };
        let connection = RemoteOptions {
            connect_timeout: Duration::from_secs(5),
            ..RemoteOptions::default()
        };
        let way = way(&end, &connection);
        assert_eq!(way.ssh_args, ["-p", "2222"]);
        assert_eq!(way.agent_path.as_deref(), Some(&b"/opt/cutover"[..]));
        assert!(way.sudo);
        assert_eq!(way.persist, Some(LINGER));
        assert_eq!(way.connect_timeout, Duration::from_secs(5));
    }
}
