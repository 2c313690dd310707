//! The chain of a repository's rosters, as the log holds it: numbers grow by one, and clients are never dropped.

use super::{Roster, RosterClient, damaged, verify_roster};
use crate::{
    base::{
        error::Result,
        id::{ClientId, RepoId},
        time::Time,
    },
    crypto::VerifyingKey,
};

/// Follows a chain of rosters. Only the newest roster counts.
#[derive(Debug, Clone)]
pub struct RosterView {
    repo: RepoId,
    admin: VerifyingKey,
    newest: Roster,
}

impl RosterView {
    /// Begins with a signed roster: the first one, or the newest if the earlier ones are not available.
    pub fn new(signed: &[u8], admin: VerifyingKey, repo: RepoId) -> Result<Self> {
        Ok(Self { repo, admin, newest: verify_roster(signed, &admin, repo)? })
    }

    /// Returns the newest roster.
    pub fn newest(&self) -> &Roster {
        &self.newest
    }

    /// Accepts the next signed roster. It must have the next number, and keep every client in its position with its
    /// key and domain, so that everything a client wrote while it was on the roster stays attributed to it. `until`
    /// removes a client.
    pub fn advance(&mut self, signed: &[u8]) -> Result<&Roster> {
        let next = verify_roster(signed, &self.admin, self.repo)?;
        if Some(next.number) != self.newest.number.checked_add(1) {
            return Err(damaged(&format!("roster {} follows roster {}", next.number, self.newest.number)));
        }
        self.replace(next)
    }

    /// Accepts the roster that a store presents as its newest, for readers that have not seen those in between. Rejects
    /// a roster that is older than one seen before: it would bring back removed clients.
    pub fn renew(&mut self, signed: &[u8]) -> Result<&Roster> {
        let next = verify_roster(signed, &self.admin, self.repo)?;
        if next.number < self.newest.number || (next.number == self.newest.number && next != self.newest) {
            return Err(damaged(&format!(
                "the store presents roster {} after roster {}",
                next.number, self.newest.number
            )));
        }
        self.replace(next)
    }

    fn replace(&mut self, next: Roster) -> Result<&Roster> {
        let kept = self.newest.clients.len() <= next.clients.len()
            && self
                .newest
                .clients
                .iter()
                .zip(&next.clients)
                .all(|(old, new)| (old.id, old.since, old.domain) == (new.id, new.since, new.domain));
        if !kept {
            return Err(damaged("a client of the previous roster is missing or changed"));
        }
        self.newest = next;
        Ok(&self.newest)
    }

    /// Returns the next roster, with one more client, for the admin to sign.
    pub fn with_client(&self, client: RosterClient) -> Roster {
        let mut next = self.next();
        next.clients.push(client);
        next
    }

    /// Returns the next roster, with a client removed, for the admin to sign. Returns `None` if the client is not on
    /// it.
    pub fn without_client(&self, id: ClientId, until: Time) -> Option<Roster> {
        let mut next = self.next();
        next.clients.iter_mut().find(|c| c.id == id)?.until = Some(until);
        Some(next)
    }

    fn next(&self) -> Roster {
        let mut next = self.newest.clone();
        next.number = next.number.saturating_add(1);
        next
    }
}
