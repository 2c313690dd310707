//! Small objects, each kept twice.

pub(in crate::repository) mod settings;
