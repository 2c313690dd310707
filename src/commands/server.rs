//! `bkfs server`: creates and runs a server, manages accounts and clients, purges snapshots, and brings back or frees
//! what was pruned. The operator runs these commands: they need access to the folder of the server's data. Only `known`
//! is for clients: it concerns the servers that this machine knows.

mod account;
mod backup;
mod client;
mod data;
mod invitation;
mod invite;
mod known;
mod purge;
mod reclaim;
mod repair;
mod revive;
pub mod run;
mod scrub;

use std::time::Duration;

use anyhow::Result;
use bkfs_transport::{Addresses, server};
use clap::{Args, Subcommand};
use serde_json::json;

use self::data::DataArgs;
use crate::{args::parse_duration, context::Context, failure::Exit, output};

/// The subcommands of `bkfs server`. A doc comment on a variant would replace the long text of its arguments.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Create a server's data folder
    Init(InitArgs),
    Run(run::RunArgs),
    Config(run::ConfigArgs),
    Backup(backup::BackupArgs),
    Set(SetArgs),
    Invite(invite::InviteArgs),
    /// List and withdraw invitations
    #[command(subcommand)]
    Invitation(invitation::InvitationCommand),
    /// Manage accounts: what they store, and their limits
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Manage the clients of an account: what each may do
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Manage the servers that this machine knows as a client
    #[command(subcommand)]
    Known(known::KnownCommand),
    Purge(purge::PurgeArgs),
    Reclaim(reclaim::ReclaimArgs),
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
    /// The addresses at which clients reach the server, in the order in which to try them; invitations contain them
    #[arg(long, value_name = "HOST:PORT,...", default_value = "localhost:7443")]
    address: Addresses,
    /// Let no client make anything unrecoverable that is younger than this
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = parse_duration)]
    protect: Duration,
}

/// Arguments of `server set`.
#[derive(Debug, Args)]
#[command(
    about = "Change the addresses that invitations contain",
    long_about = "Change the addresses that invitations contain from now on. Works whether or not the server is \
        running; where it listens is up to `bkfs server run --listen`.\n\n\
        Tokens that were not used yet contain the old addresses. A client that has joined finds the server at a new \
        address by itself, by the server's certificate: when its user names the new address with -r, or after \
        `bkfs server known rename OLD NEW` there.",
    after_help = "Examples:\n  bkfs server set --data /srv/bkfs --address backup.example.org:7443\n  \
        bkfs server set --data /srv/bkfs --address nas.lan:7443,backup.example.org:7443"
)]
pub struct SetArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The addresses at which clients reach the server, in the order in which to try them
    #[arg(long, value_name = "HOST:PORT,...")]
    address: Addresses,
}

/// Runs a subcommand.
pub fn run(context: &Context, command: ServerCommand) -> Result<Exit> {
    match command {
        ServerCommand::Init(args) => {
            let data = args.data.folder_to_write()?;
            let addresses = args.address.to_string();
            server::init(&data, &addresses, args.protect.as_secs())?;
            if context.json {
                output::json(&json!({ "data": data, "address": addresses, "protect": args.protect.as_secs() }))?;
            } else if !context.quiet {
                output::line(format!(
                    "created a server in {}; invitations will contain {}",
                    data.display(),
                    addresses
                ))?;
            }
        }
        ServerCommand::Set(args) => set(context, &args)?,
        ServerCommand::Invite(args) => invite::run(context, &args)?,
        ServerCommand::Invitation(command) => invitation::run(context, command)?,
        ServerCommand::Account(command) => account::run(context, command)?,
        ServerCommand::Client(command) => client::run(context, command)?,
        ServerCommand::Known(command) => known::run(context, command)?,
        ServerCommand::Purge(args) => purge::run(context, &args)?,
        ServerCommand::Reclaim(args) => reclaim::run(context, &args)?,
        ServerCommand::Repair(command) => return repair::run(context, command),
        ServerCommand::Revive(args) => revive::run(context, &args)?,
        ServerCommand::Scrub(args) => return scrub::run(context, args),
        ServerCommand::Backup(args) => backup::run(context, &args)?,
        ServerCommand::Config(args) => run::show(context, &args)?,
        ServerCommand::Run(args) => return run::run(context, &args),
    }
    Ok(Exit::Success)
}

/// Changes the server's addresses.
fn set(context: &Context, args: &SetArgs) -> Result<()> {
    let data = args.data.folder()?;
    server::set_addresses(&data, &args.address)?;
    let addresses = args.address.to_string();
    match (context.json, context.quiet) {
        (true, _) => output::json(&json!({ "data": data, "address": addresses })),
        (false, true) => Ok(()),
        (false, false) => output::line(format!("invitations will contain {addresses}")),
    }
}
