//! Reading a repository in memory: with the reader alone, and through a mount and the kernel.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf, sync::Arc};

use bkfs_fs::mount::{Mount, MountOptions, mount};
use bkfs_store::{access::Access, owner::reader::Reader, repository::Repository};
use divan::{
    Bencher,
    counter::{BytesCount, ItemsCount},
};

use crate::material::{Owner, owner, push_folder, tree};

struct World {
    access: Arc<dyn Access>,
    owner: Owner,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        tree(&source);
        let access: Arc<dyn Access> = Arc::new(Repository::memory().unwrap());
        let owner = owner(access.as_ref());
        push_folder(&access, &owner, &source, &folder.path().join("cache"));
        Self { access, owner, folder }
    }

    /// Returns a reader with an empty cache.
    fn reader(&self) -> Arc<Reader> {
        Reader::new(self.access.clone(), self.owner.full.clone(), &self.owner.config, 64 << 20)
    }

    /// Returns a mount with an empty cache, and the newest snapshot in it. Returns `None` if there is no FUSE.
    fn mount(&self) -> Option<(Mount, PathBuf)> {
        let place = self.folder.path().join("mnt");
        std::fs::create_dir_all(&place).unwrap();
        match mount(&self.reader(), &place, &MountOptions::default()) {
            Ok(mount) => Some((mount, place.join("latest"))),
            Err(error) => {
                println!("skipped: {error}");
                None
            }
        }
    }
}

/// Reads the file of 64 MB with a [`Reader`] and an empty cache, in pieces of the size that the kernel requests.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn reader_sequential(bencher: Bencher<'_, '_>) {
    let world = World::new();
    bencher.counter(BytesCount::new(64u32 << 20)).with_inputs(|| world.reader()).bench_local_values(|reader| {
        let root = reader.snapshots().unwrap()[0].snapshot.root.clone();
        let node = reader.resolve(&root, b"large").unwrap();
        let file = reader.file(&node);
        for at in (0..file.len()).step_by(1 << 20) {
            file.read_at(at, 1 << 20).unwrap();
        }
    });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn mount_sequential(bencher: Bencher<'_, '_>) {
    let world = World::new();
    bencher.counter(BytesCount::new(64u32 << 20)).with_inputs(|| world.mount()).bench_local_values(|mounted| {
        if let Some((_, latest)) = &mounted {
            std::io::copy(&mut File::open(latest.join("large")).unwrap(), &mut std::io::sink()).unwrap();
        }
        mounted
    });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn mount_random_4k(bencher: Bencher<'_, '_>) {
    let world = World::new();
    const READS: u64 = 500;
    bencher.counter(ItemsCount::new(READS)).with_inputs(|| world.mount()).bench_local_values(|mounted| {
        if let Some((_, latest)) = &mounted {
            let file = File::open(latest.join("large")).unwrap();
            let mut buffer = [0; 4096];
            for n in 0..READS {
                let page = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % (16 << 10);
                file.read_exact_at(&mut buffer, page * 4096).unwrap();
            }
        }
        mounted
    });
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn mount_small_files(bencher: Bencher<'_, '_>) {
    let world = World::new();
    bencher.counter(ItemsCount::new(4000u32)).with_inputs(|| world.mount()).bench_local_values(|mounted| {
        if let Some((_, latest)) = &mounted {
            for dir in 0..100 {
                for entry in std::fs::read_dir(latest.join(format!("folder-{dir:03}"))).unwrap() {
                    std::fs::read(entry.unwrap().path()).unwrap();
                }
            }
        }
        mounted
    });
}
