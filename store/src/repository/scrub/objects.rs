//! Scrubbing small objects: each is kept twice, and a whole copy restores the other.

use std::collections::BTreeSet;

use super::ScrubRun;
use crate::{
    base::{
        error::Result,
        id::{SlotId, SnapshotId},
    },
    format::{
        config::verify_config,
        keys::{Slot, slot::slot_params},
    },
    repository::{
        layout,
        objects::{Check, check_settings, check_snapshot},
        prune::condemned::CondemnedSet,
    },
};

impl ScrubRun<'_> {
    pub(super) fn objects(&mut self) -> Result<()> {
        let objects = &self.scrubber.objects;
        self.object(layout::CONFIG, true, &|bytes| verify_config(bytes).map(drop))?;
        self.object(layout::SETTINGS, false, &check_settings)?;
        for id in objects.names(layout::SLOTS)?.iter().filter_map(|name| name.parse::<SlotId>().ok()) {
            let check = |bytes: &[u8]| slot_params(&Slot { id, bytes: bytes.to_vec() }).map(drop);
            self.object(&layout::slot(id), false, &check)?;
        }
        for hash in objects.condemned_sets()? {
            let check = |bytes: &[u8]| CondemnedSet::decode(bytes, hash).map(drop);
            self.object(&layout::condemned_set(hash), false, &check)?;
        }
        let stored = objects.names(layout::SNAPSHOTS)?;
        let stored = stored.into_iter().filter_map(|name| name.parse::<SnapshotId>().ok());
        let committed = self.scrubber.snapshots.unexpired()?;
        for id in committed.iter().copied().chain(stored).collect::<BTreeSet<SnapshotId>>() {
            let check = |bytes: &[u8]| check_snapshot(id, bytes);
            self.object(&layout::snapshot(id), committed.contains(&id), &check)?;
        }
        Ok(())
    }

    fn object(&mut self, name: &str, is_needed: bool, check: Check<'_>) -> Result<()> {
        self.check_stop()?;
        self.report.objects += 1;
        match self.scrubber.objects.repair(name, is_needed, check) {
            Ok(is_mended) => self.report.objects_mended += u64::from(is_mended),
            outcome => self.note(outcome.map(drop))?,
        }
        Ok(())
    }
}
