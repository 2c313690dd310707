//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;

/// Versioned backups that can be mounted.
#[derive(Debug, Parser)]
#[command(
    name = "bkfs",
    version,
    about = "Versioned, encrypted, deduplicated backups that can be mounted",
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"),
    max_term_width = 110,
    disable_help_subcommand = true,
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
  bkfs init -r /media/usb/repo            make a repository in a folder
  bkfs push -r /media/usb/repo ~          back up the home folder
  bkfs mount -r /media/usb/repo /mnt/b    see every version as folders; restore with cp
  bkfs join TOKEN                         enrol at a server; then -r bkfs://HOST:PORT/ACCOUNT";

const EXIT_CODES: &str = "\
Exit codes:
  0 done · 1 error · 3 done in part: some of the source could not be read, or forgetting was held
  10 no repository there · 11 locked or session refused · 12 wrong passphrase or key · 13 the repository was rolled back · 130 interrupted";

/// What every command takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Options of all commands")]
pub struct GlobalArgs {
    /// Print results as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more (twice: much more)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Use the key in this file (`bkfs key export-full`, `bkfs key export-push`)
    #[arg(long, global = true, value_name = "FILE", env = "BKFS_KEY_FILE", hide_env_values = true)]
    pub key_file: Option<PathBuf>,
    /// Read the passphrase from this file (also: BKFS_PASSWORD, BKFS_PASSWORD_FILE, BKFS_PASSWORD_COMMAND)
    #[arg(long, global = true, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The folder of keys and known servers
    #[arg(long, global = true, value_name = "DIR", env = "BKFS_CONFIG_DIR", hide_env_values = true)]
    pub config_dir: Option<PathBuf>,
    /// The folder of what can be thrown away
    #[arg(long, global = true, value_name = "DIR", env = "BKFS_CACHE_DIR", hide_env_values = true)]
    pub cache_dir: Option<PathBuf>,
}

/// Which repository.
#[derive(Debug, Clone, Default, Args)]
pub struct RepoArgs {
    /// The repository: a folder's path, or bkfs://HOST:PORT/ACCOUNT[/NAME]
    #[arg(short, long, value_name = "REPO", env = "BKFS_REPOSITORY", hide_env_values = true)]
    pub repository: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep repositories for others: make a server, run it, invite clients
    #[command(subcommand)]
    Server(commands::server::ServerCommand),
    /// Enrol this machine at a server
    Join(commands::join::JoinArgs),
    /// Make a new repository
    Init(commands::init::InitArgs),
    /// Back up files and folders
    #[command(visible_alias = "backup")]
    Push(commands::push::PushArgs),
    /// List the snapshots
    Snapshots(commands::snapshots::SnapshotsArgs),
    /// List a folder of a snapshot
    Ls(commands::ls::LsArgs),
    /// Print a file of a snapshot
    Cat(commands::cat::CatArgs),
    /// Copy files out of a snapshot
    Restore(commands::restore::RestoreArgs),
    /// Show all snapshots as ordinary folders
    Mount(commands::mount::MountArgs),
    /// Move snapshots to the trash, by name or by a policy
    Forget(commands::forget::ForgetArgs),
    /// Bring snapshots back from the trash
    Unforget(commands::unforget::UnforgetArgs),
    /// Verify that everything is there, and with --read-data that it is intact
    Check(commands::check::CheckArgs),
    /// Manage passphrases, keys and clients
    #[command(subcommand)]
    Key(commands::key::KeyCommand),
}
