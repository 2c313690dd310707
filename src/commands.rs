//! The subcommands, one in each file, and the dispatcher that runs them.

pub mod cat;
pub mod check;
pub mod client;
pub mod completions;
pub mod config;
pub mod forget;
pub mod init;
pub mod join;
pub mod key;
pub mod ls;
pub mod man;
pub mod mount;
pub mod notify;
pub mod prune;
pub mod push;
pub mod repair;
pub mod restore;
pub mod run;
pub mod schedule;
pub mod scrub;
pub mod server;
pub mod setup;
pub mod snapshots;
pub mod status;
pub mod unforget;
pub mod version;
pub mod watch;

use anyhow::Result;
use clap::Subcommand;

use crate::{context::Context, failure::Exit};

/// The commands. The help text of a command is beside its arguments, in its own file. A doc comment on a variant would
/// replace that text, so only groups of commands have one here.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a server that keeps repositories, and administer it
    #[command(subcommand)]
    Server(server::ServerCommand),
    Setup(setup::SetupArgs),
    Join(join::JoinArgs),
    Init(init::InitArgs),
    #[command(visible_alias = "backup")]
    Push(push::PushArgs),
    Watch(watch::WatchArgs),
    Run(run::RunArgs),
    Status(status::StatusArgs),
    Snapshots(snapshots::SnapshotsArgs),
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Restore(restore::RestoreArgs),
    Mount(mount::MountArgs),
    Forget(forget::ForgetArgs),
    Unforget(unforget::UnforgetArgs),
    Check(check::CheckArgs),
    Scrub(scrub::ScrubArgs),
    /// Repair damage that is not mended automatically
    #[command(subcommand)]
    Repair(repair::RepairCommand),
    Prune(prune::PruneArgs),
    /// Manage passphrases and keys
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Manage the machines that push to a repository
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Check and show profiles
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Let the system run profiles: timers of systemd, or a crontab
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Tell people how profiles are doing
    #[command(subcommand)]
    Notify(notify::NotifyCommand),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
    Version(version::VersionArgs),
}

impl Command {
    /// Returns whether the command takes from a profile what its options do not say. Others name profiles themselves,
    /// or use no repository.
    pub fn uses_profile(&self) -> bool {
        !matches!(
            self,
            Self::Server(_)
                | Self::Setup(_)
                | Self::Join(_)
                | Self::Run(_)
                | Self::Status(_)
                | Self::Config(_)
                | Self::Schedule(_)
                | Self::Notify(_)
                | Self::Completions(_)
                | Self::Man(_)
                | Self::Version(_)
        )
    }
}

/// Runs a command. `whole` describes the whole command line.
pub fn run(context: &Context, command: Command, whole: fn() -> clap::Command) -> Result<Exit> {
    // A server uses no folders of the user who runs it, and others use none at all.
    let uses_none =
        matches!(command, Command::Server(_) | Command::Completions(_) | Command::Man(_) | Command::Version(_));
    if !uses_none {
        context.folders.check_owner()?;
    }
    match command {
        Command::Server(command) => server::run(context, command),
        Command::Setup(args) => setup::run(context, &args),
        Command::Join(args) => join::run(context, args),
        Command::Init(args) => init::run(context, args),
        Command::Push(args) => push::run(context, args),
        Command::Watch(args) => watch::run(context, args),
        Command::Run(args) => run::run(context, &args),
        Command::Status(args) => status::run(context, &args),
        Command::Snapshots(args) => snapshots::run(context, args),
        Command::Ls(args) => ls::run(context, args),
        Command::Cat(args) => cat::run(context, args),
        Command::Restore(args) => restore::run(context, args),
        Command::Mount(args) => mount::run(context, args),
        Command::Forget(args) => forget::run(context, args),
        Command::Unforget(args) => unforget::run(context, args),
        Command::Check(args) => check::run(context, args),
        Command::Scrub(args) => scrub::run(context, args),
        Command::Repair(command) => repair::run(context, command),
        Command::Prune(args) => prune::run(context, args),
        Command::Key(command) => key::run(context, command),
        Command::Client(command) => client::run(context, command),
        Command::Config(command) => config::run(context, command),
        Command::Schedule(command) => schedule::run(context, &command),
        Command::Notify(command) => notify::run(context, &command),
        Command::Completions(args) => completions::run(&args).map(|()| Exit::Success),
        Command::Man(args) => man::run(&args, whole()).map(|()| Exit::Success),
        Command::Version(_) => version::run(context).map(|()| Exit::Success),
    }
}
