//! Questions that only a person can answer with yes.
//!
//! A question is asked on a terminal, before anything is changed. Ctrl-C at a question ends the command. Without a
//! terminal nothing waits for input: the command names the option that answers yes.

use std::io::{IsTerminal, Write};

use anyhow::{Context as _, Result};

use crate::{context::Context, failure::Failure, output, signals};

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
