//! `bkfs server invitation`: the invitations that can still be used, and their end.

use anyhow::Result;
use bkfs_store::base::time::Time;
use bkfs_transport::{
    Name,
    server::{self, InvitationInfo},
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::data::{AccountArgs, DataArgs};
use crate::{
    context::Context,
    output::{self, Table},
};

/// The subcommands of `bkfs server invitation`.
#[derive(Debug, Subcommand)]
pub enum InvitationCommand {
    /// List the invitations to an account that can still be used
    #[command(after_help = "Example:\n  bkfs server invitation list --data /srv/bkfs alice")]
    List(AccountArgs),
    /// Withdraw an invitation: its token works no longer
    #[command(after_help = "Do this when a token went astray. Clients that have used it stay: `bkfs server client \
        revoke` ends them.\n\nExample:\n  bkfs server invitation withdraw --data /srv/bkfs alice 3f0c11aa")]
    Withdraw(WithdrawArgs),
}

/// Arguments of `server invitation withdraw`.
#[derive(Debug, Args)]
pub struct WithdrawArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account
    account: Name,
    /// The invitation: the first digits of its id, which `list` shows
    #[arg(value_name = "ID")]
    invitation: String,
}

/// Runs a subcommand.
pub fn run(context: &Context, command: InvitationCommand) -> Result<()> {
    match command {
        InvitationCommand::List(AccountArgs { data, account }) => {
            let open = server::invitations(&data.folder()?, &account)?;
            if context.json {
                return output::json_list(&open.iter().map(as_json).collect::<Vec<_>>());
            }
            if open.is_empty() {
                output::note(format!("no invitation to account {account} is open"));
                return Ok(());
            }
            let mut table = Table::new(&["ID", "NAME", "USED", "VALID UNTIL", "MAY"], &[]);
            for invitation in &open {
                table.row([
                    invitation.id.short(),
                    invitation.client_name.as_ref().map(ToString::to_string).unwrap_or_default(),
                    format!("{} of {}", invitation.used, invitation.uses),
                    output::time_local(expires(invitation)),
                    match &invitation.repository {
                        Some(repository) => format!("{repository}: {}", invitation.can),
                        None => invitation.can.to_string(),
                    },
                ]);
            }
            table.print()
        }
        InvitationCommand::Withdraw(WithdrawArgs { data, account, invitation }) => {
            let id = server::withdraw(&data.folder_to_write()?, &account, &invitation)?;
            match (context.json, context.quiet) {
                (true, _) => output::json(&json!({ "account": account.as_str(), "id": id.to_string() })),
                (false, true) => Ok(()),
                (false, false) => output::line(format!("withdrew invitation {} to account {account}", id.short())),
            }
        }
    }
}

fn expires(invitation: &InvitationInfo) -> Time {
    Time { secs: invitation.expires_secs, nanos: 0 }
}

fn as_json(invitation: &InvitationInfo) -> Value {
    json!({
        "id": invitation.id.to_string(),
        "name": invitation.client_name.as_ref().map(Name::as_str),
        "repository": invitation.repository.as_ref().map(Name::as_str),
        "can": invitation.can.to_string(),
        "uses": invitation.uses,
        "used": invitation.used,
        "expires": output::time_json(expires(invitation)),
    })
}
