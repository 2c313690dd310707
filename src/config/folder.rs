//! What is kept for one repository: the push key, and the state that reveals a rollback.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Result;
use bkfs_store::{
    access::{LastSnapshot, Opened, Seen},
    base::id::ClientId,
    crypto::SealNumber,
    format::keys::SealKeys,
};
use serde::{Deserialize, Serialize};

use super::files::{Remembered, read_optional, read_toml, update_toml, write_private};
use crate::place::CopyId;

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
    /// The number of the newest seal key.
    #[serde(default)]
    seal_key: u32,
    /// The hash of its public part.
    #[serde(default)]
    seal_key_hash: String,
}

/// What a store shows and a person accepts, whatever was seen before.
#[derive(Debug, Clone, Copy)]
pub struct Accepted<'a> {
    /// The end of its log.
    pub now: Seen,
    /// Its seal keys.
    pub seal_keys: &'a SealKeys,
    /// This machine's client, and its newest snapshot.
    pub own: Option<(ClientId, Option<LastSnapshot>)>,
}

/// The file `seen.toml`.
///
/// What was seen is kept for each copy of the repository, because copies go on separately, and a copy is compared with
/// itself. A copy that is new to this machine is compared with the newest state of any: a repository that moved is the
/// same, and one that was rolled back elsewhere is not.
#[derive(Debug, Default, Serialize, Deserialize)]
struct SeenToml {
    #[serde(default)]
    newest: SeenState,
    #[serde(default)]
    copies: BTreeMap<CopyId, SeenState>,
}

impl Remembered for SeenToml {
    const WHAT: &str = "what it has seen of this repository, so a rollback from before is not found";
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

    /// Returns how the list of seal keys contradicts what was seen, as text for a person, or `None` if it does not.
    pub fn seal_contradiction(&self, shown: &SealKeys) -> Option<String> {
        let hash = self.seal_key_hash.parse().ok()?;
        match shown.hash(SealNumber(self.seal_key)) {
            Some(found) if found == hash => None,
            Some(_) => Some(format!("its seal key {} is another one than this machine has seen before", self.seal_key)),
            None => Some(format!(
                "its newest seal key is number {}, but this machine has seen number {} before",
                shown.number(),
                self.seal_key
            )),
        }
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

    /// Returns what was last seen of a copy, and whether this machine knows the copy. If it does not, that is what was
    /// last seen of any copy.
    pub fn seen(&self, copy: &CopyId) -> Result<(SeenState, bool)> {
        let mut seen: SeenToml = read_toml(&self.seen_path())?;
        Ok(match seen.copies.remove(copy) {
            Some(state) => (state, true),
            None => (seen.newest, false),
        })
    }

    /// Records a newer point of the log. A point before the remembered one changes nothing.
    pub fn advance(&self, copy: &CopyId, now: Seen) -> Result<()> {
        let (state, is_known) = self.seen(copy)?;
        let is_same_incarnation = state.incarnation == now.incarnation.to_string();
        let is_old = |seen: Seen| now.log_len < seen.log_len || (now.log_len == seen.log_len && is_same_incarnation);
        if is_known && state.seen().is_some_and(is_old) {
            return Ok(());
        }
        self.update(copy, |state| state.advance(now))
    }

    /// Records the newest seal key that was seen.
    pub fn saw_seal_key(&self, copy: &CopyId, shown: &SealKeys) -> Result<()> {
        let (state, is_known) = self.seen(copy)?;
        match is_known && state.seal_key == shown.number().0 {
            true => Ok(()),
            false => self.update(copy, |state| {
                if state.seal_key < shown.number().0 {
                    state.set_seal_key(shown);
                }
            }),
        }
    }

    /// Records that a client's snapshot was acknowledged, and the point of the log that came with it.
    pub fn acknowledged(&self, copy: &CopyId, client: ClientId, last: LastSnapshot, now: Option<Seen>) -> Result<()> {
        self.update(copy, |state| {
            if let Some(now) = now {
                state.advance(now);
            }
            if state.own(client).is_none_or(|own| own.sequence < last.sequence) {
                state.set_own(client, last);
            }
        })
    }

    /// Accepts what the store shows, whatever was seen before, of this copy or of another one.
    pub fn accept(&self, copy: &CopyId, accepted: &Accepted<'_>) -> Result<()> {
        self.update(copy, |state| state.accept(accepted))
    }

    /// Accepts what the store shows as a copy that goes on by itself. What was seen of other copies stays.
    pub fn accept_copy(&self, copy: &CopyId, accepted: &Accepted<'_>) -> Result<()> {
        update_toml(&self.seen_path(), |seen: &mut SeenToml| {
            seen.copies.entry(copy.clone()).or_default().accept(accepted);
        })
    }

    fn seen_path(&self) -> PathBuf {
        self.file("seen.toml")
    }

    /// Returns the path of a file in this folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Changes what was seen of a copy, and of all.
    fn update(&self, copy: &CopyId, change: impl Fn(&mut SeenState)) -> Result<()> {
        update_toml(&self.seen_path(), |seen: &mut SeenToml| {
            change(&mut seen.newest);
            let newest = &seen.newest;
            let state = seen.copies.entry(copy.clone()).or_insert_with(|| newest.clone());
            change(state);
        })
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

    fn set_seal_key(&mut self, shown: &SealKeys) {
        self.seal_key = shown.number().0;
        self.seal_key_hash = shown.hash(shown.number()).map(|hash| hash.to_string()).unwrap_or_default();
    }

    fn accept(&mut self, accepted: &Accepted<'_>) {
        self.set(accepted.now);
        self.set_seal_key(accepted.seal_keys);
        match accepted.own {
            Some((client, Some(last))) => self.set_own(client, last),
            Some((client, None)) => drop(self.clients.remove(&client.to_string())),
            None => self.clients.clear(),
        }
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
        base::{
            id::{Hash, Incarnation, RepoId, SnapshotId},
            time::Time,
        },
        format::{
            config::{ChunkerParams, verify_config},
            keys::FullKey,
            loss::Lost,
        },
    };

    use super::*;
    use crate::place::Place;

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
            time: bkfs_store::base::time::Time::default(),
            standing: None,
            room: None,
            seal_keys: vec![],
        }
    }

    #[test]
    fn contradictions_are_detected() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RepoFolder::new(dir.path().join("r"));
        let client = ClientId([3; 16]);
        let copy = &Place::Path("/a".into()).copy();
        assert_eq!(
            folder.seen(copy).unwrap().0.contradiction(&opened(1, None, None), Some(client)),
            None,
            "nothing was seen yet"
        );

        let seen = Seen { incarnation: Incarnation([1; 16]), log_len: 5, log_head: Hash([5; 32]) };
        folder.advance(copy, seen).unwrap();
        folder.advance(copy, Seen { log_len: 4, ..seen }).unwrap();
        folder.acknowledged(copy, client, LastSnapshot { id: SnapshotId([7; 32]), sequence: 2 }, None).unwrap();
        let state = folder.seen(copy).unwrap().0;
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

        let seal_keys = &seal_keys(&FullKey::random(RepoId([1; 16])), &[]);
        let now = Seen { log_len: 3, ..seen };
        folder.accept(copy, &Accepted { now, seal_keys, own: Some((client, None)) }).unwrap();
        assert_eq!(folder.seen(copy).unwrap().0.contradiction(&opened(3, Some(5), None), Some(client)), None);
    }

    fn seal_keys(full: &FullKey, signed: &[u8]) -> SealKeys {
        let config = verify_config(&full.config(Time::default(), ChunkerParams::default())).unwrap();
        SealKeys::verify(signed, &config).unwrap()
    }

    #[test]
    fn a_list_of_seal_keys_from_before_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RepoFolder::new(dir.path().join("r"));
        let [a, b] = ["/a", "/b"].map(|path| Place::Path(path.into()).copy());
        let full = FullKey::random(RepoId([1; 16]));
        let first = seal_keys(&full, &[]);
        let [second, other] = [(); 2].map(|()| seal_keys(&full, &first.rotate(&full).unwrap().signed));
        let contradicts = |copy, shown: &SealKeys| folder.seen(copy).unwrap().0.seal_contradiction(shown).is_some();
        assert!(!contradicts(&a, &first), "nothing was seen yet");
        folder.saw_seal_key(&a, &first).unwrap();
        assert!(!contradicts(&a, &second));
        folder.saw_seal_key(&a, &second).unwrap();
        folder.saw_seal_key(&a, &first).unwrap();
        assert!(!contradicts(&a, &second) && contradicts(&a, &first) && contradicts(&a, &other));
        assert!(contradicts(&b, &first), "a place that is new shows at least what was seen elsewhere");
        let now = Seen { incarnation: Incarnation([1; 16]), log_len: 3, log_head: Hash([1; 32]) };
        folder.accept_copy(&b, &Accepted { now, seal_keys: &first, own: None }).unwrap();
        assert!(!contradicts(&b, &first) && contradicts(&a, &first));
        folder.accept(&a, &Accepted { now, seal_keys: &first, own: None }).unwrap();
        assert!(!contradicts(&a, &first));
    }

    #[test]
    fn copies_are_remembered_apart() {
        let dir = tempfile::tempdir().unwrap();
        let folder = RepoFolder::new(dir.path().join("r"));
        let [a, b, c] = ["/a", "/b", "/c"].map(|path| Place::Path(path.into()).copy());
        let at = |log_len, head| Seen { incarnation: Incarnation([1; 16]), log_len, log_head: Hash([head; 32]) };
        folder.advance(&a, at(9, 9)).unwrap();
        // A copy from before is new to this machine: it is compared with what was seen elsewhere.
        let (state, is_known) = folder.seen(&b).unwrap();
        assert!(!is_known && state.contradiction(&opened(5, None, None), None).is_some());
        let seal_keys = &seal_keys(&FullKey::random(RepoId([1; 16])), &[]);
        folder.accept_copy(&b, &Accepted { now: at(5, 5), seal_keys, own: None }).unwrap();
        folder.advance(&b, at(6, 6)).unwrap();
        // Each is compared with itself from now on.
        let seen = |copy| folder.seen(copy).unwrap().0.seen();
        assert_eq!((seen(&a), seen(&b)), (Some(at(9, 9)), Some(at(6, 6))));
        assert!(folder.seen(&b).unwrap().0.contradiction(&opened(5, None, None), None).is_some(), "a rollback of it");
        // What the copy shows is not enough for a third place.
        assert_eq!(seen(&c), Some(at(9, 9)));
        folder.advance(&c, at(10, 10)).unwrap();
        assert_eq!((seen(&a), seen(&c)), (Some(at(9, 9)), Some(at(10, 10))));
    }
}
