//! Where passphrases come from: `--password-file`, BKFS_PASSWORD, BKFS_PASSWORD_FILE, BKFS_PASSWORD_COMMAND, and a
//! prompt on a terminal, in this order. Without a terminal nothing ever waits for input. Passphrases are wiped from
//! memory after use.
//!
//! A passphrase that is typed wrong is asked for again, twice; one from another source is tried once. Both Unicode
//! forms of it are tried (`forms`), and new ones are stored in one of them.

mod forms;

use std::{
    env,
    ffi::OsStr,
    io::{IsTerminal, Read},
    os::{
        fd::AsRawFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};
use bkfs_store::Error;
use rustix::pipe::PipeFlags;
use zeroize::Zeroizing;

use crate::{
    context::Context,
    failure::{Exit, Failure},
    signals,
};

/// How often a person is asked.
const PROMPTS: u32 = 3;
/// The name of the prompt, in messages.
const PROMPT: &str = "the prompt";
/// Maximum length of a passphrase in bytes.
const LEN_MAX: usize = 4096;

/// A passphrase. It is wiped when dropped.
pub type Passphrase = Zeroizing<String>;

/// Opens something at `place` with its passphrase. `open` is given one after another, and fails with
/// [`Error::WrongPassphrase`] if it does not fit. Returns `None` if there is neither a source nor a terminal.
pub fn open<T>(context: &Context, place: &str, open: impl Fn(&[u8]) -> Result<T, Error>) -> Result<Option<T>> {
    if let Some(passphrase) = given(context)? {
        return Ok(Some(try_forms(&passphrase, &open)?));
    }
    if context.is_unattended || !has_terminal() {
        return Ok(None);
    }
    for left in (0..PROMPTS).rev() {
        let passphrase = prompt(&format!("Passphrase of {place}: "))?;
        if passphrase.is_empty() && left > 0 {
            eprintln!("the passphrase is empty, try again");
            continue;
        }
        match try_forms(&check_len(passphrase, PROMPT)?, &open) {
            Err(Error::WrongPassphrase { .. }) if left > 0 => eprintln!("wrong passphrase, try again"),
            opened => return Ok(Some(opened?)),
        }
    }
    Ok(None)
}

/// Returns the passphrase that needs no question: from the options, else from the profile, else from the environment.
fn given(context: &Context) -> Result<Option<Passphrase>> {
    match (&context.password_file, &context.password_command, &context.password) {
        (Some(path), ..) => from_file(path).map(Some),
        (None, Some(command), _) => from_command(OsStr::new(command), "password-command of the profile").map(Some),
        (None, None, Some(password)) => {
            check_len(Zeroizing::new(password.reveal().to_owned()), "the profile").map(Some)
        }
        (None, None, None) => from_environment("BKFS_PASSWORD"),
    }
}

/// Tries the forms of a passphrase.
fn try_forms<T>(passphrase: &Passphrase, open: impl Fn(&[u8]) -> Result<T, Error>) -> Result<T, Error> {
    let mut tried = Err(Error::WrongPassphrase { slots: 0, untried: 0 });
    for form in forms::to_try(passphrase) {
        tried = open(form.as_bytes());
        if !matches!(tried, Err(Error::WrongPassphrase { .. })) {
            break;
        }
    }
    tried
}

/// Returns whether a passphrase can be had without asking a person.
pub fn is_configured(context: &Context) -> bool {
    context.gives_passphrase()
        || ["BKFS_PASSWORD", "BKFS_PASSWORD_FILE", "BKFS_PASSWORD_COMMAND"].iter().any(|name| non_empty(name).is_some())
}

/// Returns a passphrase for a new repository, from the same sources. On a terminal it must be typed twice.
pub fn initial(context: &Context) -> Result<Passphrase> {
    new_passphrase(
        given(context)?,
        "Passphrase for the new repository: ",
        "a new repository needs a passphrase, but none was given and there is no terminal to ask on",
        "set BKFS_PASSWORD, BKFS_PASSWORD_FILE or BKFS_PASSWORD_COMMAND",
    )
}

/// Returns a passphrase for another slot: from the file if one is given, else from BKFS_NEW_PASSWORD[_FILE|_COMMAND],
/// else typed twice.
pub fn additional(file: Option<&Path>) -> Result<Passphrase> {
    let given = match file {
        Some(path) => Some(from_file(path)?),
        None => from_environment("BKFS_NEW_PASSWORD")?,
    };
    new_passphrase(
        given,
        "New passphrase: ",
        "no new passphrase was given and there is no terminal to ask on",
        "use --new-password-file FILE, or set BKFS_NEW_PASSWORD",
    )
}

fn new_passphrase(given: Option<Passphrase>, ask: &str, missing: &str, hint: &str) -> Result<Passphrase> {
    let passphrase = match given {
        Some(passphrase) => passphrase,
        None if has_terminal() => prompt_twice(ask)?,
        None => return Err(Failure::new(missing, hint).exit(Exit::WrongKey).into()),
    };
    Ok(forms::stored(&passphrase))
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

/// The variables that hold passphrases themselves.
const SECRET_VARIABLES: [&str; 2] = ["BKFS_PASSWORD", "BKFS_NEW_PASSWORD"];

/// Starts the program again without the passphrase in its environment, if it is there: the kernel shows the environment
/// that a process began with as long as the process lives. The passphrase goes through a pipe, which the new program
/// reads like a file. For programs that run for long. Returns if there is nothing to hide, or no way to.
pub fn leave_environment() -> Result<()> {
    let Some(passphrase) = non_empty(SECRET_VARIABLES[0]).map(|value| Zeroizing::new(value.into_encoded_bytes()))
    else {
        return Ok(());
    };
    // The pipe must hold it: nobody reads before it is written.
    if passphrase.len() > LEN_MAX || !Path::new("/proc/self/fd").exists() {
        return Ok(());
    }
    // Open across exec, for this one program.
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::empty()).context("making a pipe")?;
    rustix::io::write(&writer, &passphrase).context("writing to a pipe")?;
    drop(writer);
    let mut args = env::args_os();
    let mut command = Command::new(env::current_exe().context("finding the program's own file")?);
    command.arg0(args.next().unwrap_or_default()).args(args);
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    command.env("BKFS_PASSWORD_FILE", format!("/proc/self/fd/{}", reader.as_raw_fd()));
    Err(command.exec()).context("starting the program without the passphrase in its environment")
}

/// Runs a command in the shell and returns what it prints. It gets no passphrase in its environment.
fn from_command(command: &OsStr, name: &str) -> Result<Passphrase> {
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .env_remove(SECRET_VARIABLES[0])
        .env_remove(SECRET_VARIABLES[1])
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
        0 => {
            let hint = match name {
                PROMPT => "run the command again, and type the passphrase",
                _ => "it must hold the passphrase, and nothing else but one line end",
            };
            Err(Failure::new(format!("the passphrase from {name} is empty"), hint).exit(Exit::WrongKey).into())
        }
        len if len > LEN_MAX => {
            Err(Failure::new(format!("the passphrase from {name} is longer than {LEN_MAX} bytes"), "").into())
        }
        _ => Ok(passphrase),
    }
}

fn has_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a passphrase, which may be empty.
fn prompt(text: &str) -> Result<Passphrase> {
    let answer = {
        let _terminal = signals::TerminalGuard::new();
        rpassword::prompt_password(text).map(Zeroizing::new)
    };
    match answer {
        // Ctrl-C is a character while the prompt hides what is typed.
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {
            eprintln!();
            signals::end(signal_hook::consts::SIGINT)
        }
        answer => Ok(answer.context("asking for the passphrase")?),
    }
}

fn prompt_twice(text: &str) -> Result<Passphrase> {
    for left in (0..PROMPTS).rev() {
        let passphrase = check_len(prompt(text)?, PROMPT)?;
        let again = prompt("Repeat the passphrase: ")?;
        if *passphrase == *again {
            return Ok(passphrase);
        }
        if left > 0 {
            eprintln!("the two passphrases are different, try again");
        }
    }
    Err(Failure::new("the two passphrases are different", "nothing was changed").into())
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
