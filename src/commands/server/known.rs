//! `bkfs server known`: the servers that this machine knows as a client.

use anyhow::Result;
use bkfs_transport::Addresses;
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use crate::{
    config::KnownServer,
    context::Context,
    failure::Failure,
    output::{self, Table},
};

/// The subcommands of `bkfs server known`.
#[derive(Debug, Subcommand)]
pub enum KnownCommand {
    List(ListArgs),
    Rename(RenameArgs),
}

/// Runs a subcommand.
pub fn run(context: &Context, command: KnownCommand) -> Result<()> {
    match command {
        KnownCommand::List(args) => list(context, &args),
        KnownCommand::Rename(args) => rename(context, &args),
    }
}

/// Arguments of `server known list`.
#[derive(Debug, Args)]
#[command(
    about = "List the servers that this machine knows",
    long_about = "List the servers that this machine has joined as a client: addresses, accounts and repositories, and \
        the fingerprint of the certificate. A server is known by its fingerprint, whatever its address.",
    after_help = "Example:\n  bkfs server known list"
)]
pub struct ListArgs {}

/// Arguments of `server known rename`.
#[derive(Debug, Args)]
#[command(
    about = "Tell this machine that a server has another address",
    long_about = "Tell this machine that a server that it knows has another name, address or port. The pinned \
        certificate and the known repositories stay. Nothing is changed on the server: its operator uses `bkfs server \
        set --address`.",
    after_help = "Example:\n  bkfs server known rename nas.lan:7443 backup.example.org:7443"
)]
pub struct RenameArgs {
    /// The address that this machine knows
    #[arg(value_name = "OLD")]
    old: String,
    /// The address in its place, HOST:PORT
    #[arg(value_name = "NEW")]
    new: String,
}

#[derive(Serialize)]
struct ServerJson {
    addresses: Vec<String>,
    fingerprint: String,
    accounts: Vec<String>,
    repositories: std::collections::BTreeMap<String, String>,
}

/// Runs `bkfs server known list`.
fn list(context: &Context, _: &ListArgs) -> Result<()> {
    let servers = context.folders.places().servers()?;
    if context.json {
        let servers: Vec<ServerJson> = servers.into_iter().map(ServerJson::from).collect();
        return output::json_pretty(&json!({ "servers": servers }));
    }
    if servers.is_empty() {
        output::note("this machine knows no server; `bkfs join TOKEN` makes one known");
        return Ok(());
    }
    let mut table = Table::new(&["ADDRESS", "ACCOUNTS AND REPOSITORIES", "FINGERPRINT"], &[]);
    for server in servers {
        let repositories = server.repositories.keys().map(|name| name.strip_suffix("/main").unwrap_or(name).to_owned());
        let mut names: Vec<String> = server.accounts.iter().cloned().chain(repositories).collect();
        names.sort();
        names.dedup();
        table.row([server.addresses.join(","), names.join(" "), server.fingerprint.to_string()]);
    }
    table.print()
}

impl From<KnownServer> for ServerJson {
    fn from(server: KnownServer) -> Self {
        Self {
            addresses: server.addresses,
            fingerprint: server.fingerprint.to_string(),
            accounts: server.accounts.into_iter().collect(),
            repositories: server.repositories,
        }
    }
}

/// Runs `bkfs server known rename`.
fn rename(context: &Context, args: &RenameArgs) -> Result<()> {
    let (old, new) = (one_address(&args.old)?, one_address(&args.new)?);
    let server = context.folders.places().rename(&old, &new)?;
    if context.json {
        return output::json(&json!({
            "renamed": old,
            "addresses": server.addresses,
            "fingerprint": server.fingerprint.to_string(),
        }));
    }
    if !context.quiet {
        output::line(format!("{old} is now {new}; known addresses: {}", server.addresses.join(",")))?;
    }
    Ok(())
}

/// Returns an address in its canonical form. A URL is a common mistake, and its address is meant.
fn one_address(text: &str) -> Result<String> {
    let address = text.strip_prefix("bkfs://").map_or(text, |rest| rest.split('/').next().unwrap_or(rest));
    match &*address.parse::<Addresses>()? {
        [address] => Ok(address.clone()),
        _ => Err(Failure::new(format!("{text:?} is more than one address"), "give one HOST:PORT").into()),
    }
}
