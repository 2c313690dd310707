//! `bkfs key`: manages passphrases, key files and clients.

mod export;
mod list;
mod slots;
mod unlock;

use anyhow::Result;
use clap::Subcommand;

use crate::{context::Context, failure::Exit};

/// The subcommands of `bkfs key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List passphrase slots and clients
    #[command(
        after_help = "The label of a client is the name of the machine that enrolled it, or what --label gave. The \
            client that this user pushes with is marked.\n\n\
            Example:\n  bkfs key list"
    )]
    List(list::ListArgs),
    /// Add a passphrase
    #[command(after_help = "The new passphrase is taken from --new-password-file, BKFS_NEW_PASSWORD, \
        BKFS_NEW_PASSWORD_FILE or BKFS_NEW_PASSWORD_COMMAND, or asked for on a terminal.")]
    Add(slots::NewPassphraseArgs),
    /// Remove a passphrase slot, or revoke a client such as a lost laptop
    #[command(after_help = "What a revoked client pushes from now on does not count. What it pushed before stays.\n\n\
        Examples:\n  bkfs key list\n  bkfs key remove 3f0c11aa")]
    Remove(slots::RemoveArgs),
    /// Replace a passphrase with a new one
    #[command(after_help = "The old passphrase is asked for, or taken from BKFS_PASSWORD, BKFS_PASSWORD_FILE or \
        BKFS_PASSWORD_COMMAND. The new one is given as in `bkfs key add`.\n\n\
        The key itself does not change: anyone who has a copy of the old slot can still open it with the old \
        passphrase.")]
    Change(slots::NewPassphraseArgs),
    /// Keep the opened key in the kernel's keyring for a while
    #[command(after_help = "Examples:\n  bkfs key unlock -r bkfs://nas:7443/alice --for 8h\n  bkfs key lock")]
    Unlock(unlock::UnlockArgs),
    /// Remove the key from the kernel's keyring
    #[command(after_help = "Example:\n  bkfs key lock -r bkfs://nas:7443/alice")]
    Lock(unlock::LockArgs),
    /// Print a recovery sheet: the full key, and the head of the repository's log
    #[command(
        after_help = "Print the sheet on paper, and keep it where it can neither burn nor be stolen. To use it, type \
        it into a file and name the file in BKFS_KEY_FILE: it opens the repository without a passphrase."
    )]
    Recovery(export::RecoveryArgs),
    /// Write a push key for another machine: it can push, but read nothing
    #[command(after_help = "Each export adds a new client. The file needs no passphrase; its mode is 0600.\n\n\
        Examples:\n  bkfs key export-push --label laptop laptop.key\n  \
        bkfs join TOKEN --push-key laptop.key    # then, on the laptop")]
    ExportPush(export::ExportArgs),
    /// Write the full key to a file: it can do everything, without a passphrase
    #[command(
        after_help = "Each export adds a new client. Anyone who has the file can read everything. Other commands use \
        it with --key-file or BKFS_KEY_FILE.\n\nExample:\n  bkfs key export-full /root/alice.key"
    )]
    ExportFull(export::ExportArgs),
}

/// Runs a subcommand.
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
