//! Questions to a person.
//!
//! A question is asked on a terminal, before anything is changed. Ctrl-C at a question ends the command. Without a
//! terminal nothing waits for input: the command names the option that answers yes.

use std::io::{IsTerminal, Write};

use anyhow::{Context as _, Result};

use crate::{
    context::Context,
    failure::{Failure, describe},
    output, signals,
};

/// Asks a question, unless there is nobody to ask. Fails unless the answer is yes. `option` is the command-line option
/// that answers yes.
pub fn confirm(context: &Context, what: &str, question: &str, option: &str) -> Result<()> {
    if !has_person(context) {
        return Err(Failure::new(what, format!("if that is right, run the command again with {option}")).into());
    }
    eprint!("bkfs: {}\n{} [y/N] ", output::printable(what), output::printable(question));
    std::io::stderr().flush()?;
    match answer()?.trim() {
        "y" | "Y" | "yes" | "Yes" | "YES" => Ok(()),
        _ => Err(Failure::new("nothing was changed", "").into()),
    }
}

/// Asks a question that may be answered with no. Without a person, the answer is no.
pub fn agrees(context: &Context, question: &str, default: bool) -> Result<bool> {
    if !has_person(context) {
        return Ok(false);
    }
    let keys = if default { "[Y/n]" } else { "[y/N]" };
    eprint!("{} {keys} ", output::printable(question));
    std::io::stderr().flush()?;
    Ok(match answer()?.trim() {
        "" => default,
        "y" | "Y" | "yes" | "Yes" | "YES" => true,
        _ => false,
    })
}

/// Asks for a text until `read` takes it, a few times. An empty answer is the default. Fails if nobody can be asked:
/// `option` is the command-line option that answers.
pub fn value<T>(
    context: &Context,
    question: &str,
    default: Option<&str>,
    option: &str,
    read: impl Fn(&str) -> Result<T>,
) -> Result<T> {
    const ATTEMPTS: usize = 3;
    if !has_person(context) {
        let hint = format!("give {option}; on a terminal, the command asks for what is missing");
        return Err(Failure::new(format!("{option} is missing"), hint).into());
    }
    let shown = default.filter(|default| !default.is_empty());
    let shown = shown.map_or(String::new(), |default| format!(" [{}]", output::printable(default)));
    for left in (0..ATTEMPTS).rev() {
        eprint!("{}{shown}: ", output::printable(question));
        std::io::stderr().flush()?;
        let typed = answer()?;
        // Without its newline, the input has ended.
        let (is_end, typed) = (!typed.ends_with('\n'), typed.trim());
        let text = if typed.is_empty() { default.unwrap_or_default() } else { typed };
        match read(text) {
            Ok(value) => return Ok(value),
            Err(error) if left == 0 || is_end => return Err(error),
            Err(error) => {
                let described = describe(&error);
                let separator = if described.hint.is_empty() { "" } else { "\n      " };
                output::note(format!("{}{separator}{}", described.message, described.hint));
            }
        }
    }
    Err(Failure::new(format!("{option} is missing"), "").into())
}

/// Returns whether a person can answer.
pub fn has_person(context: &Context) -> bool {
    !context.quiet && !context.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Waits for a line from the terminal. An end of the input is an empty line.
fn answer() -> Result<String> {
    let mut line = String::new();
    signals::while_asking(|| std::io::stdin().read_line(&mut line)).context("reading the answer")?;
    Ok(line)
}
