//! `bkfs join`: enrols this machine at a server.

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
    about = "Enrol this machine at a server",
    long_about = "Enrol this machine at a server with an invitation, which its operator makes with `bkfs server invite`. \
        The server's certificate is remembered: from then on this machine talks to that server only. Prints the URL of \
        the account, for -r or BKFS_REPOSITORY.",
    after_help = "Examples:\n  bkfs join bkfs1k5v...\n  bkfs join bkfs1k5v... --push-key laptop.key"
)]
pub struct JoinArgs {
    /// The invitation
    #[arg(value_name = "TOKEN")]
    token: String,
    /// A push key file for this machine, from `bkfs key export-push`
    #[arg(long, value_name = "FILE")]
    push_key: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    url: String,
    server: String,
}

/// Runs it.
pub fn run(context: &Context, args: JoinArgs) -> Result<Exit> {
    let token = Token::parse(&args.token)?;
    // A key file that cannot be used must not cost the invitation.
    let key = match &args.push_key {
        Some(path) => {
            let bytes = config::read_optional(path)?.with_context(|| format!("{}: no such file", path.display()))?;
            Some(KeyFile::decode(&bytes).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    let identity = session::identity(context)?;
    let url = client::join(&token, &identity)?;
    context.folders.places().set_pin(&url.server(), token.fingerprint)?;
    if let Some(key) = key {
        // Only what pushes is kept, even if a full key was given.
        let push = key.push().clone();
        let repo = push.repo;
        context.folders.repository(repo).set_push_key(&KeyFile::Push(push).encode())?;
        context.folders.places().set_repository(&url.to_string(), repo)?;
    }
    match context.json {
        true => output::json(&Report { url: url.to_string(), server: token.fingerprint.to_string() })?,
        false => output::line(url.to_string())?,
    }
    Ok(Exit::Success)
}
