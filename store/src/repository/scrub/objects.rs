//! Scrubbing small objects: each lies twice, and the whole copy mends the other.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::Run;
use crate::{
    base::{
        error::{Error, Result},
        id::{Hash, SlotId, SnapshotId},
    },
    format::{
        config::verify_config,
        keys::{Slot, slot::slot_params},
        snapshot::snapshot_id,
    },
    repository::{layout, objects::settings, prune::condemned::Condemned},
};

type Check<'a> = &'a dyn Fn(&[u8]) -> Result<()>;

impl Run<'_> {
    pub(super) fn objects(&mut self) -> Result<()> {
        self.object(layout::CONFIG, true, &|bytes| verify_config(bytes).map(drop))?;
        self.object(layout::SETTINGS, false, &settings::check)?;
        for id in self.names("slots")?.iter().filter_map(|name| name.parse::<SlotId>().ok()) {
            let check = |bytes: &[u8]| slot_params(&Slot { id, bytes: bytes.to_vec() }).map(drop);
            self.object(&layout::slot(id), false, &check)?;
        }
        for hash in self.names("prunes")?.iter().filter_map(|name| name.parse::<Hash>().ok()) {
            let check = |bytes: &[u8]| Condemned::decode(bytes, hash).map(drop);
            self.object(&layout::condemned(hash), false, &check)?;
        }
        let stored = self.names("snapshots")?.into_iter().filter_map(|name| name.parse::<SnapshotId>().ok());
        let committed = self.repository.unexpired()?;
        for id in committed.iter().copied().chain(stored).collect::<BTreeSet<SnapshotId>>() {
            let check = |bytes: &[u8]| match snapshot_id(bytes) == id {
                true => Ok(()),
                false => Err(Error::SnapshotDamaged { snapshot: id, reason: "its bytes do not have its id".into() }),
            };
            self.object(&layout::snapshot(id), committed.contains(&id), &check)?;
        }
        Ok(())
    }

    /// Names in a folder or in the one of second copies.
    fn names(&self, folder: &str) -> Result<BTreeSet<String>> {
        let backend = &self.repository.backend;
        let (first, second) = (backend.list(folder)?, backend.list(&format!("{folder}.2"))?);
        Ok(first.into_iter().chain(second).map(|listed| listed.name).collect())
    }

    fn object(&mut self, name: &str, is_needed: bool, check: Check<'_>) -> Result<()> {
        self.go_on()?;
        self.report.objects += 1;
        match self.mended_object(name, is_needed, check) {
            Ok(is_mended) => self.report.objects_mended += u64::from(is_mended),
            outcome => self.note(outcome.map(drop))?,
        }
        Ok(())
    }

    /// Whether one of the copies had to be made again.
    fn mended_object(&self, name: &str, is_needed: bool, check: Check<'_>) -> Result<bool> {
        if let Copies::Alike = self.copies(name, check)? {
            return Ok(false);
        }
        // Perhaps one was just being written or removed, which is done under the lock.
        let repository = self.repository;
        let _lock = repository.backend.lock()?;
        match self.copies(name, check)? {
            Copies::Alike => Ok(false),
            Copies::One { whole, bytes } => {
                let damaged = if whole == name { layout::second(name) } else { name.to_owned() };
                repository.backend.put(&damaged, &bytes)?;
                tracing::warn!(object = damaged, "a damaged copy was made again");
                Ok(true)
            }
            Copies::Differ => Err(Error::damaged(name, "its two copies differ, and nothing tells which is right")),
            Copies::None(None) if is_needed => Err(Error::damaged(name, "both its copies are missing")),
            Copies::None(None) => Ok(false),
            Copies::None(Some(error)) => Err(Error::damaged(name, format!("both its copies are damaged ({error})"))),
        }
    }

    fn copies(&self, name: &str, check: Check<'_>) -> Result<Copies> {
        let mut why = None;
        let mut whole = Vec::with_capacity(2);
        for name in [name.to_owned(), layout::second(name)] {
            match self.repository.backend.get(&name) {
                Ok(Some(bytes)) => match check(&bytes) {
                    Ok(()) => whole.push((name, bytes)),
                    Err(error) => why = Some(error),
                },
                Ok(None) => {}
                Err(error) if error.is_unreadable() => why = Some(error),
                Err(error) => return Err(error),
            }
        }
        let (first, second) = (whole.pop(), whole.pop());
        Ok(match (first, second) {
            (Some((_, one)), Some((_, other))) if one == other => Copies::Alike,
            (Some(_), Some(_)) => Copies::Differ,
            (Some((whole, bytes)), None) => Copies::One { whole, bytes },
            _ => Copies::None(why),
        })
    }
}

enum Copies {
    Alike,
    Differ,
    /// Only this one is whole.
    One {
        whole: String,
        bytes: Bytes,
    },
    /// None is; why, unless there are none.
    None(Option<Error>),
}
