//! What every other module uses: ids, errors, points in time, and the encoding of records.

pub mod codec;
pub mod error;
pub mod id;
pub mod time;
