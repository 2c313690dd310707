//! Which trust domain each client of a roster belongs to.

use std::collections::HashMap;

use super::Roster;
use crate::base::id::{ClientId, DomainId};

/// The trust domains of a roster's clients, those that have ended included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Domains(HashMap<ClientId, DomainId>);

impl Domains {
    /// The domains of a roster's clients.
    pub fn new(roster: &Roster) -> Self {
        Self(roster.clients.iter().map(|client| (client.id, client.domain)).collect())
    }

    /// Returns a client's domain. A client that is not on the roster is alone in its domain.
    pub fn of(&self, client: ClientId) -> DomainId {
        self.0.get(&client).copied().unwrap_or(DomainId(client.0))
    }
}
