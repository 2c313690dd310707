//! `bkfs server invite`: makes an invitation, and prints its token.

use std::time::Duration;

use anyhow::Result;
use bkfs_store::base::time::Time;
use bkfs_transport::{
    Addresses, Name, Permissions,
    server::{self, Invitation},
};
use clap::Args;
use serde_json::json;

use super::data::DataArgs;
use crate::{
    args::{parse_duration, parse_size},
    context::Context,
    output,
};

/// Arguments of `server invite`.
#[derive(Debug, Args)]
#[command(
    about = "Print a token that invites clients",
    long_about = "Print a token that invites one client to an account, or several. The token can be used for a limited \
        time. The first invitation creates the account. Works whether or not the server is running.",
    after_help = "Examples:\n  bkfs server invite --data /srv/bkfs alice --can all --name desktop\n  \
        bkfs server invite --data /srv/bkfs alice --can push --quota 200G --valid 1h\n  \
        bkfs server invite --data /srv/bkfs alice --can push --uses 20 --repository laptops\n  \
        bkfs server invite --data /srv/bkfs alice --address nas.lan:7443\n\n\
        Permissions: push, read, forget, prune, admin (create repositories, change passphrases, revoke clients), \
        or all."
)]
pub struct InviteArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account to invite to
    account: Name,
    /// Give the client these permissions; `bkfs server client permit` changes them later
    #[arg(long, value_name = "LIST", default_value = "push,read")]
    can: Permissions,
    /// Give them only in this repository of the account
    #[arg(long, value_name = "NAME")]
    repository: Option<Name>,
    /// Name the client like this, for `bkfs server client`
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// Let this many clients use the token
    #[arg(long, value_name = "N", default_value_t = 1)]
    uses: u32,
    /// Let the account store at most this much, like 500M or 200G; `bkfs server account quota` changes it later
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    quota: Option<u64>,
    /// Give the token these addresses of the server, instead of those that `server init` or `server set` recorded
    #[arg(long, value_name = "HOST:PORT,...")]
    address: Option<Addresses>,
    /// Let the token be used for this long
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
    valid: Duration,
}

/// Runs `bkfs server invite`.
pub fn run(context: &Context, args: &InviteArgs) -> Result<()> {
    let InviteArgs { account, can, quota, valid, uses, .. } = args;
    let valid_secs = i64::try_from(valid.as_secs()).unwrap_or(i64::MAX);
    let now = output::now();
    let expires = Time { secs: now.secs.saturating_add(valid_secs), ..now };
    let token = server::invite_to(
        &args.data.folder_to_write()?,
        &Invitation {
            repository: args.repository.clone(),
            client_name: args.name.clone(),
            uses: *uses,
            valid: *valid,
            quota_bytes: *quota,
            addresses: args.address.clone(),
            ..Invitation::new(account.clone(), *can)
        },
    )?;
    let text = token.text();
    if context.json {
        return output::json(&json!({
            "token": *text,
            "id": token.secret.hash().to_string(),
            "account": account.as_str(),
            "can": can.to_string(),
            "repository": args.repository.as_ref().map(Name::as_str),
            "name": args.name.as_ref().map(Name::as_str),
            "uses": uses,
            "quota": quota,
            "expires": output::time_json(expires),
            "address": token.addresses.to_string(),
        }));
    }
    output::line(&text)?;
    if context.quiet {
        return Ok(());
    }
    let limit = quota.map_or_else(String::new, |bytes| format!("; the account may store {}", output::size(bytes)));
    let place = args.repository.as_ref().map_or_else(String::new, |name| format!(" in repository {name}"));
    let (whom, each) = match uses {
        1 => ("one client".to_owned(), "the client"),
        uses => (format!("{uses} clients"), "each client"),
    };
    output::note(format!(
        "this token invites {whom} to account {account} at {}; {each} may{place}: {can}{limit}",
        token.addresses
    ));
    output::note(format!(
        "it is valid until {}; `bkfs server invitation withdraw {account} {}` ends it before",
        output::time_local(expires),
        token.secret.hash().short()
    ));
    output::note("next, on the client: `bkfs join TOKEN`");
    Ok(())
}
