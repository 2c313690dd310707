//! How a command ends: exit codes, and what a person is told when something went wrong.
//!
//! Codes follow restic's where a meaning is shared, so that scripts carry over. An error is printed as one line that
//! names the thing, and where there is something to be done, a second line that says what.

use bkfs_store::ErrorKind;

/// The exit codes. Nothing else is ever returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Success = 0,
    /// Something failed; also wrong usage.
    Error = 1,
    /// Done in part: a snapshot was made, but parts of the source could not be read; or forgetting was held for some
    /// groups.
    Incomplete = 3,
    /// There is no repository there.
    NoRepository = 10,
    /// The repository is locked, or the session was refused.
    Locked = 11,
    /// The passphrase or key is wrong, or cannot do this.
    WrongKey = 12,
    /// The repository holds less than this machine has seen before.
    RolledBack = 13,
    /// Stopped by a signal.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error of the command line itself, with the exit code that it means.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What happened.
    pub message: String,
    /// What to do about it; empty if there is nothing to say.
    pub hint: String,
    /// How the process ends.
    pub exit: Exit,
}

impl Failure {
    /// A failure that ends with [`Exit::Error`].
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into(), exit: Exit::Error }
    }

    /// The same, ending otherwise.
    pub fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

/// The exit code of an error.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit;
    }
    match error.downcast_ref::<bkfs_store::Error>().map(bkfs_store::Error::kind) {
        Some(ErrorKind::NoRepository) => Exit::NoRepository,
        Some(ErrorKind::Locked) => Exit::Locked,
        Some(ErrorKind::WrongKey) => Exit::WrongKey,
        Some(ErrorKind::RolledBack) => Exit::RolledBack,
        Some(ErrorKind::Interrupted) => Exit::Interrupted,
        _ => Exit::Error,
    }
}

/// Whether the error is that whoever read our output went away (`bkfs ls ... | head`): no error to a person.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe))
}

/// The lines for a person.
pub fn describe(error: &anyhow::Error) -> String {
    let mut text = String::from("bkfs");
    for cause in error.chain().map(ToString::to_string) {
        // Many errors show their cause themselves.
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

/// What to do about an error of the store, where its own text does not say so already.
fn hint(error: &bkfs_store::Error) -> &'static str {
    use bkfs_store::Error;
    match error {
        Error::RepositoryExists { .. } => "nothing was changed; to use it, run any other command with the same -r",
        Error::WrongPassphrase { .. } => {
            "passphrases come from BKFS_PASSWORD, BKFS_PASSWORD_FILE, BKFS_PASSWORD_COMMAND or the prompt, in this order"
        }
        Error::WrongKey { .. } => {
            "look at BKFS_KEY_FILE, and at -r or BKFS_REPOSITORY: one of them means another repository"
        }
        Error::ChunkMissing { .. }
        | Error::FrameDamaged { .. }
        | Error::PackDamaged { .. }
        | Error::SnapshotDamaged { .. }
        | Error::KeyMissing { .. } => "the rest can be read; `bkfs check --read-data` lists everything that is damaged",
        Error::NotOnRoster { .. } => "`bkfs key list` shows the clients on the roster",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_their_codes() {
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
