//! What an index holds, compared with the packs that are stored.

use crate::{
    base::{
        error::{Error, Result},
        id::PackId,
    },
    repository::{index::Index, packs::files::PackFiles, snapshots::Snapshots},
};

/// What an index holds that was just rebuilt.
#[derive(Debug, Default)]
pub struct IndexReport {
    /// Records of the log.
    pub log_records: u64,
    /// Snapshots that are not gone for good.
    pub snapshots: u64,
    /// Packs.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their chunks; each copy counts.
    pub chunks: u64,
    /// Packs that have frames in quarantine.
    pub quarantined: u64,
    /// Packs whose files exist and cannot be read in, and why.
    pub unread: Vec<Error>,
}

/// Counts what the index holds, and finds packs that it lacks.
pub fn index_report(index: &Index, files: &PackFiles, snapshots: &Snapshots) -> Result<IndexReport> {
    let mut report = IndexReport {
        log_records: index.log().position()?.len,
        snapshots: snapshots.unexpired()?.len() as u64,
        chunks: index.chunks().count()?,
        ..IndexReport::default()
    };
    index.packs().each(&mut |_, row| {
        report.packs += 1;
        report.bytes += row.len;
    })?;
    let mut after: Option<PackId> = None;
    loop {
        let some = index.quarantine().list(after, 1024)?;
        let Some(last) = some.last() else { break };
        after = Some(last.pack);
        report.quarantined += some.len() as u64;
    }
    for first in 0..=u8::MAX {
        for (id, len) in files.list(first)? {
            if !index.packs().has(&id)? && index.prunes().swept_at(&id)?.is_none() {
                let reason = match files.table(id, len) {
                    Ok(_) => "it was stored while the index was rebuilt".into(),
                    Err(Error::PackDamaged { reason, .. }) => reason,
                    Err(error) => error.to_string(),
                };
                report.unread.push(Error::PackDamaged { pack: id, reason });
            }
        }
    }
    Ok(report)
}
