//! `bkfs server client`: the clients of an account, and what each may do.

use anyhow::Result;
use bkfs_store::base::time::Time;
use bkfs_transport::{
    Name, Permissions,
    server::{self, ClientInfo},
};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::data::{AccountArgs, DataArgs};
use crate::{
    context::Context,
    output::{self, Table},
};

/// The subcommands of `bkfs server client`.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// List the clients of an account, and what they may do
    #[command(after_help = "A client is a machine that joined: it is known by the fingerprint of its certificate.\n\n\
        Example:\n  bkfs server client list --data /srv/bkfs alice")]
    List(AccountArgs),
    /// Set what a client may do, in all repositories or in one
    #[command(after_help = "The client may do exactly that from now on, also on connections that are open. Without \
        --repository this holds for all repositories of the account, whatever was set for one before. A client that \
        was revoked comes back.\n\n\
        Permissions: push, read, forget, prune, admin (create repositories, change passphrases, revoke clients), all, \
        or none.\n\n\
        Examples:\n  bkfs server client permit --data /srv/bkfs alice laptop --can push,read\n  \
        bkfs server client permit --data /srv/bkfs alice 3f0c11aa --can read --repository photos")]
    Permit(PermitArgs),
    /// End all that a client may do
    #[command(after_help = "Its connections are closed, and what runs on them ends. It cannot join the account again \
        until `bkfs server client permit` brings it back. What it has stored stays.\n\n\
        A person who has the repository's key ends the client on the roster and here at once, with `bkfs client \
        revoke`.\n\nExample:\n  bkfs server client revoke --data /srv/bkfs alice laptop")]
    Revoke(ClientArgs),
    /// Give a client a name
    #[command(after_help = "The other commands take the name in place of the fingerprint.\n\n\
        Example:\n  bkfs server client rename --data /srv/bkfs alice 3f0c11aa laptop")]
    Rename(RenameArgs),
}

/// Arguments of `server client revoke`, and what others have in common with it.
#[derive(Debug, Args)]
pub struct ClientArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account
    account: Name,
    /// The client: its name, or the first digits of its fingerprint
    client: String,
}

/// Arguments of `server client permit`.
#[derive(Debug, Args)]
pub struct PermitArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// What the client may do
    #[arg(long, value_name = "LIST")]
    can: Permissions,
    /// Set it only for this repository of the account
    #[arg(long, value_name = "NAME")]
    repository: Option<Name>,
}

/// Arguments of `server client rename`.
#[derive(Debug, Args)]
pub struct RenameArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// The new name
    #[arg(value_name = "NAME")]
    name: Name,
}

/// A client for programs.
#[derive(Serialize)]
pub(super) struct ClientJson {
    client: String,
    name: Option<String>,
    joined: String,
    revoked: bool,
    can: String,
    can_in: Vec<CanJson>,
    keys: Vec<KeyJson>,
}

/// What a client may do in one repository.
#[derive(Serialize)]
struct CanJson {
    repository: String,
    can: String,
}

#[derive(Serialize)]
struct KeyJson {
    repository: String,
    client: String,
}

/// Runs a subcommand.
pub fn run(context: &Context, command: ClientCommand) -> Result<()> {
    match command {
        ClientCommand::List(args) => {
            let account = server::account(&args.data.folder()?, &args.account)?;
            if context.json {
                return output::json_list(&account.clients.iter().map(ClientJson::from).collect::<Vec<_>>());
            }
            if account.clients.is_empty() {
                output::note(format!("nobody has joined account {} yet", account.name));
                return Ok(());
            }
            table(&account.clients)
        }
        ClientCommand::Permit(PermitArgs { client: ClientArgs { data, account, client }, can, repository }) => {
            let changed = server::permit(&data.folder_to_write()?, &account, &client, repository.as_ref(), can)?;
            let place = repository.map_or_else(|| "all repositories".to_owned(), |name| format!("repository {name}"));
            say(context, &changed, format!("client {} may in {place} of account {account}: {can}", label(&changed)))
        }
        ClientCommand::Revoke(ClientArgs { data, account, client }) => {
            let changed = server::revoke(&data.folder_to_write()?, &account, &client)?;
            say(context, &changed, format!("revoked client {} of account {account}", label(&changed)))?;
            if !changed.keys.is_empty() && !context.quiet && !context.json {
                output::note(
                    "it holds a key of the repository: `bkfs client revoke` by a person who has the repository's \
                     passphrase ends that, too",
                );
            }
            Ok(())
        }
        ClientCommand::Rename(RenameArgs { client: ClientArgs { data, account, client }, name }) => {
            let changed = server::rename(&data.folder_to_write()?, &account, &client, name)?;
            say(context, &changed, format!("client {} of account {account} is now {}", client, label(&changed)))
        }
    }
}

/// Prints a table of clients.
pub(super) fn table(clients: &[ClientInfo]) -> Result<()> {
    let mut table = Table::new(&["CLIENT", "NAME", "JOINED", "MAY"], &[]);
    for client in clients {
        table.row([
            client.fingerprint.short(),
            client.name.as_ref().map(ToString::to_string).unwrap_or_default(),
            output::time_local(Time { secs: client.joined_secs, nanos: 0 }),
            may(client),
        ]);
    }
    table.print()
}

/// Describes what a client may do.
fn may(client: &ClientInfo) -> String {
    if client.is_revoked {
        return "none (revoked)".to_owned();
    }
    let single = client.can_in.iter().map(|(name, can)| format!("{name}: {can}"));
    [client.can.to_string()].into_iter().chain(single).collect::<Vec<_>>().join("; ")
}

/// Returns how a person recognises a client.
fn label(client: &ClientInfo) -> String {
    match &client.name {
        Some(name) => format!("{} ({name})", client.fingerprint.short()),
        None => client.fingerprint.short(),
    }
}

fn say(context: &Context, client: &ClientInfo, text: String) -> Result<()> {
    match (context.json, context.quiet) {
        (true, _) => output::json(&ClientJson::from(client)),
        (false, true) => Ok(()),
        (false, false) => output::line(text),
    }
}

impl From<&ClientInfo> for ClientJson {
    fn from(client: &ClientInfo) -> Self {
        let key = |(repository, key): &(Name, bkfs_store::base::id::ClientId)| KeyJson {
            repository: repository.to_string(),
            client: key.to_string(),
        };
        let can_in = |(repository, can): &(Name, Permissions)| CanJson {
            repository: repository.to_string(),
            can: can.to_string(),
        };
        Self {
            client: client.fingerprint.to_string(),
            name: client.name.as_ref().map(ToString::to_string),
            joined: output::time_json(Time { secs: client.joined_secs, nanos: 0 }),
            revoked: client.is_revoked,
            can: client.can.to_string(),
            can_in: client.can_in.iter().map(can_in).collect(),
            keys: client.keys.iter().map(key).collect(),
        }
    }
}
