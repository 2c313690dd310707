//! Which frames are live: neither condemned nor in quarantine.

use heed::{RoTxn, WithoutTls};

use super::{quarantine, tables::Tables};
use crate::base::id::PackId;

/// Whether nothing is condemned and nothing is in quarantine.
pub(super) fn are_all_live(tables: &Tables<'_>, txn: &RoTxn<'_, WithoutTls>) -> heed::Result<bool> {
    Ok(tables.condemned.is_empty(txn)? && tables.quarantined.is_empty(txn)?)
}

/// Whether a frame is live. A frame of an unknown pack is not.
pub(super) fn is_live(tables: &Tables<'_>, txn: &RoTxn<'_, WithoutTls>, pack: u32, frame: u32) -> heed::Result<bool> {
    let Some(row) = tables.packs.get(txn, &pack)? else { return Ok(false) };
    let Some(id) = row.get(..PackId::LEN) else { return Ok(false) };
    let is_in = |bits: &[u8]| bits.get(frame as usize / 8).is_some_and(|byte| byte >> (frame % 8) & 1 == 1);
    let is_condemned = tables.condemned.get(txn, id)?.is_some_and(is_in);
    Ok(!is_condemned && !quarantine::has_frame(tables, txn, id, frame)?)
}
