//! The snapshots of a repository: fetched as the log grows, verified, opened, checked for gaps in their chains, and sorted
//! by what became of them.
//!
//! The log says what was committed, forgotten and brought back. Only what a tombstone of the admin key covers counts as
//! forgotten ([`crate::format::tombstone`]); of what is gone without one, the list says that the store's operator removed it. A
//! chain is followed across what is gone: the log names it, and the next snapshot must name the same.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use super::Reader;
use crate::{
    access::{COMMITTED_MAX, CommittedSnapshot, LOG_BYTES, OpenRequest, PruneReply, PruneRequest},
    base::{
        codec,
        error::{Error, Result},
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::{
        fate::{Fate, FateStep},
        log::{Event, LogRecord},
        roster::{Roster, RosterView},
        snapshot::{self, Chains, Snapshot, SnapshotObject},
        tombstone::Tombstone,
        tree::Node,
    },
};

/// How many snapshots one request asks for.
const BATCH: u32 = 256;
/// How many records of the log one request asks for.
const RECORDS: u32 = 4096;

/// A snapshot, verified and opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// Its id.
    pub id: SnapshotId,
    /// Place of its commit in the log.
    pub log_seq: u64,
    /// When the store received it.
    pub received: Time,
    /// Who pushed it.
    pub client: ClientId,
    /// Its record.
    pub snapshot: Snapshot,
}

/// A snapshot in the trash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trashed {
    /// The snapshot.
    pub info: SnapshotInfo,
    /// When it was forgotten, by the store's clock.
    pub since: Time,
}

/// A snapshot that was committed and cannot be shown: it does not open, is of no client on the roster, or is withheld.
#[derive(Debug)]
pub struct Broken {
    /// The snapshot.
    pub id: SnapshotId,
    /// When the store received it.
    pub received: Time,
    /// Whether it was forgotten, and is in the trash.
    pub trashed: bool,
    /// What is wrong with it.
    pub error: Error,
}

/// A snapshot that the store's operator made away with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purged {
    /// The snapshot.
    pub id: SnapshotId,
    /// Place in the log of the record that says so.
    pub log_seq: u64,
}

impl fmt::Display for Purged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, log_seq } = self;
        write!(
            f,
            "snapshot {id} was removed by the server's operator, and by no key of this repository (entry {log_seq} of the \
             log); if that was agreed upon, `bkfs forget {id}` takes note of it"
        )
    }
}

/// What is known of the snapshots.
#[derive(Debug, Default)]
pub struct SnapshotList {
    /// The snapshots that count, in the order of their commits.
    pub snapshots: Vec<SnapshotInfo>,
    /// Those in the trash, in the order of their commits.
    pub trash: Vec<Trashed>,
    /// Those that are gone without a word of the owner, in the order of the log.
    pub purged: Vec<Purged>,
    /// Length of the log that says all this, in records.
    pub log_len: u64,
    /// Those that are not gone and cannot be shown.
    pub broken: Vec<Broken>,
    /// What else is wrong: gaps in chains, entries of the log that make no sense.
    pub problems: Vec<Error>,
}

impl SnapshotList {
    /// Everything that is wrong, but for what was purged.
    pub fn errors(&self) -> impl Iterator<Item = &Error> {
        self.broken.iter().map(|broken| &broken.error).chain(&self.problems)
    }
}

#[derive(Default)]
pub(super) struct State {
    /// How many records of the log were read.
    next: u64,
    /// What they say of each snapshot that was ever committed.
    known: HashMap<SnapshotId, Known>,
    /// Commits whose objects are still to be fetched, by their places in the log.
    waiting: BTreeMap<u64, Commit>,
    /// Whether fates have changed since the list was sorted.
    changed: bool,
    roster: Option<RosterView>,
    chains: Chains,
    list: SnapshotList,
}

/// A commit as the log has it.
#[derive(Debug, Clone, Copy)]
struct Commit {
    id: SnapshotId,
    client: ClientId,
    sequence: u64,
    received: Time,
}

impl Commit {
    fn broken(&self, error: Error) -> Broken {
        Broken { id: self.id, received: self.received, trashed: false, error }
    }

    fn damaged(&self, reason: String) -> Broken {
        self.broken(Error::SnapshotDamaged { snapshot: self.id, reason })
    }
}

/// What the log says of a snapshot.
#[derive(Debug, Clone, Copy)]
struct Known {
    fate: Option<Fate>,
    /// Place of its commit, or of the record that last brought it back.
    changed_seq: u64,
    /// Place of the record that expired it.
    expired_seq: u64,
}

impl State {
    fn fate(&self, id: &SnapshotId) -> Option<Fate> {
        self.known.get(id).and_then(|known| known.fate)
    }
}

impl Reader {
    /// The snapshots that count, oldest first. Asks only for what is new since the last call.
    pub fn snapshots(&self) -> Result<Vec<SnapshotInfo>> {
        self.with_snapshots(|list| list.snapshots.clone())
    }

    /// Brings the list up to date and shows it, with what is wrong about it.
    pub fn with_snapshots<T>(&self, show: impl FnOnce(&SnapshotList) -> T) -> Result<T> {
        let mut state = self.snapshots.lock();
        self.follow(&mut state)?;
        while let Some((first, _)) = state.waiting.first_key_value() {
            let first = *first;
            self.fetch_snapshots(&mut state, first)?;
        }
        if std::mem::take(&mut state.changed) {
            arrange(&mut state);
        }
        state.list.log_len = state.next;
        Ok(show(&state.list))
    }

    /// Whether a snapshot is gone for good by now, as the log says.
    pub(crate) fn is_gone(&self, id: &SnapshotId) -> Result<bool> {
        let mut state = self.snapshots.lock();
        self.follow(&mut state)?;
        Ok(Fate::is_expired(state.fate(id)))
    }

    /// Reads what was appended to the log.
    fn follow(&self, state: &mut State) -> Result<()> {
        loop {
            let records = self.access.log(state.next, RECORDS)?;
            let bytes: usize = records.iter().map(Vec::len).sum();
            let is_end = records.is_empty() || (records.len() < RECORDS as usize && bytes < LOG_BYTES);
            for bytes in &records {
                let seq = state.next;
                state.next += 1;
                match codec::decode::<LogRecord>("an entry of the log", bytes) {
                    Ok(record) if record.seq == seq => self.heed(state, record),
                    Ok(record) => {
                        let reason = format!("it says that it is {}", record.seq);
                        state.list.problems.push(Error::damaged(entry(seq), reason));
                    }
                    Err(error) => state.list.problems.push(Error::damaged(entry(seq), error)),
                }
            }
            if is_end {
                return Ok(());
            }
        }
    }

    fn heed(&self, state: &mut State, record: LogRecord) {
        let LogRecord { seq, time, event } = record;
        let (id, step, signed) = match event {
            Event::Commit { snapshot: id, client, sequence, .. } => {
                state.known.insert(id, Known { fate: None, changed_seq: seq, expired_seq: 0 });
                state.waiting.insert(seq, Commit { id, client, sequence, received: time });
                return;
            }
            Event::Forget { snapshot, signed } => (snapshot, FateStep::Forget, signed),
            Event::Unforget { snapshot } => (snapshot, FateStep::Unforget, Vec::new()),
            Event::Expire { snapshot } => (snapshot, FateStep::Expire, Vec::new()),
            _ => return,
        };
        let mut problem = |reason: String| state.list.problems.push(Error::damaged(entry(seq), reason));
        let Some(known) = state.known.get_mut(&id) else {
            return problem(format!("it is about snapshot {id}, which was never committed"));
        };
        if step == FateStep::Forget {
            let admin = self.keys.full().admin.verifying_key();
            let serves = match Tombstone::verify(&signed, &admin, self.config.repo) {
                Ok(tombstone) => tombstone.applies_to(id, known.changed_seq),
                Err(_) => false,
            };
            if !serves {
                return problem(format!("it forgets snapshot {id}, but no key of this repository asked for that"));
            }
        }
        let before = known.fate;
        known.fate = Fate::after(before, step, time);
        if before.is_some() && known.fate.is_none() {
            known.changed_seq = seq;
        }
        if step == FateStep::Expire && !Fate::is_expired(before) {
            known.expired_seq = seq;
        }
        state.changed |= known.fate != before;
    }

    /// Fetches objects of commits that wait, the first of which is at `first`, and takes them in.
    fn fetch_snapshots(&self, state: &mut State, first: u64) -> Result<()> {
        let answer = self.access.snapshots(first, BATCH)?;
        if answer.windows(2).any(|two| two[0].log_seq >= two[1].log_seq)
            || answer.first().is_some_and(|o| o.log_seq < first)
        {
            return Err(other_snapshots());
        }
        let covered = answer.last().map_or(u64::MAX, |newest| newest.log_seq);
        let mut objects: HashMap<u64, SnapshotObject> = answer.into_iter().map(|o| (o.log_seq, o)).collect();
        let absent = |state: &State| {
            let mut due = state.waiting.range(first..=covered);
            due.any(|(seq, commit)| !objects.contains_key(seq) && !Fate::is_expired(state.fate(&commit.id)))
        };
        if absent(state) {
            // It may have expired just now.
            self.follow(state)?;
        }
        let due: Vec<(u64, Commit)> =
            state.waiting.range(first..=covered).map(|(seq, commit)| (*seq, *commit)).collect();
        for (seq, commit) in due {
            let object = match objects.remove(&seq) {
                Some(object) => object,
                // It may have been committed just now: it is asked for by itself before it counts as withheld.
                None if seq > first && !Fate::is_expired(state.fate(&commit.id)) => return Ok(()),
                None => {
                    state.waiting.remove(&seq);
                    state.chains.skip(commit.client, commit.sequence, commit.id);
                    if !Fate::is_expired(state.fate(&commit.id)) {
                        let reason = format!("{} committed it, but it is not handed out", entry(seq));
                        state.list.broken.push(commit.damaged(reason));
                        state.changed |= state.fate(&commit.id).is_some();
                    }
                    continue;
                }
            };
            let taken = match object.id == commit.id {
                true => self.admit(state, &object),
                false => {
                    let reason = format!("{} committed it, but {} is handed out", entry(seq), object.id);
                    Err(commit.damaged(reason).error)
                }
            };
            if let Err(error @ (Error::Unreachable(_) | Error::NoPermission { .. })) = taken {
                return Err(error);
            }
            state.waiting.remove(&seq);
            match taken {
                Ok(info) => {
                    state.changed |= state.fate(&info.id).is_some();
                    state.list.snapshots.push(info);
                }
                Err(error) => {
                    // Its number and name are known all the same: the next one is no gap.
                    state.chains.skip(commit.client, commit.sequence, commit.id);
                    state.list.broken.push(commit.broken(error));
                    state.changed |= state.fate(&commit.id).is_some();
                }
            }
        }
        Ok(())
    }

    fn admit(&self, state: &mut State, object: &SnapshotObject) -> Result<SnapshotInfo> {
        if snapshot::snapshot_id(&object.bytes) != object.id {
            let reason = "its bytes do not have its id".to_owned();
            return Err(Error::SnapshotDamaged { snapshot: object.id, reason });
        }
        let verify = |view: &RosterView| snapshot::verify_stored(&object.bytes, view.newest(), object.received);
        let stored = match state.roster.as_ref().map(verify) {
            // The client may have been enrolled since: look at the newest roster before refusing it.
            None | Some(Err(Error::NotOnRoster { .. })) => verify(self.renew(&mut state.roster)?)?,
            Some(verified) => verified?,
        };
        let snapshot = self.keys.open_snapshot(&stored, object.id)?;
        // A gap in a chain is a problem of the store; the snapshot itself is sound and counts.
        if let Err(problem) = state.chains.admit(object.id, &stored, &snapshot) {
            state.list.problems.push(problem);
        }
        let SnapshotObject { id, log_seq, received, .. } = *object;
        Ok(SnapshotInfo { id, log_seq, received, client: stored.client, snapshot })
    }

    /// The snapshots that the store keeps and that were committed at these places of the log, the trash included.
    pub(crate) fn committed(&self, places: std::ops::Range<u64>) -> Result<Vec<CommittedSnapshot>> {
        let (mut found, mut from) = (Vec::new(), places.start);
        loop {
            let PruneReply::Committed(rows) = self.access.prune(&PruneRequest::Committed { from })? else {
                return Err(other_snapshots());
            };
            for row in &rows {
                if row.log_seq < from {
                    return Err(other_snapshots());
                }
                from = row.log_seq + 1;
                if places.contains(&row.log_seq) {
                    found.push(*row);
                }
            }
            if rows.len() < COMMITTED_MAX || from >= places.end {
                return Ok(found);
            }
        }
    }

    /// The roots of snapshots, in the order of the log. Those that
    /// are gone for good meanwhile are left out. Fails at the first that does not open: what cannot be seen cannot be said to be dead.
    pub(crate) fn roots(&self, wanted: &[CommittedSnapshot]) -> Result<Vec<(SnapshotId, Node)>> {
        let [Some(first), Some(last)] = [wanted.first(), wanted.last()] else { return Ok(Vec::new()) };
        let (mut objects, mut next, mut roots) = (Vec::new(), first.log_seq, Vec::new());
        // Between them others may lie that are not wanted.
        while next <= last.log_seq {
            let more = self.access.snapshots(next, BATCH)?;
            match more.last().map(|object| object.log_seq) {
                None => break,
                Some(newest) if newest < next => {
                    return Err(Error::Invalid("the store answered with other snapshots than were asked for".into()));
                }
                Some(newest) => next = newest + 1,
            }
            objects.extend(more.into_iter().filter(|object| wanted.iter().any(|wanted| wanted.id == object.id)));
        }
        for CommittedSnapshot { log_seq, id, .. } in wanted.iter().copied() {
            match objects.iter().find(|object| object.id == id) {
                Some(object) => roots.push((id, self.root_of(object)?)),
                None if self.committed(log_seq..log_seq + 1)?.is_empty() => {}
                None => {
                    let reason = format!("{} committed it, but it is not handed out", entry(log_seq));
                    return Err(Error::SnapshotDamaged { snapshot: id, reason });
                }
            }
        }
        Ok(roots)
    }

    fn root_of(&self, object: &SnapshotObject) -> Result<Node> {
        if snapshot::snapshot_id(&object.bytes) != object.id {
            let reason = "its bytes do not have its id, so nobody knows what it needs".to_owned();
            return Err(Error::SnapshotDamaged { snapshot: object.id, reason });
        }
        let mut state = self.snapshots.lock();
        let verify = |view: &RosterView| snapshot::verify_stored(&object.bytes, view.newest(), object.received);
        let stored = match state.roster.as_ref().map(verify) {
            None | Some(Err(Error::NotOnRoster { .. })) => verify(self.renew(&mut state.roster)?)?,
            Some(verified) => verified?,
        };
        drop(state);
        Ok(self.keys.open_snapshot(&stored, object.id)?.root)
    }

    /// Takes note of a roster that came with an opening, so that none need be asked for.
    pub fn heed_roster(&self, signed: &[u8]) -> Result<()> {
        let view = &mut self.snapshots.lock().roster;
        match view {
            Some(view) => view.renew(signed).map(drop),
            None => {
                let admin = self.keys.full().admin.verifying_key();
                *view = Some(RosterView::new(signed, admin, self.config.repo)?);
                Ok(())
            }
        }
    }

    /// The repository's newest roster, verified. Not to be called from within [`Reader::with_snapshots`].
    pub fn roster(&self) -> Result<Roster> {
        self.renew(&mut self.snapshots.lock().roster).map(|view| view.newest().clone())
    }

    fn renew<'a>(&self, view: &'a mut Option<RosterView>) -> Result<&'a RosterView> {
        let signed = self.access.open(&OpenRequest::default())?.roster;
        match view {
            Some(view) => {
                view.renew(&signed)?;
                Ok(view)
            }
            None => {
                let admin = self.keys.full().admin.verifying_key();
                Ok(view.insert(RosterView::new(&signed, admin, self.config.repo)?))
            }
        }
    }
}

/// Sorts the snapshots by their fates.
fn arrange(state: &mut State) {
    let list = &mut state.list;
    let mut all = std::mem::take(&mut list.snapshots);
    all.extend(std::mem::take(&mut list.trash).into_iter().map(|trashed| trashed.info));
    all.sort_by_key(|info| info.log_seq);
    for info in all {
        match state.known.get(&info.id).and_then(|known| known.fate) {
            None => list.snapshots.push(info),
            Some(Fate::Trash { since }) => list.trash.push(Trashed { info, since }),
            Some(Fate::Expired { .. }) => {}
        }
    }
    list.broken.retain_mut(|broken| {
        let fate = state.known.get(&broken.id).and_then(|known| known.fate);
        broken.trashed = matches!(fate, Some(Fate::Trash { .. }));
        !Fate::is_expired(fate)
    });
    let purged = state.known.iter().filter(|(_, known)| known.fate == Some(Fate::Expired { is_signed: false }));
    list.purged = purged.map(|(id, known)| Purged { id: *id, log_seq: known.expired_seq }).collect();
    list.purged.sort_by_key(|purged| purged.log_seq);
}

fn other_snapshots() -> Error {
    Error::Invalid("the store answered with other snapshots than were asked for".into())
}

fn entry(seq: u64) -> String {
    format!("entry {seq} of the log")
}
