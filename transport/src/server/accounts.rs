//! What follows from the server's log: accounts, invitations, clients and what each client may do.
//!
//! This is a pure value: events go in, answers come out. It does no I/O and reads no clock. A change is first decided
//! ([`Accounts::join`] and the other methods that return an event) and then applied, so that the log comes in between.

mod account;
mod changes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bkfs_store::{Error, Result, base::id::Hash};

pub use self::account::{Account, Client};
use super::{
    event::{Event, FORMAT, Record},
    quota::Limits,
};
use crate::{addresses::Addresses, permission::Permissions, url::Name};

/// The accounts of a server, with its addresses and its floor.
#[derive(Default)]
pub struct Accounts {
    addresses: Option<Addresses>,
    protect_secs: u64,
    /// By the hash of the invitation's secret.
    invitations: HashMap<Hash, Invitation>,
    accounts: BTreeMap<Name, Account>,
    /// The accounts of each client that may use any.
    memberships: HashMap<Hash, BTreeSet<Name>>,
    /// How many accounts were removed.
    removals: u64,
    /// How often a client may have lost a right.
    losses: u64,
    /// The count at which each client lost a right last.
    lost: HashMap<Hash, u64>,
}

/// An invitation, and who has used it.
pub struct Invitation {
    /// The account that it opens.
    pub account: Name,
    /// What a client that uses it may do.
    pub can: Permissions,
    /// When it expires, in seconds of Unix time.
    pub expires_secs: i64,
    /// How many clients may use it.
    pub uses: u32,
    /// The only repository in which they may do that; none for all.
    pub repository: Option<Name>,
    /// The name of the client that uses it.
    pub client_name: Option<Name>,
    /// The clients that have used it.
    pub used_by: BTreeSet<Hash>,
}

impl Accounts {
    /// Applies a record of the log.
    pub fn apply(&mut self, record: Record) -> Result<()> {
        let secs = record.secs;
        match record.event {
            Event::Init { format, .. } if format > FORMAT => {
                return Err(Error::NewerVersion { what: "the server's folder", found: format, known: FORMAT });
            }
            Event::Init { addresses, protect_secs, .. } => {
                self.addresses = Some(addresses);
                self.protect_secs = protect_secs;
            }
            Event::Invite { secret, account, can, expires_secs, uses, repository, client_name } => {
                let life = self.removals;
                self.accounts.entry(account.clone()).or_insert_with(|| Account { life, ..Account::default() });
                let used_by = BTreeSet::new();
                let invitation = Invitation { account, can, expires_secs, uses, repository, client_name, used_by };
                self.invitations.insert(secret, invitation);
            }
            Event::Join { secret, client, account } => self.apply_join(secret, client, &account, secs),
            Event::Addresses(addresses) => self.addresses = Some(addresses),
            Event::Limit { account, limits } => self.accounts.entry(account).or_default().limits = limits,
            Event::Parent { account, parent } => self.accounts.entry(account).or_default().parent = parent,
            Event::Permit { account, client, repository, can } => {
                self.change(&account, client, |held| held.permit(repository, can));
                self.note_loss(client);
            }
            Event::Revoke { account, client } => {
                self.change(&account, client, |held| held.is_revoked = true);
                self.note_loss(client);
            }
            Event::Rename { account, client, name } => self.change(&account, client, |held| held.name = Some(name)),
            Event::Remove { account } => {
                self.removals += 1;
                for client in self.accounts.remove(&account).into_iter().flat_map(|account| account.clients.into_keys())
                {
                    self.leave(client, &account);
                    self.note_loss(client);
                }
                self.invitations.retain(|_, invitation| invitation.account != account);
                self.accounts
                    .values_mut()
                    .filter(|a| a.parent.as_ref() == Some(&account))
                    .for_each(|a| a.parent = None);
            }
            Event::Withdraw { secret } => drop(self.invitations.remove(&secret)),
            Event::Tie { account, repository, client, key, by_snapshot } => {
                self.change(&account, client, |held| held.ties_mut(by_snapshot).extend([(repository, key)]));
            }
        }
        Ok(())
    }

    fn apply_join(&mut self, secret: Hash, client: Hash, account: &Name, secs: i64) {
        let Some(invitation) = self.invitations.get_mut(&secret) else { return };
        invitation.used_by.insert(client);
        let (can, repository) = (invitation.can, invitation.repository.clone());
        let clients = &mut self.accounts.entry(account.clone()).or_default().clients;
        // A name means one client, or `revoke` could end the wrong one. Of two invitations with one name, the first
        // that is used gives it.
        let is_free =
            |name: &Name| clients.iter().all(|(other, held)| *other == client || held.name.as_ref() != Some(name));
        let name = invitation.client_name.clone().filter(is_free);
        let held = clients.entry(client).or_insert_with(|| Client::new(secs));
        held.name = held.name.take().or(name);
        // A client that joins again keeps what it may do already.
        held.add(repository, can);
        self.memberships.entry(client).or_default().insert(account.clone());
    }

    fn change(&mut self, account: &Name, client: Hash, change: impl FnOnce(&mut Client)) {
        let Some(held) = self.accounts.get_mut(account).and_then(|account| account.clients.get_mut(&client)) else {
            return;
        };
        change(held);
        match held.is_revoked {
            true => self.leave(client, account),
            false => drop(self.memberships.entry(client).or_default().insert(account.clone())),
        }
    }

    fn leave(&mut self, client: Hash, account: &Name) {
        if let Some(accounts) = self.memberships.get_mut(&client) {
            accounts.remove(account);
            if accounts.is_empty() {
                self.memberships.remove(&client);
            }
        }
    }

    fn note_loss(&mut self, client: Hash) {
        self.losses += 1;
        self.lost.insert(client, self.losses);
    }

    /// How often a client may have lost a right.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// How many accounts were removed.
    pub fn removals(&self) -> u64 {
        self.removals
    }

    /// Whether a client may have lost a right after the count was this.
    pub fn has_lost_since(&self, client: Hash, losses: u64) -> bool {
        self.lost.get(&client).is_some_and(|at| *at > losses)
    }

    /// The addresses that invitations carry. Every log begins with some.
    pub fn addresses(&self) -> Option<&Addresses> {
        self.addresses.as_ref()
    }

    /// The floor in seconds.
    pub fn protect_secs(&self) -> u64 {
        self.protect_secs
    }

    /// What a client may do in a repository of an account. Returns `None` if it may not use the account at all: it
    /// never joined, or it was revoked.
    pub fn permissions(&self, client: Hash, account: &Name, repository: &Name) -> Option<Permissions> {
        self.client(client, account).filter(|held| !held.is_revoked).map(|held| held.can_in(repository))
    }

    /// A client of an account.
    pub fn client(&self, client: Hash, account: &Name) -> Option<&Client> {
        self.accounts.get(account)?.clients.get(&client)
    }

    /// Which life of an account this is: an account that was removed and made again has nothing in common with the
    /// first.
    pub fn life(&self, account: &Name) -> Option<u64> {
        self.accounts.get(account).map(|account| account.life)
    }

    /// Whether a client may use any account.
    pub fn is_known(&self, client: Hash) -> bool {
        self.memberships.contains_key(&client)
    }

    /// All accounts, in the order of their names.
    pub fn all(&self) -> &BTreeMap<Name, Account> {
        &self.accounts
    }

    /// Returns an account. Fails if there is none of this name.
    pub fn account(&self, name: &Name) -> Result<&Account> {
        self.accounts.get(name).ok_or_else(|| unknown_account(name))
    }

    /// The limits that bound an account, each with the accounts that share it: its own, and those of its parent.
    pub fn bounds(&self, name: &Name) -> Vec<Bound> {
        let Some(account) = self.accounts.get(name) else { return Vec::new() };
        let children = |parent: &Name| {
            let children = self.accounts.iter().filter(|(_, account)| account.parent.as_ref() == Some(parent));
            [parent.clone()].into_iter().chain(children.map(|(name, _)| name.clone())).collect()
        };
        let parent = account.parent.as_ref().and_then(|parent| Some((parent, self.accounts.get(parent)?)));
        [Some((name, account)), parent]
            .into_iter()
            .flatten()
            .filter(|(_, account)| !account.limits.is_none())
            .map(|(name, account)| Bound { account: name.clone(), limits: account.limits, sharers: children(name) })
            .collect()
    }
}

/// Limits, and the accounts whose stored bytes count together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// The account that has the limits.
    pub account: Name,
    /// The limits.
    pub limits: Limits,
    /// The accounts that share them, that one included.
    pub sharers: Vec<Name>,
}

/// The error for an account that does not exist.
pub(super) fn unknown_account(name: &Name) -> Error {
    Error::Invalid(format!(
        "there is no account {name} on this server; `bkfs server account list` lists them, and the first `bkfs server \
         invite` makes one"
    ))
}
