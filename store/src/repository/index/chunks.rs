//! Looking up chunks: where their copies are, which of them are live, and which are trusted.

use std::collections::{BTreeSet, HashMap, HashSet, hash_map::Entry};

use heed::{RoTxn, WithoutTls};

use super::{
    chunk_tables::{self, FrameAddress},
    environment::Index,
    liveness::are_all_live,
    rows::{PackRow, wrap_key},
    tables::Tables,
    trust::{Trust, TrustLookup, TrustedPack},
    verdicts,
};
use crate::{
    base::{
        codec,
        error::Result,
        id::{ChunkId, ClientId, DomainId, KeyId, PackId},
    },
    crypto::Wrap,
    format::{filter::filter_key, roster::Domains},
};

/// An id with more copies than this is looked up once in a request, however often the request names it. Clients choose
/// ids: without this, `n` copies of one id, asked for `n` times, would cost `n` squared.
const COPIES_MANY: usize = 8;

/// Where each chunk is, if it is stored.
type Addresses = Vec<Option<FrameAddress>>;

/// Chunks, and the wraps of the keys that open them.
#[derive(Debug, Clone, Copy)]
pub struct ChunkIndex<'i>(&'i Index);

impl Index {
    /// Chunks, and the wraps of the keys that open them.
    pub fn chunks(&self) -> ChunkIndex<'_> {
        ChunkIndex(self)
    }
}

/// What [`ChunkIndex::lost`] found for ids with many copies.
#[derive(Debug, Default)]
pub struct LostChunks(HashMap<ChunkId, bool>);

/// A copy of a chunk that has several.
#[derive(Debug, Clone, Copy)]
pub struct ManyCopy {
    /// Where it is.
    pub address: FrameAddress,
    /// How far its pack is trusted.
    pub trust: Trust,
    /// Whether it is live.
    pub is_live: bool,
    /// Whether a key holder has refused it.
    pub is_refused: bool,
    /// Its pack.
    pub pack: PackId,
}

/// Which copies are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Those on which the clients of this domain may rely; without one, all.
    pub domain: Option<DomainId>,
    /// None in these packs.
    pub avoid: &'a [PackId],
}

impl Wanted<'_> {
    fn is_any(&self) -> bool {
        self.domain.is_none() && self.avoid.is_empty()
    }

    fn has(&self, pack: &TrustedPack) -> bool {
        self.domain.is_none_or(|domain| pack.trust.is_enough_for(domain)) && !self.avoid.contains(&pack.id)
    }
}

/// Finds the best copies of chunks ([`super::trust`]), whether they are live or not.
struct BestCopies<'a> {
    tables: &'a Tables<'static>,
    trusts: TrustLookup<'a>,
    all_live: bool,
    wanted: &'a Wanted<'a>,
    /// The best copies of chunks that have many.
    remembered: HashMap<ChunkId, Option<FrameAddress>>,
}

impl<'a> BestCopies<'a> {
    fn new(
        tables: &'a Tables<'static>,
        txn: &RoTxn<'_, WithoutTls>,
        domains: &'a Domains,
        wanted: &'a Wanted<'a>,
    ) -> heed::Result<Self> {
        let trusts = TrustLookup::new(tables, domains);
        Ok(Self { tables, trusts, all_live: are_all_live(tables, txn)?, wanted, remembered: HashMap::new() })
    }

    fn of(&mut self, txn: &RoTxn<'_, WithoutTls>, id: &ChunkId) -> heed::Result<Option<FrameAddress>> {
        if let Some(found) = self.remembered.get(id) {
            return Ok(*found);
        }
        let mut copies = self.tables.chunks().copies(txn, id)?;
        let Some(first) = copies.next().transpose()? else { return Ok(None) };
        let second = copies.next().transpose()?;
        if second.is_none() && self.wanted.is_any() {
            return Ok(Some(first));
        }
        let (mut best, mut count) = (None, 0);
        for copy in [Ok(first)].into_iter().chain(second.map(Ok)).chain(copies) {
            let address @ (number, frame) = copy?;
            count += 1;
            let Some(pack) = self.trusts.pack(txn, number)?.filter(|pack| self.wanted.has(pack)) else { continue };
            let rank = self.trusts.rank(txn, &pack, frame, self.all_live)?;
            if best.as_ref().is_none_or(|(before, _)| rank < *before) {
                best = Some((rank, address));
            }
        }
        let best = best.map(|(_, address)| address);
        if count > COPIES_MANY {
            self.remembered.insert(*id, best);
        }
        Ok(best)
    }
}

impl ChunkIndex<'_> {
    /// Which of the ids have a live copy that clients of a domain may rely on; without a domain, any live copy.
    pub fn has(self, ids: &[ChunkId], domain: Option<DomainId>, domains: &Domains) -> Result<Vec<bool>> {
        let tables = &self.0.tables;
        self.0.read(|txn| {
            let (all_live, mut trusts) = (are_all_live(tables, txn)?, TrustLookup::new(tables, domains));
            let mut remembered = HashMap::new();
            let mut has = |id: &ChunkId| {
                if let Some(has) = remembered.get(id) {
                    return Ok(*has);
                }
                let (mut has, mut copies) = (false, 0);
                for copy in tables.chunks().copies(txn, id)? {
                    let trust = trusts.live(txn, copy?, all_live)?;
                    copies += 1;
                    if trust.is_some_and(|trust| domain.is_none_or(|domain| trust.is_enough_for(domain))) {
                        has = true;
                        break;
                    }
                }
                if copies > COPIES_MANY {
                    remembered.insert(*id, has);
                }
                Ok(has)
            };
            ids.iter().map(&mut has).collect()
        })
    }

    /// Where the best copies of chunks are.
    pub fn locate(self, ids: &[ChunkId], domains: &Domains) -> Result<Addresses> {
        let tables = &self.0.tables;
        self.0.read(|txn| {
            let wanted = Wanted::default();
            let mut best = BestCopies::new(tables, txn, domains, &wanted)?;
            ids.iter().map(|id| best.of(txn, id)).collect()
        })
    }

    /// Where the best of the wanted copies of chunks are, and the rows of their packs. All are of
    /// one moment: in the next, a number may stand for another pack.
    pub fn resolve(
        self,
        ids: &[ChunkId],
        wanted: &Wanted<'_>,
        domains: &Domains,
    ) -> Result<(Addresses, HashMap<u32, PackRow>)> {
        let tables = &self.0.tables;
        self.0.read(|txn| {
            let (mut addresses, mut packs) = (Vec::with_capacity(ids.len()), HashMap::new());
            let mut best = BestCopies::new(tables, txn, domains, wanted)?;
            for id in ids {
                let address = best.of(txn, id)?;
                if let Some((pack, _)) = address
                    && let Entry::Vacant(entry) = packs.entry(pack)
                    && let Some(row) = tables.packs.get(txn, &pack)?.and_then(PackRow::decode)
                {
                    entry.insert(row);
                }
                addresses.push(address);
            }
            Ok((addresses, packs))
        })
    }

    /// The copies of a chunk in packs that have no condemned frames, except copies in quarantine and refused ones: the
    /// pack, the number of the frame in it, and how far it is trusted. All are of one moment. (In two moments, a pack
    /// that is condemned in the first and swept in the second would look as if it were neither.) At most `limit` copies
    /// of the chunk are looked at.
    pub fn kept_copies(self, id: &ChunkId, domains: &Domains, limit: usize) -> Result<Vec<(PackRow, u32, Trust)>> {
        let tables = &self.0.tables;
        self.0.read(|txn| {
            let (mut found, mut trusts) = (Vec::new(), TrustLookup::new(tables, domains));
            for copy in tables.chunks().copies(txn, id)?.take(limit) {
                let (pack, frame) = copy?;
                let Some(row) = tables.packs.get(txn, &pack)?.and_then(PackRow::decode) else { continue };
                if tables.condemned.get(txn, &row.id.0)?.is_none()
                    && let Some(trust) = trusts.live(txn, (pack, frame), false)?
                {
                    found.push((row, frame, trust));
                }
            }
            Ok(found)
        })
    }

    /// Which of the ids are lost to somebody if frames are taken: no live copy is left, or only copies that some
    /// clients must not rely on who may rely on a taken one. `is_taken` gets the number of a pack and of a frame, and
    /// gives the same answers for all calls that share `remembered`.
    pub fn lost(
        self,
        ids: &[ChunkId],
        is_taken: &dyn Fn(u32, u32) -> bool,
        domains: &Domains,
        remembered: &mut LostChunks,
    ) -> Result<Vec<bool>> {
        let tables = &self.0.tables;
        self.0.read(|txn| {
            let (all_live, mut trusts) = (are_all_live(tables, txn)?, TrustLookup::new(tables, domains));
            let (mut taken, mut left) = (BTreeSet::new(), BTreeSet::new());
            let mut lost = Vec::with_capacity(ids.len());
            for id in ids {
                if let Some(is_lost) = remembered.0.get(id) {
                    lost.push(*is_lost);
                    continue;
                }
                taken.clear();
                left.clear();
                let mut copies = 0;
                for copy in tables.chunks().copies(txn, id)? {
                    let address @ (pack, frame) = copy?;
                    copies += 1;
                    if let Some(trust) = trusts.live(txn, address, all_live)? {
                        if is_taken(pack, frame) { &mut taken } else { &mut left }.insert(trust);
                    }
                }
                let is_left = |trust: &Trust| left.iter().any(|other: &Trust| other.covers(*trust));
                let is_lost = left.is_empty() || !taken.iter().all(is_left);
                if copies > COPIES_MANY {
                    remembered.0.insert(*id, is_lost);
                }
                lost.push(is_lost);
            }
            Ok(lost)
        })
    }

    /// Calls `each` for each chunk that has several copies and whose id begins with a byte: with all its copies.
    pub fn with_many_copies(self, first: u8, domains: &Domains, each: &mut dyn FnMut(&[ManyCopy])) -> Result<()> {
        let tables = &self.0.tables;
        self.0.read(|txn| {
            let mut rows = Vec::new();
            tables.chunks().each(txn, Some(first), &mut |row| {
                let id = chunk_tables::id_of(row);
                rows.push((*id.0.first_chunk::<16>().expect("an id is longer"), chunk_tables::address(row)));
            })?;
            rows.sort_unstable();
            let (all_live, mut trusts) = (are_all_live(tables, txn)?, TrustLookup::new(tables, domains));
            let mut copies = Vec::new();
            for group in rows.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
                copies.clear();
                for (_, address @ (number, frame)) in group {
                    let Some(pack) = trusts.pack(txn, *number)? else { continue };
                    copies.push(ManyCopy {
                        address: *address,
                        trust: pack.trust,
                        is_live: trusts.live(txn, *address, all_live)?.is_some(),
                        is_refused: !all_live && verdicts::is_refused(tables, txn, &pack.id.0, *frame)?,
                        pack: pack.id,
                    });
                }
                each(&copies);
            }
            Ok(())
        })
    }

    /// Calls `each` for all copies of the chunks whose ids begin with a byte: with the id's [key](filter_key), the
    /// number of the pack and of the frame. Ends early when `each` returns false.
    pub fn scan(self, first: u8, each: &mut dyn FnMut(u64, u32, u32) -> bool) -> Result<()> {
        self.0.read(|txn| {
            self.0.tables.chunks().each_while(txn, Some(first), &mut |row| {
                let (pack, frame) = chunk_tables::address(row);
                each(filter_key(&chunk_tables::id_of(row)), pack, frame)
            })
        })
    }

    /// How many chunks there are. Each copy counts.
    pub fn count(self) -> Result<u64> {
        self.0.read(|txn| self.0.tables.chunks().len(txn))
    }

    /// The stored wraps of data keys. A key has as many wraps as clients brought one.
    pub fn wraps(self, keys: &HashSet<KeyId>) -> Result<Vec<Wrap>> {
        let raw: Vec<Vec<u8>> = self.0.read(|txn| {
            let mut found = Vec::new();
            for key in keys {
                for row in self.0.tables.wraps.prefix_iter(txn, &key.0)? {
                    found.push(row?.1.to_vec());
                }
            }
            Ok(found)
        })?;
        Ok(raw.iter().filter_map(|raw| codec::decode("a wrap in the index", raw).ok()).collect())
    }

    /// Adds the wrap that came with a client's snapshot.
    pub fn add_wrap(self, wrap: &Wrap, client: &ClientId) -> Result<()> {
        self.0.write(|txn| self.0.tables.wraps.put(txn, &wrap_key(&wrap.key, client), &codec::encode(wrap)))
    }
}
