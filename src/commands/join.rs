//! `bkfs join`: enrols this machine with a server.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use bkfs_store::format::keys::KeyFile;
use bkfs_transport::{Token, client};
use clap::Args;
use serde::Serialize;

use crate::{config, context::Context, failure::Exit, output, session};

/// Arguments of `join`.
#[derive(Debug, Args)]
#[command(
    about = "Enrol this machine with a server",
    long_about = "Enrol this machine with a server. The server's operator creates the token with `bkfs server \
        invite`.\n\n\
        This machine remembers the fingerprint of the server's certificate, and from then on accepts no other server \
        at that address. Prints the URL of the account, for -r or BKFS_REPOSITORY.",
    after_help = "Examples:\n  bkfs join bkfs1k5v...\n  bkfs join bkfs1k5v... --push-key laptop.key"
)]
pub struct JoinArgs {
    /// The token of the invitation
    #[arg(value_name = "TOKEN")]
    token: String,
    /// Use this push key on this machine; `bkfs key export-push` writes the file
    #[arg(long, value_name = "FILE")]
    push_key: Option<PathBuf>,
}

#[derive(Serialize)]
struct JoinJson {
    url: String,
    server: String,
}

/// Runs `bkfs join`.
pub fn run(context: &Context, args: JoinArgs) -> Result<Exit> {
    let token = Token::parse(&args.token)?;
    // Read first: a key file that cannot be used must not use up the invitation.
    let key = match &args.push_key {
        Some(path) => {
            let bytes = config::read_optional(path)?.with_context(|| format!("{}: no such file", path.display()))?;
            Some(KeyFile::decode(&bytes).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    let identity = session::identity(context)?;
    let url = client::join(&token, &identity)?;
    context.folders.places().set_fingerprint(&url.server(), token.fingerprint)?;
    if let Some(key) = key {
        // Only the push key is kept, even if the file has a full key.
        let push = key.push().clone();
        let repo = push.repo;
        context.folders.repository(repo).set_push_key(&KeyFile::Push(push).encode())?;
        context.folders.places().set_repository(&url.to_string(), repo)?;
    }
    match context.json {
        true => output::json(&JoinJson { url: url.to_string(), server: token.fingerprint.to_string() })?,
        false => output::line(url.to_string())?,
    }
    Ok(Exit::Success)
}
