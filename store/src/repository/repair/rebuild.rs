//! Making the index anew, on purpose: what it says is thrown away unread, and all is read in from the log and the packs.

use std::{fs, path::Path};

use crate::{
    base::{
        error::{Error, Result},
        id::PackId,
    },
    repository::{Repository, index::lmdb, layout},
};

/// What an index holds that was just made.
#[derive(Debug, Default)]
pub struct IndexReport {
    /// Records of the log.
    pub log_records: u64,
    /// Snapshots that are not gone.
    pub snapshots: u64,
    /// Packs.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Their chunks, copies counted.
    pub chunks: u64,
    /// Packs of which frames are in quarantine.
    pub quarantined: u64,
    /// Packs that are there and cannot be read in, with what is wrong.
    pub unread: Vec<Error>,
}

/// Removes a folder that was only for a moment.
struct Passing<'a>(&'a Path);

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        // Best effort: it lies where things can be thrown away.
        let _ = fs::remove_dir_all(self.0);
    }
}

impl Repository {
    /// Makes the index of the repository in a folder anew. Other processes go on with what they have open. Dry, it is made
    /// beside the one that is there, and thrown away.
    pub fn rebuild_index(folder: &Path, index: &Path, dry_run: bool) -> Result<IndexReport> {
        if !dry_run {
            lmdb::wipe(index)?;
            return Self::local(folder, index)?.index_report();
        }
        let beside = index.with_extension(format!("dry-{}", std::process::id()));
        let _passing = Passing(&beside);
        Self::local(folder, &beside)?.index_report()
    }

    fn index_report(&self) -> Result<IndexReport> {
        self.state()?;
        let mut report = IndexReport {
            log_records: self.index.log().position()?.len,
            snapshots: self.unexpired()?.len() as u64,
            chunks: self.index.chunks().count()?,
            ..IndexReport::default()
        };
        self.index.packs().each(&mut |_, row| {
            report.packs += 1;
            report.bytes += row.len;
        })?;
        let mut after: Option<PackId> = None;
        loop {
            let some = self.index.quarantine().list(after, 1024)?;
            let Some(last) = some.last() else { break };
            after = Some(last.pack);
            report.quarantined += some.len() as u64;
        }
        for first in 0..=u8::MAX {
            for listed in self.backend.list(&layout::pack_folder(first))? {
                let Ok(id) = listed.name.parse::<PackId>() else { continue };
                if !self.index.packs().has(&id)? && self.index.prunes().swept_at(&id)?.is_none() {
                    let reason = match self.table_of(id, listed.len) {
                        Ok(_) => "it came while the index was made".into(),
                        Err(Error::PackDamaged { reason, .. }) => reason,
                        Err(error) => error.to_string(),
                    };
                    report.unread.push(Error::PackDamaged { pack: id, reason });
                }
            }
        }
        Ok(report)
    }
}
