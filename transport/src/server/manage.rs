//! What a server's operator does with accounts and clients, whether or not a server runs on the folder. A running
//! server notices by itself what is changed.

use std::path::Path;

use bkfs_store::{
    Error, Result,
    base::id::{ClientId, Hash},
    repository::Usage,
};

use super::{
    accounts::{Account, Accounts, Invitation},
    event::Event,
    identity_files, layout, ledger, operator,
    quota::{Amount, Limits},
    registry::{Registry, now_secs},
};
use crate::{permission::Permissions, url::Name};

/// An account, as its operator sees it.
#[derive(Debug, Clone)]
pub struct AccountInfo {
    /// Its name.
    pub name: Name,
    /// The account whose limits it shares.
    pub parent: Option<Name>,
    /// Its own limits.
    pub limits: Limits,
    /// What it stores, without the accounts that share its limits.
    pub used: Amount,
    /// The accounts that share its limits, and what they store.
    pub children: Vec<(Name, Amount)>,
    /// Its repositories, and what each stores.
    pub repositories: Vec<(Name, Amount)>,
    /// Its clients.
    pub clients: Vec<ClientInfo>,
}

/// A client of an account.
#[derive(Debug, Clone)]
pub struct ClientInfo {
    /// The fingerprint of its certificate.
    pub fingerprint: Hash,
    /// The name that the operator gave it.
    pub name: Option<Name>,
    /// When it joined, in seconds of Unix time.
    pub joined_secs: i64,
    /// What it may do in repositories that are not in `can_in`.
    pub can: Permissions,
    /// What it may do in single repositories.
    pub can_in: Vec<(Name, Permissions)>,
    /// Whether it may do nothing any more.
    pub is_revoked: bool,
    /// The clients of rosters with which it ends, with their repositories: it has shown their keys, or sent their
    /// snapshots.
    pub keys: Vec<(Name, ClientId)>,
}

/// An invitation that can still be used.
#[derive(Debug, Clone)]
pub struct InvitationInfo {
    /// Its id: the hash of its secret.
    pub id: Hash,
    /// What a client that uses it may do.
    pub can: Permissions,
    /// The only repository in which it may do that; none for all.
    pub repository: Option<Name>,
    /// The name of the client that uses it.
    pub client_name: Option<Name>,
    /// How many clients may use it.
    pub uses: u32,
    /// How many have.
    pub used: u32,
    /// When it expires, in seconds of Unix time.
    pub expires_secs: i64,
}

/// All accounts of a server, in the order of their names.
pub fn accounts(data: &Path) -> Result<Vec<AccountInfo>> {
    read(data)?
        .ask(|accounts| accounts.all().iter().map(|(name, account)| info(data, accounts, name, account)).collect())
}

/// An account of a server.
pub fn account(data: &Path, name: &Name) -> Result<AccountInfo> {
    read(data)?.ask(|accounts| info(data, accounts, name, accounts.account(name)?))
}

/// Changes the limits of an account. Returns them.
pub fn set_limits(data: &Path, account: &Name, change: impl FnOnce(&mut Limits)) -> Result<Limits> {
    read(data)?.change(None, |accounts| {
        let mut limits = accounts.account(account)?.limits;
        change(&mut limits);
        Ok((limits, vec![Event::Limit { account: account.clone(), limits }]))
    })
}

/// Lets an account share the limits of another one, or of none.
pub fn set_parent(data: &Path, account: &Name, parent: Option<Name>) -> Result<()> {
    read(data)?.change(None, |accounts| Ok(((), vec![accounts.set_parent(account, parent)?])))
}

/// Removes an account with its clients, invitations and repositories. Nothing can bring them back.
///
/// **Order.** The log comes first: from then on no client may use the account, and a running server lets go of its
/// repositories. A removal that is interrupted after that is finished by the server's next tidying.
pub fn remove_account(data: &Path, account: &Name) -> Result<()> {
    read(data)?.change(None, |accounts| Ok(((), vec![accounts.remove(account)?])))?;
    layout::remove_account(data, account)
}

/// The invitations to an account that can still be used, the first to expire first.
pub fn invitations(data: &Path, account: &Name) -> Result<Vec<InvitationInfo>> {
    read(data)?.ask(|accounts| {
        accounts.account(account)?;
        let open = accounts.open_invitations(account, now_secs());
        Ok(open.into_iter().map(|(secret, invitation)| invitation_info(secret, invitation)).collect())
    })
}

/// Withdraws an invitation, which is named by the first digits of its id. Returns the id. Clients that have used it
/// stay.
pub fn withdraw(data: &Path, account: &Name, digits: &str) -> Result<Hash> {
    read(data)?.change(None, |accounts| {
        let event = accounts.withdraw(account, digits, now_secs())?;
        let secret = match &event {
            Event::Withdraw { secret } => *secret,
            _ => Hash::default(),
        };
        Ok((secret, vec![event]))
    })
}

/// Sets what a client may do, in one repository or in all. A client that was revoked comes back.
pub fn permit(
    data: &Path,
    account: &Name,
    client: &str,
    repository: Option<&Name>,
    can: Permissions,
) -> Result<ClientInfo> {
    change(data, account, |accounts| accounts.permit(account, client, repository.cloned(), can))
}

/// Ends all that a client may do in an account. It cannot join the account again.
pub fn revoke(data: &Path, account: &Name, client: &str) -> Result<ClientInfo> {
    change(data, account, |accounts| accounts.revoke(account, client))
}

/// Gives a client another name.
pub fn rename(data: &Path, account: &Name, client: &str, name: Name) -> Result<ClientInfo> {
    change(data, account, |accounts| accounts.rename(account, client, name))
}

/// Records an event about one client, and returns the client as it is after that.
fn change(data: &Path, account: &Name, decide: impl FnOnce(&Accounts) -> Result<Event>) -> Result<ClientInfo> {
    let registry = read(data)?;
    let changed = registry.change(None, |accounts| {
        let event = decide(accounts)?;
        let changed = match &event {
            Event::Permit { client, .. } | Event::Revoke { client, .. } | Event::Rename { client, .. } => *client,
            _ => Hash::default(),
        };
        Ok((changed, vec![event]))
    })?;
    registry.ask(|accounts| {
        let client = accounts.client(changed, account).map(|client| client_info(changed, client));
        client.ok_or_else(|| Error::Invalid(format!("client {changed} of account {account} was removed meanwhile")))
    })
}

fn read(data: &Path) -> Result<Registry> {
    identity_files::read(data)?;
    let registry = Registry::new(data);
    registry.refresh()?;
    Ok(registry)
}

fn info(data: &Path, accounts: &Accounts, name: &Name, account: &Account) -> Result<AccountInfo> {
    let measure = |account: &Name| {
        let count = |name: &Name| Ok(count_snapshots(data, account, name));
        ledger::measure(&layout::account_folder(data, account), count)
    };
    let folder = layout::account_folder(data, name);
    let mut repositories = Vec::new();
    for repository in layout::names(&folder)? {
        let folder = folder.join(repository.as_str());
        if bkfs_store::repository::exists(&folder)? {
            let snapshots = count_snapshots(data, name, &repository);
            repositories.push((repository, Amount::of_repository(Usage::of_folder(&folder)?, snapshots)));
        }
    }
    let mut children = Vec::new();
    for child in accounts.all().iter().filter(|(_, child)| child.parent.as_ref() == Some(name)).map(|(name, _)| name) {
        children.push((child.clone(), measure(child)?));
    }
    Ok(AccountInfo {
        name: name.clone(),
        parent: account.parent.clone(),
        limits: account.limits,
        used: measure(name)?,
        children,
        repositories,
        clients: account.clients.iter().map(|(fingerprint, client)| client_info(*fingerprint, client)).collect(),
    })
}

/// How many snapshots a repository has. A repository that cannot be opened is listed all the same.
fn count_snapshots(data: &Path, account: &Name, name: &Name) -> u64 {
    let counted = operator::repository(data, account, name).and_then(|repository| ledger::snapshots(&repository));
    counted.unwrap_or_else(|error| {
        tracing::warn!(%account, repository = %name, %error, "the snapshots cannot be counted");
        0
    })
}

fn invitation_info(id: Hash, invitation: &Invitation) -> InvitationInfo {
    InvitationInfo {
        id,
        can: invitation.can,
        repository: invitation.repository.clone(),
        client_name: invitation.client_name.clone(),
        uses: invitation.uses,
        used: invitation.used_by.len() as u32,
        expires_secs: invitation.expires_secs,
    }
}

fn client_info(fingerprint: Hash, client: &super::accounts::Client) -> ClientInfo {
    ClientInfo {
        fingerprint,
        name: client.name.clone(),
        joined_secs: client.joined_secs,
        can: client.can,
        can_in: client.can_in.iter().map(|(name, can)| (name.clone(), *can)).collect(),
        is_revoked: client.is_revoked,
        keys: client.ties.union(&client.sent).cloned().collect(),
    }
}
