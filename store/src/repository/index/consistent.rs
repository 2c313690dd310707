//! Whether the rows of an index can be believed that was not closed properly.
//!
//! Every row is decoded and compared with the rows that must go with it. That finds rows that are missing, and most
//! wrong bytes; what rows say of packs is confirmed when the packs are read.

use std::collections::HashMap;

use heed::{RoTxn, WithoutTls};

use super::{
    environment::Index,
    log::{COMMIT, POSITION},
    meta,
    rows::{CommitRow, PackRow, Pin},
    tables::Tables,
    verdicts,
};
use crate::{
    base::{
        codec,
        error::Result,
        id::{Incarnation, KeyId, PackId},
    },
    crypto::Wrap,
    format::{log::file::Position, loss::Lost},
};

/// Length of a condemnation's row, and of the row of a swept pack.
const CONDEMNATION: usize = 40;
const SWEPT: usize = 9;
/// Length of an entry of the list of folders that are not settled.
const UNSETTLED: usize = 5;

type Reading<'t> = RoTxn<'t, WithoutTls>;

impl Index {
    /// Whether all rows decode and fit one another. Looks once, and only if the index was not closed properly.
    pub fn is_consistent(&self) -> Result<bool> {
        if !self.take_doubt() {
            return Ok(true);
        }
        let tables = &self.tables;
        self.read(|txn| {
            Ok(are_values_right(tables, txn)?
                && are_commits_right(tables, txn)?
                && are_prunes_right(tables, txn)?
                && are_packs_right(tables, txn)?)
        })
    }
}

fn are_values_right(tables: &Tables<'_>, txn: &Reading<'_>) -> heed::Result<bool> {
    let value = |key: &[u8]| tables.meta.get(txn, key);
    let has_len = |key, len| Ok::<_, heed::Error>(value(key)?.is_none_or(|raw| raw.len() == len));
    let lens =
        [(meta::GENERATION, 8), (meta::NEXT_NUMBER, 4), (meta::PACK_BYTES, 8), (meta::OWNER, 32), (meta::LIFE, 16)];
    for (key, len) in lens {
        if !has_len(key, len)? {
            return Ok(false);
        }
    }
    let has_generation = !tables.condemnations.is_empty(txn)? || !tables.losses.is_empty(txn)?;
    if value(meta::LIFE)?.is_none() || has_generation && value(meta::GENERATION)?.is_none() {
        return Ok(false);
    }
    if value(meta::UNSETTLED)?.is_some_and(|raw| !raw.len().is_multiple_of(UNSETTLED)) {
        return Ok(false);
    }
    let Some(position) = value(meta::LOG_POSITION)? else {
        return tables.offsets.is_empty(txn);
    };
    let Ok(position) = codec::decode::<Position>(POSITION, position) else { return Ok(false) };
    if position.len == 0 {
        return Ok(true);
    }
    let is_incarnation = value(meta::INCARNATION)?.is_some_and(|raw| Incarnation::from_slice(raw).is_some());
    let mut end = 0;
    for row in tables.offsets.iter(txn)? {
        let (_, at) = row?;
        if at < end {
            return Ok(false);
        }
        end = at + 1;
    }
    let is_last = tables.offsets.last(txn)?.is_some_and(|(seq, at)| seq + 1 == position.len && at < position.offset);
    Ok(is_incarnation && is_last && tables.offsets.len(txn)? == position.len)
}

fn are_commits_right(tables: &Tables<'_>, txn: &Reading<'_>) -> heed::Result<bool> {
    let mut newest = HashMap::new();
    for row in tables.commits.iter(txn)? {
        let (seq, raw) = row?;
        let Ok(row) = codec::decode::<CommitRow>(COMMIT, raw) else { return Ok(false) };
        if row.seq != seq
            || tables.offsets.get(txn, &seq)?.is_none()
            || tables.snapshots.get(txn, &row.snapshot.0)?.is_none()
        {
            return Ok(false);
        }
        newest.insert(row.client, seq);
    }
    for (client, seq) in &newest {
        if tables.clients.get(txn, &client.0)? != Some(*seq) {
            return Ok(false);
        }
    }
    for row in tables.snapshots.iter(txn)? {
        let (id, seq) = row?;
        let commit = tables.commits.get(txn, &seq)?.and_then(|raw| codec::decode::<CommitRow>(COMMIT, raw).ok());
        if commit.is_none_or(|commit| commit.snapshot.0 != id) {
            return Ok(false);
        }
    }
    Ok(tables.clients.len(txn)? == newest.len() as u64)
}

fn are_prunes_right(tables: &Tables<'_>, txn: &Reading<'_>) -> heed::Result<bool> {
    if !verdicts::are_counts_right(tables, txn)? {
        return Ok(false);
    }
    for row in tables.condemnations.iter(txn)? {
        let (seq, raw) = row?;
        if raw.len() != CONDEMNATION || tables.offsets.get(txn, &seq)?.is_none() {
            return Ok(false);
        }
    }
    for row in tables.losses.iter(txn)? {
        if codec::decode::<Lost>("a loss in the index", row?.1).is_err() {
            return Ok(false);
        }
    }
    for row in tables.swept.iter(txn)? {
        let (id, raw) = row?;
        if id.len() != PackId::LEN || raw.len() != SWEPT {
            return Ok(false);
        }
    }
    for row in tables.verified.iter(txn)? {
        let (id, raw) = row?;
        if id.len() != PackId::LEN || !raw.is_empty() {
            return Ok(false);
        }
    }
    for table in [&tables.condemned, &tables.quarantined, &tables.refused] {
        for row in table.iter(txn)? {
            if row?.0.len() != PackId::LEN {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn are_packs_right(tables: &Tables<'static>, txn: &Reading<'_>) -> heed::Result<bool> {
    let (mut frames, mut bytes) = (HashMap::new(), 0u64);
    for row in tables.packs.iter(txn)? {
        let (number, raw) = row?;
        let Some(row) = PackRow::decode(raw) else { return Ok(false) };
        if !row.bounds.is_sorted() || tables.pack_numbers.get(txn, &row.id.0)? != Some(number) {
            return Ok(false);
        }
        bytes = bytes.saturating_add(row.len);
        frames.insert(number, row.frames());
    }
    let value = |key: &[u8]| tables.meta.get(txn, key);
    let counted = value(meta::PACK_BYTES)?.and_then(|raw| raw.try_into().ok()).map_or(0, u64::from_le_bytes);
    let next = value(meta::NEXT_NUMBER)?.and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes);
    let is_next_above = frames.keys().all(|number| *number < next);
    if tables.pack_numbers.len(txn)? != frames.len() as u64 || bytes != counted || !is_next_above {
        return Ok(false);
    }
    for row in tables.pins.iter(txn)? {
        let (number, raw) = row?;
        if Pin::decode(raw).is_none() || !frames.contains_key(&number) {
            return Ok(false);
        }
    }
    for row in tables.wraps.iter(txn)? {
        let (key, raw) = row?;
        let wrap = codec::decode::<Wrap>("a wrap in the index", raw);
        if wrap.map_or(true, |wrap| key.get(..KeyId::LEN) != Some(&wrap.key.0[..])) {
            return Ok(false);
        }
    }
    let mut are_chunks_right = true;
    tables.chunks().each(txn, None, &mut |row| {
        let (number, frame) = super::chunk_tables::address(row);
        are_chunks_right &= frames.get(&number).is_some_and(|count| frame < *count);
    })?;
    Ok(are_chunks_right)
}
