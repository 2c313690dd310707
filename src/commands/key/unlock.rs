//! `bkfs key unlock` and `bkfs key lock`.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

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
    let full = session.full_key(context, "unlocking")?;
    kernel_keyring::keep(full.repo, &full.encode(), timeout)?;
    match context.quiet || context.json {
        true => Ok(()),
        false => output::line(format!(
            "{} is unlocked for {}; `bkfs key lock` locks it again",
            session.place,
            output::duration(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX))
        )),
    }
}

/// Removes the key from the keyring. The repository itself need not be reachable.
pub fn lock(context: &Context, args: &LockArgs) -> Result<()> {
    let place = Place::parse(args.repo.repository.as_deref())?;
    let id = match context.folders.places().repository(&place.to_string())? {
        Some(id) => id,
        None => Session::open(context, &args.repo)?.config.repo,
    };
    let text = match kernel_keyring::remove(id)? {
        true => "locked",
        false => "was not unlocked",
    };
    if context.quiet || context.json { Ok(()) } else { output::line(text) }
}
