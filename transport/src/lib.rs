//! bkfs over the network: a server that keeps many accounts' repositories, and a client to which a remote repository
//! looks like any other store ([`bkfs_store::access::Access`]).
//!
//! QUIC (quinn) under mutual TLS 1.3 with self-signed certificates that are known by their fingerprints; one bidirectional stream a request. Async code
//! stays in here: what the crate offers is blocking. It reads no environment, prints nothing, and knows no home directory:
//! identities, fingerprints and addresses are given to it. `docs/PROTOCOL.md` describes every byte on the wire.

pub mod client;
mod congestion;
mod identity;
mod message;
mod permission;
mod quic;
pub mod server;
mod stream;
mod tls;
mod token;
mod url;
mod wire_error;

pub use identity::Identity;
pub use permission::Permissions;
pub use token::Token;
pub use url::{DEFAULT_REPOSITORY, Name, RepoUrl};
