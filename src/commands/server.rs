//! `bkfs server`: makes a server, runs it, invites clients, purges snapshots, and brings back what was
//! pruned. All of it by whoever has the server's data folder.

mod purge;
mod repair;
mod revive;
mod scrub;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bkfs_transport::{Name, Permissions, server};
use clap::{Args, Subcommand};

use super::{init::ParityArg, key::parse_duration, push::parse_size};
use crate::{context::Context, failure::Exit, output, signals};

/// What a server's operator does. A comment on a variant takes the place of the long text beside its arguments.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Make a server's data folder
    Init(InitArgs),
    /// Run the server until it is told to stop
    Run(RunArgs),
    Invite(InviteArgs),
    Purge(purge::PurgeArgs),
    /// Repair what does not mend by itself
    #[command(subcommand)]
    Repair(repair::ServerRepairCommand),
    Revive(revive::ReviveArgs),
    Scrub(scrub::ScrubArgs),
}

/// Arguments of `server init`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bkfs server init --data /srv/bkfs --address backup.example.org:7443")]
pub struct InitArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where clients reach the server; invitations carry it
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:7443")]
    address: String,
    /// No client can make anything unrecoverable that is younger than this
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = parse_duration)]
    protect: Duration,
}

/// Arguments of `server run`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bkfs server run --data /srv/bkfs --listen 0.0.0.0:7443")]
pub struct RunArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The address and UDP port to listen on
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:7443")]
    listen: SocketAddr,
    /// Space for error correction in repositories that are made from now on, in percent of the data, or off
    #[arg(long, value_name = "PERCENT|off", default_value = "5%")]
    parity: ParityArg,
    /// Verify and mend each repository so often, or off
    #[arg(long, value_name = "TIME|off", default_value = "30d")]
    scrub_every: EveryArg,
    /// Read no more than this in a second for that
    #[arg(long, value_name = "SIZE", default_value = "20M", value_parser = parse_size)]
    scrub_rate: u64,
    /// Let what is due go from trashes and graves so often. Nobody but tests needs another time
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_duration, hide = true)]
    tidy_every: Duration,
}

/// A time between two scrubs, or `off`.
#[derive(Debug, Clone, Copy)]
struct EveryArg(Option<Duration>);

impl FromStr for EveryArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            text => parse_duration(text).map(|every| Self(Some(every))).map_err(|e| format!("{e}, or off")),
        }
    }
}

/// Arguments of `server invite`.
#[derive(Debug, Args)]
#[command(
    about = "Print an invitation, good for one client",
    long_about = "Print an invitation to an account, good for one client and a limited time. The account comes into being \
        with its first invitation. Works while the server runs and while it does not.",
    after_help = "Examples:\n  bkfs server invite --data /srv/bkfs alice --can all\n  \
        bkfs server invite --data /srv/bkfs alice --can push --quota 200G --valid 1h\n\n\
        Permissions: push, read, forget, prune, admin (make repositories, change passphrases), or all."
)]
pub struct InviteArgs {
    /// The folder of the server's data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The account
    account: Name,
    /// What the client may do
    #[arg(long, value_name = "LIST", default_value = "push,read")]
    can: Permissions,
    /// How much the account may store, as 500M or 200G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    quota: Option<u64>,
    /// How long it can be used
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
    valid: Duration,
}

/// Runs it.
pub fn run(context: &Context, command: ServerCommand) -> Result<Exit> {
    match command {
        ServerCommand::Init(args) => {
            let data = absolute(&args.data)?;
            server::init(&data, &args.address, args.protect.as_secs())?;
            if !context.quiet {
                output::line(format!("made a server in {}; invitations will carry {}", data.display(), args.address))?;
            }
        }
        ServerCommand::Invite(args) => {
            let data = absolute(&args.data)?;
            let token = server::invite(&data, &args.account, args.can, args.quota, args.valid)?.text();
            match context.json {
                true => output::json(&serde_json::json!({ "token": *token }))?,
                false => output::line(&token)?,
            }
        }
        ServerCommand::Purge(args) => purge::run(context, &args)?,
        ServerCommand::Repair(command) => return repair::run(context, command),
        ServerCommand::Revive(args) => revive::run(context, &args)?,
        ServerCommand::Scrub(args) => return scrub::run(context, args),
        ServerCommand::Run(args) => {
            let schedule = |every| server::ScrubSchedule { every, bytes_per_second: args.scrub_rate };
            let scrub = args.scrub_every.0.map(schedule);
            let options = server::Options { parity: args.parity.0, scrub, tidy_every: args.tidy_every };
            let (stop, stopped) = mpsc::channel();
            signals::on_stop(move || {
                let _ = stop.send(());
            })?;
            let running = server::start(&absolute(&args.data)?, args.listen, options)?;
            output::line(format!("listening on {}", running.local_addr()))?;
            // Without a service manager there is nobody to tell.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            let _ = stopped.recv();
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            running.stop();
        }
    }
    Ok(Exit::Success)
}

/// A relative path must mean the same from now on.
fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| path.display().to_string())
}
