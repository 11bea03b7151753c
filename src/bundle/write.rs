//! Writes an archive member by member. Whatever becomes of a member's content, the archive stays
//! well-formed: what is missing of an announced length is filled with zeros, and more is not taken.

use std::io::{self, Write};

use super::member::Member;
use super::ustar::{BLOCK, END, padding};

/// An archive that is being written.
pub(super) struct Archive<W> {
    out: W,
}

/// The content of the member that was begun last.
pub(super) struct Content<'a, W> {
    out: &'a mut W,
    /// How much of what was announced is still to come.
    left: u64,
    padding: usize,
}

impl<W: Write> Archive<W> {
    /// One that is empty.
    pub(super) fn new(out: W) -> Archive<W> {
        Archive { out }
    }

    /// Starts a member. `head` is what [`Member::head`] made of it.
    pub(super) fn begin(&mut self, member: &Member, head: &[u8]) -> io::Result<Content<'_, W>> {
        self.out.write_all(head)?;
        let left = member.data_bytes();
        Ok(Content {
            out: &mut self.out,
            left,
            padding: padding(left),
        })
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&END)?;
        Ok(self.out)
    }
}

impl<W: Write> Content<'_, W> {
    /// Appends content; returns how much of it was taken.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.out.write_all(&bytes[..taken])?;
        self.left -= taken as u64;
        Ok(taken)
    }

    /// Ends the member; returns how many zeros stand for content that did not come.
    pub(super) fn finish(self) -> io::Result<u64> {
        static ZEROS: [u8; 64 * BLOCK] = [0; 64 * BLOCK];
        let missing = self.left;
        let mut left = self.left;
        while left > 0 {
            let part = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            self.out.write_all(&ZEROS[..part])?;
            left -= part as u64;
        }
        self.out.write_all(&ZEROS[..self.padding])?;
        Ok(missing)
    }
}
