//! Where passphrases come from: `--password-file`, BKFS_PASSWORD, BKFS_PASSWORD_FILE, BKFS_PASSWORD_COMMAND, and a
//! prompt on a terminal, in this order. Without a terminal nothing ever waits for input. Passphrases are wiped from
//! memory after use.

use std::{
    env,
    io::{IsTerminal, Read},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use zeroize::Zeroizing;

use crate::{
    context::Context,
    failure::{Exit, Failure},
};

/// Maximum length of a passphrase in bytes.
const LEN_MAX: usize = 4096;

/// A passphrase. It is wiped when dropped.
pub type Passphrase = Zeroizing<String>;

/// Returns the passphrase that opens the repository, or `None` if there is neither a source nor a terminal.
pub fn existing(context: &Context, place: &str) -> Result<Option<Passphrase>> {
    if let Some(path) = &context.password_file {
        return from_file(path).map(Some);
    }
    if let Some(passphrase) = from_environment("BKFS_PASSWORD")? {
        return Ok(Some(passphrase));
    }
    match has_terminal() {
        true => prompt(&format!("Passphrase of {place}: ")).map(Some),
        false => Ok(None),
    }
}

/// Returns whether a passphrase can be had without asking a person.
pub fn is_configured(context: &Context) -> bool {
    context.password_file.is_some()
        || ["BKFS_PASSWORD", "BKFS_PASSWORD_FILE", "BKFS_PASSWORD_COMMAND"].iter().any(|name| non_empty(name).is_some())
}

/// Returns a passphrase for a new repository, from the same sources. On a terminal it must be typed twice.
pub fn initial(context: &Context) -> Result<Passphrase> {
    new_passphrase(
        context.password_file.as_deref(),
        "BKFS_PASSWORD",
        "Passphrase for the new repository: ",
        "a new repository needs a passphrase, but none was given and there is no terminal to ask on",
        "set BKFS_PASSWORD, BKFS_PASSWORD_FILE or BKFS_PASSWORD_COMMAND",
    )
}

/// Returns a passphrase for another slot: from the file if one is given, else from BKFS_NEW_PASSWORD[_FILE|_COMMAND],
/// else typed twice.
pub fn additional(file: Option<&Path>) -> Result<Passphrase> {
    new_passphrase(
        file,
        "BKFS_NEW_PASSWORD",
        "New passphrase: ",
        "no new passphrase was given and there is no terminal to ask on",
        "use --new-password-file FILE, or set BKFS_NEW_PASSWORD",
    )
}

fn new_passphrase(file: Option<&Path>, variable: &str, ask: &str, missing: &str, hint: &str) -> Result<Passphrase> {
    if let Some(path) = file {
        return from_file(path);
    }
    if let Some(passphrase) = from_environment(variable)? {
        return Ok(passphrase);
    }
    match has_terminal() {
        true => prompt_twice(ask),
        false => Err(Failure::new(missing, hint).exit(Exit::WrongKey).into()),
    }
}

/// Returns the error for a passphrase that was not given and cannot be asked for. `what` says what needs it.
pub fn missing(what: &str) -> Failure {
    Failure::new(
        format!("{what}, but none was given and there is no terminal to ask on"),
        "set BKFS_PASSWORD, BKFS_PASSWORD_FILE or BKFS_PASSWORD_COMMAND, or give a key file in BKFS_KEY_FILE",
    )
    .exit(Exit::WrongKey)
}

fn from_environment(name: &str) -> Result<Option<Passphrase>> {
    if let Some(value) = non_empty(name) {
        let value = value.into_string().map_err(|_| Failure::new(format!("{name} is not UTF-8"), ""))?;
        return check_len(Zeroizing::new(value), name).map(Some);
    }
    if let Some(path) = non_empty(&format!("{name}_FILE")) {
        return from_file(Path::new(&path)).map(Some);
    }
    match non_empty(&format!("{name}_COMMAND")) {
        Some(command) => from_command(&command, &format!("{name}_COMMAND")).map(Some),
        None => Ok(None),
    }
}

fn non_empty(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn from_file(path: &Path) -> Result<Passphrase> {
    let file = std::fs::File::open(path).map_err(|e| {
        Failure::new(format!("cannot read the passphrase file {}: {e}", path.display()), "").exit(Exit::WrongKey)
    })?;
    read(file, &path.display().to_string())
}

/// Runs a command in the shell and returns what it prints.
fn from_command(command: &std::ffi::OsStr, name: &str) -> Result<Passphrase> {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {name} with /bin/sh"))?;
    let passphrase = match child.stdout.take() {
        Some(output) => read(output, name),
        None => Err(Failure::new(format!("{name} has no output"), "").into()),
    };
    let status = child.wait().with_context(|| format!("running {name}"))?;
    if !status.success() {
        let how = match status.code() {
            Some(code) => format!("code {code}"),
            None => format!("signal {}", status.signal().unwrap_or_default()),
        };
        return Err(Failure::new(format!("{name} failed with {how}"), "").exit(Exit::WrongKey).into());
    }
    passphrase
}

/// Reads a passphrase to the end of the source, and removes one line end.
fn read(source: impl Read, name: &str) -> Result<Passphrase> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(LEN_MAX + 2));
    source.take(LEN_MAX as u64 + 2).read_to_end(&mut bytes).with_context(|| format!("reading {name}"))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Failure::new(format!("{name} is not UTF-8"), ""))?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    check_len(Zeroizing::new(text.strip_suffix('\r').unwrap_or(text).to_owned()), name)
}

fn check_len(passphrase: Passphrase, name: &str) -> Result<Passphrase> {
    match passphrase.len() {
        0 => Err(Failure::new(format!("the passphrase from {name} is empty"), "").exit(Exit::WrongKey).into()),
        len if len > LEN_MAX => {
            Err(Failure::new(format!("the passphrase from {name} is longer than {LEN_MAX} bytes"), "").into())
        }
        _ => Ok(passphrase),
    }
}

fn has_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn prompt(text: &str) -> Result<Passphrase> {
    let passphrase = Zeroizing::new(rpassword::prompt_password(text).context("asking for the passphrase")?);
    check_len(passphrase, "the prompt")
}

fn prompt_twice(text: &str) -> Result<Passphrase> {
    let passphrase = prompt(text)?;
    let again = prompt("Repeat the passphrase: ")?;
    match *passphrase == *again {
        true => Ok(passphrase),
        false => Err(Failure::new("the two passphrases are different", "nothing was changed").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_removed() {
        assert_eq!(*read(&b"a b \r\n"[..], "x").unwrap(), "a b ");
        assert_eq!(*read(&b"ab"[..], "x").unwrap(), "ab");
        assert!(read(&b"\n"[..], "x").is_err());
        assert!(read(&b"\xff"[..], "x").is_err());
        assert!(read(&[b'a'; LEN_MAX + 5][..], "x").is_err());
    }

    #[test]
    fn commands_must_succeed() {
        assert_eq!(*from_command("printf secret".as_ref(), "X").unwrap(), "secret");
        assert!(from_command("printf secret; exit 3".as_ref(), "X").unwrap_err().to_string().contains("code 3"));
    }
}
