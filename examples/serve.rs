//! Runs a server on loopback, joins it as a client, and opens a repository through it.
//!
//! ```text
//! cargo run --example serve
//! ```
//!
//! The server sees ciphertext only. What the client gets, [`Remote`], implements the same traits as a repository in a
//! folder: every other example works on it.

use std::{
    error::Error,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use bkfs_store::{
    access::{InitRequest, Manage, Open, OpenRequest},
    base::{
        id::{DomainId, RepoId},
        time::Time,
    },
    crypto::random,
    format::{config::ChunkerParams, keys::FullKey, roster::Roster},
};
use bkfs_transport::{
    Identity, Permissions,
    client::{self, Remote},
    server::{self, Options},
};

fn main() -> Result<(), Box<dyn Error>> {
    // The operator makes a server, invites a client, and runs the server. The floor is a day: no client can make
    // anything unrecoverable that is younger.
    let folder = tempfile::tempdir()?;
    let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
    server::init(folder.path(), &format!("127.0.0.1:{port}"), 86_400)?;
    let token = server::invite(folder.path(), &"alice".parse()?, Permissions::ALL, None, Duration::from_secs(3600))?;
    let running = server::start(folder.path(), SocketAddr::from(([127, 0, 0, 1], port)), Options::default())?;
    println!("a server listens on {}", running.local_addr());

    // The client joins with the token, which also names the server's certificate.
    let identity = Identity::generate()?;
    let url = client::join(&token, &identity)?.url;
    println!("joined {url}");

    // It makes a repository. The full key never leaves the client.
    let now = Time { secs: 1_800_000_000, nanos: 0 };
    let full = FullKey::random(RepoId(random()));
    let (laptop, entry) = full.new_client("laptop", None, DomainId::OWNER, now);
    let roster = Roster { repo: full.repo, number: 1, clients: vec![entry] };
    let remote = Remote::connect(&url, &identity, token.fingerprint)?;
    remote.init(&InitRequest {
        config: full.config(now, ChunkerParams::default()),
        roster: full.sign_roster(&roster),
        slots: vec![],
    })?;

    let opened = remote.open(&OpenRequest { client: Some(laptop.client_id()), seen: None })?;
    println!(
        "opened: {} chunks, a log of {} records, protected for {} s",
        opened.chunks, opened.now.log_len, opened.protect_secs
    );
    Ok(())
}
