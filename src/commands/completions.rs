//! `bkfs completions`: prints a script for completion by the shell.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use clap_complete::env::Shells;

use crate::{completion, output};

/// Arguments of `completions`.
#[derive(Debug, Args)]
#[command(
    about = "Print a script that completes commands in your shell",
    long_about = "Print a script that completes commands, options, snapshots, paths in snapshots, targets and hosts. \
        What a repository holds is offered if it can be opened without a question: with a key file, BKFS_PASSWORD or \
        `bkfs key unlock`.",
    after_help = "Examples:\n  source <(bkfs completions bash)                              # in ~/.bashrc\n  \
        source <(bkfs completions zsh)                               # in ~/.zshrc, after compinit\n  \
        bkfs completions fish > ~/.config/fish/completions/bkfs.fish"
)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// A shell for which there is a script.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runs `bkfs completions`.
pub fn run(args: &CompletionsArgs) -> Result<()> {
    let name = args.shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let shells = Shells::builtins();
    let completer = shells.completer(&name).context("there is no script for this shell")?;
    let mut script = Vec::new();
    if matches!(args.shell, Shell::Bash) {
        // Otherwise bash would complete what follows a colon as a word of its own.
        script.extend_from_slice(b"COMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n");
    }
    completer.write_registration(completion::VARIABLE, "bkfs", "bkfs", "bkfs", &mut script)?;
    output::line(String::from_utf8_lossy(&script).trim_end())
}
