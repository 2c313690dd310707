//! What a prune takes away: the pure parts that the store and whoever holds a key share.
//!
//! - [`LiveFilter`]: the ids that must stay, shortened, as the key holder sends them.
//! - [`Condemned`]: the set of frames that one prune takes, fixed when it is condemned.
//! - [`choose`]: which packs are worth dropping or writing again.
//!
//! The protocol around them is in `docs/design/0012-condemn-at-once.md`. Nothing here reads or writes anything.

mod filter;
mod plan;
mod set;

pub use filter::{FILTER_IDS, LiveFilter, encode_filter, filter_key};
pub(crate) use filter::{put_varint, take_varint};
pub use plan::{Chosen, PackUse, choose};
pub use set::{Condemned, CondemnedPack, LOST_MAX};
