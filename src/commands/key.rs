//! `bkfs key`: passphrases, key files and clients.

mod export;
mod list;
mod slots;
mod unlock;

use anyhow::Result;
use clap::Subcommand;

use crate::{context::Context, failure::Exit};

/// The commands below `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List passphrase slots and clients
    #[command(
        after_help = "A client's label is the name of the machine that enrolled it, or what --label said. The client \
        with which this user pushes is marked.\n\nExample:\n  bkfs key list"
    )]
    List(list::ListArgs),
    /// Add a passphrase
    #[command(after_help = "The new passphrase is asked for on a terminal, or comes from --new-password-file, \
        BKFS_NEW_PASSWORD, BKFS_NEW_PASSWORD_FILE or BKFS_NEW_PASSWORD_COMMAND.")]
    Add(slots::NewPassphraseArgs),
    /// Remove a passphrase slot, or end a client (a lost laptop, say)
    #[command(after_help = "What an ended client pushes from now on does not count; what it pushed before stays.\n\n\
        Examples:\n  bkfs key list\n  bkfs key remove 3f0c11aa")]
    Remove(slots::RemoveArgs),
    /// Replace the passphrase that was given by a new one
    #[command(
        after_help = "The old passphrase is asked for, or comes from BKFS_PASSWORD and its like; the new one as in \
        `bkfs key add`. The key behind them stays the same: whoever kept a copy of the old slot can open it with the \
        old passphrase."
    )]
    Change(slots::NewPassphraseArgs),
    /// Keep the opened key in the kernel's keyring for a while
    #[command(after_help = "Examples:\n  bkfs key unlock -r bkfs://nas:7443/alice --for 8h\n  bkfs key lock")]
    Unlock(unlock::UnlockArgs),
    /// Drop the key from the kernel's keyring
    #[command(after_help = "Example:\n  bkfs key lock -r bkfs://nas:7443/alice")]
    Lock(unlock::LockArgs),
    /// Print the full key for paper, and the head of the repository's log
    #[command(after_help = "Typed into a file that BKFS_KEY_FILE names, the sheet opens the repository without any \
        passphrase. Keep it where you keep what must not burn or be stolen.")]
    Recovery(export::RecoveryArgs),
    /// Write a push key for another machine: it can push, and read nothing
    #[command(after_help = "Each export makes a new client. The file needs no passphrase; its mode is 0600.\n\n\
        Examples:\n  bkfs key export-push --label laptop laptop.key\n  \
        on the laptop: bkfs join TOKEN --push-key laptop.key")]
    ExportPush(export::ExportArgs),
    /// Write the full key: it can do everything, without a passphrase
    #[command(after_help = "Each export makes a new client. Whoever has the file can read everything. BKFS_KEY_FILE \
        names it for other commands.")]
    ExportFull(export::ExportArgs),
}

/// Runs one.
pub fn run(context: &Context, command: KeyCommand) -> Result<Exit> {
    match command {
        KeyCommand::List(args) => list::run(context, &args),
        KeyCommand::Add(args) => slots::add(context, &args),
        KeyCommand::Change(args) => slots::change(context, &args),
        KeyCommand::Remove(args) => slots::remove(context, &args),
        KeyCommand::Unlock(args) => unlock::unlock(context, &args),
        KeyCommand::Lock(args) => unlock::lock(context, &args),
        KeyCommand::Recovery(args) => export::recovery(context, &args),
        KeyCommand::ExportPush(args) => export::push(context, &args),
        KeyCommand::ExportFull(args) => export::full(context, &args),
    }?;
    Ok(Exit::Success)
}
