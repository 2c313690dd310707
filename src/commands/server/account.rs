//! `bkfs server account`: the accounts of a server, what they store, and their limits.

use anyhow::Result;
use bkfs_transport::{
    Name,
    server::{self, AccountInfo, Amount, Limits},
};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::data::{AccountArgs, DataArgs};
use crate::{
    args::{CountLimit, SizeLimit, parse_limit, parse_size_limit},
    ask,
    context::Context,
    output::{self, Table},
};

/// The subcommands of `bkfs server account`.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// List accounts, what they store and what they may store
    #[command(after_help = "USED is everything that is stored: packs, error correction, snapshots and their second \
        copies, the trash, the grave, passphrase slots and logs.\n\n\
        Example:\n  bkfs server account list --data /srv/bkfs")]
    List(ListArgs),
    /// Show an account: its limits, repositories and clients
    #[command(after_help = "Example:\n  bkfs server account show --data /srv/bkfs alice")]
    Show(AccountArgs),
    /// Set how many bytes an account may store
    #[command(after_help = "What is stored already stays, whatever the quota: only what comes is refused. What is \
        forgotten or pruned counts until it has left the trash and the grave. A running server notices at \
        once.\n\nWith --parent, the account also counts towards the limits of another account, which may have several \
        such accounts.\n\nExamples:\n  bkfs server account quota --data /srv/bkfs alice 200G\n  \
        bkfs server account quota --data /srv/bkfs alice off\n  \
        bkfs server account quota --data /srv/bkfs anna 50G --parent company")]
    Quota(QuotaArgs),
    /// Set how many files, snapshots and repositories an account may store
    #[command(after_help = "Files are those on the server's disk: about two for each pack and each snapshot.\n\n\
        Example:\n  bkfs server account limit --data /srv/bkfs alice --snapshots 10000 --repositories 3")]
    Limit(LimitArgs),
    /// Remove an account with everything that it stores
    #[command(after_help = "Asks on a terminal; without one, it needs --yes. Nothing can bring back what is removed. \
        Its clients are disconnected, and its invitations end.\n\n\
        Example:\n  bkfs server account remove --data /srv/bkfs alice")]
    Remove(RemoveArgs),
}

/// Arguments of `server account list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// Arguments of `server account quota`.
#[derive(Debug, Args)]
pub struct QuotaArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account
    account: Name,
    /// How much it may store, like 500M or 200G, or off
    #[arg(value_name = "SIZE|off", value_parser = parse_size_limit, required_unless_present = "parent")]
    size: Option<SizeLimit>,
    /// Let the account share the limits of this account, or of none
    #[arg(long, value_name = "ACCOUNT|none")]
    parent: Option<Name>,
}

/// Arguments of `server account limit`.
#[derive(Debug, Args)]
pub struct LimitArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account
    account: Name,
    #[command(flatten)]
    limits: CountArgs,
}

/// The limits that count things.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct CountArgs {
    /// How many files it may have on the server's disk
    #[arg(long, value_name = "N|off", value_parser = parse_limit)]
    files: Option<CountLimit>,
    /// How many snapshots it may store, the trash included
    #[arg(long, value_name = "N|off", value_parser = parse_limit)]
    snapshots: Option<CountLimit>,
    /// How many repositories it may have
    #[arg(long, value_name = "N|off", value_parser = parse_limit)]
    repositories: Option<CountLimit>,
}

/// Arguments of `server account remove`.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The account
    account: Name,
    /// Remove it without asking
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct AccountJson {
    account: String,
    parent: Option<String>,
    limits: AmountsJson<Option<u64>>,
    used: AmountsJson<u64>,
    shared_by: Vec<SharerJson>,
    clients: u64,
}

#[derive(Serialize)]
struct AmountsJson<T> {
    bytes: T,
    files: T,
    snapshots: T,
    repositories: T,
}

#[derive(Serialize)]
struct SharerJson {
    account: String,
    used: AmountsJson<u64>,
}

#[derive(Serialize)]
struct RepositoryJson {
    repository: String,
    bytes: u64,
    files: u64,
    snapshots: u64,
}

/// Runs a subcommand.
pub fn run(context: &Context, command: AccountCommand) -> Result<()> {
    match command {
        AccountCommand::List(args) => list(context, &args),
        AccountCommand::Show(args) => show(context, &args),
        AccountCommand::Quota(args) => quota(context, &args),
        AccountCommand::Limit(args) => limit(context, &args),
        AccountCommand::Remove(args) => remove(context, &args),
    }
}

fn list(context: &Context, args: &ListArgs) -> Result<()> {
    let accounts = server::accounts(&args.data.folder()?)?;
    if context.json {
        return output::json_list(&accounts.iter().map(AccountJson::from).collect::<Vec<_>>());
    }
    if accounts.is_empty() {
        output::note("this server has no accounts; `bkfs server invite` makes one");
        return Ok(());
    }
    let mut table = Table::new(
        &["ACCOUNT", "USED", "QUOTA", "SNAPSHOTS", "REPOSITORIES", "CLIENTS", "SHARES THE LIMITS OF"],
        &[1, 2, 3, 4, 5],
    );
    for account in &accounts {
        table.row([
            account.name.to_string(),
            output::size(account.used.bytes),
            account.limits.bytes.map_or_else(|| "off".to_owned(), output::size),
            account.used.snapshots.to_string(),
            account.used.repositories.to_string(),
            clients(account).to_string(),
            account.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        ]);
    }
    table.print()
}

fn show(context: &Context, args: &AccountArgs) -> Result<()> {
    let account = server::account(&args.data.folder()?, &args.account)?;
    if context.json {
        let repositories: Vec<RepositoryJson> = account.repositories.iter().map(RepositoryJson::from).collect();
        let clients: Vec<_> = account.clients.iter().map(super::client::ClientJson::from).collect();
        let mut value = serde_json::to_value(AccountJson::from(&account))?;
        value["repositories"] = serde_json::to_value(repositories)?;
        value["clients"] = serde_json::to_value(clients)?;
        return output::json_pretty(&value);
    }
    let total = account.children.iter().fold(account.used, |sum, (_, used)| sum.plus(*used));
    let mut table = Table::new(&["ACCOUNT", "USED", "LIMIT"], &[1, 2]);
    let limit = |limit: Option<u64>, text: fn(u64) -> String| limit.map_or_else(|| "off".to_owned(), text);
    let (used, limits) = (total, account.limits);
    table.row([account.name.to_string(), output::size(used.bytes), limit(limits.bytes, output::size)]);
    for (what, used, most) in [
        ("  files", used.files, limits.files),
        ("  snapshots", used.snapshots, limits.snapshots),
        ("  repositories", used.repositories, limits.repositories),
    ] {
        table.row([what.to_owned(), used.to_string(), limit(most, |most| most.to_string())]);
    }
    table.print()?;
    if let Some(parent) = &account.parent {
        output::line(format!("it shares the limits of account {parent}"))?;
    }
    for (child, used) in &account.children {
        output::line(format!("account {child} shares its limits: {} of what is used", output::size(used.bytes)))?;
    }
    output::line("")?;
    let mut table = Table::new(&["REPOSITORY", "USED", "SNAPSHOTS"], &[1, 2]);
    for (name, usage) in &account.repositories {
        table.row([name.to_string(), output::size(usage.bytes), usage.snapshots.to_string()]);
    }
    table.print()?;
    output::line("")?;
    super::client::table(&account.clients)
}

fn quota(context: &Context, args: &QuotaArgs) -> Result<()> {
    let data = args.data.folder_to_write()?;
    if let Some(parent) = &args.parent {
        let parent = Some(parent.clone()).filter(|parent| parent.as_str() != "none");
        server::set_parent(&data, &args.account, parent)?;
    }
    if let Some(SizeLimit(bytes)) = args.size {
        server::set_limits(&data, &args.account, |limits| limits.bytes = bytes)?;
    }
    say_limits(context, &server::account(&data, &args.account)?)
}

fn limit(context: &Context, args: &LimitArgs) -> Result<()> {
    let data = args.data.folder_to_write()?;
    let CountArgs { files, snapshots, repositories } = &args.limits;
    server::set_limits(&data, &args.account, |limits| {
        for (new, limit) in
            [(files, &mut limits.files), (snapshots, &mut limits.snapshots), (repositories, &mut limits.repositories)]
        {
            if let Some(CountLimit(new)) = new {
                *limit = *new;
            }
        }
    })?;
    say_limits(context, &server::account(&data, &args.account)?)
}

/// Says which limits an account has now, and whether it is above one of them already.
fn say_limits(context: &Context, account: &AccountInfo) -> Result<()> {
    if context.json {
        return output::json(&AccountJson::from(account));
    }
    let total = account.children.iter().fold(account.used, |sum, (_, used)| sum.plus(*used));
    let over = over(&account.limits, &total);
    if !context.quiet {
        output::line(format!("account {} may store {}", account.name, describe(account)))?;
    }
    if let Some(over) = over {
        output::note(format!(
            "the account has {over} already: nothing is removed, and nothing more is stored until it has less"
        ));
    }
    Ok(())
}

/// Describes the limits of an account to a person.
fn describe(account: &AccountInfo) -> String {
    let Limits { bytes, files, snapshots, repositories } = account.limits;
    let limits = [
        bytes.map(output::size),
        files.map(|n| output::count(n, "file")),
        snapshots.map(|n| output::count(n, "snapshot")),
        repositories.map(|n| if n == 1 { "1 repository".to_owned() } else { format!("{n} repositories") }),
    ];
    let limits: Vec<String> = limits.into_iter().flatten().collect();
    let own = if limits.is_empty() { "without limits of its own".to_owned() } else { limits.join(", ") };
    match &account.parent {
        Some(parent) => format!("{own}; it shares the limits of account {parent}"),
        None => own,
    }
}

/// What an account has more of than its limits allow.
fn over(limits: &Limits, used: &Amount) -> Option<String> {
    let is_over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
    match () {
        () if is_over(limits.bytes, used.bytes) => Some(output::size(used.bytes)),
        () if is_over(limits.files, used.files) => Some(output::count(used.files, "file")),
        () if is_over(limits.snapshots, used.snapshots) => Some(output::count(used.snapshots, "snapshot")),
        () if is_over(limits.repositories, used.repositories) => Some(format!("{} repositories", used.repositories)),
        () => None,
    }
}

fn remove(context: &Context, args: &RemoveArgs) -> Result<()> {
    let data = args.data.folder_to_write()?;
    let account = server::account(&data, &args.account)?;
    if !args.yes {
        let names: Vec<String> = account.repositories.iter().map(|(name, _)| name.to_string()).collect();
        let what = format!(
            "about to remove account {} with {} ({}), {} and {}: nothing can bring them back, whatever their age, and \
             {} will be able to use the account",
            account.name,
            match names.len() {
                1 => "1 repository".to_owned(),
                n => format!("{n} repositories"),
            },
            if names.is_empty() { "none".to_owned() } else { names.join(", ") },
            output::count(account.used.snapshots, "snapshot"),
            output::size(account.used.bytes),
            match clients(&account) {
                1 => "its client will not".to_owned(),
                n => format!("none of its {n} clients"),
            }
        );
        ask::confirm(context, &what, "Remove it for good?", "--yes")?;
    }
    server::remove_account(&data, &args.account)?;
    let Amount { bytes, snapshots, repositories, .. } = account.used;
    match (context.json, context.quiet) {
        (true, _) => output::json(&json!({
            "removed": account.name.as_str(), "bytes": bytes, "snapshots": snapshots, "repositories": repositories,
        })),
        (false, true) => Ok(()),
        (false, false) => output::line(format!("removed account {}: {}", account.name, output::size(bytes))),
    }
}

/// How many clients may use an account.
fn clients(account: &AccountInfo) -> u64 {
    account.clients.iter().filter(|client| !client.is_revoked).count() as u64
}

impl From<&AccountInfo> for AccountJson {
    fn from(account: &AccountInfo) -> Self {
        let Limits { bytes, files, snapshots, repositories } = account.limits;
        let sharer = |(name, used): &(Name, Amount)| SharerJson { account: name.to_string(), used: (*used).into() };
        Self {
            account: account.name.to_string(),
            parent: account.parent.as_ref().map(ToString::to_string),
            limits: AmountsJson { bytes, files, snapshots, repositories },
            used: account.used.into(),
            shared_by: account.children.iter().map(sharer).collect(),
            clients: clients(account),
        }
    }
}

impl From<Amount> for AmountsJson<u64> {
    fn from(Amount { bytes, files, snapshots, repositories }: Amount) -> Self {
        Self { bytes, files, snapshots, repositories }
    }
}

impl From<&(Name, Amount)> for RepositoryJson {
    fn from((name, usage): &(Name, Amount)) -> Self {
        let repository = name.to_string();
        Self { repository, bytes: usage.bytes, files: usage.files, snapshots: usage.snapshots }
    }
}
