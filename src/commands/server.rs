//! `bkfs server`: creates and runs a server, invites clients, purges snapshots, and brings back what was pruned. The
//! operator runs these commands: they need access to the folder of the server's data.

mod data;
mod purge;
mod repair;
mod revive;
mod scrub;

use std::{net::SocketAddr, str::FromStr, sync::mpsc, time::Duration};

use anyhow::Result;
use bkfs_transport::{Name, Permissions, server};
use clap::{Args, Subcommand};

use self::data::DataArgs;
use crate::{
    args::{ParityArg, parse_duration, parse_size},
    context::Context,
    failure::Exit,
    output, signals,
};

/// The subcommands of `bkfs server`. A doc comment on a variant would replace the long text of its arguments.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Create a server's data folder
    Init(InitArgs),
    /// Run the server until it is stopped
    Run(RunArgs),
    Invite(InviteArgs),
    Purge(purge::PurgeArgs),
    /// Repair damage that is not mended automatically
    #[command(subcommand)]
    Repair(repair::ServerRepairCommand),
    Revive(revive::ReviveArgs),
    Scrub(scrub::ScrubArgs),
}

/// Arguments of `server init`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bkfs server init --data /srv/bkfs --address backup.example.org:7443")]
pub struct InitArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The address at which clients reach the server; invitations contain it
    #[arg(long, value_name = "HOST:PORT", default_value = "localhost:7443")]
    address: String,
    /// Let no client make anything unrecoverable that is younger than this
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = parse_duration)]
    protect: Duration,
}

/// Arguments of `server run`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  bkfs server run --data /srv/bkfs --listen 0.0.0.0:7443")]
pub struct RunArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The address and UDP port to listen on
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:7443")]
    listen: SocketAddr,
    /// Space for error correction in new repositories, in percent of the data, or off
    #[arg(long, value_name = "PERCENT|off", default_value = "5%")]
    parity: ParityArg,
    /// Verify and mend each repository this often, or off
    #[arg(long, value_name = "TIME|off", default_value = "30d")]
    scrub_every: IntervalArg,
    /// Read at most this much per second to scrub
    #[arg(long, value_name = "SIZE", default_value = "20M", value_parser = parse_size)]
    scrub_rate: u64,
    /// Delete what is due from the trash and the grave this often. Only tests need another time
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_duration, hide = true)]
    tidy_every: Duration,
}

/// The time between two scrubs, or `off`.
#[derive(Debug, Clone, Copy)]
struct IntervalArg(Option<Duration>);

impl FromStr for IntervalArg {
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
    about = "Print a token that invites one client",
    long_about = "Print a token that invites one client to an account. The token can be used once, for a limited time. \
        The first invitation creates the account. Works whether or not the server is running.",
    after_help = "Examples:\n  bkfs server invite --data /srv/bkfs alice --can all\n  \
        bkfs server invite --data /srv/bkfs alice --can push --quota 200G --valid 1h\n\n\
        Permissions: push, read, forget, prune, admin (create repositories, change passphrases), or all."
)]
pub struct InviteArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account to invite to
    account: Name,
    /// Give the client these permissions
    #[arg(long, value_name = "LIST", default_value = "push,read")]
    can: Permissions,
    /// Let the account store at most this much, like 500M or 200G
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    quota: Option<u64>,
    /// Let the token be used for this long
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
    valid: Duration,
}

/// Runs a subcommand.
pub fn run(context: &Context, command: ServerCommand) -> Result<Exit> {
    match command {
        ServerCommand::Init(args) => {
            let data = args.data.folder()?;
            server::init(&data, &args.address, args.protect.as_secs())?;
            if !context.quiet {
                output::line(format!(
                    "created a server in {}; invitations will contain {}",
                    data.display(),
                    args.address
                ))?;
            }
        }
        ServerCommand::Invite(args) => {
            let data = args.data.folder()?;
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
            let running = server::start(&args.data.folder()?, args.listen, options)?;
            output::line(format!("listening on {}", running.local_addr()))?;
            // Errors are ignored: without a service manager nobody needs to be notified.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
            let _ = stopped.recv();
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
            running.stop();
        }
    }
    Ok(Exit::Success)
}
