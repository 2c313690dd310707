//! How a command ends: exit codes, and error messages for a person.
//!
//! Exit codes are the same as restic's where the meaning is the same, so that scripts can be reused. An error is
//! printed as one line that names the object. If something can be done about it, a second line says what.

use bkfs_store::ErrorKind;

/// The exit codes. The program returns no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Success = 0,
    /// Something failed, or the usage was wrong.
    Error = 1,
    /// Partly done: a snapshot was made, but parts of the source could not be read; or forgetting was held for some
    /// groups.
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
    error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
}

/// Returns the lines that a person sees.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::from("bkfs");
    for cause in error.chain().map(ToString::to_string) {
        // Many errors include their cause in their own text.
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    let hint = match error.downcast_ref::<Failure>() {
        Some(failure) => failure.hint.clone(),
        None => error.downcast_ref::<bkfs_store::Error>().map(hint).unwrap_or_default().to_owned(),
    };
    if !hint.is_empty() {
        text.push_str("\n      ");
        text.push_str(&hint);
    }
    text
}

/// Returns what to do about an error of the store, if its own text does not say that.
fn hint(error: &bkfs_store::Error) -> &'static str {
    use bkfs_store::Error;
    match error {
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
        Error::ChunkMissing { .. }
        | Error::FrameDamaged { .. }
        | Error::PackDamaged { .. }
        | Error::SnapshotDamaged { .. }
        | Error::KeyMissing { .. } => "everything else can still be read; `bkfs check --read-data` lists all damage",
        Error::NotOnRoster { .. } => "`bkfs key list` lists the clients on the roster",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_its_exit_code() {
        let code = |e: bkfs_store::Error| exit_of(&anyhow::Error::new(e).context("while doing something"));
        assert_eq!(code(bkfs_store::Error::NoRepository { place: "/x".into() }), Exit::NoRepository);
        assert_eq!(code(bkfs_store::Error::WrongPassphrase { slots: 1 }), Exit::WrongKey);
        assert_eq!(code(bkfs_store::Error::PushKeyCannotRead { operation: "ls" }), Exit::WrongKey);
        assert_eq!(code(bkfs_store::Error::Locked { what: "x".into() }), Exit::Locked);
        assert_eq!(code(bkfs_store::Error::Interrupted), Exit::Interrupted);
        assert_eq!(code(bkfs_store::Error::Invalid("x".into())), Exit::Error);
        let failure = Failure::new("a", "b").exit(Exit::RolledBack);
        assert_eq!(describe(&failure.into()), "bkfs: a\n      b");
        let cause = bkfs_store::Error::io("/x", std::io::Error::other("no luck"));
        assert_eq!(describe(&anyhow::Error::new(cause).context("copying")), "bkfs: copying: /x: no luck");
    }
}
