//! What must be true of a folder that is found after a crash.

use std::{
    collections::{BTreeSet, hash_map::DefaultHasher},
    fs,
    hash::{Hash as _, Hasher},
    path::Path,
    sync::Arc,
};

use bkfs_store::{
    ErrorKind,
    access::{Access, Manage, Open, OpenRequest, Opened, Push},
    base::id::{ChunkId, SlotId},
    format::keys::slot,
    owner::reader::Reader,
    repository::Repository,
};

use crate::{
    Promised,
    disk::Image,
    story,
    support::world::{World, problems},
};

/// Checks that folders keep what was promised.
pub struct Checked<'a> {
    pub world: &'a World,
    pub floor: u64,
    /// Hashes of what was checked already: many prefixes leave the same folder.
    pub seen: BTreeSet<u64>,
    pub images: u64,
}

pub fn text(what: &'static str) -> impl Fn(bkfs_store::Error) -> String {
    move |error| format!("{what}: {error}")
}

impl Checked<'_> {
    /// Checks that a folder keeps what was promised, and that it can be used.
    pub fn check(&mut self, image: &Image, index: Option<&[u8]>, promised: &Promised) -> Result<(), String> {
        let mut hasher = DefaultHasher::new();
        (&image.files, &image.folders, index, promised.count).hash(&mut hasher);
        if !self.seen.insert(hasher.finish()) {
            return Ok(());
        }
        self.images += 1;
        story::set_clock(promised.clock);
        let found = |check: &dyn Fn(&Path) -> Result<(), String>| {
            let folder = story::folder();
            image.write(folder.path());
            if let Some(bytes) = index.filter(|bytes| !bytes.is_empty()) {
                fs::create_dir_all(folder.path().join("index")).unwrap();
                fs::write(folder.path().join("index/data.mdb"), bytes).unwrap();
            }
            check(folder.path())
        };
        match &promised.hurt {
            None => found(&|folder| self.usable(folder, promised)),
            Some(hurt) => {
                let mut hurt = hurt.clone();
                hurt.is_unnoticed &= index.is_none_or(<[u8]>::is_empty);
                // The two ways take turns: there are several images for each point.
                match self.images % 2 {
                    0 => {
                        found(&|folder| self.healed(folder, promised, &hurt).map_err(|e| format!("pushed again: {e}")))
                    }
                    _ => found(&|folder| self.repaired(folder, promised, &hurt).map_err(|e| format!("repaired: {e}"))),
                }
            }
        }
    }

    pub fn open(&self, folder: &Path) -> Result<Arc<Repository>, String> {
        let repo = Repository::local(&folder.join("repo"), &folder.join("index")).map_err(text("opening"))?;
        Ok(Arc::new(repo.with_floor(self.floor).with_clock(story::clock)))
    }

    /// Opens a repository, and checks that it knows all that was promised.
    pub fn opened(&self, folder: &Path, promised: &Promised) -> Result<(Arc<Repository>, Opened, Arc<Reader>), String> {
        let repo = self.open(folder)?;
        let opened = repo.open(&OpenRequest { client: Some(self.world.push.client_id()), seen: promised.seen });
        let opened = match opened {
            Err(error) if error.kind() == ErrorKind::NoRepository && !promised.initialised => {
                repo.init(&self.world.request).map_err(text("init"))?;
                repo.open(&OpenRequest::default())
            }
            opened => opened,
        };
        let opened = opened.map_err(text("opening"))?;
        if opened.head_at_seen != promised.seen.map(|seen| seen.log_head) && promised.seen.is_some() {
            return Err("the log was rolled back".into());
        }
        let slots: BTreeSet<SlotId> = opened.slots.iter().map(|slot| slot.id).collect();
        if !promised.slots.is_subset(&slots) || !promised.slots_gone.is_disjoint(&slots) {
            return Err(format!("key slots {slots:?}"));
        }
        if opened.slots.is_empty() || opened.slots.iter().any(|slot| slot::slot_params(slot).is_err()) {
            return Err("a key slot does not open".into());
        }
        let rotated = (promised.seal_keys > 0).then(|| self.world.rotated(&opened)).transpose()?;
        if rotated.as_ref().is_some_and(|world| world.push.seal_number.0 < promised.seal_keys) {
            return Err("an old seal key".into());
        }
        let reader = rotated.as_ref().unwrap_or(self.world).reader(repo.clone());
        if reader.roster().map_err(text("the roster"))?.number < promised.roster {
            return Err("an old roster".into());
        }
        has(&repo, &promised.chunks, "is gone")?;
        Ok((repo, opened, reader))
    }

    fn usable(&self, folder: &Path, promised: &Promised) -> Result<(), String> {
        let (repo, opened, reader) = self.opened(folder, promised)?;
        self.whole(&*repo, &reader, promised)?;
        let files = World::files(90);
        let rotated = (promised.seal_keys > 0).then(|| self.world.rotated(&opened)).transpose()?;
        let world = rotated.as_ref().unwrap_or(self.world);
        let receipt = world.push(&*repo, &files).map_err(text("the next push"))?;
        let mut promised = promised.clone();
        promised.snapshots.insert(receipt.snapshot, files);
        drop((reader, repo));
        let repo = self.open(folder)?;
        let reader = world.reader(repo.clone());
        self.whole(&*repo, &reader, &promised).map_err(|error| format!("after the next push: {error}"))?;
        if promised.is_reframed {
            // It does what was left undone.
            story::reframe_with(&repo, &reader, self.world, &folder.join("cache")).map_err(text("another prune"))?;
            let reader = self.world.reader(repo.clone());
            self.whole(&*repo, &reader, &promised).map_err(|error| format!("after another prune: {error}"))?;
        }
        if self.floor > 0 {
            repo.operator().revive_all().map_err(text("reviving what was pruned"))?;
            has(&repo, &promised.buried, "was pruned and does not come back")?;
            self.whole(&*repo, &reader, &promised)
                .map_err(|error| format!("after what was pruned came back: {error}"))?;
        }
        Ok(())
    }

    /// Checks that all snapshots are there and whole.
    pub fn whole(&self, access: &dyn Access, reader: &Reader, promised: &Promised) -> Result<(), String> {
        let found = self.world.read_all(reader)?;
        for (id, files) in &promised.snapshots {
            if found.get(id) != Some(files) {
                return Err(format!("snapshot {id} is not as it was pushed"));
            }
        }
        if let Some(id) = promised.forgotten.iter().find(|id| found.contains_key(id)) {
            return Err(format!("snapshot {id} was forgotten, but is there"));
        }
        let mut problems = problems(reader, access, true).map_err(|e| e.to_string())?;
        // The owner has not acknowledged the purge.
        problems.retain(|problem| !promised.is_purged || !problem.contains("removed by the server's operator"));
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }
}

/// Checks that chunks are stored.
pub fn has(repo: &Repository, ids: &[ChunkId], what: &str) -> Result<(), String> {
    match repo.has(None, ids).map_err(text("has"))?.iter().position(|has| !has) {
        Some(at) => Err(format!("chunk {} {what}", ids[at])),
        None => Ok(()),
    }
}
