//! `bkfs client`: manages the machines that push to a repository.
//!
//! A client is an entry of the roster, which the admin key signs. On a server it also has a network identity, with
//! permissions there. The server knows which identities hold a client's key, because each has shown it.

use anyhow::Result;
use bkfs_store::{
    ErrorKind,
    base::id::Hash,
    format::{
        keys::{FullKey, PushKey},
        roster::{Roster, RosterClient, verify_roster},
    },
};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::{
    args::RepoArgs,
    ask,
    context::Context,
    enrol,
    failure::{Exit, Failure},
    output,
    session::Session,
};

/// The subcommands of `bkfs client`.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    Revoke(RevokeArgs),
}

/// Arguments of `client revoke`.
#[derive(Debug, Args)]
#[command(
    about = "End a client, such as a lost laptop, on the roster and on the server",
    long_about = "End a client, such as a lost laptop. What it pushes from now on does not count; what it pushed \
        before stays.\n\n\
        On a server, this also ends what the machine may do there: its connections are closed, and it can neither open \
        the repository nor join the account again. That needs the permission admin. Without it, the client is ended on \
        the roster, which ends its pushes, and a warning says what the server's operator has to do. A machine that \
        comes back is permitted by the operator (`bkfs server client permit`), and enrols with `bkfs key enrol`.\n\n\
        Asks on a terminal. Without one, this machine's own client needs --yes; its access to the server stays, so \
        that it can enrol again.",
    after_help = "Examples:\n  bkfs key list\n  bkfs client revoke laptop\n  \
        bkfs client revoke 3f0c11aa -r bkfs://nas:7443/alice"
)]
pub struct RevokeArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The client: its label, or the first digits of its id
    #[arg(value_name = "NAME")]
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Runs a subcommand.
pub fn run(context: &Context, command: ClientCommand) -> Result<Exit> {
    match command {
        ClientCommand::Revoke(args) => revoke(context, &args),
    }
}

/// Ends a client on the roster first: then it may push nothing any more, whatever follows. Repeating the command
/// continues where it failed.
fn revoke(context: &Context, args: &RevokeArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    session.warn_of_rollback();
    let full = session.full_key(context, "revoking a client")?;
    let roster = verify_roster(&session.opened.roster, &full.admin.verifying_key(), full.repo)?;
    let client = find(&roster, &full, &args.name)?;
    let label = full.open_label(client).unwrap_or_default();
    let (id, name) = (client.id.short(), output::name(label.as_bytes()));
    let what = format!("client {id} ({name}, since {})", output::time_local(client.since));
    let own = [session.client(), session.machine_key().map(PushKey::client_id)];
    let is_own = own.contains(&Some(client.id));
    confirm(context, args.yes, &what, is_own)?;
    if client.until.is_none() {
        enrol::revoke_client(session.access.as_ref(), &full, client.id)?;
    }
    let (identities, warning) = match session.remote.as_ref().map(|remote| remote.revoke_holders(client.id)) {
        None => (Vec::new(), None),
        Some(Ok(identities)) if identities.is_empty() && !is_own => {
            let why = "the server knows no machine that holds its key; its operator can look for it with `bkfs server \
                       client list`";
            (identities, Some(why.to_owned()))
        }
        Some(Ok(identities)) => (identities, None),
        Some(Err(error)) if error.kind() == ErrorKind::NoPermission => {
            let why = "this machine has no permission to end what the client may do on the server: it can push \
                       nothing any more, but what it may read it can still read. The server's operator ends that with \
                       `bkfs server client revoke`";
            (Vec::new(), Some(why.to_owned()))
        }
        Some(Err(error)) => return Err(error.into()),
    };
    if context.json {
        output::json(&json!({
            "client": client.id.to_string(),
            "label": label,
            "identities": identities.iter().map(Hash::to_string).collect::<Vec<_>>(),
        }))?;
    } else if !context.quiet {
        let there = match identities.len() {
            0 => String::new(),
            1 => ", and its access to the server".to_owned(),
            n => format!(", and the access of {n} machines to the server"),
        };
        output::line(format!("revoked client {id} ({name}){there}"))?;
    }
    if let Some(warning) = warning {
        output::note(format!("warning: {warning}"));
    }
    Ok(Exit::Success)
}

/// Finds a client by its label or the first digits of its id. Clients that count come before those that have ended.
fn find<'a>(roster: &'a Roster, full: &FullKey, name: &str) -> Result<&'a RosterClient> {
    let digits = name.to_ascii_lowercase();
    let is_named = |client: &&RosterClient| {
        full.open_label(client).is_ok_and(|label| label == name)
            || !digits.is_empty() && client.id.to_string().starts_with(&digits)
    };
    let (active, ended): (Vec<_>, Vec<_>) = roster.clients.iter().filter(is_named).partition(|c| c.until.is_none());
    match (active.as_slice(), ended.as_slice()) {
        ([client], _) | ([], [client]) => Ok(client),
        ([], []) => Err(Failure::new(
            format!("no client has the label {name:?} or an id that begins with it"),
            "`bkfs key list` lists the clients",
        )
        .into()),
        ([], several) | (several, _) => {
            let ids: Vec<String> = several.iter().map(|client| client.id.short()).collect();
            Err(Failure::new(
                format!("{name:?} fits {} clients: {}", several.len(), ids.join(", ")),
                "give the first digits of an id; `bkfs key list` lists the clients",
            )
            .into())
        }
    }
}

/// Asks before a client is ended. This machine's own client is not ended unasked.
fn confirm(context: &Context, is_confirmed: bool, what: &str, is_own: bool) -> Result<()> {
    match is_own {
        _ if is_confirmed => Ok(()),
        false if !ask::has_person(context) => Ok(()),
        true => {
            let warning = format!("{what} is this machine: what it pushes from now on will not count");
            ask::confirm(context, &warning, "Revoke it?", "--yes")
        }
        false => ask::confirm(context, &format!("about to revoke {what}"), "Revoke it?", "--yes"),
    }
}
