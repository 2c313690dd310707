//! Repairing a log that is damaged in both its files at one place, so that the repository does not open any more.
//!
//! All records that can be read stay, each in its place, because tombstones and clients name places. In the place of a
//! lost record goes the commit of a stored snapshot that fits there; for the first record, what the configuration says;
//! otherwise a *gap*. The hashes behind a gap differ from before. So this is another past than the one that clients
//! have seen, and they report that (`bkfs check --accept-rollback`): no store can prove that it has lost nothing else.
//!
//! Whatever a lost record may have said of packs must not remove anything. So these records are appended: a new
//! incarnation; *abort*, for a prune that was given up; *revive*, for packs that exist and would count as swept; and a
//! *quarantine* that begins a generation later than any lost one, and makes clients ask again about everything.
//!
//! **Order.** The damaged files are kept under other names. Then the second file is replaced, then the first. As soon
//! as the second file is replaced, the repository opens with the new log, from whichever file.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use bytes::Bytes;

use crate::{
    base::{
        codec,
        error::{Error, Result},
        id::{ClientId, Hash, Incarnation, PackId, RepoId, SnapshotId},
        time::Time,
    },
    crypto,
    format::{
        config::{Config, verify_config},
        log::{
            Event, LogRecord,
            file::{self as log_file, Position},
            salvage::{Salvaged, salvage},
        },
        loss::Lost,
        roster::{Roster, verify_roster},
        snapshot::{StoredSnapshot, snapshot_id, verify_stored},
    },
    repository::{
        backend::{Backend, LocalBackend},
        clock::system_time,
        layout,
        objects::admin_key,
    },
};

/// The pieces in which a file is read that cannot be read in one go.
const PIECE: usize = 4096;
/// The longest log that is repaired. The repair is done in memory.
const LOG_MAX: u64 = 4 << 30;

/// What a repair did to a log, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogReport {
    /// Its records after the repair.
    pub records: u64,
    /// Whether one copy was restored from the other: nothing was lost.
    pub is_mended: bool,
    /// Whether records were lost, and the log was rewritten.
    pub is_rewritten: bool,
    /// Snapshots whose commits were lost, and were restored.
    pub recovered: Vec<SnapshotId>,
    /// The places of records that are lost.
    pub lost: Vec<u64>,
    /// Bytes at the end in which no record was found, and which were cut off.
    pub cut: u64,
}

/// Makes the log of the repository in a folder whole; if that cannot be done, as whole as it can be. The repository
/// must not be open in this process. A dry run only reports what would be done.
pub fn repair_log(folder: &Path, dry_run: bool) -> Result<LogReport> {
    repair(&LocalBackend::new(folder), system_time(), dry_run)
}

/// Repairs the log of a repository on any backend, like [`repair_log`].
pub fn repair_log_on(backend: &dyn Backend, dry_run: bool) -> Result<LogReport> {
    repair(backend, system_time(), dry_run)
}

fn repair(backend: &dyn Backend, now: Time, dry_run: bool) -> Result<LogReport> {
    let (config, config_bytes) = config(backend)?;
    let _lock = backend.lock()?;
    let names = [layout::LOG, layout::SECOND_LOG];
    let files = [read(backend, names[0])?, read(backend, names[1])?];
    let [first, second] = files.each_ref().map(|file| file.as_deref().unwrap_or_default());
    if first.is_empty() && second.is_empty() {
        let reason = "both its files are missing or empty: put them back from a backup";
        return Err(Error::damaged("the repository's log", reason));
    }
    let salvaged = salvage(first, second);
    let mut report =
        LogReport { records: salvaged.records.len() as u64, cut: salvaged.cut as u64, ..LogReport::default() };
    let bytes = match salvaged.is_whole() {
        true => frames(&salvaged.records.into_iter().flatten().collect::<Vec<_>>()),
        false => {
            let mut log = NewLog::new(backend, &config, &config_bytes, salvaged)?;
            log.recover(backend, now, &mut report)?;
            log.finish(backend, now)?;
            report.records = log.records.len() as u64;
            report.is_rewritten = true;
            frames(&log.records.iter().map(LogRecord::encode).collect::<Vec<_>>())
        }
    };
    let is_right = |file: &Option<Bytes>| file.as_deref() == Some(&bytes[..]);
    report.is_mended = !report.is_rewritten && !files.iter().all(is_right);
    if dry_run {
        return Ok(report);
    }
    if report.is_rewritten {
        keep(backend, &names, &files)?;
    }
    for (name, file) in names.iter().zip(&files).rev() {
        if !is_right(file) {
            backend.put(name, &bytes)?;
        }
    }
    Ok(report)
}

/// The configuration, from whichever copy is whole.
fn config(backend: &dyn Backend) -> Result<(Config, Bytes)> {
    let mut failed = None;
    for name in layout::copies(layout::CONFIG) {
        let Some(bytes) = read(backend, &name)? else { continue };
        match verify_config(&bytes) {
            Ok(config) => return Ok((config, bytes)),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or(Error::NoRepository { place: backend.place() }))
}

/// A file, with zeros where it cannot be read.
fn read(backend: &dyn Backend, name: &str) -> Result<Option<Bytes>> {
    let len = backend.len(name)?.unwrap_or(0);
    if len > LOG_MAX {
        return Err(Error::TooLarge { what: "a log", size: len, limit: LOG_MAX });
    }
    match backend.get(name) {
        Err(error) if error.is_unreadable() => {
            let mut bytes = vec![0; len as usize];
            for (number, piece) in bytes.chunks_mut(PIECE).enumerate() {
                if let Ok(Some(read)) = backend.get_range(name, (number * PIECE) as u64, piece.len()) {
                    piece[..read.len()].copy_from_slice(&read);
                }
            }
            Ok(Some(bytes.into()))
        }
        read => read,
    }
}

/// Keeps the damaged files under other names: more of them may be readable one day.
fn keep(backend: &dyn Backend, names: &[&str; 2], files: &[Option<Bytes>; 2]) -> Result<()> {
    let mut suffix = String::from("damaged");
    for number in 2.. {
        if names.iter().all(|name| matches!(backend.len(&format!("{name}.{suffix}")), Ok(None))) {
            break;
        }
        suffix = format!("damaged-{number}");
    }
    for (name, file) in names.iter().zip(files) {
        if let Some(bytes) = file {
            backend.put(&format!("{name}.{suffix}"), bytes)?;
        }
    }
    Ok(())
}

fn frames(records: &[Vec<u8>]) -> Vec<u8> {
    let (mut at, mut bytes) = (Position::default(), Vec::new());
    for raw in records {
        let (framed, next) = log_file::encode_bytes(at, raw);
        bytes.extend(framed);
        at = next;
    }
    bytes
}

/// A log that is being put together.
struct NewLog {
    records: Vec<LogRecord>,
    /// The places whose records are still lost.
    lost: Vec<usize>,
    roster: Roster,
    repo: RepoId,
}

impl NewLog {
    fn new(backend: &dyn Backend, config: &Config, config_bytes: &Bytes, salvaged: Salvaged) -> Result<Self> {
        let admin = admin_key(config)?;
        let (mut records, mut lost, mut roster) = (Vec::new(), Vec::new(), None::<Roster>);
        for (place, raw) in salvaged.records.into_iter().enumerate() {
            let record = raw.map(|raw| codec::decode::<LogRecord>("a record of the log", &raw)).transpose()?;
            let record = record.unwrap_or_else(|| {
                lost.push(place);
                let time = records.last().map_or(Time::default(), |before: &LogRecord| before.time);
                LogRecord { seq: place as u64, time, event: Event::Gap }
            });
            if let Event::Roster { signed } = &record.event
                && let Ok(found) = verify_roster(signed, &admin, config.repo)
                && roster.as_ref().is_none_or(|roster| found.number > roster.number)
            {
                roster = Some(found);
            }
            records.push(record);
        }
        let roster = roster.ok_or_else(|| {
            let reason =
                "no roster is left in it, and without one no snapshot and no pack counts: put it back from a backup";
            Error::damaged(format!("the log of the repository at {}", backend.place()), reason)
        })?;
        if let Some(first) = records.first_mut().filter(|first| first.event == Event::Gap) {
            first.event = Event::Init { config: Hash::of(&[config_bytes]) };
            lost.retain(|place| *place != 0);
        }
        Ok(Self { records, lost, roster, repo: config.repo })
    }

    /// Puts commits of stored snapshots into lost places where they fit, and appends others.
    fn recover(&mut self, backend: &dyn Backend, now: Time, report: &mut LogReport) -> Result<()> {
        let mut committed: BTreeMap<(ClientId, u64), usize> = BTreeMap::new();
        let mut known: HashSet<SnapshotId> = HashSet::new();
        for (place, record) in self.records.iter().enumerate() {
            if let Event::Commit { snapshot, client, sequence, .. } = record.event {
                committed.insert((client, sequence), place);
                known.insert(snapshot);
            }
        }
        let mut found: BTreeMap<(u64, ClientId), (SnapshotId, StoredSnapshot)> = BTreeMap::new();
        for id in stored_snapshots(backend)?.into_iter().filter(|id| !known.contains(id)) {
            if let Some(stored) = self.snapshot(backend, id, now)?
                && !committed.contains_key(&(stored.client, stored.sequence))
            {
                found.insert((stored.sequence, stored.client), (id, stored));
            }
        }
        let event = |id: SnapshotId, stored: &StoredSnapshot| {
            let (client, target, sequence) = (stored.client, stored.target, stored.sequence);
            Event::Commit { snapshot: id, client, target, sequence, sender: None }
        };
        for place in std::mem::take(&mut self.lost) {
            let fits = |(sequence, client): &(u64, ClientId)| {
                let before = *sequence == 1 || committed.get(&(*client, sequence - 1)).is_some_and(|at| *at < place);
                before && committed.get(&(*client, sequence + 1)).is_none_or(|at| *at > place)
            };
            let Some(key) = found.keys().find(|key| fits(key)).copied() else {
                self.lost.push(place);
                continue;
            };
            if let Some((id, stored)) = found.remove(&key) {
                self.records[place].event = event(id, &stored);
                committed.insert((stored.client, stored.sequence), place);
                report.recovered.push(id);
            }
        }
        // What was committed by records after the last one that is left.
        for ((sequence, client), (id, stored)) in found {
            let last = committed.range((client, 0)..=(client, u64::MAX)).next_back().map_or(0, |((_, last), _)| *last);
            if sequence == last + 1 {
                committed.insert((client, sequence), self.records.len());
                self.push(now, event(id, &stored));
                report.recovered.push(id);
            }
        }
        report.lost = self.lost.iter().map(|place| *place as u64).collect();
        Ok(())
    }

    /// A stored snapshot, if it is whole and its client is on the roster.
    fn snapshot(&self, backend: &dyn Backend, id: SnapshotId, now: Time) -> Result<Option<StoredSnapshot>> {
        let [first, second] = layout::copies(&layout::snapshot(id));
        for name in [second, first] {
            let Some(bytes) = read(backend, &name)?.filter(|bytes| snapshot_id(bytes) == id) else { continue };
            // The client may have been removed since. Its snapshot counts if the client counted when the log was last
            // written to.
            let times = [self.records.last().map_or(now, |last| last.time), now];
            let stored = times.into_iter().find_map(|time| verify_stored(&bytes, &self.roster, time).ok());
            return Ok(stored.filter(|stored| stored.repo == self.repo));
        }
        Ok(None)
    }

    fn push(&mut self, time: Time, event: Event) {
        self.records.push(LogRecord { seq: self.records.len() as u64, time, event });
    }

    /// Appends the records that keep every pack that exists.
    fn finish(&mut self, backend: &dyn Backend, now: Time) -> Result<()> {
        let (mut swept, mut generation) = (HashMap::<PackId, bool>::new(), 1);
        for record in &self.records {
            match &record.event {
                Event::Sweep { packs } => swept.extend(packs.iter().map(|pack| (*pack, true))),
                Event::Revive { packs } => swept.extend(packs.iter().map(|pack| (*pack, false))),
                Event::Condemn { generation: begun, .. }
                | Event::Quarantine { generation: begun, .. }
                | Event::Verdict { generation: Some(begun), .. } => {
                    generation = generation.max(*begun);
                }
                _ => {}
            }
        }
        let mut there = Vec::new();
        for (pack, is_swept) in swept {
            if is_swept && backend.len(&layout::pack(pack))?.is_some() {
                there.push(pack);
            }
        }
        there.sort_unstable();
        self.push(now, Event::Incarnation { incarnation: Incarnation(crypto::random()), reason: "repair".into() });
        self.push(now, Event::Abort);
        if !there.is_empty() {
            self.push(now, Event::Revive { packs: there });
        }
        // Each lost record may have begun a generation, and how many records were cut off is unknown.
        let generation = generation + self.records.len() as u64;
        self.push(now, Event::Quarantine { generation, packs: vec![], lost: Lost::Everything });
        Ok(())
    }
}

/// The ids of all stored snapshots.
fn stored_snapshots(backend: &dyn Backend) -> Result<HashSet<SnapshotId>> {
    let mut found = HashSet::new();
    for folder in layout::folders(layout::SNAPSHOTS) {
        found.extend(backend.list(&folder)?.iter().filter_map(|listed| listed.name.parse::<SnapshotId>().ok()));
    }
    Ok(found)
}
