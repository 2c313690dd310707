//! Which frames are live: neither condemned nor in quarantine nor refused.

use heed::{RoTxn, WithoutTls};

use super::{quarantine, tables::Tables, verdicts};
use crate::base::id::PackId;

/// Whether nothing is condemned, in quarantine or refused.
pub(super) fn are_all_live(tables: &Tables<'_>, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<bool> {
    Ok(tables.condemned.is_empty(txn)? && tables.quarantined.is_empty(txn)? && tables.refused.is_empty(txn)?)
}

/// Whether a frame is live. A frame of an unknown pack is not.
pub(super) fn is_live(tables: &Tables<'_>, txn: &RoTxn<'_, WithoutTls>, pack: u32, frame: u32) -> heed::Result<bool> {
    let Some(row) = tables.packs.get(txn, &pack)? else { return Ok(false) };
    let Some(id) = row.get(..PackId::LEN) else { return Ok(false) };
    Ok(!is_condemned(tables, txn, id, frame)?
        && !quarantine::has_frame(tables, txn, id, frame)?
        && !verdicts::is_refused(tables, txn, id, frame)?)
}

/// Whether a frame is condemned.
pub(super) fn is_condemned(
    tables: &Tables<'_>,
    txn: &RoTxn<'_, WithoutTls>,
    pack: &[u8],
    frame: u32,
) -> heed::Result<bool> {
    let is_in = |bits: &[u8]| bits.get(frame as usize / 8).is_some_and(|byte| byte >> (frame % 8) & 1 == 1);
    Ok(tables.condemned.get(txn, pack)?.is_some_and(is_in))
}
