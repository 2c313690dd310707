//! The seam: what a store of ciphertext offers. An embedded repository, a server's storage, a repository in memory and a
//! remote client look alike from here.
//!
//! There is a trait for each kind of caller: [`Read`], [`Push`], [`Manage`] and [`Maintain`]; [`Open`] belongs to readers and
//! pushers alike. [`Access`] is their sum.
//!
//! All calls block and may be made from many threads at once. Nothing here needs a key of the repository, and nothing
//! here trusts the caller: an implementation bounds and verifies everything that it is given. Each method states what is
//! durable when it returns.

mod maintain;
mod manage;
mod open;
mod prune;
mod push;
mod read;
mod repair;

pub use maintain::{Maintain, PackInfo};
pub use manage::{FORGET_MAX, ForgetReply, ForgetRequest, InitRequest, Manage, Signature};
pub use open::{LastSnapshot, Lease, OPENED_SNAPSHOTS_MAX, Open, OpenRequest, Opened, Seen};
pub use prune::{
    COMMITTED_MAX, CommittedSnapshot, Filter, MixedFrame, MovedFrame, PruneLimits, PruneReply, PruneRequest,
    PruneStats, Swept, Unused,
};
pub use push::{Push, Receipt};
pub use read::{LOG_BYTES, Mending, READ_BYTES_MAX, Read, ReadReply, ReadRequest, SNAPSHOTS_BYTES, SealedFrame, Span};
pub use repair::{Dropped, Keep, QUARANTINE_MAX, RepairReply, RepairRequest};

/// How many ids one request names at most.
pub const IDS_MAX: usize = 65_536;

/// All that a store offers.
pub trait Access: Read + Push + Manage + Maintain {}

impl<T: Read + Push + Manage + Maintain> Access for T {}
