//! Deciding about changes of accounts and clients. Nothing is changed here: each method returns the event that records
//! the change, or the reason why it is refused.

use bkfs_store::{
    Error, Result,
    base::id::{ClientId, Hash},
};

use super::{Account, Accounts, Client, Invitation};
use crate::{permission::Permissions, server::event::Event, url::Name};

/// The most clients of rosters that are remembered for one client.
const TIES_MAX: usize = 64;
/// How many digits of a fingerprint name a client at least.
const DIGITS_MIN: usize = 4;

impl Accounts {
    /// Decides whether a client may use the invitation whose secret has this hash. Returns the account, and the event
    /// that records the use. There is no event if the same client has used the invitation already: the reply may have
    /// been lost, and the client repeats itself.
    pub fn join(&self, secret: Hash, client: Hash, now_secs: i64) -> Result<(Name, Option<Event>)> {
        let refused = |why: &str, what_to_do: &str| {
            Err(Error::NoPermission { operation: format!("join with this token: {why}; {what_to_do}") })
        };
        let ask = "ask the operator for a new one";
        let Some(invitation) = self.invitations.get(&secret) else {
            return refused("it is unknown here", ask);
        };
        let Invitation { account, expires_secs, uses, used_by, .. } = invitation;
        if self.client(client, account).is_some_and(|held| held.is_revoked) {
            return refused("this client was revoked", "only the operator can bring it back");
        }
        if used_by.contains(&client) {
            return Ok((account.clone(), None));
        }
        if used_by.len() >= *uses as usize {
            return refused("it has been used", ask);
        }
        if *expires_secs < now_secs {
            return refused("it has expired", ask);
        }
        Ok((account.clone(), Some(Event::Join { secret, client, account: account.clone() })))
    }

    /// The invitations to an account that can still be used, by the hashes of their secrets, the first to expire first.
    pub fn open_invitations(&self, account: &Name, now_secs: i64) -> Vec<(Hash, &Invitation)> {
        let is_open = |invitation: &Invitation| {
            invitation.account == *account
                && invitation.expires_secs >= now_secs
                && invitation.used_by.len() < invitation.uses as usize
        };
        let mut open: Vec<_> = self.invitations.iter().filter(|(_, invitation)| is_open(invitation)).collect();
        open.sort_by_key(|(secret, invitation)| (invitation.expires_secs, secret.0));
        open.into_iter().map(|(secret, invitation)| (*secret, invitation)).collect()
    }

    /// Withdraws an invitation that can still be used, by the first digits of the hash of its secret.
    pub fn withdraw(&self, account: &Name, digits: &str, now_secs: i64) -> Result<Event> {
        self.account(account)?;
        let open = self.open_invitations(account, now_secs);
        let found: Vec<Hash> =
            open.iter().map(|(secret, _)| *secret).filter(|secret| secret.to_string().starts_with(digits)).collect();
        match found[..] {
            [secret] if digits.len() >= DIGITS_MIN => Ok(Event::Withdraw { secret }),
            [] => Err(Error::Invalid(format!(
                "account {account} has no open invitation {digits:?}: `bkfs server invitation list` shows them"
            ))),
            _ => Err(Error::Invalid(format!("{digits:?} names no single invitation: give more digits"))),
        }
    }

    /// Removes an account. Others that share its limits would be without any.
    pub fn remove(&self, account: &Name) -> Result<Event> {
        self.account(account)?;
        let shares = |(_, other): &(&Name, &Account)| other.parent.as_ref() == Some(account);
        let sharers: Vec<&str> = self.accounts.iter().filter(shares).map(|(name, _)| name.as_str()).collect();
        if !sharers.is_empty() {
            return Err(Error::Invalid(format!(
                "account {account} cannot be removed while others share its limits ({}): give each of them limits of \
                 its own and `bkfs server account quota --parent none`, or remove it first",
                sharers.join(", ")
            )));
        }
        Ok(Event::Remove { account: account.clone() })
    }

    /// Finds a client of an account by its name or by the first digits of its fingerprint.
    pub fn find_client(&self, account: &Name, text: &str) -> Result<(Hash, &Client)> {
        let clients = &self.account(account)?.clients;
        let named = clients.iter().find(|(_, client)| client.name.as_ref().is_some_and(|name| name.as_str() == text));
        if let Some((fingerprint, client)) = named {
            return Ok((*fingerprint, client));
        }
        let digits = text.to_ascii_lowercase();
        let begins = |fingerprint: &Hash| digits.len() >= DIGITS_MIN && fingerprint.to_string().starts_with(&digits);
        let found: Vec<_> = clients.iter().filter(|(fingerprint, _)| begins(fingerprint)).collect();
        match found[..] {
            [(fingerprint, client)] => Ok((*fingerprint, client)),
            [] => Err(Error::Invalid(format!(
                "account {account} has no client {text:?}; `bkfs server client list` lists them: give a name, or at \
                 least {DIGITS_MIN} digits of a fingerprint"
            ))),
            _ => Err(Error::Invalid(format!(
                "{} clients of account {account} have fingerprints that begin with {text}: give more digits",
                found.len()
            ))),
        }
    }

    /// Decides about other permissions of a client.
    pub fn permit(&self, account: &Name, client: &str, repository: Option<Name>, can: Permissions) -> Result<Event> {
        let (client, _) = self.find_client(account, client)?;
        Ok(Event::Permit { account: account.clone(), client, repository, can })
    }

    /// Decides about ending all permissions of a client.
    pub fn revoke(&self, account: &Name, client: &str) -> Result<Event> {
        let (fingerprint, held) = self.find_client(account, client)?;
        match held.is_revoked {
            true => Err(Error::Invalid(format!("client {client} of account {account} was revoked already"))),
            false => Ok(Event::Revoke { account: account.clone(), client: fingerprint }),
        }
    }

    /// Decides about a client's name.
    pub fn rename(&self, account: &Name, client: &str, name: Name) -> Result<Event> {
        let (client, _) = self.find_client(account, client)?;
        self.expect_free_name(account, &name, Some(client))?;
        Ok(Event::Rename { account: account.clone(), client, name })
    }

    /// Fails if another client of the account has this name. Invitations are not looked at: a client that joins with
    /// one gets its name only if that is still free.
    pub fn expect_free_name(&self, account: &Name, name: &Name, except: Option<Hash>) -> Result<()> {
        let clients = self.accounts.get(account).into_iter().flat_map(|account| &account.clients);
        let is_taken = clients
            .filter(|(fingerprint, _)| Some(**fingerprint) != except)
            .any(|(_, client)| client.name.as_ref() == Some(name));
        match is_taken {
            true => Err(Error::Invalid(format!("account {account} has a client {name} already: choose another name"))),
            false => Ok(()),
        }
    }

    /// Decides about the account whose limits an account shares. There is one level only: a parent has no parent.
    pub fn set_parent(&self, account: &Name, parent: Option<Name>) -> Result<Event> {
        self.account(account)?;
        if let Some(parent) = &parent {
            let wrong = |why: String| {
                Err(Error::Invalid(format!("account {account} cannot share the limits of {parent}: {why}")))
            };
            if parent == account {
                return wrong("they are the same account".into());
            }
            if let Some(above) = &self.account(parent)?.parent {
                return wrong(format!("{parent} itself shares those of {above}"));
            }
            if let Some((below, _)) = self.accounts.iter().find(|(_, a)| a.parent.as_ref() == Some(account)) {
                return wrong(format!("account {below} shares those of {account}"));
            }
        }
        Ok(Event::Parent { account: account.clone(), parent })
    }

    /// Decides about remembering that a client has shown the key of a client of a repository's roster, or has only sent
    /// a snapshot of it. There is no event if that is known, or if there are too many already.
    pub fn tie(
        &self,
        account: &Name,
        repository: &Name,
        client: Hash,
        key: ClientId,
        by_snapshot: bool,
    ) -> Option<Event> {
        let held = self.client(client, account)?;
        let tie = (repository.clone(), key);
        let known = if by_snapshot { &held.sent } else { &held.ties };
        let is_new = !known.contains(&tie) && known.len() < TIES_MAX;
        let (repository, account) = (tie.0, account.clone());
        is_new.then_some(Event::Tie { account, repository, client, key, by_snapshot })
    }
}
