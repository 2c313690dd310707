//! The catalog of a repository's snapshots. Commands that read find snapshots in it, and paths in snapshots.

use std::sync::Arc;

use anyhow::Result;
use bkfs_fs::select::{Candidate, Coverage, Here, SnapshotFilter, coverage};
use bkfs_store::{
    Error,
    access::Read,
    base::{
        id::{ClientId, SnapshotId},
        time::Time,
    },
    format::{keys::FullKey, tree::Node},
    owner::reader::{
        BrokenSnapshot, Contradiction, PurgedSnapshot, Reader, SnapshotInfo, SnapshotList, TrashedSnapshot,
    },
};

use crate::{
    clients::Clients,
    context::{Context, host_name, working_folder},
    failure::{Exit, Failure, OUTDATED_HINT},
    output, rollback,
    selector::{Filters, Selector, SnapshotName, choose, describe},
    session::Session,
};

/// Bytes of chunks and tree pages that a command caches. A mount caches more, because it reads the same data again.
const CACHE_BYTES: usize = 48 << 20;
/// Bytes of chunks and tree pages that a mount caches.
const MOUNT_CACHE_BYTES: usize = 128 << 20;

/// How many older snapshots are searched for a path that the newest one lacks.
const LOOK_BACK_MAX: usize = 64;

/// A snapshot that is stored but cannot be read.
#[derive(Debug, Clone)]
pub struct UnreadableSnapshot {
    /// The snapshot's id.
    pub id: SnapshotId,
    /// The client that pushed it.
    pub client: ClientId,
    /// When the store received it.
    pub received: Time,
    /// Whether it is in the trash.
    pub is_trashed: bool,
    /// What is wrong with it.
    pub reason: String,
    /// Whether it was pushed after the seal key was rotated, and the key that is used is from before.
    pub is_newer_than_key: bool,
}

/// A repository opened for reading, with its snapshots.
pub struct Catalog {
    /// Reads the repository.
    pub reader: Arc<Reader>,
    /// The snapshots that are not in the trash, oldest first.
    pub snapshots: Vec<SnapshotInfo>,
    /// The snapshots in the trash, oldest first.
    pub trash: Vec<TrashedSnapshot>,
    /// The snapshots that cannot be read, in the trash or not.
    pub unreadable: Vec<UnreadableSnapshot>,
    /// The snapshots that the server's operator purged.
    pub purged: Vec<PurgedSnapshot>,
    /// Length of the log that this catalog was made from, in records.
    pub log_len: u64,
    /// The clients on the roster.
    pub clients: Clients,
    /// The client that this machine is, if it is one.
    client: Option<ClientId>,
    /// Whether to say on standard error what was chosen.
    says_choice: bool,
    /// Whether `snapshots` has only the newest one of each series.
    has_only_newest: bool,
}

/// Which snapshots a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needed {
    All,
    NewestOfEachSeries,
}

impl Catalog {
    /// Reads the list of snapshots with the full key. Prints a warning about each problem in it, and about a rollback.
    pub fn open(context: &Context, session: &Session, operation: &'static str) -> Result<Self> {
        session.warn_of_rollback();
        let full = session.reading_key(context, operation)?;
        Self::with_key(context, session, &full)
    }

    /// Does the same to show what the selector names. For `latest`, the newest snapshot of each series is enough.
    pub fn open_to_show(
        context: &Context,
        session: &Session,
        operation: &'static str,
        selector: &Selector,
        filters: &Filters,
    ) -> Result<Self> {
        session.warn_of_rollback();
        let full = session.reading_key(context, operation)?;
        let needed = needed_for(&selector.name, filters);
        Self::with(context, session, session.access.clone(), &full, CACHE_BYTES, needed)
    }

    /// Does the same for a mount, of one snapshot or of all, with a larger cache. A mount of all begins with the newest
    /// snapshot of each series.
    pub fn open_for_mount(
        context: &Context,
        session: &Session,
        access: Arc<dyn Read>,
        selector: Option<&Selector>,
        filters: &Filters,
    ) -> Result<Self> {
        session.warn_of_rollback();
        let full = session.reading_key(context, "mounting")?;
        let needed = needed_for(selector.map_or(&SnapshotName::Latest, |selector| &selector.name), filters);
        Self::with(context, session, access, &full, MOUNT_CACHE_BYTES, needed)
    }

    /// Reads the list of snapshots with a key that the caller has already, so that no passphrase is asked for twice.
    pub fn with_key(context: &Context, session: &Session, full: &FullKey) -> Result<Self> {
        Self::with(context, session, session.access.clone(), full, CACHE_BYTES, Needed::All)
    }

    fn with(
        context: &Context,
        session: &Session,
        access: Arc<dyn Read>,
        full: &FullKey,
        cache_bytes: usize,
        needed: Needed,
    ) -> Result<Self> {
        let reader = new_reader(context, session, access, full, cache_bytes)?;
        let take = |list: &SnapshotList| {
            list.contradictions.iter().for_each(|found| rollback::found(contradiction(session, found)));
            let catalog = Self {
                reader: reader.clone(),
                snapshots: list.snapshots.clone(),
                trash: list.trash.clone(),
                unreadable: list.broken.iter().map(unreadable).collect(),
                purged: list.purged.clone(),
                log_len: list.log_len,
                clients: Clients::default(),
                client: session.client(),
                says_choice: !context.quiet,
                has_only_newest: needed == Needed::NewestOfEachSeries,
            };
            (catalog, list.problems.iter().map(Error::to_string).collect::<Vec<_>>())
        };
        let (mut catalog, problems) = match needed {
            Needed::All => reader.with_snapshots(take)?,
            Needed::NewestOfEachSeries => reader.with_newest_snapshots(take)?,
        };
        rollback::warn();
        catalog.clients = Clients::of(&session.opened.roster, full)?;
        // The owner knows about a snapshot in the trash.
        for broken in catalog.unreadable.iter().filter(|broken| !broken.is_trashed) {
            let (client, received) = (catalog.clients.name(broken.client), output::time_local(broken.received));
            let id = broken.id.short();
            output::note(format!("warning: snapshot {id} of {client}, received {received}: {}", broken.reason));
        }
        for problem in problems.into_iter().chain(catalog.purged.iter().map(PurgedSnapshot::to_string)) {
            output::note(format!("warning: {problem}"));
        }
        Ok(catalog)
    }

    /// Returns the index of the one of `infos`, oldest first, that the selector names.
    pub fn choose_of(&self, infos: &[&SnapshotInfo], selector: &Selector, filters: &Filters) -> Result<usize> {
        let candidates: Vec<Candidate<'_>> = infos.iter().copied().map(Candidate::from).collect();
        let (host, folder) = (host_name(), working_folder());
        let here = Here { client: self.client, host: &host, working_folder: folder.as_deref() };
        let filter = filters.filter(&self.clients)?;
        let chosen = choose(&candidates, &selector.name, selector.wanted(), &filter, here, &self.clients);
        let chosen_id = chosen.as_ref().ok().map(|index| infos[*index].id);
        if let Some(failure) = self.key_is_outdated_for(&selector.name, chosen_id) {
            return Err(failure.into());
        }
        let index = chosen?;
        if self.says_choice && selector.name == SnapshotName::Latest {
            output::note(format!("latest is {}", describe(&candidates[index])));
        }
        Ok(index)
    }

    /// Returns the failure for a name that may mean a snapshot from after a rotation of the seal key, if the key in use
    /// is from before. Who asks for the latest one must not get an older one.
    fn key_is_outdated_for(&self, name: &SnapshotName, chosen: Option<SnapshotId>) -> Option<Failure> {
        let is_meant = |newer: &&UnreadableSnapshot| match name {
            SnapshotName::Latest => true,
            SnapshotName::Id(prefix) => chosen.is_none() && newer.id.to_string().starts_with(prefix),
            SnapshotName::Time(_) => chosen.is_none(),
        };
        let newer = self.unreadable.iter().filter(|broken| broken.is_newer_than_key && !broken.is_trashed);
        let newest = newer.filter(is_meant).max_by_key(|newer| newer.received)?;
        let (client, received) = (self.clients.name(newest.client), output::time_local(newest.received));
        let message = match name {
            SnapshotName::Latest => format!(
                "the latest snapshot is not known: {} of {client}, received {received}, was pushed after the seal key \
                 was rotated, and this key is from before",
                newest.id.short()
            ),
            _ => format!("snapshot {} of {client}, received {received}: {}", newest.id.short(), newest.reason),
        };
        let hint = format!("{OUTDATED_HINT}. An older snapshot can be named by its id (`bkfs snapshots`)");
        Some(Failure::new(message, hint).exit(Exit::WrongKey))
    }

    /// Returns the snapshot that the selector names.
    pub fn choose(&self, selector: &Selector, filters: &Filters) -> Result<&SnapshotInfo> {
        let infos: Vec<&SnapshotInfo> = self.snapshots.iter().collect();
        Ok(infos[self.choose_of(&infos, selector, filters)?])
    }

    /// Returns the snapshot that the selector names and the entry at its path. Without a path, that is the root.
    pub fn find(&self, selector: &Selector, filters: &Filters) -> Result<(&SnapshotInfo, Node)> {
        let info = self.choose(selector, filters)?;
        let path = selector.path.as_deref().unwrap_or_default();
        match self.reader.resolve(&info.snapshot.root, path) {
            Ok(node) => Ok((info, node)),
            Err(Error::SnapshotNotFound(why)) if selector.name == SnapshotName::Latest => {
                let filter = filters.filter(&self.clients)?;
                let hint = match self.has_only_newest {
                    true => self.where_to_look(&self.reader.snapshots()?, info, path, &filter),
                    false => self.where_to_look(&self.snapshots, info, path, &filter),
                };
                Err(Failure::new(why, hint).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Says which older snapshots have a path that the newest one lacks: of each series, the newest that has it.
    fn where_to_look(
        &self,
        all: &[SnapshotInfo],
        newest: &SnapshotInfo,
        path: &[u8],
        filter: &SnapshotFilter,
    ) -> String {
        let own = Candidate::from(newest);
        let may_hold = |info: &&SnapshotInfo| {
            info.id != newest.id
                && filter.matches(info.client, &info.snapshot)
                && (info.client == newest.client || info.snapshot.host == newest.snapshot.host)
                && coverage(&info.snapshot, path, false) != Coverage::Nothing
        };
        let older: Vec<&SnapshotInfo> = all.iter().rev().filter(may_hold).take(LOOK_BACK_MAX).collect();
        let mut found: Vec<Candidate<'_>> = Vec::new();
        for info in &older {
            let candidate = Candidate::from(*info);
            let is_known = found.iter().any(|known| known.series() == candidate.series());
            if !is_known && self.reader.resolve(&info.snapshot.root, path).is_ok() {
                found.push(candidate);
            }
        }
        // The series that was chosen comes first.
        found.sort_by_key(|candidate| candidate.series() != own.series());
        let places: Vec<String> = found.iter().map(describe).collect();
        match places.is_empty() {
            false => format!("the newest snapshots that have it: {}", places.join("; ")),
            true if older.is_empty() => "no older snapshot holds that path".to_owned(),
            true => format!("searched in {}: none has it", output::count(older.len() as u64, "older snapshot")),
        }
    }
}

/// Which snapshots are needed to find a snapshot. All snapshots of a series have the same client and target; host, tags
/// and paths may change.
fn needed_for(name: &SnapshotName, filters: &Filters) -> Needed {
    let Filters { client: _, target: _, host, tag, path } = filters;
    let is_by_series = host.is_none() && tag.is_empty() && path.is_empty();
    if *name == SnapshotName::Latest && is_by_series { Needed::NewestOfEachSeries } else { Needed::All }
}

/// Says that the store contradicts itself or a client, and what to do.
pub fn contradiction(session: &Session, found: &Contradiction) -> String {
    format!(
        "{}: {found}\n      compare with what other machines of this repository see (`bkfs snapshots`, `bkfs check`), \
         and ask the server's operator whether copies of it were run at the same time",
        session.place
    )
}

fn unreadable(broken: &BrokenSnapshot) -> UnreadableSnapshot {
    let BrokenSnapshot { id, client, received, is_trashed, .. } = *broken;
    let is_newer_than_key = matches!(broken.error, Error::KeyOutdated { .. });
    UnreadableSnapshot { id, client, received, is_trashed, reason: broken.error.to_string(), is_newer_than_key }
}

/// Opens a reader with the full key, without reading the list of snapshots.
pub fn open_reader(context: &Context, session: &Session, operation: &'static str) -> Result<Arc<Reader>> {
    let full = session.full_key(context, operation)?;
    new_reader(context, session, session.access.clone(), &full, CACHE_BYTES)
}

/// Makes a reader that knows what the store said when it was opened, and what this machine remembers of its snapshots.
fn new_reader(
    context: &Context,
    session: &Session,
    access: Arc<dyn Read>,
    full: &FullKey,
    cache_bytes: usize,
) -> Result<Arc<Reader>> {
    let reader = Reader::new(access, full.clone(), &session.config, cache_bytes);
    reader.remember(&context.folders.cache);
    reader.announce_log(session.opened.now);
    reader.accept_roster(&session.opened.roster)?;
    Ok(reader)
}
