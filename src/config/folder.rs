//! What is kept of one repository: the push key, and the state by which a rollback is noticed.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use bkfs_store::{
    access::{LastSnapshot, Opened, Seen},
    id::ClientId,
};
use serde::{Deserialize, Serialize};

use super::files::{read_optional, read_toml, update_toml, write_private};

/// The folder of one repository in the configuration folder.
#[derive(Debug, Clone)]
pub struct RepoFolder {
    path: PathBuf,
}

/// A client's newest snapshot that this machine made and saw acknowledged.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct OwnSnapshot {
    /// The client's own count.
    pub sequence: u64,
    /// The snapshot.
    pub snapshot: String,
}

/// What was seen of the repository.
#[derive(Debug, Clone, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct SeenState {
    /// Life of the store.
    #[serde(default)]
    incarnation: String,
    /// Length of the log, in records.
    #[serde(default)]
    log_len: u64,
    /// Head of the log at that length.
    #[serde(default)]
    log_head: String,
    /// The newest snapshot of each client whose key was used on this machine.
    #[serde(default)]
    clients: BTreeMap<String, OwnSnapshot>,
}

impl SeenState {
    /// The point of the log, if one is remembered.
    pub fn seen(&self) -> Option<Seen> {
        Some(Seen {
            incarnation: self.incarnation.parse().ok()?,
            log_len: self.log_len,
            log_head: self.log_head.parse().ok()?,
        })
    }

    /// The newest own snapshot that is remembered.
    pub fn own(&self, client: ClientId) -> Option<LastSnapshot> {
        let own = self.clients.get(&client.to_string())?;
        Some(LastSnapshot { id: own.snapshot.parse().ok()?, sequence: own.sequence })
    }

    /// Whether what the store shows contradicts what was seen; if so, how, for a person.
    pub fn contradiction(&self, opened: &Opened, client: Option<ClientId>) -> Option<String> {
        if let Some(seen) = self.seen() {
            if opened.now.log_len < seen.log_len {
                return Some(format!(
                    "its log has {} entries, but {} had been seen before",
                    opened.now.log_len, seen.log_len
                ));
            }
            if opened.head_at_seen != Some(seen.log_head) {
                return Some(format!(
                    "its log differs from what was seen before, within the first {} entries",
                    seen.log_len
                ));
            }
        }
        let own = self.own(client?)?;
        match opened.last {
            Some(last) if last.sequence > own.sequence || last == own => None,
            Some(last) => Some(format!(
                "it shows snapshot {} (number {}) as this client's newest, but {} (number {}) had been acknowledged",
                last.id.short(),
                last.sequence,
                own.id.short(),
                own.sequence
            )),
            None => Some(format!(
                "it knows no snapshot of this client, but {} (number {}) had been acknowledged",
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

    /// Where the push key lies.
    pub fn push_key_path(&self) -> PathBuf {
        self.path.join("push.key")
    }

    /// The bytes of the push key file, if there is one.
    pub fn push_key(&self) -> Result<Option<Vec<u8>>> {
        read_optional(&self.push_key_path())
    }

    /// Keeps a push key.
    pub fn set_push_key(&self, bytes: &[u8]) -> Result<()> {
        write_private(&self.push_key_path(), bytes)
    }

    /// What was seen last.
    pub fn seen(&self) -> Result<SeenState> {
        read_toml(&self.seen_path())
    }

    /// Goes forward to a newer point; a point that lies before the one remembered changes nothing.
    pub fn advance(&self, now: Seen) -> Result<()> {
        let state = self.seen()?;
        let other_life = state.incarnation != now.incarnation.to_string();
        if state.seen().is_some_and(|seen| now.log_len < seen.log_len || (now.log_len == seen.log_len && !other_life)) {
            return Ok(());
        }
        self.update(|state| state.advance(now))
    }

    /// Remembers an own snapshot that was acknowledged, and the point that came with it.
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

    /// Takes what the store shows for the truth, whatever was seen before.
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

    /// A file of this folder.
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
        access::{Lease, Lost},
        id::{Hash, Incarnation, SnapshotId},
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
    fn notices_what_contradicts() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RepoFolder::new(dir.path().join("r"));
        let client = ClientId([3; 16]);
        assert_eq!(
            folder.seen().unwrap().contradiction(&opened(1, None, None), Some(client)),
            None,
            "nothing is known"
        );

        let seen = Seen { incarnation: Incarnation([1; 16]), log_len: 5, log_head: Hash([5; 32]) };
        folder.advance(seen).unwrap();
        folder.advance(Seen { log_len: 4, ..seen }).unwrap();
        folder.acknowledged(client, LastSnapshot { id: SnapshotId([7; 32]), sequence: 2 }, None).unwrap();
        let state = folder.seen().unwrap();
        assert_eq!(state.seen(), Some(seen), "it only goes forward");

        let verdict = |o: &Opened| state.contradiction(o, Some(client));
        assert_eq!(verdict(&opened(5, Some(5), Some((2, 7)))), None);
        assert_eq!(verdict(&opened(9, Some(5), Some((3, 8)))), None);
        assert!(verdict(&opened(4, None, Some((2, 7)))).is_some(), "a shorter log");
        assert!(verdict(&opened(9, Some(6), Some((2, 7)))).is_some(), "another past");
        assert!(verdict(&opened(9, None, Some((2, 7)))).is_some(), "no answer is no proof");
        assert!(verdict(&opened(9, Some(5), Some((1, 7)))).is_some(), "an own snapshot is gone");
        assert!(verdict(&opened(9, Some(5), Some((2, 8)))).is_some(), "an own snapshot was replaced");
        assert!(verdict(&opened(9, Some(5), None)).is_some(), "all own snapshots are gone");
        assert_eq!(state.contradiction(&opened(9, Some(5), None), None), None, "nobody asked for a client");

        folder.accept(Seen { log_len: 3, ..seen }, Some((client, None))).unwrap();
        assert_eq!(folder.seen().unwrap().contradiction(&opened(3, Some(5), None), Some(client)), None);
    }
}
