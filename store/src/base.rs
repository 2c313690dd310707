//! The words that everything speaks: ids, errors, points in time, and the encoding of records.

pub mod codec;
pub mod error;
pub mod id;
pub mod time;
