//! Everything the two ends can say, in one place. `doc/protocol.md` tells the order.
//!
//! Paths and names are checked as they are decoded; numbers that bound an allocation are checked
//! by whoever uses them. Requests and their replies share a word.

use serde::{Deserialize, Serialize};

use crate::delta::{BlockSize, Signature, SignatureSpec};
use crate::digest::{ContentHash, Digest};
use crate::error::{Error, RemoteError, Result};
use crate::events::{Event, Problem, Side, Summary};
use crate::manifest::record::{Entry, MAX_BUCKET_BITS, RecordRules, bucket_of};
use crate::options::{Mirroring, SyncOptions};
use crate::path::{Name, RelPath};

/// The first message to an agent: what it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// One end of a session.
    Session(Box<OpenSession>),
    /// One end of a session of many rounds.
    Rounds(Box<OpenSession>, Box<Mirroring>),
    /// Who runs [errands](crate::protocol::errand) until its input ends.
    Errands {
        /// As in a session.
        sudo: bool,
    },
}

/// What an agent needs to know to be one end of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSession {
    /// Which role.
    pub side: Side,
    /// The root on the agent's host, raw; a leading `~` is the user's home.
    #[serde(with = "serde_bytes")]
    pub root: Vec<u8>,
    /// Whether sudo runs the agent: the user is then who logged in.
    pub sudo: bool,
    /// What the run was asked to do.
    pub options: SyncOptions,
    /// What the run is for.
    pub mode: Mode,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Make the destination like the source.
    Sync,
    /// Say what differs, by the quick check unless the options say otherwise.
    Diff,
    /// Say what differs, by content.
    Verify,
}

/// What a large file is built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Onto {
    /// Nothing: it comes whole.
    Nothing,
    /// The basis that it was asked for with.
    Basis,
    /// The same, and samples say that it keeps nearly all of it: the destination can start with a
    /// copy while the source still compares.
    AlikeBasis,
}

/// What the source says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSource {
    /// Its first word.
    Hello(SourceHello),
    /// Asks for owners' numbers; answered by [`FromDestination::Owners`].
    Owners(Vec<OwnerQuery>),
    /// Its tree is read.
    Scanned(Scanned),
    /// Answers [`FromDestination::Expand`], directory by directory.
    Listing(ListingReply),
    /// Answers [`FromDestination::ListLinks`]: a part of the groups.
    Links {
        /// Some groups.
        groups: Vec<LinkGroup>,
        /// Whether these are the last.
        last: bool,
    },
    /// A directory of a tree that is streamed whole; comes before everything in it.
    Dir(StreamedDir),
    /// A tree asked for with [`FromDestination::Stream`] has been sent.
    Streamed(RelPath),
    /// A file's content follows in [data frames](crate::protocol::frame::FrameKind::Data) and
    /// [`FromSource::Copies`].
    Begin {
        /// Names the file in the frames that follow; the source chooses.
        id: u64,
        /// Its directory.
        dir: RelPath,
        /// The file as it is now.
        entry: Entry,
        /// What its parts may be copied from.
        onto: Onto,
    },
    /// Parts of the file that the destination has already.
    Copies {
        /// Which file.
        id: u64,
        /// From where to where.
        ops: Vec<CopyRange>,
    },
    /// The file is complete, or not to be had.
    End {
        /// Which file.
        id: u64,
        /// How it went.
        outcome: Outcome,
    },
    /// A wanted or streamed file that never began, or a directory that cannot be read.
    Unsent {
        /// Which one.
        path: RelPath,
        /// Why.
        why: Fault,
    },
    /// Answers [`FromDestination::Hash`].
    Hash {
        /// Which file or directory.
        path: RelPath,
        /// The file's content hash, or the tree's; `None` where it could not be read.
        hash: Option<Digest>,
    },
    /// More must be known of the basis; answered by [`FromDestination::Sums`].
    WantSums {
        /// Which file.
        id: u64,
        /// Of which parts, in which windows.
        spec: SignatureSpec,
    },
    /// For whoever watches.
    Event(Event),
    /// The source gives up.
    Failed(RemoteError),
    /// Nothing more will come in this round.
    Bye,
    /// Between rounds: the next one shall begin; answered by [`FromDestination::Ready`].
    Round {
        /// Whether everything is read, whatever is known.
        full: bool,
        /// The most content bytes a second in this round.
        bandwidth_bytes_per_s: Option<u64>,
    },
    /// Between rounds: all that changed has arrived, and there will be no other.
    Part,
}

impl FromSource {
    /// Whether the source pays for the message with credit: all but its few words of order.
    pub fn is_paid(&self) -> bool {
        matches!(
            self,
            FromSource::Listing(_)
                | FromSource::Links { .. }
                | FromSource::Dir(_)
                | FromSource::Begin { .. }
                | FromSource::Copies { .. }
                | FromSource::End { .. }
                | FromSource::Unsent { .. }
        )
    }
}

/// A message of the source's that is read only by whoever works on it: read, entries take four
/// times their bytes, and it is bytes that credit counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bulky {
    /// [`FromSource::Listing`].
    Listing,
    /// [`FromSource::Dir`], of this directory.
    Dir(RelPath),
}

impl Bulky {
    /// Looks at a message's beginning, whether it is one of them.
    pub fn of(body: &[u8]) -> Result<Option<Bulky>> {
        match body {
            [3, ..] => Ok(Some(Bulky::Listing)),
            [5, rest @ ..] => {
                let (dir, _) = postcard::take_from_bytes(rest)
                    .map_err(|err| Error::protocol(format!("a directory without a path: {err}")))?;
                Ok(Some(Bulky::Dir(dir)))
            }
            _ => Ok(None),
        }
    }
}

/// What the destination says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDestination {
    /// Its first word, in answer to the source's.
    Hello(DestinationHello),
    /// Answers [`FromSource::Owners`], in the same order.
    Owners(Vec<OwnerReply>),
    /// Asks for listings; each is answered by [`FromSource::Listing`].
    Expand(Vec<ExpandRequest>),
    /// Asks for all hard-link groups.
    ListLinks,
    /// Asks for whole trees that it does not have.
    Stream {
        /// Which directories.
        dirs: Vec<RelPath>,
        /// Whether content is wanted, or listings suffice.
        content: bool,
    },
    /// Asks for a file's content.
    Want(Want),
    /// Asks for hashes of files or whole directories.
    Hash(Vec<RelPath>),
    /// Answers [`FromSource::WantSums`].
    Sums {
        /// Which file.
        id: u64,
        /// What was asked for; `None` where the basis could not be read.
        signature: Option<Signature>,
    },
    /// So many more bytes of frames may be sent.
    Credit(u64),
    /// For whoever watches.
    Event(Event),
    /// The destination gives up.
    Failed(RemoteError),
    /// All is done; the source may go.
    Done(Box<Summary>),
    /// Between rounds: the next one begins.
    Ready,
    /// At any time: bring over all that changed, then part.
    Drain,
}

/// The source's first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceHello {
    /// The root is this single entry of its directory, not a tree.
    pub single: Option<Name>,
    /// How fine the source's times are, in nanoseconds.
    pub granularity_ns: u64,
    /// Owners that earlier runs met, so that the common case asks nothing later.
    pub owners: Vec<OwnerQuery>,
    /// Where the root is, so that roots inside each other are found out.
    pub identity: RootIdentity,
}

/// What a root is and lies in, by inode numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootIdentity {
    /// The running kernel; inode numbers mean something only within one.
    pub boot: String,
    /// Device and inode of the root (or what of its path exists), its parent, and so on.
    pub chain: Vec<(u64, u64)>,
    /// Whether the root itself exists.
    pub exists: bool,
}

impl RootIdentity {
    /// How a source and a destination with these identities are one or hold each other, as a
    /// clause; `None` where they do not.
    pub fn overlap(&self, destination: &RootIdentity) -> Option<&'static str> {
        let (from, to) = (self.chain.first()?, destination.chain.first()?);
        if self.boot != destination.boot {
            None
        } else if from == to && self.exists && destination.exists {
            Some("source and destination are the same directory")
        } else if destination.chain.contains(from) && self.exists {
            Some("the destination is inside the source")
        } else if self.chain.contains(to) && destination.exists {
            Some("the source is inside the destination")
        } else {
            None
        }
    }

    /// The identity of what is on no filesystem: it can be inside nothing.
    pub fn nowhere() -> RootIdentity {
        RootIdentity {
            boot: String::new(),
            chain: Vec::new(),
            exists: false,
        }
    }
}

/// The destination's first word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DestinationHello {
    /// What both sides put into records.
    pub rules: RecordRules,
    /// The single entry's name at the destination, if the source's root is one.
    pub single: Option<Name>,
    /// Nothing is there: the source streams everything without being asked.
    pub empty: bool,
    /// Whether a stream carries content (a dry run and a local copy want listings alone).
    pub content: bool,
    /// Answers to [`SourceHello::owners`].
    pub owners: Vec<OwnerReply>,
}

/// A user or group as the source knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OwnerQuery {
    /// A group, not a user.
    pub is_group: bool,
    /// Its number at the source.
    pub id: u32,
    /// Its name at the source, if it has one.
    pub name: Option<String>,
}

/// The same at the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerReply {
    /// Its number at the destination.
    pub id: u32,
    /// Whether the destination can give entries to it; if not, `id` is who gets them instead.
    pub held: bool,
}

/// The source's tree in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scanned {
    /// The root's own entry.
    pub root: Entry,
    /// The deep digest of the root directory.
    pub deep: Digest,
    /// Over the hard-link groups.
    pub links: Digest,
    /// Entries.
    pub entries: u64,
    /// Content bytes.
    pub bytes: u64,
    /// Entries that could not be read: with any, nothing is deleted.
    pub problems: u64,
    /// The device that the root is on, and whether it was the same the last time.
    pub moved_device: bool,
}

/// Asks for a directory's listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpandRequest {
    /// Which directory.
    pub dir: RelPath,
    /// What the destination's own digests to: if it is the same, only subdirectories are told.
    pub shallow: Digest,
    /// Only these buckets of a huge listing, after a [`ListingBody::Buckets`].
    pub buckets: Option<Buckets>,
}

impl Buckets {
    /// Whether the choice includes the bucket of this name.
    pub fn include(&self, name: &Name) -> bool {
        let bucket = bucket_of(name, self.bits.min(MAX_BUCKET_BITS)) as u32;
        self.wanted.binary_search(&bucket).is_ok()
    }
}

/// A choice of buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buckets {
    /// There are `2^bits` of them.
    pub bits: u32,
    /// Which ones.
    pub wanted: Vec<u32>,
}

/// A directory's listing, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingReply {
    /// Which directory.
    pub dir: RelPath,
    /// What is told of it.
    pub body: ListingBody,
    /// Its subdirectories' deep digests, in the order of names. Complete in the last part.
    pub subdirs: Vec<(Name, Digest)>,
    /// Whether this is the last part.
    pub last: bool,
}

/// What is told of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListingBody {
    /// Its records are the same as the destination's.
    Same,
    /// Some of its entries, sorted.
    Entries {
        /// The entries.
        entries: Vec<Entry>,
        /// Names that do not take part because of their size, and are not to be touched.
        withheld: Vec<Name>,
    },
    /// It is huge: digests of its buckets, cut to 8 bytes, to be asked for one by one. A cut
    /// digest that collides hides a change from this run with a chance of 2^-64 a bucket.
    Buckets {
        /// There are `2^bits` buckets.
        bits: u32,
        /// Their digests.
        digests: Vec<u64>,
    },
    /// It could not be read: nothing is known, and nothing is to be concluded.
    Unreadable,
}

/// A directory in a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamedDir {
    /// Which directory.
    pub dir: RelPath,
    /// What is in it: all of it where content is not sent, else all but files with content to
    /// come. A large one comes in several parts.
    pub entries: Vec<Entry>,
}

/// Names that share one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkGroup {
    /// As in [`Entry::link`].
    pub id: u64,
    /// All names, at least two.
    pub members: Vec<RelPath>,
}

/// Asks for a file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Which file.
    pub path: RelPath,
    /// The old file to build on, if any.
    pub basis: Option<Basis>,
}

/// What the destination has already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// Its length in bytes.
    pub len: u64,
    /// What is told of it unasked.
    pub sums: BasisSums,
}

/// How a basis is described, as [`crate::delta::Mode`] decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BasisSums {
    /// By its content hash alone: it is too small for parts of it to be worth naming.
    Same(ContentHash),
    /// By a signature of all of it.
    Search(Signature),
    /// By the sums of its blocks, each at its place.
    Staged {
        /// How large a block is.
        block: BlockSize,
        /// The sums in order.
        #[serde(with = "serde_bytes")]
        sums: Vec<u8>,
    },
}

/// A range of the basis that is a range of the new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyRange {
    /// Where it goes.
    pub to: u64,
    /// Where it comes from.
    pub from: u64,
    /// How long it is, in bytes.
    pub len: u64,
}

/// How a file's sending ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is complete, with this content hash.
    Complete(ContentHash),
    /// It is not to be had.
    Fault(Fault),
}

/// Why a file did not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// It changed while it was read.
    Changed,
    /// It is gone.
    Vanished,
    /// It could not be read.
    Problem(Problem),
}

/// The header of a frame of small files: their contents follow in the same order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The directory of all of them.
    pub dir: RelPath,
    /// The files with their content hashes; each entry's size is its content's length.
    pub files: Vec<(Entry, ContentHash)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_holds_nothing_and_is_in_what_is_above_it() {
        let at = |exists, chain: &[u64]| RootIdentity {
            boot: "a".to_owned(),
            chain: chain.iter().map(|inode| (1, *inode)).collect(),
            exists,
        };
        let (held, beside) = (at(true, &[3, 2, 1]), at(true, &[2, 1]));
        assert_eq!(
            beside.overlap(&held),
            Some("the destination is inside the source")
        );
        assert_eq!(
            held.overlap(&beside),
            Some("the source is inside the destination")
        );
        // Two that are not there, in one directory.
        let missing = at(false, &[2, 1]);
        assert_eq!(missing.overlap(&missing), None);
        assert_eq!(missing.overlap(&held), None);
        assert_eq!(
            missing.overlap(&beside),
            Some("the source is inside the destination")
        );
        assert_eq!(
            beside.overlap(&missing),
            Some("the destination is inside the source")
        );
    }

    #[test]
    fn bulky_messages_are_known_by_their_beginning() {
        let dir = RelPath::new(b"a/b").unwrap();
        let kind = |message: &FromSource| Bulky::of(&postcard::to_stdvec(message).unwrap());
        let listing = FromSource::Listing(ListingReply {
            dir: dir.clone(),
            body: ListingBody::Same,
            subdirs: Vec::new(),
            last: true,
        });
        assert_eq!(kind(&listing).unwrap(), Some(Bulky::Listing));
        let entries = Vec::new();
        let streamed = FromSource::Dir(StreamedDir {
            dir: dir.clone(),
            entries,
        });
        assert_eq!(kind(&streamed).unwrap(), Some(Bulky::Dir(dir.clone())));
        for other in [FromSource::Streamed(dir), FromSource::Bye] {
            assert_eq!(kind(&other).unwrap(), None);
        }
        assert!(Bulky::of(&[5, 3, b'.', b'.', b'/']).is_err());
    }
}
