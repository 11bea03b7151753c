//! Asks for files, and tells the source of their old versions, so that only what is new in a file
//! travels.

use std::io;

use crate::apply::Existing;
use crate::delta::{
    self, BlockSize, Signature, SignatureSpec, UntilCancelled, hash_file, sum_file,
};
use crate::error::Result;
use crate::events::Cancel;
use crate::fs;
use crate::manifest::state::State;
use crate::options::{DeltaMode, Transfer};
use crate::path::{Name, RelPath};
use crate::protocol::frame::MAX_BODY;
use crate::protocol::message::{Basis, BasisSums, FromDestination, Want};
use crate::session::destination::Session;
use crate::session::destination::lane::LaneFile;

/// How long one block's sum is.
const SUM_BYTES: u64 = 16;

/// What sums may take in one message, in bytes: half of the longest frame. Smaller blocks than
/// fit are made larger.
const MOST_SUM_BYTES: u64 = (MAX_BODY / 2) as u64;

/// Describes an old version in the way that suits its length, and keeps what that taught of its
/// blocks.
fn describe(
    existing: &mut Existing,
    transfer: &Transfer,
    state: Option<&State>,
    cancel: &Cancel,
) -> io::Result<Basis> {
    let len = existing.byte_len();
    let file = UntilCancelled(&existing.file, cancel);
    let forced = transfer
        .block_bytes
        .and_then(|bytes| BlockSize::new(bytes).ok());
    let sums = match (delta::Mode::for_lens(len, len), forced) {
        (delta::Mode::Whole, _) => BasisSums::Same(hash_file(&file, len)?),
        // In place nothing may move: only sums of blocks at their places are of use.
        (_, Some(block)) => staged(existing, block, state, cancel)?,
        (_, None) if existing.in_place => staged(existing, BlockSize::for_len(len), state, cancel)?,
        (delta::Mode::Search(window), None) => {
            let spec = SignatureSpec::whole_in(len, window).map_err(io::Error::other)?;
            BasisSums::Search(Signature::of_basis(&file, spec, delta::threads())?)
        }
        (delta::Mode::Staged(block), None) => staged(existing, block, state, cancel)?,
    };
    Ok(Basis { len, sums })
}

fn staged(
    existing: &mut Existing,
    block: BlockSize,
    state: Option<&State>,
    cancel: &Cancel,
) -> io::Result<BasisSums> {
    let len = existing.byte_len();
    let block = match block.count(len) * SUM_BYTES > MOST_SUM_BYTES {
        true => BlockSize::for_len(len),
        false => block,
    };
    // Before anything is read: what is written later must be seen by it.
    let shows_writes = !existing.in_place && fs::shows_writes(&existing.file)?;
    let known = state.and_then(|state| state.blocks(&existing.stat));
    let blocks = match known.filter(|known| known.block() == block) {
        Some(known) => known,
        None => {
            let file = UntilCancelled(&existing.file, cancel);
            match sum_file(&file, len, block, delta::threads())? {
                (_, Some(found)) => found,
                // Too long for blocks of this size: all or nothing.
                (hash, None) => return Ok(BasisSums::Same(hash)),
            }
        }
    };
    let sums = BasisSums::Staged {
        block,
        sums: blocks.sums().as_bytes().to_vec(),
    };
    existing.blocks = shows_writes.then_some(blocks);
    Ok(sums)
}

impl Session<'_> {
    /// Asks for a file's content, with what there is of its old version.
    pub(super) fn ask(&self, path: RelPath) -> Result<()> {
        let mut basis = match self.uses_delta() && self.pending.may_use_basis(&path) {
            true => self.open_basis(&path),
            false => None,
        };
        // What the state knows is not believed where nothing is.
        let state = self.state.filter(|_| !self.options().rehash);
        let told = basis.as_mut().and_then(|basis| {
            // An old version that cannot be read is none.
            describe(basis, &self.options().transfer, state, self.role.cancel).ok()
        });
        if let (Some(basis), Some(_)) = (basis, &told) {
            self.pending.keep_basis(&path, basis);
        }
        self.say(&FromDestination::Want(Want { path, basis: told }))
    }

    /// The old version of a file, or what an interrupted run left of the new one if that is more.
    fn open_basis(&self, path: &RelPath) -> Option<Existing> {
        let applier = self.applier().ok()?;
        let existing = applier.existing(path).ok();
        let leftover = self
            .leftovers_of(path)
            .filter_map(|(dir, temp)| applier.leftover(dir, temp).ok())
            .max_by_key(|leftover| leftover.byte_len());
        match (existing, leftover) {
            (Some(existing), Some(left))
                if !existing.in_place && left.byte_len() > existing.byte_len() / 2 =>
            {
                Some(left)
            }
            (None, left) => left,
            (existing, _) => existing,
        }
    }

    /// The unfinished files that earlier runs left of this one.
    pub(super) fn leftovers_of<'b>(
        &'b self,
        path: &'b RelPath,
    ) -> impl Iterator<Item = &'b (RelPath, Name)> {
        let place = path.parent().zip(path.file_name());
        let all = self.leftovers.get().map_or(&[][..], Vec::as_slice);
        all.iter().filter(move |(at, temp)| {
            place
                .as_ref()
                .is_some_and(|(dir, name)| at == dir && fs::temp_belongs_to(temp.as_bytes(), name))
        })
    }

    pub(super) fn answer_sums(&self, file: &LaneFile, id: u64, spec: SignatureSpec) -> Result<()> {
        let signature = match file {
            LaneFile::Open { path, .. } => self.pending.basis(path).and_then(|basis| {
                if basis.byte_len() != spec.basis_len() || spec.wire_bytes() > MAX_BODY as u64 / 2 {
                    return None;
                }
                let file = UntilCancelled(&basis.file, self.role.cancel);
                Signature::of_basis(&file, spec, delta::threads()).ok()
            }),
            LaneFile::NotBegun | LaneFile::Failed { .. } => None,
        };
        self.say(&FromDestination::Sums { id, signature })
    }

    pub(super) fn uses_delta(&self) -> bool {
        match self.options().transfer.delta {
            DeltaMode::Auto => self.role.local_source.is_none(),
            DeltaMode::Always => true,
            DeltaMode::Never => false,
        }
    }
}
