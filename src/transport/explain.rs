//! What ssh's complaints mean and what to do about them. ssh has one exit code for all of them,
//! so its words are all there is to go by; what is not recognised is shown as it came.

use super::stderr::Said;
use crate::error::Error;

/// A complaint that is recognised by its words.
struct Complaint {
    /// What its text holds.
    marks: &'static [&'static str],
    /// What happened, after "cannot connect to HOST: ".
    what: &'static str,
    /// What to do.
    advice: &'static str,
}

/// In this order: a changed key also ends with "verification failed".
const COMPLAINTS: &[Complaint] = &[
    Complaint {
        marks: &["Could not resolve hostname"],
        what: "there is no host of this name",
        advice: "check its spelling, or the Host entries of your ssh configuration",
    },
    Complaint {
        marks: &["REMOTE HOST IDENTIFICATION HAS CHANGED"],
        what: "its host key has changed",
        advice: "if the host was installed anew, remove its old key with ssh-keygen -R; \
                 otherwise somebody may be listening in",
    },
    Complaint {
        marks: &["Host key verification failed", "host key is known for"],
        what: "its host key is not known",
        advice: "log in once with ssh to check and accept it",
    },
    Complaint {
        marks: &["Permission denied (", "Too many authentication failures"],
        what: "it accepts none of your keys or passwords",
        advice: "check that plain ssh can log in, and as which user",
    },
    Complaint {
        marks: &["Connection refused"],
        what: "the connection was refused",
        advice: "check that its ssh server runs, and on which port",
    },
    Complaint {
        marks: &["timed out", "Timeout"],
        what: "it does not answer",
        advice: "check the address, the network and firewalls, or allow more time to connect",
    },
    Complaint {
        marks: &["No route to host", "Network is unreachable"],
        what: "no network leads there",
        advice: "check the address and your network or VPN",
    },
    Complaint {
        marks: &[
            "Bad configuration option",
            "Can't open user config file",
            "terminating, ",
        ],
        what: "ssh rejects its configuration",
        advice: "correct the file or the option that it names",
    },
    Complaint {
        marks: &["Unable to negotiate"],
        what: "the two sides share no way to encrypt",
        advice: "compare what your ssh configuration and the host's allow",
    },
];

/// Whether `stderr` holds a complaint of ssh's own, rather than of what it ran.
pub(super) fn is_ssh_complaint(stderr: &Said) -> bool {
    find(stderr).is_some()
}

fn find(stderr: &Said) -> Option<&'static Complaint> {
    let stderr = stderr.text();
    COMPLAINTS
        .iter()
        .find(|complaint| complaint.marks.iter().any(|mark| stderr.contains(mark)))
}

/// The error for a connection that ssh could not make.
pub(super) fn cannot_connect(destination: &str, stderr: &Said) -> Error {
    let lines = stderr.last_lines();
    Error::Connection(match find(stderr) {
        Some(Complaint { what, advice, .. }) => {
            format!("cannot connect to {destination}: {what}; {advice}{lines}")
        }
        None => format!("cannot connect to {destination}: ssh failed{lines}"),
    })
}

/// The error for a `sudo` that would not run the agent, if that is what `stderr` tells.
pub(super) fn sudo_refused(destination: &str, stderr: &Said) -> Option<Error> {
    let text = stderr.text();
    let wants_a_password = [
        "password is required",
        "a terminal",
        "must have a tty",
        "authentication is required",
    ];
    let advice = if wants_a_password.iter().any(|mark| text.contains(mark)) {
        "it asks for a password, which cannot be typed here; allow the command without one \
         (NOPASSWD in sudoers) or log in as root"
    } else if text.contains("not in the sudoers") || text.contains("not allowed") {
        "the user may not run it; allow it in sudoers or log in as root"
    } else if text.contains("sudo: not found") || text.contains("sudo: command not found") {
        "there is no sudo; log in as root"
    } else {
        return None;
    };
    Some(Error::Connection(format!(
        "sudo on {destination} does not run the agent: {advice}{}",
        stderr.last_lines()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_of_ssh_become_distinct_errors_with_advice() {
        // As OpenSSH 9.2 words them.
        let cases = [
            (
                "ssh: Could not resolve hostname nowhere: Name or service not known\r\n",
                "no host of this name",
            ),
            (
                "ssh: connect to host h port 22: Connection refused\r\n",
                "was refused",
            ),
            (
                "ssh: connect to host h port 22: Connection timed out\r\n",
                "does not answer",
            ),
            (
                "ssh: connect to host h port 22: No route to host\r\n",
                "no network leads",
            ),
            (
                "u@h: Permission denied (publickey).\r\n",
                "none of your keys",
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\n\
                 Host key verification failed.\r\n",
                "host key has changed",
            ),
            (
                "No ED25519 host key is known for h and you have requested strict checking.\r\n\
                 Host key verification failed.\r\n",
                "host key is not known",
            ),
        ];
        for (said, expected) in cases {
            let text = cannot_connect("u@h", &Said::unseen(said)).to_string();
            assert!(text.starts_with("cannot connect to u@h: "), "{text}");
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn unknown_complaint_is_shown_as_it_came() {
        let text = cannot_connect("h", &Said::unseen("kex_exchange: strange\r\n")).to_string();
        assert_eq!(
            text,
            "cannot connect to h: ssh failed\n    kex_exchange: strange"
        );
    }

    #[test]
    fn sudo_that_asks_for_a_password_is_named() {
        let err = sudo_refused("h", &Said::unseen("sudo: a password is required\n")).unwrap();
        assert!(err.to_string().contains("NOPASSWD"), "{err}");
        assert!(sudo_refused("h", &Said::unseen("segfault")).is_none());
    }
}
