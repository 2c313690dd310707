//! `bkfs key enrol`: makes this machine a client again, after its client was removed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bkfs_store::{
    base::id::DomainId,
    format::keys::{KeyFile, PushKey},
};
use clap::Args;
use serde_json::json;

use crate::{
    args::RepoArgs,
    context::{Context, host_name},
    enrol,
    failure::Failure,
    output,
    session::{self, Session},
};

/// Arguments of `key enrol`.
#[derive(Debug, Args)]
pub struct EnrolArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Use this push key on this machine, instead of a new one
    #[arg(long, value_name = "FILE")]
    push_key: Option<PathBuf>,
}

/// Runs `bkfs key enrol`.
pub fn run(context: &Context, args: &EnrolArgs) -> Result<()> {
    let given = args.push_key.as_deref().map(read).transpose()?;
    // A machine that may only push opens the repository as the client that it is about to become.
    let session = match &given {
        Some(key) => Session::open_with(context, &args.repo, key.clone())?,
        None => Session::open(context, &args.repo)?,
    };
    session.warn_of_rollback();
    if let Some(key) = session.machine_key().filter(|key| session.check_client(key).is_ok()) {
        let message = format!("this machine is client {} ({}) already", key.client_id().short(), key.label);
        let hint = "nothing was changed; `bkfs client revoke` ends a client";
        return Err(Failure::new(message, hint).into());
    }
    let key = match given {
        Some(key) => {
            session.check_client(&key)?;
            key
        }
        None => {
            let full = session.full_key(context, "enrolling this machine")?;
            let url = Some(session.place.to_string());
            enrol::add_client(session.access.as_ref(), &full, &host_name(), url, DomainId::OWNER)?
        }
    };
    let (client, label) = (key.client_id(), key.label.clone());
    session.folder.set_push_key(&KeyFile::Push(key).encode())?;
    match (context.json, context.quiet) {
        (true, _) => output::json(&json!({ "client": client.to_string(), "label": label })),
        (false, true) => Ok(()),
        (false, false) => output::line(format!("this machine is now client {} ({label})", client.short())),
    }
}

/// Reads a push key.
fn read(path: &Path) -> Result<PushKey> {
    let bytes = session::read_key_file(path)?;
    Ok(KeyFile::decode(&bytes).with_context(|| path.display().to_string())?.push().clone())
}
