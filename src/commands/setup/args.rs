//! The options of `bkfs setup`.

use std::path::PathBuf;

use clap::Args;

use crate::commands::schedule::manager::ManagerArgs;

/// Arguments of `setup`.
#[derive(Debug, Args)]
#[command(
    about = "Set up backups of this machine, step by step",
    long_about = "Set up backups of this machine: asks where to, what and how often, and then creates the repository \
        or joins the server, writes a profile, lets the system run it, and makes the first backup.\n\n\
        Each answer can be an option. With --yes nothing is asked, and what no option says is the default: the home \
        folder, without caches, once a day. The passphrase is asked for, or taken from --password-file, BKFS_PASSWORD, \
        BKFS_PASSWORD_FILE or BKFS_PASSWORD_COMMAND.\n\n\
        Nothing that exists is overwritten. If a setup was interrupted, run it again with the same answers: it goes on \
        where it stopped.",
    after_help = "Examples:\n  bkfs setup\n  bkfs setup --to /media/usb/backup --every daily\n  \
        bkfs setup --to bkfs1k5v... --source ~ --source /etc --watch --recovery ~/sheet\n  \
        BKFS_PASSWORD_FILE=~/.config/bkfs/passphrase bkfs setup --to /srv/backup --yes"
)]
pub struct SetupArgs {
    /// Where to: a folder, the token of an invitation (`-` reads it from standard input), or bkfs://HOST:PORT/ACCOUNT
    #[arg(long, value_name = "PLACE|TOKEN")]
    pub(super) to: Option<String>,
    /// A file or folder to back up; can be repeated [default: the home folder]
    #[arg(long, value_name = "PATH")]
    pub(super) source: Vec<PathBuf>,
    /// Also back up caches: folders with a CACHEDIR.TAG or the name .cache
    #[arg(long)]
    pub(super) with_caches: bool,
    /// How often: hourly, daily, every 4h, weekly sun 03:00 and the like [default: daily]
    #[arg(long, value_name = "SCHEDULE")]
    pub(super) every: Option<String>,
    /// Back up whenever files change, and everything that --every says
    #[arg(long)]
    pub(super) watch: bool,
    /// Let nothing run by itself
    #[arg(long, conflicts_with = "watch")]
    pub(super) no_schedule: bool,
    /// Write the recovery sheet, which opens the repository without the passphrase, into this file (`-` prints it)
    #[arg(long, value_name = "FILE")]
    pub(super) recovery: Option<PathBuf>,
    /// The name of the profile [default: home]
    #[arg(long, value_name = "NAME")]
    pub(super) profile_name: Option<String>,
    /// Use this push key, for a token that does not allow to read; `bkfs key export-push` writes the file
    #[arg(long, value_name = "FILE")]
    pub(super) push_key: Option<PathBuf>,
    /// Make no first backup
    #[arg(long)]
    pub(super) no_push: bool,
    /// Ask nothing
    #[arg(short, long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) manager: ManagerArgs,
}
