//! How far copies of chunks are trusted, and which copy of a chunk is best.
//!
//! A store cannot tell whether a frame holds what its pack's table names. So what a client may rely on follows from who
//! made the pack, and from what key holders have verified (`docs/design/0026-trust-domains.md`). The order of copies
//! depends on nothing else than that and the packs' ids: not on numbers of packs, which change when the index is
//! rebuilt or a pack is written again.

use std::collections::{HashMap, hash_map::Entry};

use heed::{RoTxn, WithoutTls};

use super::{chunk_tables::FrameAddress, liveness, quarantine, rows::PackRow, tables::Tables, verdicts};
use crate::{
    base::id::{DomainId, PackId},
    format::roster::Domains,
};

/// How far a pack is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// A key holder has opened it. Everybody may rely on it.
    Verified,
    /// Only the clients of this domain may rely on it.
    Domain(DomainId),
}

impl Trust {
    /// Whether clients of a domain may rely on it.
    pub fn is_enough_for(self, domain: DomainId) -> bool {
        self == Self::Verified || self == Self::Domain(domain)
    }

    /// Whether everybody who may rely on the other may rely on this one.
    pub fn covers(self, other: Self) -> bool {
        self == Self::Verified || self == other
    }
}

/// A pack in the index, and how far it is trusted.
#[derive(Debug, Clone, Copy)]
pub(super) struct TrustedPack {
    pub id: PackId,
    pub trust: Trust,
}

/// The order of copies: the smallest is read first. In this order: copies that should hold the chunk; what key holders
/// have verified; the owner's own machines; live copies; any order that stays the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CopyRank {
    is_refused: bool,
    is_quarantined: bool,
    is_unverified: bool,
    is_of_others: bool,
    is_condemned: bool,
    pack: PackId,
    frame: u32,
}

/// Looks up packs, each once.
pub(super) struct TrustLookup<'a> {
    tables: &'a Tables<'static>,
    domains: &'a Domains,
    packs: HashMap<u32, Option<TrustedPack>>,
}

impl<'a> TrustLookup<'a> {
    pub fn new(tables: &'a Tables<'static>, domains: &'a Domains) -> Self {
        Self { tables, domains, packs: HashMap::new() }
    }

    /// The pack with a number; none if there is no such pack.
    pub fn pack(&mut self, txn: &RoTxn<'_, WithoutTls>, number: u32) -> heed::Result<Option<TrustedPack>> {
        match self.packs.entry(number) {
            Entry::Occupied(entry) => Ok(*entry.get()),
            Entry::Vacant(entry) => {
                let row = self.tables.packs.get(txn, &number)?.and_then(PackRow::maker);
                let Some((id, client)) = row else { return Ok(*entry.insert(None)) };
                let trust = match verdicts::is_verified(self.tables, txn, &id.0)? {
                    true => Trust::Verified,
                    false => Trust::Domain(self.domains.of(client)),
                };
                Ok(*entry.insert(Some(TrustedPack { id, trust })))
            }
        }
    }

    /// How far a copy is trusted, if it is live.
    pub fn live(
        &mut self,
        txn: &RoTxn<'_, WithoutTls>,
        (pack, frame): FrameAddress,
        all_live: bool,
    ) -> heed::Result<Option<Trust>> {
        match all_live || liveness::is_live(self.tables, txn, pack, frame)? {
            true => Ok(self.pack(txn, pack)?.map(|pack| pack.trust)),
            false => Ok(None),
        }
    }

    /// A copy's place in the order of copies.
    pub fn rank(
        &self,
        txn: &RoTxn<'_, WithoutTls>,
        pack: &TrustedPack,
        frame: u32,
        all_live: bool,
    ) -> heed::Result<CopyRank> {
        let id = &pack.id.0;
        Ok(CopyRank {
            is_refused: !all_live && verdicts::is_refused(self.tables, txn, id, frame)?,
            is_quarantined: !all_live && quarantine::has_frame(self.tables, txn, id, frame)?,
            is_unverified: pack.trust != Trust::Verified,
            is_of_others: !pack.trust.is_enough_for(DomainId::OWNER),
            is_condemned: !all_live && liveness::is_condemned(self.tables, txn, id, frame)?,
            pack: pack.id,
            frame,
        })
    }
}
