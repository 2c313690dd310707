//! Answering challenges: random bytes of frames, with the hashes that tie them to the signatures of their packs.
//!
//! A proof needs the hashes of all of a pack. The head of its parity file has those of its shards, and proves itself by
//! the pack's id. So little more is read than the table and the shard that holds the byte. A pack without parity is
//! read whole.
//!
//! A pack that turns out to be damaged is mended. What cannot be mended goes into quarantine and is not shown; after
//! that it does not count as stored.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use blake3::hazmat::ChainingValue;
use bytes::Bytes;

use super::{files::PackFiles, mend::Mender};
use crate::{
    access::{Challenge, PROOF_BYTES, ProofPlace, Proofs},
    base::{
        error::{Error, Result},
        id::{ChunkId, ClientId, PackId},
    },
    format::{
        erasure::{self, SubtreeValues},
        pack::{HEADER_LEN, PackProof, PackTable, Proven},
        slice::Source,
    },
    repository::{
        index::{Index, PackRow, Wanted},
        log::Log,
    },
};

/// Bytes that are read of a pack at a time.
const BLOCK: usize = 64 * 1024;

/// Answers challenges.
#[derive(Debug)]
pub(super) struct Prover {
    index: Arc<Index>,
    log: Arc<Log>,
    files: Arc<PackFiles>,
    mender: Arc<Mender>,
}

/// The challenges that concern one pack: the place of each among all challenges, and the number of its frame.
type OfPack = Vec<(usize, u32)>;

impl Prover {
    pub fn new(index: Arc<Index>, log: Arc<Log>, files: Arc<PackFiles>, mender: Arc<Mender>) -> Self {
        Self { index, log, files, mender }
    }

    /// Shows what is challenged, as far as it `is_live`: of each chunk the best copy on which the client may rely.
    pub fn prove(&self, client: Option<ClientId>, challenges: &[Challenge], is_live: &[bool]) -> Result<Proofs> {
        let ids: Vec<_> = challenges.iter().map(|challenge| challenge.id).collect();
        let domains = self.log.domains()?;
        let domain = client.map(|client| domains.of(client));
        let (addresses, rows) = self.index.chunks().resolve(&ids, &Wanted { domain, avoid: &[] }, &domains)?;
        let (mut packs, mut order) = (HashMap::<u32, OfPack>::new(), Vec::new());
        let (mut done, mut bytes) = (0, 0);
        for (place, address) in addresses.into_iter().enumerate() {
            if let Some((pack, frame)) = address.filter(|_| is_live.get(place) == Some(&true))
                && let Some(row) = rows.get(&pack)
            {
                if !packs.contains_key(&pack) {
                    let table_len = row.len - u64::from(row.bounds.last().copied().unwrap_or(0)).min(row.len);
                    bytes += table_len as usize;
                    if bytes > PROOF_BYTES && !order.is_empty() {
                        break;
                    }
                    order.push(pack);
                }
                packs.entry(pack).or_default().push((place, frame));
            }
            done += 1;
        }
        let mut proofs =
            Proofs { packs: Vec::with_capacity(order.len()), places: vec![None; done], endorsements: vec![] };
        let (roster, mut shown) = (self.log.roster()?, HashSet::new());
        for pack in order {
            let (Some(row), Some(wanted)) = (rows.get(&pack), packs.get(&pack)) else { continue };
            let Some((proof, numbers)) = self.prove_pack(row, challenges, wanted)? else { continue };
            let pack = proofs.packs.len() as u32;
            proofs.packs.push(proof);
            if shown.insert(row.client)
                && let Some(client) = roster.client(row.client)
            {
                proofs.endorsements.push(client.endorsement()?);
            }
            for ((place, _), number) in wanted.iter().zip(numbers) {
                proofs.places[*place] = number.map(|number| ProofPlace { pack, number });
            }
        }
        Ok(proofs)
    }

    /// The proof for one pack, and the number of each chunk in it. None if it is damaged beyond mending, or gone.
    fn prove_pack(
        &self,
        row: &PackRow,
        challenges: &[Challenge],
        wanted: &OfPack,
    ) -> Result<Option<(PackProof, Vec<Option<u32>>)>> {
        match self.try_prove(row, challenges, wanted) {
            Ok(found) => return Ok(found),
            Err(error @ (Error::PackDamaged { .. } | Error::Damaged { .. })) => {
                tracing::warn!(pack = %row.id, %error, "a challenge found a damaged pack");
            }
            Err(error) if error.is_unreadable() => {
                tracing::warn!(pack = %row.id, %error, "a challenge found a pack that cannot be read");
            }
            Err(error) => return Err(error),
        }
        self.mender.mend(row.id)?;
        match self.try_prove(row, challenges, wanted) {
            Err(Error::PackDamaged { .. } | Error::Damaged { .. }) => Ok(None),
            Err(error) if error.is_unreadable() => Ok(None),
            proved => proved,
        }
    }

    fn try_prove(
        &self,
        row: &PackRow,
        challenges: &[Challenge],
        wanted: &OfPack,
    ) -> Result<Option<(PackProof, Vec<Option<u32>>)>> {
        let table = self.files.table(row.id, row.len)?;
        let mut numbers = Vec::with_capacity(wanted.len());
        let mut chunks = Vec::with_capacity(wanted.len());
        for (place, frame) in wanted {
            let Challenge { id, at } = challenges[*place];
            let number = number_of(&table, *frame, &id);
            chunks.extend(number.map(|number| Proven { id, number, at }));
            numbers.push(number);
        }
        if chunks.is_empty() {
            return Ok(None);
        }
        let len = table.frames.last().map_or(HEADER_LEN, |frame| (frame.offset + frame.len) as usize);
        let values = self.values(row.id);
        let mut content = Content { files: &self.files, pack: row.id, len, values, block: None };
        let proof = PackProof::new(&table, &mut content, &chunks)?;
        match proof.is_consistent() {
            true => Ok(Some((proof, numbers))),
            false => Err(Error::PackDamaged {
                pack: row.id,
                reason: "the bytes of a frame are not those that were signed".into(),
            }),
        }
    }

    /// The hashes in the head of a pack's parity; none if there is no such file, or it cannot be used.
    fn values(&self, id: PackId) -> Option<SubtreeValues> {
        let start = self.files.parity_range(id, 0, erasure::START_LEN).ok()??;
        let head = self.files.parity_range(id, 0, erasure::head_len(&start)?).ok()??;
        SubtreeValues::parse(&head, id).ok()
    }
}

/// The number of a chunk of a frame, among all chunks of the pack.
fn number_of(table: &PackTable, frame: u32, id: &ChunkId) -> Option<u32> {
    let before: usize = table.frames.iter().take(frame as usize).map(|frame| frame.ids.len()).sum();
    let within = table.frames.get(frame as usize)?.ids.iter().position(|listed| listed == id)?;
    Some((before + within) as u32)
}

/// Header and frames of a pack.
struct Content<'a> {
    files: &'a PackFiles,
    pack: PackId,
    len: usize,
    values: Option<SubtreeValues>,
    /// The block that was read last, and its number.
    block: Option<(usize, Bytes)>,
}

impl Source for Content<'_> {
    fn whole_len(&self) -> usize {
        self.len
    }

    /// All spans that a slice reads lie within one block.
    fn read(&mut self, start: usize, len: usize) -> Result<Vec<u8>> {
        let number = start / BLOCK;
        let bytes = match self.block.take().filter(|(held, _)| *held == number) {
            Some((_, bytes)) => bytes,
            None => {
                let block_len = BLOCK.min(self.len - number * BLOCK);
                self.files.range(self.pack, (number * BLOCK) as u64, block_len)?.unwrap_or_default()
            }
        };
        let span = bytes.get(start % BLOCK..start % BLOCK + len).map(<[u8]>::to_vec);
        self.block = Some((number, bytes));
        span.ok_or_else(|| Error::PackDamaged { pack: self.pack, reason: "it is cut off".into() })
    }

    fn known(&self, start: usize, len: usize) -> Option<ChainingValue> {
        self.values.as_ref()?.get(start, len)
    }
}
