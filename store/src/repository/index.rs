//! The index: chunk id -> (pack, frame), and all else that is derived from packs and log, in LMDB.
//!
//! Nothing here is truth: the environment can be thrown away at any moment and is built again. It is thrown away when
//! it does not open, when its last page lies beyond its file, or when it belongs to another repository or format. LMDB
//! has no checksums, so what is read from it is only ever a hint that packs and ids confirm.
//!
//! Chunks are keyed by the first three bytes of their id, with fixed-size duplicates (13 more bytes, pack u32, frame
//! u24, big-endian): 30 to 48 bytes a chunk where full keys would take 70. Two ids that agree in 128 bits are taken for
//! one; a reader would notice. Commits keep their order and integrity over a crash, but the last may be lost
//! (`NO_META_SYNC`): what is missing is read in again.

mod bare;
mod chunk_tables;
pub mod lmdb;
mod packs;
mod prunes;
mod quarantine;
mod rows;
mod unsettled;

pub use prunes::{CondemnRow, Pin, PruneStep};
pub use rows::{Batch, Change, CommitRow, PackRow};

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock, Weak},
};

use heed::{
    CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RoTxn, RwTxn, WithoutTls,
    types::{Bytes, U32, U64, Unit},
};
use heed::{DatabaseFlags, byteorder::BigEndian};
use parking_lot::Mutex;

use self::chunk_tables::{Chunks, STEP};
use crate::{
    base::{
        codec,
        error::{Error, Result},
        id::{ChunkId, ClientId, Hash, KeyId, PackId, SnapshotId},
    },
    crypto::{self, Wrap},
    format::{log::file::Position, pack::PackTable},
    repository::index::lmdb::Trouble,
};

/// Address space, not room on disk: the file grows as it is used.
const MAP_SIZE: usize = 64 << 30;
/// Raised whenever a table changes its form; an index of another format is built anew.
const FORMAT: u32 = 6;
const VALUE_LEN: usize = 20;
/// Transactions that read at once.
const READERS: u32 = 1024;
const COMMIT: &str = "a commit in the index";
/// A random name of this life of the index: packs have other numbers in the next.
const LIFE: &[u8] = b"life";
/// The number of the next pack.
const NEXT: &[u8] = b"next";

/// Where it is counted how many bytes the packs have: quotas ask at each pack.
const BYTES: &[u8] = b"bytes";

type Raw = Database<'static, Bytes, Bytes>;

/// The index of one repository.
pub struct Index {
    path: PathBuf,
    env: Env<WithoutTls>,
    tables: Tables,
}

struct Tables {
    chunks: Chunks,
    packs: Database<'static, U32<BigEndian>, Bytes>,
    pack_numbers: Database<'static, Bytes, U32<BigEndian>>,
    wraps: Raw,
    commits: Database<'static, U64<BigEndian>, Bytes>,
    snapshots: Database<'static, Bytes, U64<BigEndian>>,
    clients: Database<'static, Bytes, U64<BigEndian>>,
    offsets: Database<'static, U64<BigEndian>, U64<BigEndian>>,
    meta: Raw,
    dead: Raw,
    swept: Raw,
    pins: Database<'static, U32<BigEndian>, Bytes>,
    condemns: Database<'static, U64<BigEndian>, Bytes>,
    bare: Database<'static, Bytes, Unit>,
    hurt: Raw,
    losses: Database<'static, U64<BigEndian>, Bytes>,
}

/// Of each chunk the number of a pack and of a frame in it, if it is stored.
type Places = Vec<Option<(u32, u32)>>;

/// LMDB must not be opened twice in a process: whoever opens the same folder again gets the same index.
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Weak<Index>>>> = LazyLock::new(Mutex::default);

impl Tables {
    fn clear(&self, txn: &mut RwTxn<'_>) -> heed::Result<()> {
        self.chunks.clear(txn)?;
        self.packs.clear(txn)?;
        self.pack_numbers.clear(txn)?;
        self.wraps.clear(txn)?;
        self.commits.clear(txn)?;
        self.snapshots.clear(txn)?;
        self.clients.clear(txn)?;
        self.offsets.clear(txn)?;
        self.meta.clear(txn)?;
        self.dead.clear(txn)?;
        self.swept.clear(txn)?;
        self.pins.clear(txn)?;
        self.condemns.clear(txn)?;
        self.bare.clear(txn)?;
        self.hurt.clear(txn)?;
        self.losses.clear(txn)?;
        self.meta.put(txn, LIFE, &crypto::random::<16>())?;
        self.meta.put(txn, b"format", &FORMAT.to_le_bytes())
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Index({})", self.path.display())
    }
}

impl Index {
    /// Opens the index in a folder, or makes one; whatever does not open is thrown away.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        fs::create_dir_all(path).map_err(|e| Error::io(path, e))?;
        let path = path.canonicalize().map_err(|e| Error::io(path, e))?;
        let mut open = OPEN.lock();
        if let Some(index) = open.get(&path).and_then(Weak::upgrade) {
            return Ok(index);
        }
        open.retain(|_, index| index.strong_count() > 0);
        let index = match Self::try_open(&path) {
            Err(Trouble::Damage(reason)) => {
                tracing::info!(path = %path.display(), reason, "the index is built anew");
                lmdb::wipe(&path)?;
                Self::try_open(&path)
            }
            opened => opened,
        };
        let index = index.map_err(|trouble| trouble.into_error(&path))?;
        let index = Arc::new(index);
        open.insert(path, Arc::downgrade(&index));
        Ok(index)
    }

    fn try_open(path: &Path) -> Result<Self, Trouble> {
        let trouble = |error| Trouble::new(path, error);
        lmdb::prepare(path, READERS)?;
        // SAFETY: the file is ours alone, lies in a private folder, and is only changed through LMDB, which locks
        // between processes; within the process `OPEN` makes sure that it is opened once. `NO_META_SYNC` keeps
        // integrity and may lose the last commit, which is read in again.
        let env = unsafe {
            EnvOpenOptions::new()
                .read_txn_without_tls()
                .map_size(MAP_SIZE)
                .max_dbs(20)
                .max_readers(READERS)
                .flags(EnvFlags::NO_META_SYNC)
                .open(path)
        }
        .map_err(trouble)?;
        let tables = env
            .create_databases_and_commit(env.write_txn().map_err(trouble)?, |opener, txn| {
                let mut sorted = opener.database_options().types::<Bytes, Bytes>();
                sorted.flags(DatabaseFlags::DUP_SORT | DatabaseFlags::DUP_FIXED);
                let fresh = sorted.name("fresh chunks").create(txn)?;
                let chunks = (fresh, sorted.name("chunks").create(txn)?);
                let packs = opener.create_database(txn, Some("packs"))?;
                let pack_numbers = opener.create_database(txn, Some("pack_numbers"))?;
                let wraps = opener.create_database(txn, Some("wraps"))?;
                let commits = opener.create_database(txn, Some("commits"))?;
                let snapshots = opener.create_database(txn, Some("snapshots"))?;
                let clients = opener.create_database(txn, Some("clients"))?;
                let offsets = opener.create_database(txn, Some("offsets"))?;
                let meta = opener.create_database(txn, Some("meta"))?;
                let dead = opener.create_database(txn, Some("dead"))?;
                let swept = opener.create_database(txn, Some("swept"))?;
                let pins = opener.create_database(txn, Some("pins"))?;
                let condemns = opener.create_database(txn, Some("condemns"))?;
                let bare = opener.create_database(txn, Some("bare"))?;
                let hurt = opener.create_database(txn, Some("hurt"))?;
                let losses = opener.create_database(txn, Some("losses"))?;
                let first = (chunks, packs, pack_numbers, wraps, commits);
                let last = (dead, swept, pins, condemns, bare, hurt, losses);
                let all = (first, (snapshots, clients, offsets, meta), last);
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(all))
            })
            .map_err(trouble)?
            .unwrap_commit();
        let (first, (snapshots, clients, offsets, meta), last) = tables;
        let (dead, swept, pins, condemns, bare, hurt, losses) = last;
        let ((fresh, settled), packs, pack_numbers, wraps, commits) = first;
        let tables = Tables {
            chunks: Chunks { fresh, settled },
            packs,
            pack_numbers,
            wraps,
            commits,
            snapshots,
            clients,
            offsets,
            meta,
            dead,
            swept,
            pins,
            condemns,
            bare,
            hurt,
            losses,
        };
        let index = Self { path: path.to_owned(), env, tables };
        if index.meta_get("format").map_err(Trouble::Other)?.as_deref() != Some(&FORMAT.to_le_bytes()) {
            index.clear().map_err(Trouble::Other)?;
        }
        Ok(index)
    }

    /// Empties all tables but the format's mark.
    pub fn clear(&self) -> Result<()> {
        self.write(|txn| self.tables.clear(txn))
    }

    fn read<T>(&self, run: impl FnOnce(&RoTxn<'_, WithoutTls>) -> Result<T, heed::Error>) -> Result<T> {
        self.env.read_txn().and_then(|txn| run(&txn)).map_err(|e| self.error(e))
    }

    fn write<T>(&self, run: impl FnOnce(&mut RwTxn<'_>) -> Result<T, heed::Error>) -> Result<T> {
        let run = || {
            let mut txn = self.env.write_txn()?;
            let value = run(&mut txn)?;
            txn.commit()?;
            Ok(value)
        };
        run().map_err(|e| self.error(e))
    }

    fn error(&self, error: heed::Error) -> Error {
        lmdb::error(&self.path, error)
    }

    /// Which of the ids have a live copy.
    pub fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        self.read(|txn| ids.iter().map(|id| Ok(self.find(txn, id)?.is_some_and(|copy| copy.is_live))).collect())
    }

    /// Where chunks are, live or not: number of the pack and of the frame in it.
    pub fn locate(&self, ids: &[ChunkId]) -> Result<Places> {
        self.read(|txn| ids.iter().map(|id| Ok(self.find(txn, id)?.map(|copy| (copy.pack, copy.frame)))).collect())
    }

    /// Where chunks are, as [`Index::locate`] says, and what is known of those packs, all of one moment: a number may stand for another pack
    /// in the next.
    pub fn resolve(&self, ids: &[ChunkId]) -> Result<(Places, HashMap<u32, PackRow>)> {
        self.read(|txn| {
            let (mut places, mut packs) = (Vec::with_capacity(ids.len()), HashMap::new());
            for id in ids {
                let place = self.find(txn, id)?.map(|copy| (copy.pack, copy.frame));
                if let Some((pack, _)) = place
                    && let Entry::Vacant(entry) = packs.entry(pack)
                    && let Some(row) = self.tables.packs.get(txn, &pack)?.and_then(PackRow::decode)
                {
                    entry.insert(row);
                }
                places.push(place);
            }
            Ok((places, packs))
        })
    }

    /// A copy of a chunk: a live one, if there is one.
    fn find(&self, txn: &RoTxn<'_, WithoutTls>, id: &ChunkId) -> Result<Option<Copy>, heed::Error> {
        let all_live = self.are_all_live(txn)?;
        let mut found = None;
        for copy in self.tables.chunks.copies(txn, id)? {
            let (pack, frame) = copy?;
            let is_live = all_live || !self.is_dead(txn, pack, frame)?;
            found = Some(Copy { pack, frame, is_live });
            if is_live {
                break;
            }
        }
        Ok(found)
    }

    /// All copies of a chunk in packs of which nothing is condemned, and in frames that are not in quarantine: the pack, and the number of the
    /// frame in it. All of one moment: a pack that is condemned in one and swept in the next is in none.
    pub fn kept_copies(&self, id: &ChunkId) -> Result<Vec<(PackRow, u32)>> {
        self.read(|txn| {
            let mut found = Vec::new();
            for copy in self.tables.chunks.copies(txn, id)? {
                let (pack, frame) = copy?;
                let Some(row) = self.tables.packs.get(txn, &pack)?.and_then(PackRow::decode) else { continue };
                if self.tables.dead.get(txn, &row.id.0)?.is_none() && !self.is_dead(txn, pack, frame)? {
                    found.push((row, frame));
                }
            }
            Ok(found)
        })
    }

    /// How many chunks there are, copies counted.
    pub fn chunk_count(&self) -> Result<u64> {
        self.read(|txn| self.tables.chunks.len(txn))
    }

    /// Bytes of all packs.
    pub fn bytes(&self) -> Result<u64> {
        self.read(|txn| self.bytes_in(txn))
    }

    fn bytes_in(&self, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<u64> {
        Ok(self.tables.meta.get(txn, BYTES)?.and_then(|raw| raw.try_into().ok()).map_or(0, u64::from_le_bytes))
    }

    /// Keeps count when the row of a pack is put, changed or taken out; to be called before.
    fn count_bytes(&self, txn: &mut RwTxn<'_>, number: u32, len: u64) -> heed::Result<()> {
        let before = self.tables.packs.get(txn, &number)?.and_then(PackRow::decode).map_or(0, |row| row.len);
        let bytes = (self.bytes_in(txn)?.saturating_add(len)).saturating_sub(before);
        self.tables.meta.put(txn, BYTES, &bytes.to_le_bytes())
    }

    /// A pack by its number.
    pub fn pack(&self, number: u32) -> Result<Option<PackRow>> {
        self.read(|txn| Ok(self.tables.packs.get(txn, &number)?.and_then(PackRow::decode)))
    }

    /// Whether a pack is in the index.
    pub fn has_pack(&self, id: &PackId) -> Result<bool> {
        self.read(|txn| Ok(self.tables.pack_numbers.get(txn, &id.0)?.is_some()))
    }

    /// Packs in the order of their ids: id and length.
    pub fn list_packs(&self, after: Option<PackId>, limit: usize) -> Result<Vec<(PackId, u64)>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map(|id| id.0);
        let start = from.as_ref().map_or(Unbounded, |id| Excluded(&id[..]));
        self.read(|txn| {
            let mut found = Vec::new();
            for row in self.tables.pack_numbers.range(txn, &(start, Unbounded))?.take(limit) {
                let (id, number) = row?;
                let len = self.tables.packs.get(txn, &number)?.and_then(PackRow::decode).map_or(0, |row| row.len);
                found.extend(PackId::from_slice(id).map(|id| (id, len)));
            }
            Ok(found)
        })
    }

    /// A name that changes when the index is made anew, and all numbers of packs with it.
    pub fn life(&self) -> Result<Option<Vec<u8>>> {
        self.read(|txn| Ok(self.tables.meta.get(txn, LIFE)?.map(<[u8]>::to_vec)))
    }

    /// Takes a pack's table in, and pins the pack for a session. What is swept stays out, until the log says otherwise.
    pub fn add_pack(&self, table: &PackTable, len: u64, pin: Option<Pin>) -> Result<()> {
        self.write(|txn| self.put_pack(txn, table, len, pin))?;
        self.settle_chunks()
    }

    /// Moves rows of chunks on if enough of them wait.
    fn settle_chunks(&self) -> Result<()> {
        let mut is_more = self.read(|txn| self.tables.chunks.is_full(txn))?;
        while is_more {
            is_more = self.write(|txn| self.tables.chunks.settle_some(txn, STEP))?;
        }
        Ok(())
    }

    fn put_pack(&self, txn: &mut RwTxn<'_>, table: &PackTable, len: u64, pin: Option<Pin>) -> heed::Result<()> {
        let known = self.tables.pack_numbers.get(txn, &table.id.0)?;
        if known.is_none() && self.tables.swept.get(txn, &table.id.0)?.is_some() {
            // It was found or stored before it was swept: its file is on its way out.
            return Ok(());
        }
        let number = match known {
            Some(number) => number,
            None => self.next(txn)?,
        };
        if let Some(pin) = pin {
            self.put_pin(txn, number, pin)?;
        }
        if known.is_some() {
            return Ok(());
        }
        self.tables.meta.put(txn, NEXT, &(number + 1).to_le_bytes())?;
        self.tables.pack_numbers.put(txn, &table.id.0, &number)?;
        self.put_rows(txn, number, table, len)
    }

    /// The number of the next pack: never one that another has had.
    fn next(&self, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<u32> {
        let after = self.tables.packs.last(txn)?.map_or(0, |(last, _)| last + 1);
        let noted = self.tables.meta.get(txn, NEXT)?.and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes);
        Ok(after.max(noted))
    }

    /// The stored wraps of data keys; of one key, as many as there are clients that brought one.
    pub fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>> {
        let raw: Vec<Vec<u8>> = self.read(|txn| {
            let mut found = Vec::new();
            for key in keys {
                for row in self.tables.wraps.prefix_iter(txn, &key.0)? {
                    found.push(row?.1.to_vec());
                }
            }
            Ok(found)
        })?;
        Ok(raw.iter().filter_map(|raw| codec::decode("a wrap in the index", raw).ok()).collect())
    }

    /// Adds the wrap that came with a client's snapshot.
    pub fn add_wrap(&self, wrap: &Wrap, client: &ClientId) -> Result<()> {
        self.write(|txn| self.tables.wraps.put(txn, &wrap_row(&wrap.key, client), &codec::encode(wrap)))
    }

    /// How far the log was taken in.
    pub fn position(&self) -> Result<Position> {
        Ok(self.meta_get("log")?.and_then(|raw| codec::decode("the log's position", &raw).ok()).unwrap_or_default())
    }

    /// A remembered value.
    pub fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.read(|txn| Ok(self.tables.meta.get(txn, key.as_bytes())?.map(<[u8]>::to_vec)))
    }

    /// Remembers values.
    pub fn meta_put(&self, values: &[(String, Vec<u8>)]) -> Result<()> {
        self.write(|txn| values.iter().try_for_each(|(key, value)| self.tables.meta.put(txn, key.as_bytes(), value)))
    }

    /// Takes records of the log in, from `start` to `end`. If the index is not at `start` any more nothing is done: another
    /// thread or process was faster, and going back would make the next append overwrite what is there.
    pub fn apply(&self, start: Position, batch: &Batch, end: Position) -> Result<()> {
        self.write(|txn| {
            let at = self.tables.meta.get(txn, b"log")?;
            let at: Option<Position> = at.and_then(|raw| codec::decode("the log's position", raw).ok());
            if at.unwrap_or_default() != start {
                return Ok(());
            }
            for (seq, offset) in &batch.starts {
                self.tables.offsets.put(txn, seq, offset)?;
            }
            for row in &batch.commits {
                self.tables.commits.put(txn, &row.seq, &codec::encode(row))?;
                self.tables.snapshots.put(txn, &row.snapshot.0, &row.seq)?;
                self.tables.clients.put(txn, &row.client.0, &row.seq)?;
            }
            for change in &batch.changes {
                let Some(seq) = self.tables.snapshots.get(txn, &change.snapshot.0)? else { continue };
                let row = self.tables.commits.get(txn, &seq)?;
                let Some(mut row) = row.and_then(|raw| codec::decode::<CommitRow>(COMMIT, raw).ok()) else { continue };
                row.take(change);
                self.tables.commits.put(txn, &seq, &codec::encode(&row))?;
            }
            self.apply_prunes(txn, &batch.prunes)?;
            for (key, value) in &batch.meta {
                self.tables.meta.put(txn, key.as_bytes(), value)?;
            }
            self.tables.meta.put(txn, b"log", &codec::encode(&end))
        })
    }

    /// Where a record of the log begins in its file.
    pub fn offset(&self, seq: u64) -> Result<Option<u64>> {
        self.read(|txn| self.tables.offsets.get(txn, &seq))
    }

    /// Commits at `from` or later in the log that are wanted, oldest first.
    pub fn commits_from(&self, from: u64, limit: usize, wanted: impl Fn(&CommitRow) -> bool) -> Result<Vec<CommitRow>> {
        self.read(|txn| Ok(self.choose(self.tables.commits.range(txn, &(from..))?, limit, wanted)))?
    }

    /// The newest commits that are wanted, oldest first.
    pub fn newest_commits(&self, limit: usize, wanted: impl Fn(&CommitRow) -> bool) -> Result<Vec<CommitRow>> {
        let mut rows = self.read(|txn| Ok(self.choose(self.tables.commits.rev_iter(txn)?, limit, wanted)))??;
        rows.reverse();
        Ok(rows)
    }

    fn choose<'t>(
        &self,
        rows: impl Iterator<Item = heed::Result<(u64, &'t [u8])>>,
        limit: usize,
        wanted: impl Fn(&CommitRow) -> bool,
    ) -> Result<Vec<CommitRow>> {
        let mut found = Vec::new();
        for row in rows {
            if found.len() >= limit {
                break;
            }
            let row = codec::decode(COMMIT, row.map_err(|e| self.error(e))?.1)?;
            if wanted(&row) {
                found.push(row);
            }
        }
        Ok(found)
    }

    /// A snapshot's commit.
    pub fn commit_of(&self, snapshot: &SnapshotId) -> Result<Option<CommitRow>> {
        let seq = self.read(|txn| self.tables.snapshots.get(txn, &snapshot.0))?;
        Ok(match seq {
            Some(seq) => self.commits_from(seq, 1, |_| true)?.pop().filter(|row| row.snapshot == *snapshot),
            None => None,
        })
    }

    /// A client's newest commit.
    pub fn last_of(&self, client: &ClientId) -> Result<Option<CommitRow>> {
        let seq = self.read(|txn| self.tables.clients.get(txn, &client.0))?;
        Ok(match seq {
            Some(seq) => self.commits_from(seq, 1, |_| true)?.pop(),
            None => None,
        })
    }

    /// The hash that names the repository that this index is of.
    pub fn owner(&self) -> Result<Option<Hash>> {
        Ok(self.meta_get("owner")?.and_then(|raw| Hash::from_slice(&raw)))
    }
}

/// A stored copy of a chunk.
struct Copy {
    pack: u32,
    frame: u32,
    /// Neither condemned nor in quarantine.
    is_live: bool,
}

/// Pack and frame of a chunk's row.
fn place(value: &[u8]) -> (u32, u32) {
    let four = |at: usize| u32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
    (four(13), four(16) & 0xff_ffff)
}

fn chunk_row(id: &ChunkId, pack: u32, frame: u32) -> ([u8; 3], [u8; VALUE_LEN]) {
    let mut value = [0; VALUE_LEN];
    value[..13].copy_from_slice(&id.0[3..16]);
    value[13..17].copy_from_slice(&pack.to_be_bytes());
    value[17..].copy_from_slice(&frame.to_be_bytes()[1..]);
    ([id.0[0], id.0[1], id.0[2]], value)
}

/// Nobody here can tell a good wrap from rubbish under a good key's name, so no client's wrap replaces another's.
fn wrap_row(key: &KeyId, client: &ClientId) -> [u8; KeyId::LEN + ClientId::LEN] {
    let mut row = [0; KeyId::LEN + ClientId::LEN];
    row[..KeyId::LEN].copy_from_slice(&key.0);
    row[KeyId::LEN..].copy_from_slice(&client.0);
    row
}
