//! The clients of a repository as a person knows them: by label, and by the beginning of the id.
//!
//! Only the id of a snapshot's client is authenticated. Names of hosts and targets are chosen by the client itself.

use anyhow::Result;
use bkfs_store::{
    base::id::ClientId,
    format::{keys::FullKey, roster::verify_roster},
};

use crate::{failure::Failure, output};

/// The clients on a repository's roster.
#[derive(Debug, Clone, Default)]
pub struct Clients {
    known: Vec<(ClientId, String)>,
}

impl Clients {
    /// Reads a signed roster.
    pub fn of(roster: &[u8], full: &FullKey) -> Result<Self> {
        let roster = verify_roster(roster, &full.admin.verifying_key(), full.repo)?;
        let label = |client| full.open_label(client).unwrap_or_else(|_| "?".to_owned());
        Ok(Self { known: roster.clients.iter().map(|client| (client.id, label(client))).collect() })
    }

    /// Returns a client for a message: its label and the beginning of its id.
    pub fn name(&self, id: ClientId) -> String {
        match self.label(id) {
            Some(label) => format!("client {} ({})", id.short(), output::name(label.as_bytes())),
            None => format!("client {}", id.short()),
        }
    }

    /// Returns the label of a client.
    pub fn label(&self, id: ClientId) -> Option<&str> {
        self.known.iter().find(|(known, _)| *known == id).map(|(_, label)| label.as_str())
    }

    /// Returns the clients that have this label, or whose id begins with this text. Several can have one label: a
    /// machine that was enrolled again is another client.
    pub fn find(&self, name: &str) -> Result<Vec<ClientId>> {
        let ids = |fits: &dyn Fn(&(ClientId, String)) -> bool| -> Vec<ClientId> {
            self.known.iter().filter(|known| fits(known)).map(|(id, _)| *id).collect()
        };
        let mut found = ids(&|(_, label)| label == name);
        if found.is_empty() && !name.is_empty() {
            found = ids(&|(id, _)| id.to_string().starts_with(&name.to_ascii_lowercase()));
        }
        match found.is_empty() {
            false => Ok(found),
            true => {
                let name = output::name(name.as_bytes());
                Err(Failure::new(format!("no client is called {name}"), "`bkfs key list` lists the clients").into())
            }
        }
    }
}
