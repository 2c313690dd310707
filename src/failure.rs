//! How a command ends: exit codes, and error messages for a person.
//!
//! Exit codes are the same as restic's where the meaning is the same, so that scripts can be reused. An error is
//! printed as one line that names the object. If something can be done about it, a second line says what.

use bkfs_store::ErrorKind;
use serde::Serialize;

use crate::{denied::denied, output};

/// What to do on a machine whose client was ended.
pub const ENDED_HINT: &str = "if this machine should push again: `bkfs key enrol` makes it a new client, with the \
     passphrase; without it, write a key with `bkfs key export-push FILE` on a machine that can read, and use it here \
     with `bkfs key enrol --push-key FILE`";
/// What to do with a full key that lacks the newest seal key.
pub const OUTDATED_HINT: &str = "use a passphrase, key file or recovery sheet from after the rotation; with one of \
     them, `bkfs key add`, `bkfs key export-full` and `bkfs key recovery` make new ones, and `bkfs key unlock` unlocks \
     again";

/// The exit codes. The program returns no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Success = 0,
    /// Something failed, or the usage was wrong.
    Error = 1,
    /// Partly done: a snapshot was made, but parts of the source could not be read, or a source has lost all its files;
    /// or forgetting was held for some groups; or a part of a run failed.
    Incomplete = 3,
    /// There is no repository at the place.
    NoRepository = 10,
    /// The repository is locked, or the session was refused.
    Locked = 11,
    /// The passphrase or key is wrong, or does not allow the operation.
    WrongKey = 12,
    /// The repository holds less than this machine has seen before.
    RolledBack = 13,
    /// A signal stopped the command.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error of the command line itself, with its exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happened.
    pub message: String,
    /// What to do about it. Empty if nothing can be done.
    pub hint: String,
    /// The exit code.
    pub exit: Exit,
}

impl Failure {
    /// Returns a failure that exits with [`Exit::Error`].
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), exit: Exit::Error }
    }

    /// Returns the same failure with another exit code.
    pub fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

/// Returns the exit code for an error.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit;
    }
    if let Some(bkfs_store::Error::SealKeyMissing { .. }) = error.downcast_ref() {
        return Exit::RolledBack;
    }
    match error.downcast_ref::<bkfs_store::Error>().map(bkfs_store::Error::kind) {
        Some(ErrorKind::NoRepository) => Exit::NoRepository,
        Some(ErrorKind::Locked) => Exit::Locked,
        Some(ErrorKind::WrongKey) => Exit::WrongKey,
        Some(ErrorKind::Interrupted) => Exit::Interrupted,
        _ => Exit::Error,
    }
}

/// Returns whether the reader of our output closed the pipe (`bkfs ls ... | head`). To a person that is not an error.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let kind = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<serde_json::Error>() {
        Some(json) => json.io_error_kind(),
        None => cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind),
    };
    error.chain().any(|cause| kind(cause) == Some(std::io::ErrorKind::BrokenPipe))
}

/// An error, as `--json` prints it.
#[derive(Serialize)]
struct ErrorJson {
    error: Described,
}

/// What an error says.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Described {
    /// What happened, to what.
    pub message: String,
    /// What to do about it. Empty if nothing can be done.
    pub hint: String,
    /// The exit code.
    pub exit: u8,
}

/// Prints an error on standard error: as an object for programs, or as lines for people.
pub fn print(error: &anyhow::Error, is_json: bool) {
    let described = ErrorJson { error: describe(error) };
    if is_json && let Ok(text) = output::json_text(&described) {
        eprintln!("{text}");
        return;
    }
    let Described { message, hint, .. } = described.error;
    let separator = if hint.is_empty() { "" } else { "\n      " };
    output::note(format!("{message}{separator}{hint}"));
}

/// Returns the failure for arguments that are wrong.
pub fn usage(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let message = text.trim().strip_prefix("error: ").unwrap_or(text.trim());
    let (message, hint) = message.split_once("\n\n").unwrap_or((message, ""));
    Failure::new(message, hint.trim())
}

/// Returns what an error says.
pub fn describe(error: &anyhow::Error) -> Described {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors include their cause in their own text.
        if message.is_empty() {
            message = cause;
        } else if !message.contains(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    let hint = match error.downcast_ref::<Failure>() {
        Some(failure) => failure.hint.clone(),
        None => error.downcast_ref::<bkfs_store::Error>().map(hint).unwrap_or_default(),
    };
    Described { message, hint, exit: exit_of(error) as u8 }
}

/// Returns what to do about an error of the store, if its own text does not say that.
fn hint(error: &bkfs_store::Error) -> String {
    use bkfs_store::Error;
    let text = match error {
        Error::Io { path, source } if source.kind() == std::io::ErrorKind::PermissionDenied => return denied(path),
        Error::RepositoryExists { .. } => {
            "nothing was changed; to use this repository, run any other command with the same -r"
        }
        Error::WrongPassphrase { .. } => {
            "the passphrase is taken from --password-file, BKFS_PASSWORD, BKFS_PASSWORD_FILE, BKFS_PASSWORD_COMMAND or \
             the prompt, in this order"
        }
        Error::WrongKey { .. } => {
            "check --key-file (BKFS_KEY_FILE) and -r (BKFS_REPOSITORY): they belong to different repositories"
        }
        Error::KeyOutdated { .. } => OUTDATED_HINT,
        Error::SealKeyMissing { .. } => {
            "the server's operator knows whether an older copy was put back; a passphrase or key from before the \
             rotation opens what is older"
        }
        Error::ChunkMissing { .. }
        | Error::FrameDamaged { .. }
        | Error::PackDamaged { .. }
        | Error::SnapshotDamaged { .. }
        | Error::KeyMissing { .. } => "everything else can still be read; `bkfs check --read-data` lists all damage",
        Error::Full { .. } => {
            "`bkfs forget` and `bkfs prune` work on a full disk; so does the operator's `bkfs server reclaim`, which \
             frees what a server keeps of pruned data"
        }
        Error::StillFull { .. } => {
            "or make room in the repository: `bkfs prune --end-pushes` removes what interrupted pushes left; on a \
             server, the operator's `bkfs server reclaim` also frees what it keeps of pruned data"
        }
        Error::NotShown { .. } => {
            "no snapshot was made, and nothing that this server says it has is believed any more: the next push asks \
             about all of it. Tell the server's operator, who can verify its disk with `bkfs server scrub`; a machine \
             that can read finds what is missing with `bkfs check --read-data`"
        }
        Error::ClientEnded { .. } => ENDED_HINT,
        Error::OverQuota { .. } => {
            "what was forgotten or pruned counts until it has left the server's trash and grave; `bkfs server account \
             quota` and `bkfs server account limit` change the limits"
        }
        Error::NotOnRoster { .. } => {
            "`bkfs key list` lists the clients; `bkfs key enrol` makes this machine one again if its client was removed"
        }
        _ => "",
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let code = |e: bkfs_store::Error| exit_of(&anyhow::Error::new(e).context("while doing something"));
        assert_eq!(code(bkfs_store::Error::NoRepository { place: "/x".into() }), Exit::NoRepository);
        assert_eq!(code(bkfs_store::Error::WrongPassphrase { slots: 1, untried: 0 }), Exit::WrongKey);
        assert_eq!(code(bkfs_store::Error::PushKeyCannotRead { operation: "ls" }), Exit::WrongKey);
        assert_eq!(code(bkfs_store::Error::Locked { what: "x".into() }), Exit::Locked);
        assert_eq!(code(bkfs_store::Error::Interrupted), Exit::Interrupted);
        assert_eq!(code(bkfs_store::Error::KeyOutdated { have: 1, needed: 2 }), Exit::WrongKey);
        assert_eq!(code(bkfs_store::Error::SealKeyMissing { shown: 1 }), Exit::RolledBack);
        assert_eq!(code(bkfs_store::Error::Invalid("x".into())), Exit::Error);
        let failure = Failure::new("a", "b").exit(Exit::RolledBack);
        let described = Described { message: "a".into(), hint: "b".into(), exit: 13 };
        assert_eq!(describe(&failure.into()), described);
        let cause = bkfs_store::Error::io("/x", std::io::Error::other("no luck"));
        assert_eq!(describe(&anyhow::Error::new(cause).context("copying")).message, "copying: /x: no luck");
    }
}
