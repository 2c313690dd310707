//! Limits and rights of accounts, against clients that keep to no rules: each speaks the protocol as it likes.

#![allow(clippy::unwrap_used)]

mod peer;
mod quota;
mod rights;
mod seen;
mod traces;
