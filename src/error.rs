//! What ends a run. One entry's fault is not here: that is an [`events::Problem`](crate::events),
//! which the run collects and survives.

use std::io;

use serde::{Deserialize, Serialize};

use crate::path::{PathError, escape};

/// What every layer returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A fault that ends the run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed on something the run cannot do without.
    #[error("cannot {act} {path}: {source}")]
    Io {
        /// The act, as in "cannot ACT PATH".
        act: &'static str,
        /// On what, made printable.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A guard refused to go on; nothing was deleted.
    #[error("refused: {0}")]
    Refused(String),
    /// The other end could not be reached or went away.
    #[error("{0}")]
    Connection(String),
    /// The other end said something that it must not say.
    #[error("the other end broke the protocol: {0}")]
    Protocol(String),
    /// Another run holds the root.
    #[error("{0}")]
    Locked(String),
    /// The user or the system asked the run to stop.
    #[error("interrupted")]
    Interrupted,
    /// The same, with more to say than that.
    #[error("{0}")]
    Stopped(String),
    /// What was asked for could not be done.
    #[error("{0}")]
    Failed(String),
    /// The other end gave up and said why.
    #[error("{0}")]
    Remote(RemoteError),
}

/// An error as it crosses the wire: the class decides the exit code, the text is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RemoteError {
    /// The class.
    pub class: ErrorClass,
    /// The message, as the far end would have printed it.
    pub message: String,
}

/// The classes of errors that exit codes tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorClass {
    /// Exit code 2.
    Usage,
    /// Exit code 3.
    Failed,
    /// Exit code 5.
    Refused,
    /// Exit code 6.
    Connection,
    /// Exit code 7.
    Locked,
    /// Exit code 130.
    Interrupted,
}

impl ErrorClass {
    /// The exit code of the command, as documented in the README.
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorClass::Usage => 2,
            ErrorClass::Failed => 3,
            ErrorClass::Refused => 5,
            ErrorClass::Connection => 6,
            ErrorClass::Locked => 7,
            ErrorClass::Interrupted => 130,
        }
    }
}

impl Error {
    /// An [`Error::Io`] on a path of raw bytes.
    pub fn io(act: &'static str, path: impl AsRef<[u8]>, source: impl Into<io::Error>) -> Error {
        Error::Io {
            act,
            path: escape(path.as_ref()).into_owned(),
            source: source.into(),
        }
    }

    /// An [`Error::Protocol`].
    pub fn protocol(what: impl Into<String>) -> Error {
        Error::Protocol(what.into())
    }

    /// Which class the error is of.
    pub fn class(&self) -> ErrorClass {
        match self {
            Error::Io { .. } | Error::Failed(_) => ErrorClass::Failed,
            Error::Usage(_) => ErrorClass::Usage,
            Error::Refused(_) => ErrorClass::Refused,
            Error::Connection(_) | Error::Protocol(_) => ErrorClass::Connection,
            Error::Locked(_) => ErrorClass::Locked,
            Error::Interrupted | Error::Stopped(_) => ErrorClass::Interrupted,
            Error::Remote(remote) => remote.class,
        }
    }

    /// The error as the other end shall see it.
    pub fn to_remote(&self) -> RemoteError {
        RemoteError {
            class: self.class(),
            message: self.to_string(),
        }
    }
}

impl From<PathError> for Error {
    fn from(err: PathError) -> Error {
        Error::Protocol(err.to_string())
    }
}
