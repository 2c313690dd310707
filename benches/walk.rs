//! Walking a tree of 4,000 files, and pushing it again without any change.

use std::{io, path::PathBuf, sync::Arc};

use bkfs_fs::{
    exclude::{ExcludeOptions, Excludes},
    walk::{Problems, Roots, Walk},
};
use bkfs_store::{access::Access, repository::Repository};
use divan::{Bencher, counter::ItemsCount};

use crate::material::{owner, push_folder, tree};

struct Fatal;

impl Problems for Fatal {
    fn problem(&self, path: PathBuf, error: io::Error) {
        panic!("{}: {error}", path.display());
    }
}

#[divan::bench]
fn walk(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path());
    bencher.counter(ItemsCount::new(4101u32)).bench_local(|| {
        let roots = Roots::new(Some(folder.path()), &[".".into()]).unwrap();
        let excludes = Excludes::new(&ExcludeOptions::default()).unwrap();
        let (mut walk, root, _) = Walk::start(&roots, excludes, Arc::new(Fatal), [0; 16]).unwrap();
        let (mut stack, mut count) = (vec![walk.take(&root).unwrap()], 0u32);
        while let Some(mut listed) = stack.pop() {
            while let Some((_, task)) = walk.next(&mut listed) {
                count += 1;
                if let Some(task) = task {
                    stack.push(std::mem::replace(&mut listed, walk.take(&task).unwrap()));
                }
            }
        }
        assert_eq!(count, 4101);
    });
}

#[divan::bench(sample_count = 40, sample_size = 1)]
fn push_unchanged(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().unwrap();
    let (source, cache) = (folder.path().join("source"), folder.path().join("cache"));
    tree(&source);
    // A push does not trust the file cache for entries that changed in the last two seconds.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    let access: Arc<dyn Access> = Arc::new(Repository::memory().unwrap());
    let owner = owner(access.as_ref());
    push_folder(&access, &owner, &source, &cache);
    bencher.counter(ItemsCount::new(4101u32)).bench_local(|| push_folder(&access, &owner, &source, &cache));
}
