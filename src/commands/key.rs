//! `bkfs key`: manages passphrases, key files and clients.

mod enrol;
pub mod export;
mod list;
mod rotate;
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
            client that this user pushes with is marked, and so is the slot that the given passphrase opened.\n\n\
            Example:\n  bkfs key list"
    )]
    List(list::ListArgs),
    /// Add a passphrase
    #[command(after_help = "The new passphrase is taken from --new-password-file, BKFS_NEW_PASSWORD, \
        BKFS_NEW_PASSWORD_FILE or BKFS_NEW_PASSWORD_COMMAND, or asked for on a terminal.")]
    Add(slots::AddArgs),
    /// Remove a passphrase slot
    #[command(after_help = "Asks on a terminal. Without one, the slot that the given passphrase opens needs --yes. \
        `bkfs client revoke` ends a client, such as a lost laptop.\n\n\
        Examples:\n  bkfs key list\n  bkfs key remove 3f0c11aa")]
    Remove(slots::RemoveArgs),
    /// Replace a passphrase with a new one
    #[command(after_help = "The old passphrase is asked for, or taken from BKFS_PASSWORD, BKFS_PASSWORD_FILE or \
        BKFS_PASSWORD_COMMAND. The new one is given as in `bkfs key add`.\n\n\
        The key itself does not change: anyone who has a copy of the old slot can still open it with the old \
        passphrase.")]
    Change(slots::NewPassphraseArgs),
    /// Make a new seal key: older passphrases and key files cannot read what is pushed from then on
    #[command(
        after_help = "The passphrase that you give gets a new slot. All other passphrases are removed, because nobody \
        can seal the new key for them: `bkfs key add` makes them again. Full key files and recovery sheets from \
        before still open what was pushed before. Push keys stay as they are: machines learn the new seal key with \
        their next push.\n\n\
        A rotation does not undo a leak. What an older key could read, it still can. And whoever has a leaked full \
        key and can change the repository, as a server's operator can, is not stopped by a rotation: make a new \
        repository.\n\n\
        If a rotation is interrupted, run it again.\n\nExamples:\n  bkfs key rotate\n  \
        bkfs key recovery | lpr    # then, for the safe"
    )]
    Rotate(rotate::RotateArgs),
    /// Keep the opened key in the kernel's keyring for a while
    #[command(after_help = "Examples:\n  bkfs key unlock -r bkfs://nas:7443/alice --for 8h\n  bkfs key lock")]
    Unlock(unlock::UnlockArgs),
    /// Remove the key from the kernel's keyring
    #[command(after_help = "Example:\n  bkfs key lock -r bkfs://nas:7443/alice")]
    Lock(unlock::LockArgs),
    /// Make this machine a client again, after its client was removed
    #[command(after_help = "With the passphrase, this machine gets a new key. Without it, give it a key that \
        `bkfs key export-push` wrote elsewhere. A machine that never was a client needs no command: its first push \
        enrols it.\n\nExamples:\n  bkfs key enrol\n  bkfs key enrol --push-key laptop.key")]
    Enrol(enrol::EnrolArgs),
    /// Print a recovery sheet: the full key, and the head of the repository's log
    #[command(
        after_help = "Print the sheet on paper, and keep it where it can neither burn nor be stolen. To use it, type \
        it into a file and name the file in BKFS_KEY_FILE: it opens the repository without a passphrase.\n\n\
        --shares splits the key into several sheets for several people: some of them together restore the key, and \
        fewer reveal nothing. Sheets of different runs do not fit together.\n\n\
        Examples:\n  bkfs key recovery | lpr\n  bkfs key recovery --shares 3/5"
    )]
    Recovery(export::RecoveryArgs),
    /// Write a push key for another machine: it can push, but read nothing
    #[command(after_help = "Each export adds a new client. The file needs no passphrase; its mode is 0600.\n\n\
        Data is stored once for each group of clients, until `bkfs check --read-data` has opened it. So a stolen key \
        that uploads rubbish in the place of others' data spoils nothing outside its group. Give machines that have \
        much data in common, and one owner, the same --group.\n\n\
        Examples:\n  bkfs key export-push --label laptop laptop.key\n  \
        bkfs join TOKEN --push-key laptop.key    # then, on the laptop\n  \
        bkfs key export-push --group web web1.key")]
    ExportPush(export::ExportPushArgs),
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
        KeyCommand::Rotate(args) => rotate::run(context, &args),
        KeyCommand::Unlock(args) => unlock::unlock(context, &args),
        KeyCommand::Lock(args) => unlock::lock(context, &args),
        KeyCommand::Enrol(args) => enrol::run(context, &args),
        KeyCommand::Recovery(args) => export::recovery(context, &args),
        KeyCommand::ExportPush(args) => export::push(context, &args),
        KeyCommand::ExportFull(args) => export::full(context, &args),
    }?;
    Ok(Exit::Success)
}
