//! What follows from the server's log: accounts, invitations, clients and what each client may do.
//!
//! This is a pure value: events go in, answers come out. It does no I/O and reads no clock.

use std::collections::HashMap;

use bkfs_store::{Error, Result, base::id::Hash};

use super::event::{Event, FORMAT};
use crate::{permission::Permissions, url::Name};

/// The accounts of a server, with its address and its floor.
#[derive(Default)]
pub struct Accounts {
    address: Option<String>,
    protect_secs: u64,
    /// By the hash of the invitation's secret.
    invitations: HashMap<Hash, Invitation>,
    clients: HashMap<(Hash, Name), Permissions>,
    quotas: HashMap<Name, u64>,
}

struct Invitation {
    account: Name,
    can: Permissions,
    expires_secs: i64,
    is_used: bool,
}

impl Accounts {
    /// Applies an event of the log.
    pub fn apply(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Init { format, .. } if format > FORMAT => {
                return Err(Error::NewerVersion { what: "the server's folder", found: format, known: FORMAT });
            }
            Event::Init { address, protect_secs, .. } => {
                self.address = Some(address);
                self.protect_secs = protect_secs;
            }
            Event::Invite { secret, account, can, expires_secs } => {
                self.invitations.insert(secret, Invitation { account, can, expires_secs, is_used: false });
            }
            Event::Join { secret, client, account, can } => {
                if let Some(invitation) = self.invitations.get_mut(&secret) {
                    invitation.is_used = true;
                }
                // A client that joins again gets the new permissions instead of the old ones.
                self.clients.insert((client, account), can);
            }
            Event::Quota { account, bytes } => {
                self.quotas.insert(account, bytes);
            }
        }
        Ok(())
    }

    /// Decides whether a client may use the invitation whose secret has this hash. Returns the event that records it,
    /// or `None` if the same client has used it already: the reply may have been lost, and the client repeats itself.
    pub fn join(&self, secret: Hash, client: Hash, now_secs: i64) -> Result<Option<Event>> {
        let refused = |why: &str| {
            Err(Error::NoPermission {
                operation: format!("join with this token: {why}; ask the operator for a new one"),
            })
        };
        match self.invitations.get(&secret) {
            None => refused("it is unknown here"),
            Some(invitation) if invitation.is_used => {
                match self.clients.contains_key(&(client, invitation.account.clone())) {
                    true => Ok(None),
                    false => refused("it has been used"),
                }
            }
            Some(invitation) if invitation.expires_secs < now_secs => refused("it has expired"),
            Some(Invitation { account, can, .. }) => {
                Ok(Some(Event::Join { secret, client, account: account.clone(), can: *can }))
            }
        }
    }

    /// The address that invitations carry. Every log begins with it.
    pub fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The floor in seconds.
    pub fn protect_secs(&self) -> u64 {
        self.protect_secs
    }

    /// What a client may do in an account. Returns `None` if it never joined the account.
    pub fn permissions(&self, client: Hash, account: &Name) -> Option<Permissions> {
        self.clients.get(&(client, account.clone())).copied()
    }

    /// Whether a client has joined any account.
    pub fn is_known(&self, client: Hash) -> bool {
        self.clients.keys().any(|(known, _)| *known == client)
    }

    /// How many bytes an account may store, if there is a limit.
    pub fn quota(&self, account: &Name) -> Option<u64> {
        self.quotas.get(account).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_works_once_and_in_time() {
        let (secret, account) = (Hash([9; 32]), "alice".parse::<Name>().unwrap());
        let (one, two) = (Hash([1; 32]), Hash([2; 32]));
        let mut accounts = Accounts::default();
        assert!(accounts.join(secret, one, 10).unwrap_err().to_string().contains("unknown"));
        let invite = Event::Invite { secret, account: account.clone(), can: Permissions::PUSH, expires_secs: 10 };
        accounts.apply(invite).unwrap();
        assert!(accounts.join(secret, one, 11).unwrap_err().to_string().contains("expired"));
        let joined = accounts.join(secret, one, 10).unwrap().unwrap();
        assert!(!accounts.is_known(one));
        accounts.apply(joined).unwrap();
        assert!(accounts.is_known(one));
        assert_eq!(accounts.permissions(one, &account), Some(Permissions::PUSH));
        assert_eq!(accounts.join(secret, one, 11).unwrap(), None);
        assert!(accounts.join(secret, two, 10).unwrap_err().to_string().contains("has been used"));
        assert_eq!(accounts.permissions(two, &account), None);
    }
}
