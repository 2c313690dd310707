//! What the roster of a repository says of a client: who the client is there, and whether it still counts.
//!
//! A client that may not read rests on the roster: as soon as all the clients of the roster whose keys it holds have
//! ended, it may do nothing in the repository. Before it has shown a key, it may store, because everything that it
//! stores is signed; but it learns nothing about any client. A client that may read rests on its permission: key
//! holders need not be on the roster, and a machine whose client ended is enrolled again by one that reads.

use bkfs_store::{
    Error, Result,
    access::{Open, OpenRequest, Opened},
    base::id::{ClientId, Hash},
    format::roster::{Roster, Standing},
    repository::Repository,
};

use super::{accounts::Client, dispatch::Caller, event::Event};
use crate::{key_proof::KeyProof, permission::Permissions, url::Name};

impl Caller {
    /// Fails if the client may not read, and every client of the roster whose key it holds has ended.
    pub(super) fn check_standing(&self, repository: &Repository, permissions: Permissions) -> Result<()> {
        if permissions.intersects(Permissions::READ) {
            return Ok(());
        }
        let shown = self.ties(|held, name| held.keys_in(name).collect());
        // One that has shown no key is known only by the snapshots that it sent. Those of others cannot help it, so it
        // is over with the first of their clients.
        let (keys, ended_max) = match shown.len() {
            0 => (self.ties(|held, name| held.sent_in(name).collect()), 1),
            count => (shown, count),
        };
        if keys.is_empty() {
            return Ok(());
        }
        let roster = repository.roster()?;
        let ended = |key: &ClientId| match roster.standing(*key) {
            Standing::Active => None,
            Standing::Ended(until) => Some((*key, until.secs)),
            Standing::Unknown => Some((*key, 0)),
        };
        let ended: Vec<(ClientId, i64)> = keys.iter().filter_map(ended).collect();
        match ended.iter().max_by_key(|(_, until_secs)| *until_secs) {
            Some((client, until_secs)) if ended.len() >= ended_max => {
                Err(Error::ClientEnded { client: *client, until_secs: *until_secs })
            }
            _ => Ok(()),
        }
    }

    /// Opens the repository. A client that may not read gets what it needs to push, and no more: no slots, at whose
    /// passphrases it could guess; no snapshots; no roster; nothing about other clients.
    pub(super) fn open(
        &self,
        repository: &Repository,
        request: &OpenRequest,
        proof: Option<KeyProof>,
    ) -> Result<Opened> {
        if let Some(proof) = proof {
            self.show(repository, &proof)?;
        }
        let permissions = self.permissions().unwrap_or_default();
        self.check_standing(repository, permissions)?;
        let is_own = |client: &ClientId| self.keys().contains(client);
        let may_read = permissions.intersects(Permissions::READ);
        let client = request.client.filter(|client| may_read || is_own(client));
        let mut opened = repository.open(&OpenRequest { client, ..*request })?;
        if !may_read {
            opened.slots.clear();
            opened.snapshots.clear();
            opened.roster.clear();
            opened.chunks = opened.chunks.min(1);
        }
        opened.room = self.state.ledger.room(&*self.state, &self.account)?;
        Ok(opened)
    }

    /// Checks as which client of the roster one asks what is stored. One that may not read is answered only as a client
    /// whose key it has shown, so it learns nothing about what other trust domains hold.
    pub(super) fn check_asker(&self, client: Option<ClientId>) -> Result<()> {
        let may_read = self.permissions().unwrap_or_default().intersects(Permissions::READ);
        match may_read || client.is_some_and(|client| self.keys().contains(&client)) {
            true => Ok(()),
            false => Err(Error::NoPermission {
                operation: format!("ask what is stored in {self} as a client whose key was not shown"),
            }),
        }
    }

    /// Remembers whose key the client holds, if its proof is right. A client that has ended is remembered as well: it
    /// is then refused.
    fn show(&self, repository: &Repository, proof: &KeyProof) -> Result<()> {
        if self.keys().contains(&proof.client) {
            return Ok(());
        }
        let roster = repository.roster()?;
        let on_roster = roster.client(proof.client);
        let is_valid = on_roster.is_some_and(|client| proof.is_valid(client, roster.repo, self.client));
        if !is_valid {
            return Err(Error::NotOnRoster { what: format!("a request to {self}"), client: proof.client });
        }
        self.tie(proof.client, false)
    }

    /// Remembers that the client has sent a snapshot of a client of the roster, so that it can be ended with that one.
    /// A snapshot shows no key: whoever may read, or has another copy of the repository, can send those of others.
    pub(super) fn note_sender(&self, key: ClientId) -> Result<()> {
        match self.ties(|held, name| held.tied_in(name).collect()).contains(&key) {
            true => Ok(()),
            false => self.tie(key, true),
        }
    }

    fn tie(&self, key: ClientId, by_snapshot: bool) -> Result<()> {
        let Self { state, account, repository, client, .. } = self;
        state.registry.change(Some(*client), |accounts| {
            Ok(((), accounts.tie(account, repository, *client, key, by_snapshot).into_iter().collect()))
        })
    }

    /// The clients of the repository's roster whose keys the client has shown.
    fn keys(&self) -> Vec<ClientId> {
        self.ties(|held, name| held.keys_in(name).collect())
    }

    fn ties(&self, in_repository: fn(&Client, &Name) -> Vec<ClientId>) -> Vec<ClientId> {
        let Self { state, account, repository, client, .. } = self;
        state.registry.ask(|accounts| {
            accounts.client(*client, account).map(|held| in_repository(held, repository)).unwrap_or_default()
        })
    }

    /// Closes the connections of clients that the newest roster has ended. Those that may read connect again.
    pub(super) fn close_ended(&self, repository: &Repository) -> Result<()> {
        let Self { state, account, repository: name, .. } = self;
        let roster = repository.roster()?;
        let is_over = |client: Hash, _| {
            state.registry.ask(|accounts| {
                let held = accounts.client(client, account);
                held.is_some_and(|held| held.tied_in(name).any(|key| !is_active(&roster, key)))
            })
        };
        state.connections.close(is_over);
        Ok(())
    }

    /// Ends the permissions of all network identities that have shown the key of a client of the roster, or sent its
    /// snapshots. The roster must have ended that client before: so this, too, needs the admin key. They end in the
    /// whole account if the caller is an admin of it, and otherwise in this repository. Returns how many identities
    /// there were.
    pub(super) fn revoke_holders(&self, repository: &Repository, key: ClientId) -> Result<Vec<Hash>> {
        let Self { state, account, repository: name, client, .. } = self;
        if is_active(&*repository.roster()?, key) {
            let reason = format!("client {key} is still on the roster: end it there first");
            return Err(Error::Invalid(reason));
        }
        state.registry.change(Some(*client), |accounts| {
            let is_admin = accounts.client(*client, account).is_some_and(|held| held.can.contains(Permissions::ADMIN));
            let clients = accounts.account(account)?.clients.iter();
            let holders = clients.filter(|(_, held)| held.tied_in(name).any(|held| held == key));
            // The admin's own machine may hold the key of an earlier client.
            let holders = holders.filter(|(holder, _)| **holder != *client);
            let (mut ended, mut events) = (Vec::new(), Vec::new());
            for (holder, held) in holders {
                let can = held.can_in(name).intersects(Permissions::ALL) && !held.is_revoked;
                let (account, client) = (account.clone(), *holder);
                match is_admin {
                    true if !held.is_revoked => events.push(Event::Revoke { account, client }),
                    false if can => {
                        let repository = Some(name.clone());
                        events.push(Event::Permit { account, client, repository, can: Permissions::NONE });
                    }
                    _ => continue,
                }
                ended.push(*holder);
            }
            Ok((ended, events))
        })
    }
}

fn is_active(roster: &Roster, client: ClientId) -> bool {
    roster.standing(client) == Standing::Active
}
