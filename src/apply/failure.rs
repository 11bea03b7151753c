//! One entry's fault while it is written: what was being done, and why it failed.

use std::io;

use rustix::io::Errno;

/// An act on an entry that failed.
#[derive(Debug)]
pub struct Failure {
    /// The act, as in "cannot ACT PATH".
    pub act: &'static str,
    /// Why.
    pub source: io::Error,
}

impl Failure {
    /// A failure of `act`.
    pub fn new(act: &'static str, source: io::Error) -> Failure {
        Failure { act, source }
    }

    /// Whether going on makes no sense: no other file could be written either.
    pub fn is_fatal(&self) -> bool {
        let errno = self.source.raw_os_error();
        [Errno::NOSPC, Errno::DQUOT, Errno::ROFS]
            .iter()
            .any(|fatal| errno == Some(fatal.raw_os_error()))
    }
}

/// Names the act of a system call that may fail.
pub trait During<T> {
    /// The failure of this act, if it fails.
    fn during(self, act: &'static str) -> Result<T, Failure>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, act: &'static str) -> Result<T, Failure> {
        self.map_err(|source| Failure { act, source })
    }
}
