//! `bkfs key`: passphrases, key files and clients.

mod export;
mod list;
mod slots;
mod unlock;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::{cli::RepoArgs, context::Context, failure::Exit};

/// The commands below `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List passphrase slots and clients
    #[command(
        after_help = "A client's label is the name of the machine that enrolled it, or what --label said. The client \
        with which this user pushes is marked.\n\nExample:\n  bkfs key list"
    )]
    List(ListArgs),
    /// Add a passphrase
    #[command(after_help = "The new passphrase is asked for on a terminal, or comes from --new-password-file, \
        BKFS_NEW_PASSWORD, BKFS_NEW_PASSWORD_FILE or BKFS_NEW_PASSWORD_COMMAND.")]
    Add(NewPassphraseArgs),
    /// Remove a passphrase slot, or end a client (a lost laptop, say)
    #[command(after_help = "What an ended client pushes from now on does not count; what it pushed before stays.\n\n\
        Examples:\n  bkfs key list\n  bkfs key remove 3f0c11aa")]
    Remove(RemoveArgs),
    /// Replace the passphrase that was given by a new one
    #[command(
        after_help = "The old passphrase is asked for, or comes from BKFS_PASSWORD and its like; the new one as in \
        `bkfs key add`. The key behind them stays the same: whoever kept a copy of the old slot can open it with the \
        old passphrase."
    )]
    Change(NewPassphraseArgs),
    /// Keep the opened key in the kernel's keyring for a while
    #[command(after_help = "Examples:\n  bkfs key unlock -r bkfs://nas:7443/alice --for 8h\n  bkfs key lock")]
    Unlock(UnlockArgs),
    /// Drop the key from the kernel's keyring
    #[command(after_help = "Example:\n  bkfs key lock -r bkfs://nas:7443/alice")]
    Lock(LockArgs),
    /// Print the full key for paper, and the head of the repository's log
    #[command(after_help = "Typed into a file that BKFS_KEY_FILE names, the sheet opens the repository without any \
        passphrase. Keep it where you keep what must not burn or be stolen.")]
    Recovery(RecoveryArgs),
    /// Write a push key for another machine: it can push, and read nothing
    #[command(after_help = "Each export makes a new client. The file needs no passphrase; its mode is 0600.\n\n\
        Examples:\n  bkfs key export-push --label laptop laptop.key\n  \
        on the laptop: bkfs join TOKEN --push-key laptop.key")]
    ExportPush(ExportArgs),
    /// Write the full key: it can do everything, without a passphrase
    #[command(after_help = "Each export makes a new client. Whoever has the file can read everything. BKFS_KEY_FILE \
        names it for other commands.")]
    ExportFull(ExportArgs),
}

/// Arguments of `key list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    repo: RepoArgs,
}

/// Arguments of `key add` and `key change`.
#[derive(Debug, Args)]
pub struct NewPassphraseArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Read the new passphrase from this file
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

/// Arguments of `key remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The slot's or client's id, or a prefix of it
    #[arg(value_name = "ID")]
    id: String,
}

/// Arguments of `key unlock`.
#[derive(Debug, Args)]
pub struct UnlockArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// How long, like 30m, 1h, 2d
    #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
    timeout: Option<std::time::Duration>,
}

/// Arguments of `key lock`.
#[derive(Debug, Args)]
pub struct LockArgs {
    #[command(flatten)]
    repo: RepoArgs,
}

/// Arguments of `key recovery`.
#[derive(Debug, Args)]
pub struct RecoveryArgs {
    #[command(flatten)]
    repo: RepoArgs,
}

/// Arguments of `key export-push` and `key export-full`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The client's name on the roster [default: the file's name]
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// The file to write; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs one.
pub fn run(context: &Context, command: KeyCommand) -> Result<Exit> {
    match command {
        KeyCommand::List(args) => list::run(context, &args.repo),
        KeyCommand::Add(args) => slots::add(context, &args.repo, args.new_password_file.as_deref()),
        KeyCommand::Change(args) => slots::change(context, &args.repo, args.new_password_file.as_deref()),
        KeyCommand::Remove(args) => slots::remove(context, &args.repo, &args.id),
        KeyCommand::Unlock(args) => unlock::unlock(context, &args.repo, args.timeout),
        KeyCommand::Lock(args) => unlock::lock(context, &args.repo),
        KeyCommand::Recovery(args) => export::recovery(context, &args.repo),
        KeyCommand::ExportPush(args) => export::push(context, &args),
        KeyCommand::ExportFull(args) => export::full(context, &args),
    }?;
    Ok(Exit::Success)
}

/// `90s`, `30m`, `1h`, `2d`, `14d`.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let bad = || format!("{text:?} is no time, like 30m, 1h or 14d");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(bad()),
    };
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).map(std::time::Duration::from_secs).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        assert_eq!(parse_duration("14d").unwrap().as_secs(), 14 * 86_400);
        assert_eq!(parse_duration("0d").unwrap().as_secs(), 0);
        for bad in ["", "d", "5", "5y", "-5d", "99999999999999999999d", "9999999999999999999w"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
