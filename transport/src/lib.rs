//! bkfs over the network: a server that keeps the repositories of many accounts, and a client to which a remote
//! repository looks like any other store ([`bkfs_store::access::Access`]).
//!
//! Client and server speak QUIC (quinn), under mutual TLS 1.3 with self-signed certificates that are known by their
//! fingerprints. Each request has a bidirectional stream of its own. Async code stays inside: what the crate offers is
//! blocking. It reads no environment, prints nothing and knows no home directory: its caller hands it identities,
//! fingerprints and addresses. `docs/PROTOCOL.md` describes every byte on the wire.
//!
//! # The map
//!
//! - `url`, `addresses`, `permission`, `identity`, `token`: what names an account and a server, what a client may do,
//!   what it is known by, and what invites it;
//! - [`message`], [`wire_error`]: what client and server send each other; [`stream`]: how it travels on a stream of
//!   QUIC;
//! - `tls`, `quic`, `congestion`: the settings of connections;
//! - [`client`]: connects, retries, and implements the traits of [`bkfs_store::access`];
//! - [`server`]: accounts and what each client may do, the answers to requests, and what a server does by itself.
//!
//! `client` and `server` never import each other, and no file above them in this list imports either.
//!
//! # Example
//!
//! A server on this machine, a client that joins it, and a new repository:
//!
//! ```
//! use std::{net::UdpSocket, time::Duration};
//!
//! use bkfs_store::{
//!     access::{InitRequest, Manage, Open, OpenRequest},
//!     base::{id::RepoId, time::Time},
//!     crypto,
//!     format::{config::ChunkerParams, keys::FullKey, roster::Roster},
//! };
//! use bkfs_transport::{
//!     Identity, Permissions,
//!     client::{self, Remote},
//!     server,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The operator makes a server, starts it, and invites a client to an account. Invitations carry the server's
//! // address, so the port is chosen before.
//! let folder = tempfile::tempdir()?;
//! let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
//! server::init(folder.path(), &address.to_string(), 0)?;
//! let running = server::start(folder.path(), address, server::Options::default())?;
//! let valid = Duration::from_secs(3600);
//! let token = server::invite(folder.path(), &"alice".parse()?, Permissions::ALL, None, valid)?;
//!
//! // The client makes itself an identity, joins with the token, and connects.
//! let identity = Identity::generate()?;
//! let url = client::join(&token, &identity)?.url;
//! let remote = Remote::connect(&url, &identity, token.fingerprint)?;
//!
//! // It makes a repository with keys that the server never sees, and opens it.
//! let key = FullKey::random(RepoId(crypto::random()));
//! let config = key.config(Time { secs: 1_800_000_000, nanos: 0 }, ChunkerParams::default());
//! let roster = key.sign_roster(&Roster { repo: key.repo, number: 1, clients: vec![] });
//! remote.init(&InitRequest { config, roster, slots: vec![] })?;
//! let opened = remote.open(&OpenRequest::default())?;
//! assert_eq!((opened.chunks, opened.snapshots.len()), (0, 0));
//!
//! drop(remote);
//! running.stop();
//! # Ok(())
//! # }
//! ```

mod addresses;
pub mod client;
mod congestion;
mod identity;
mod key_proof;
pub mod message;
mod permission;

mod quic;
pub mod server;
pub mod stream;
mod tls;
mod token;
mod url;
pub mod wire_error;

/// The name and version of the protocol, which both sides state in TLS.
pub const PROTOCOL: &str = "bkfs/1";

pub use addresses::Addresses;
pub use identity::Identity;
pub use key_proof::KeyProof;
pub use permission::Permissions;
pub use token::{Token, TokenSecret};
pub use url::{DEFAULT_REPOSITORY, Name, RepoUrl};
