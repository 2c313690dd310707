//! Packs: storing, finding, reading and mending them, and the quarantine of what cannot be mended.

pub(in crate::repository) mod mend;
pub(in crate::repository) mod missing;
pub(in crate::repository) mod parity;
pub(in crate::repository) mod quarantine;
pub(in crate::repository) mod read;
