//! The top of the command line: options, examples and exit codes of the program as a whole.

use clap::Parser;

use crate::{args::GlobalArgs, commands::Command};

/// The program's arguments.
#[derive(Debug, Parser)]
#[command(
    name = "bkfs",
    version,
    about = "Versioned, encrypted, deduplicated backups that you can mount",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    max_term_width = 110,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  bkfs setup                              # asks a few questions, and makes the first backup
  bkfs init -r /media/usb/repo            # create a repository in a folder
  bkfs push -r /media/usb/repo ~          # back up your home folder
  bkfs mount -r /media/usb/repo /mnt/b    # browse every version as folders; restore with cp
  bkfs join TOKEN                         # enrol; then use -r bkfs://HOST:PORT/ACCOUNT";

const EXIT_CODES: &str = "\
Exit codes:
    0  success
    1  error
    3  partly done: some source files could not be read, a source lost all its files, many files became
       unreadable, forgetting was held, or a step of a run or a setup failed
   10  no repository there
   11  repository locked, or session refused
   12  wrong passphrase or key
   13  repository rolled back to an older state
  128+N  ended by signal N: 130 after Ctrl-C";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// Collects all commands below `command`, each with its full name.
    fn all(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        for below in command.get_subcommands() {
            let path = format!("{path} {}", below.get_name());
            found.push((path.clone(), below.clone()));
            all(below, &path, found);
        }
    }

    #[test]
    fn every_command_is_explained() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        let mut commands = Vec::new();
        all(&cli, "bkfs", &mut commands);
        assert!(commands.len() > 15);
        for (path, command) in commands {
            let text = |text: Option<&clap::builder::StyledStr>| text.map(ToString::to_string).unwrap_or_default();
            let (about, long) = (text(command.get_about()), text(command.get_long_about()));
            let after = text(command.get_after_help());
            assert!(!about.is_empty() && !about.starts_with("Arguments of"), "{path}: {about}");
            if command.has_subcommands() {
                continue;
            }
            // A doc comment on an enum variant silently replaces the long text of the arguments' struct.
            assert!(!long.is_empty() || !after.is_empty(), "{path} has neither a long text nor an example");
            let is_deep = path.split(' ').count() > 2;
            assert!(is_deep || long.len() > about.len(), "{path}: --help tells no more than -h");
            assert!(is_deep || after.contains("Example"), "{path} has no example");
        }
    }
}
