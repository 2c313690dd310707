//! What every other module uses: ids, names, errors, points in time, and the encoding of records.

pub mod codec;
pub mod error;
pub mod id;
pub mod label;
pub mod medium;
pub mod process;
pub mod time;
