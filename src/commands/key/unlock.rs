//! `bkfs key unlock` and `bkfs key lock`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::{
    args::{RepoArgs, parse_duration},
    context::Context,
    failure::Failure,
    kernel_keyring, output,
    place::Place,
    session::Session,
};

/// Arguments of `key unlock`.
#[derive(Debug, Args)]
pub struct UnlockArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Keep the key for this long, like 30m, 1h or 2d [default: 1h]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<Duration>,
}

/// Arguments of `key lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    #[command(flatten)]
    repo: RepoArgs,
}

/// Keeps the full key in the kernel's keyring.
pub fn unlock(context: &Context, args: &UnlockArgs) -> Result<()> {
    let timeout = args.timeout.unwrap_or(kernel_keyring::DEFAULT_TIMEOUT);
    if timeout.is_zero() {
        return Err(Failure::new("--for 0 keeps nothing", "give a duration like 1h").into());
    }
    let session = Session::open(context, &args.repo)?;
    session.warn_of_rollback();
    // Removed first: the kept key must not unlock itself, or its time would start again without any proof.
    kernel_keyring::remove(session.config.repo)?;
    let unlocked = session.unlock(context, "unlocking")?;
    kernel_keyring::keep(session.config.repo, &unlocked.encode(), timeout)?;
    let place = session.place.to_string();
    match (context.json, context.quiet) {
        (true, _) => output::json(&json!({ "unlocked": place, "seconds": timeout.as_secs() })),
        (false, true) => Ok(()),
        (false, false) => output::line(format!(
            "{place} is unlocked for {}; `bkfs key lock` locks it again",
            output::duration(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
        )),
    }
}

/// Removes the key from the keyring. The repository itself need not be reachable.
pub fn lock(context: &Context, args: &LockArgs) -> Result<()> {
    let place = Place::parse(context.repository(&args.repo))?;
    let id = match context.folders.places().repository(&place.to_string())? {
        Some(id) => id,
        None => Session::open(context, &args.repo)?.config.repo,
    };
    let was_unlocked = kernel_keyring::remove(id)?;
    match (context.json, context.quiet) {
        (true, _) => output::json(&json!({ "locked": place.to_string(), "was_unlocked": was_unlocked })),
        (false, true) => Ok(()),
        (false, false) => output::line(if was_unlocked { "locked" } else { "was not unlocked" }),
    }
}
