//! The chain of a repository's rosters, as the log holds them: numbers grow by one and clients stay.

use super::{Roster, RosterClient, damaged, verify_roster};
use crate::{
    base::{
        error::Result,
        id::{ClientId, RepoId},
        time::Time,
    },
    crypto::VerifyingKey,
};

/// The rosters seen so far, of which only the newest counts.
#[derive(Debug, Clone)]
pub struct RosterView {
    repo: RepoId,
    admin: VerifyingKey,
    newest: Roster,
}

impl RosterView {
    /// Begins with a signed roster: the first one, or the newest where the ones before it are not at hand.
    pub fn new(signed: &[u8], admin: VerifyingKey, repo: RepoId) -> Result<Self> {
        Ok(Self { repo, admin, newest: verify_roster(signed, &admin, repo)? })
    }

    /// The newest roster.
    pub fn newest(&self) -> &Roster {
        &self.newest
    }

    /// Takes the next signed roster. It must have the number that follows and keep every client at its place with its
    /// key, so that whatever a client wrote while it was on the roster stays attributed; a client leaves by `until`.
    pub fn advance(&mut self, signed: &[u8]) -> Result<&Roster> {
        let next = verify_roster(signed, &self.admin, self.repo)?;
        if Some(next.number) != self.newest.number.checked_add(1) {
            return Err(damaged(&format!("number {} follows number {}", next.number, self.newest.number)));
        }
        self.take(next)
    }

    /// Takes what a store shows as its newest roster, for readers that did not see those between. An older one than was
    /// seen before is refused: it would bring back clients that have ended.
    pub fn renew(&mut self, signed: &[u8]) -> Result<&Roster> {
        let next = verify_roster(signed, &self.admin, self.repo)?;
        if next.number < self.newest.number || (next.number == self.newest.number && next != self.newest) {
            return Err(damaged(&format!("number {} is shown after number {}", next.number, self.newest.number)));
        }
        self.take(next)
    }

    fn take(&mut self, next: Roster) -> Result<&Roster> {
        let kept = self.newest.clients.len() <= next.clients.len()
            && self
                .newest
                .clients
                .iter()
                .zip(&next.clients)
                .all(|(old, new)| old.id == new.id && old.since == new.since);
        if !kept {
            return Err(damaged("a client of the roster before is missing or changed"));
        }
        self.newest = next;
        Ok(&self.newest)
    }

    /// The roster that the admin signs next to add clients.
    pub fn with_client(&self, client: RosterClient) -> Roster {
        let mut next = self.next();
        next.clients.push(client);
        next
    }

    /// The roster that the admin signs next to end a client; none if it is not on the roster.
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
