//! What is kept for one repository: the push key, and the state that reveals a rollback.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use bkfs_store::{
    access::{LastSnapshot, Opened, Seen},
    base::id::ClientId,
};
use serde::{Deserialize, Serialize};

use super::files::{read_optional, read_toml, update_toml, write_private};

/// The folder for one repository, in the configuration folder.
#[derive(Debug, Clone)]
pub struct RepoFolder {
    path: PathBuf,
}

/// The newest snapshot of a client that this machine made and that was acknowledged.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct OwnSnapshot {
    /// The snapshot's number, as its client counts.
    pub sequence: u64,
    /// The snapshot's id.
    pub snapshot: String,
}

/// What this machine has seen of the repository.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct SeenState {
    /// Incarnation of the store.
    #[serde(default)]
    incarnation: String,
    /// Length of the log, in records.
    #[serde(default)]
    log_len: u64,
    /// Head of the log at that length.
    #[serde(default)]
    log_head: String,
    /// The newest snapshot of each client whose key this machine used.
    #[serde(default)]
    clients: BTreeMap<String, OwnSnapshot>,
}

impl SeenState {
    /// Returns the point of the log that is remembered, if any.
    pub fn seen(&self) -> Option<Seen> {
        Some(Seen {
            incarnation: self.incarnation.parse().ok()?,
            log_len: self.log_len,
            log_head: self.log_head.parse().ok()?,
        })
    }

    /// Returns the client's newest snapshot that is remembered.
    pub fn own(&self, client: ClientId) -> Option<LastSnapshot> {
        let own = self.clients.get(&client.to_string())?;
        Some(LastSnapshot { id: own.snapshot.parse().ok()?, sequence: own.sequence })
    }

    /// Returns how the store contradicts what was seen, as text for a person, or `None` if it does not.
    pub fn contradiction(&self, opened: &Opened, client: Option<ClientId>) -> Option<String> {
        if let Some(seen) = self.seen() {
            if opened.now.log_len < seen.log_len {
                return Some(format!(
                    "its log has {} entries, but this machine has seen {} before",
                    opened.now.log_len, seen.log_len
                ));
            }
            if opened.head_at_seen != Some(seen.log_head) {
                return Some(format!(
                    "the first {} entries of its log differ from what this machine has seen before",
                    seen.log_len
                ));
            }
        }
        let own = self.own(client?)?;
        match opened.last {
            Some(last) if last.sequence > own.sequence || last == own => None,
            Some(last) => Some(format!(
                "its newest snapshot of this client is {} (number {}), but {} (number {}) was acknowledged before",
                last.id.short(),
                last.sequence,
                own.id.short(),
                own.sequence
            )),
            None => Some(format!(
                "it has no snapshot of this client, but {} (number {}) was acknowledged before",
                own.id.short(),
                own.sequence
            )),
        }
    }
}

impl RepoFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Returns the path of the push key.
    pub fn push_key_path(&self) -> PathBuf {
        self.path.join("push.key")
    }

    /// Returns the bytes of the push key file, if it exists.
    pub fn push_key(&self) -> Result<Option<Vec<u8>>> {
        read_optional(&self.push_key_path())
    }

    /// Writes the push key.
    pub fn set_push_key(&self, bytes: &[u8]) -> Result<()> {
        write_private(&self.push_key_path(), bytes)
    }

    /// Returns what was last seen.
    pub fn seen(&self) -> Result<SeenState> {
        read_toml(&self.seen_path())
    }

    /// Records a newer point of the log. A point before the remembered one changes nothing.
    pub fn advance(&self, now: Seen) -> Result<()> {
        let state = self.seen()?;
        let is_same_incarnation = state.incarnation == now.incarnation.to_string();
        let is_old = |seen: Seen| now.log_len < seen.log_len || (now.log_len == seen.log_len && is_same_incarnation);
        if state.seen().is_some_and(is_old) {
            return Ok(());
        }
        self.update(|state| state.advance(now))
    }

    /// Records that a client's snapshot was acknowledged, and the point of the log that came with it.
    pub fn acknowledged(&self, client: ClientId, last: LastSnapshot, now: Option<Seen>) -> Result<()> {
        self.update(|state| {
            if let Some(now) = now {
                state.advance(now);
            }
            if state.own(client).is_none_or(|own| own.sequence < last.sequence) {
                state.set_own(client, last);
            }
        })
    }

    /// Accepts what the store shows, whatever was seen before.
    pub fn accept(&self, now: Seen, own: Option<(ClientId, Option<LastSnapshot>)>) -> Result<()> {
        self.update(|state| {
            state.set(now);
            match own {
                Some((client, Some(last))) => state.set_own(client, last),
                Some((client, None)) => drop(state.clients.remove(&client.to_string())),
                None => state.clients.clear(),
            }
        })
    }

    fn seen_path(&self) -> PathBuf {
        self.file("seen.toml")
    }

    /// Returns the path of a file in this folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn update(&self, change: impl FnOnce(&mut SeenState)) -> Result<()> {
        update_toml(&self.seen_path(), change)
    }
}

impl SeenState {
    fn advance(&mut self, now: Seen) {
        if now.log_len >= self.log_len {
            self.set(now);
        }
    }

    fn set(&mut self, now: Seen) {
        self.incarnation = now.incarnation.to_string();
        self.log_len = now.log_len;
        self.log_head = now.log_head.to_string();
    }

    fn set_own(&mut self, client: ClientId, last: LastSnapshot) {
        let own = OwnSnapshot { sequence: last.sequence, snapshot: last.id.to_string() };
        self.clients.insert(client.to_string(), own);
    }
}

#[cfg(test)]
mod tests {
    use bkfs_store::{
        access::Lease,
        base::id::{Hash, Incarnation, SnapshotId},
        format::loss::Lost,
    };

    use super::*;

    fn opened(log_len: u64, head_at_seen: Option<u8>, last: Option<(u64, u8)>) -> Opened {
        Opened {
            config: vec![],
            roster: vec![],
            slots: vec![],
            now: Seen { incarnation: Incarnation([1; 16]), log_len, log_head: Hash([9; 32]) },
            head_at_seen: head_at_seen.map(|b| Hash([b; 32])),
            lease: Lease::default(),
            lost: Lost::Ids(vec![]),
            chunks: 0,
            last: last.map(|(sequence, b)| LastSnapshot { id: SnapshotId([b; 32]), sequence }),
            snapshots: vec![],
            protect_secs: 0,
        }
    }

    #[test]
    fn contradictions_are_detected() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RepoFolder::new(dir.path().join("r"));
        let client = ClientId([3; 16]);
        assert_eq!(
            folder.seen().unwrap().contradiction(&opened(1, None, None), Some(client)),
            None,
            "nothing was seen yet"
        );

        let seen = Seen { incarnation: Incarnation([1; 16]), log_len: 5, log_head: Hash([5; 32]) };
        folder.advance(seen).unwrap();
        folder.advance(Seen { log_len: 4, ..seen }).unwrap();
        folder.acknowledged(client, LastSnapshot { id: SnapshotId([7; 32]), sequence: 2 }, None).unwrap();
        let state = folder.seen().unwrap();
        assert_eq!(state.seen(), Some(seen), "the point only moves forward");

        let verdict = |o: &Opened| state.contradiction(o, Some(client));
        assert_eq!(verdict(&opened(5, Some(5), Some((2, 7)))), None);
        assert_eq!(verdict(&opened(9, Some(5), Some((3, 8)))), None);
        assert!(verdict(&opened(4, None, Some((2, 7)))).is_some(), "a shorter log");
        assert!(verdict(&opened(9, Some(6), Some((2, 7)))).is_some(), "another history");
        assert!(verdict(&opened(9, None, Some((2, 7)))).is_some(), "no answer proves nothing");
        assert!(verdict(&opened(9, Some(5), Some((1, 7)))).is_some(), "the newest snapshot is gone");
        assert!(verdict(&opened(9, Some(5), Some((2, 8)))).is_some(), "the newest snapshot was replaced");
        assert!(verdict(&opened(9, Some(5), None)).is_some(), "all snapshots are gone");
        assert_eq!(state.contradiction(&opened(9, Some(5), None), None), None, "no client was asked about");

        folder.accept(Seen { log_len: 3, ..seen }, Some((client, None))).unwrap();
        assert_eq!(folder.seen().unwrap().contradiction(&opened(3, Some(5), None), Some(client)), None);
    }
}
