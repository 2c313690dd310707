//! Clients that follow the protocol.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use bkfs_store::{
    Error, Result,
    access::{Challenge, Lease, Open, OpenRequest, Opened, Proofs, Push, Receipt},
    base::id::{ChunkId, ClientId, SnapshotId},
    crypto::{DataKey, Secret, Wrap},
    format::pack::PackUpload,
    repository::Repository,
};
use parking_lot::Mutex;

use super::{DEPTH_MAX, World, model::Entry};
use crate::{
    client::{Client, key},
    model::{State, Tree},
};

/// A client that never waits, as nobody else would do anything meanwhile, and that has only one data key, as making
/// one is slow.
pub fn client(number: u64) -> Client {
    static DATA_KEYS: LazyLock<[(Arc<DataKey>, Wrap); 3]> = LazyLock::new(|| {
        [0, 1, 2].map(|number| {
            let (push, key) = (key(number), DataKey::new(Secret::new([number as u8 + 0x70; 32])));
            let wrap = push.seal().expect("a public key").wrap(push.repo, &key);
            (Arc::new(key), wrap)
        })
    });
    let mut client = Client::new(number);
    (client.waits, client.data_key) = (false, Some(DATA_KEYS[number as usize].clone()));
    client
}

/// The repository as a client sees it that pushes. Between its requests, others make theirs, and its connection can
/// break.
struct Line<'w, 'a> {
    repo: Arc<Repository>,
    world: Mutex<&'w mut World<'a>>,
    /// A bit for each request, whether others come before it.
    breaks: Mutex<u8>,
    /// The number of the request at which the connection breaks, and whether the request arrives all the same.
    end: Option<(u8, bool)>,
    count: Mutex<u8>,
}

impl Line<'_, '_> {
    /// Makes a request.
    fn ask<T>(&self, ask: impl FnOnce() -> Result<T>) -> Result<T> {
        let is_interrupted = {
            let mut breaks = self.breaks.lock();
            let now = *breaks & 1;
            *breaks >>= 1;
            now > 0
        };
        if is_interrupted {
            let mut world = self.world.lock();
            world.depth += 1;
            world.step();
            world.depth -= 1;
        }
        let count = {
            let mut count = self.count.lock();
            *count = count.saturating_add(1);
            *count
        };
        match self.end {
            Some((end, is_heard)) if count > end => {
                if is_heard && count == end + 1 {
                    ask()?;
                }
                Err(Error::Interrupted)
            }
            _ => ask(),
        }
    }
}

impl Open for Line<'_, '_> {
    fn open(&self, request: &OpenRequest) -> Result<Opened> {
        let opened = self.ask(|| self.repo.open(request))?;
        self.world.lock().leases.push(opened.lease);
        Ok(opened)
    }

    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64> {
        self.repo.wait_log(len, timeout)
    }
}

impl Push for Line<'_, '_> {
    fn has(&self, client: Option<ClientId>, ids: &[ChunkId]) -> Result<Vec<bool>> {
        self.ask(|| self.repo.has(client, ids))
    }

    fn prove(&self, client: Option<ClientId>, challenges: &[Challenge]) -> Result<Proofs> {
        self.ask(|| self.repo.prove(client, challenges))
    }

    fn put_pack(&self, lease: Lease, pack: &PackUpload) -> Result<()> {
        self.ask(|| self.repo.put_pack(lease, pack))
    }

    fn commit(&self, lease: Lease, snapshot: &[u8]) -> Result<Receipt> {
        self.ask(|| self.repo.commit(lease, snapshot))
    }
}

impl World<'_> {
    /// An honest client changes some files, and pushes.
    pub(super) fn push(&mut self) {
        let who = usize::from(self.input.u8()) % self.clients.len();
        // Its own requests come one after another.
        let Some(mut client) = self.clients[who].take() else { return };
        let how = self.input.u8();
        for _ in 0..1 + how % 4 {
            let change = self.input.u8();
            let (name, number) = (format!("f{}", change & 7), u64::from(change >> 3));
            match number {
                0 => drop(client.tree.remove(&name)),
                _ => drop(client.tree.insert(name, number)),
            }
        }
        let breaks = if how & 4 > 0 && self.depth < DEPTH_MAX { self.input.u8() } else { 0 };
        let end = (how & 8 > 0).then_some((how >> 5, how & 16 > 0));
        let (repo, since, mut tried) = (self.repo(), self.ahead, Vec::new());
        let line = Line { repo, world: Mutex::new(self), breaks: Mutex::new(breaks), end, count: Mutex::new(0) };
        let pushed = client.push(&line, &mut |id, tree| tried.push((id, tree.clone())));
        drop(line);
        match &pushed {
            Ok(_) | Err(Error::CommitsHeld { .. }) => {}
            Err(Error::Interrupted) if end.is_some() => {}
            Err(error) => panic!("client {who} cannot push: {error:?}"),
        }
        self.note_push(since, tried, pushed.ok());
        self.clients[who] = Some(client);
    }

    /// Notes what a push has tried to commit, and what was acknowledged.
    fn note_push(&mut self, since: i64, tried: Vec<(SnapshotId, Tree)>, committed: Option<SnapshotId>) {
        for (id, tree) in tried {
            let state = if committed == Some(id) { State::Counts } else { State::Unknown };
            self.entries.push(Entry { id, state, tree, committed: since, forgotten: since, may_expire: false });
        }
    }
}
