//! Objects in memory, for tests and experiments. Nothing outlives the process.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::{ArcMutexGuard, Mutex, RawMutex};

use super::{Backend, Listed, Lock, Room};
use crate::base::error::{Error, Result};

/// Keeps objects in memory.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    objects: Mutex<BTreeMap<String, Bytes>>,
    lock: Arc<Mutex<()>>,
}

struct MemoryLock(#[allow(dead_code, reason = "dropping the guard ends the lock")] ArcMutexGuard<RawMutex, ()>);
// Another thread than the one that took the guard may drop it: parking_lot is built with `send_guard`.
impl Lock for MemoryLock {}

impl Backend for MemoryBackend {
    fn place(&self) -> String {
        "memory".into()
    }

    fn put_all(&self, objects: &[(&str, &[u8])]) -> Result<()> {
        let copies = objects.iter().map(|(name, bytes)| ((*name).into(), Bytes::copy_from_slice(bytes)));
        self.objects.lock().extend(copies);
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.objects.lock().get(name).cloned())
    }

    fn get_range(&self, name: &str, offset: u64, len: usize) -> Result<Option<Bytes>> {
        Ok(self.objects.lock().get(name).map(|bytes| {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            bytes.slice(start..start.saturating_add(len).min(bytes.len()))
        }))
    }

    fn len(&self, name: &str) -> Result<Option<u64>> {
        Ok(self.objects.lock().get(name).map(|bytes| bytes.len() as u64))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let mut objects = self.objects.lock();
        if let Some(bytes) = objects.remove(from) {
            objects.insert(to.into(), bytes);
        }
        Ok(())
    }

    fn delete(&self, name: &str) -> Result<()> {
        self.objects.lock().remove(name);
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let prefix = format!("{folder}/");
        let objects = self.objects.lock();
        let below = objects.range(prefix.clone()..).take_while(|(name, _)| name.starts_with(&prefix));
        Ok(below
            .filter(|(name, _)| !name[prefix.len()..].contains('/'))
            .map(|(name, bytes)| Listed { name: name[prefix.len()..].to_owned(), len: bytes.len() as u64 })
            .collect())
    }

    fn settle(&self, _: &str) -> Result<()> {
        Ok(())
    }

    fn stamp(&self, _: &str) -> Result<Option<u64>> {
        Ok(None)
    }

    fn room(&self) -> Option<Room> {
        None
    }

    fn append(&self, name: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut objects = self.objects.lock();
        let mut log = objects.get(name).map(|b| b.to_vec()).unwrap_or_default();
        if (log.len() as u64) < offset {
            return Err(Error::damaged(name, "it is shorter than when it was last read"));
        }
        log.truncate(offset as usize);
        log.extend_from_slice(bytes);
        objects.insert(name.into(), log.into());
        Ok(())
    }

    fn lock(&self) -> Result<Box<dyn Lock>> {
        Ok(Box::new(MemoryLock(self.lock.lock_arc())))
    }
}
