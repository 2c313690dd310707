//! Tests of files with several names while something happens between their names.

use std::{fs, sync::Arc, thread, time::Instant};

use bkfs_store::{access::Lease, format::tree::Content};

use super::{Case, noise};
use crate::{
    cache::Cache,
    exclude::{ExcludeOptions, Excludes},
    filesystem::Filesystems,
    metadata::Stat,
    push::{
        budget::Budget,
        chunk_writer::ChunkWriter,
        clock,
        context::PushContext,
        dedup::Dedup,
        file_assembler::FileAssembler,
        pending_file::PendingFile,
        piece::{FileEnd, ReadJob},
        problems::ProblemList,
        read::FileReader,
        seal::{Sealer, WrappedKey},
    },
    walk::{Roots, Walk},
};

/// Puts together the hard links `a` and `b`. Both are listed before `between` runs, and read after it; `later` runs
/// between their readings.
fn put_together(case: &Case, between: impl FnOnce(), later: impl FnOnce()) -> [FileEnd; 2] {
    let store = &case.store;
    let context = PushContext {
        access: store.clone(),
        config: &store.config,
        key: &store.client,
        ids: store.client.ids(),
        options: &case.options,
        cache: Arc::new(Cache::open(case.cache.path(), store.client.repo, store.client.client_id()).unwrap()),
        progress: Arc::default(),
        problems: Arc::new(ProblemList::default()),
        on_change: None,
        follow: None,
        observer: None,
        clock: clock::now,
        time: clock::now(),
        begun: Instant::now(),
    };
    let dedup = Dedup::new(store.clone(), Default::default(), None, true);
    let (chunker, announcer) = (&store.config.chunker, dedup.announcer());
    let reader =
        FileReader::new(store.client.ids(), chunker, announcer, context.progress.clone(), context.clock).unwrap();
    let budget = Budget::new(1 << 20);
    let roots = Roots::new(Some(case.source.path()), &[".".into()]).unwrap();
    let excludes = Excludes::new(&ExcludeOptions::default()).unwrap();
    let (mut walk, root, _) = Walk::start(&roots, excludes, context.problems.clone(), [0; 16]).unwrap();
    let dir = walk.take(&root).unwrap().dir;
    let group = context.ids.hard_link(b"/", 1, None, 0);
    let job = |number, name: &str| {
        let stat = Stat::of(&dir, &crate::metadata::c_name(name.as_bytes()).unwrap()).unwrap();
        let filesystem = Filesystems::default().of_handle(&dir, &stat);
        ReadJob {
            number,
            dir: dir.clone(),
            name: name.as_bytes().into(),
            stat,
            filesystem,
            hard_link: Some(group),
            is_device: false,
        }
    };
    let (a, b) = (PendingFile::new(job(1, "a")), PendingFile::new(job(2, "b")));
    between();
    let data_key = WrappedKey::random(context.key).unwrap();
    let sealer = Sealer::new(&context, &data_key, &dedup, Lease { session: 1, generation: 0 });
    thread::scope(|scope| {
        let sealing = sealer.start(scope).unwrap();
        let mut writer = ChunkWriter::new(&context.ids, &dedup, &sealing, &context.progress);
        let mut files = FileAssembler::new(&context, case.source.path(), &budget, &reader, &dedup);
        a.fill(&reader, &budget);
        let a = files.file(&a, &mut writer).unwrap().unwrap();
        later();
        let b = files.link(&b, &mut writer).unwrap().unwrap();
        sealing.finish().unwrap();
        [a, b]
    })
}

fn bytes(end: &FileEnd) -> &[u8] {
    match &end.node.content {
        Some(Content::Inline(bytes)) => bytes,
        other => panic!("{other:?}"),
    }
}

fn two_names() -> Case {
    let case = Case::new();
    case.write("a", b"old");
    fs::hard_link(case.at("a"), case.at("b")).unwrap();
    case
}

#[test]
fn a_name_of_an_unchanged_file_is_not_read_again() {
    let case = two_names();
    let [a, b] = put_together(&case, || {}, || fs::write(case.at("b"), b"too late").unwrap());
    assert_eq!((bytes(&a), bytes(&b), &b.node.name[..]), (&b"old"[..], &b"old"[..], &b"b"[..]));
    assert!(a.node.hard_link.is_some() && a.node.hard_link == b.node.hard_link);
}

#[test]
fn a_first_name_that_another_file_took_says_nothing_of_the_others() {
    let case = two_names();
    // As a program does that writes a new file and renames it: `a` is another file now, and `b` is what it was.
    let replace = || {
        fs::write(case.at("new"), b"new").unwrap();
        fs::rename(case.at("new"), case.at("a")).unwrap();
    };
    let [a, b] = put_together(&case, replace, || {});
    assert_eq!((bytes(&a), bytes(&b)), (&b"new"[..], &b"old"[..]));
    assert!(a.node.hard_link.is_none() && b.node.hard_link.is_some());
    // The new file has further names itself: nothing is known of them until the next push.
    let case = two_names();
    let replace = || {
        fs::write(case.at("new"), b"new").unwrap();
        fs::hard_link(case.at("new"), case.at("new too")).unwrap();
        fs::rename(case.at("new"), case.at("a")).unwrap();
    };
    let [a, b] = put_together(&case, replace, || {});
    assert_eq!((bytes(&a), bytes(&b)), (&b"new"[..], &b"old"[..]));
    assert!(a.node.hard_link.is_none() && a.is_distrusted);
}

#[test]
fn a_file_that_changed_between_its_names_is_read_under_each_and_not_linked() {
    let case = two_names();
    let change = |text: &str| fs::write(case.at("b"), text).unwrap();
    let [a, b] = put_together(&case, || change("new"), || change("newer"));
    assert_eq!((bytes(&a), bytes(&b)), (&b"new"[..], &b"newer"[..]));
    assert!(a.node.hard_link.is_some() && b.node.hard_link.is_none() && b.is_distrusted);
}

#[test]
fn a_name_that_was_added_meanwhile_does_not_part_the_others() {
    let case = two_names();
    let add = || fs::hard_link(case.at("a"), case.at("c")).unwrap();
    let [a, b] = put_together(&case, add, || {});
    assert_eq!((bytes(&a), bytes(&b)), (&b"old"[..], &b"old"[..]));
    assert!(a.node.hard_link.is_some() && a.node.hard_link == b.node.hard_link && !b.is_distrusted);
}

#[test]
fn an_unchanged_file_keeps_its_group_and_names_in_two_roots_are_one_file() {
    let mut case = Case::new();
    case.write("one/a", &noise(1, 2000));
    fs::create_dir(case.at("two")).unwrap();
    fs::hard_link(case.at("one/a"), case.at("two/a")).unwrap();
    case.options.paths = vec!["one".into(), "two".into()];
    let report = case.push();
    assert_eq!((report.stats.bytes_read, report.totals.files), (2000, 2));
    let group = |case: &Case, path: &str| {
        let store = &case.store;
        let reader = bkfs_store::owner::reader::Reader::new(store.clone(), store.full.clone(), &store.config, 1 << 20);
        reader.resolve(&store.newest().root, path.as_bytes()).unwrap().hard_link.unwrap()
    };
    let before = group(&case, "one/a");
    assert_eq!(group(&case, "two/a"), before);
    // A change elsewhere, and a push that remembers nothing.
    case.write("one/b", b"b");
    assert_eq!(case.push().stats.bytes_read, 1);
    assert_eq!((group(&case, "one/a"), group(&case, "two/a")), (before, before));
    assert_eq!(case.root(), case.fresh_root());
}
