//! Scrubbing: damage by the disk is found without keys, mended if possible, and reported exactly if not.

use std::{fs, path::Path, sync::atomic::Ordering, time::Instant};

use bkfs_store::{
    access::{Lease, Push, Span},
    base::id::ChunkId,
    format::{
        erasure::{Parity, SHARD_LEN},
        pack::PackUpload,
    },
    repository::{
        Repository,
        scrub::{ScrubOptions, ScrubProgress, ScrubReport},
    },
};

use super::world::{World, put, readable, write_at};

fn scrub(repo: &Repository) -> ScrubReport {
    let report = repo.scrub(&ScrubOptions::default(), &ScrubProgress::default()).unwrap();
    assert!(report.ended.is_some());
    assert_eq!(repo.last_scrub().unwrap().as_ref(), Some(&report), "the report is kept");
    report
}

/// A repository with some packs, the first one large.
fn filled(parity: Option<Parity>) -> (World, Repository, Vec<(PackUpload, Vec<ChunkId>)>) {
    let world = World::new();
    let repo = world.made(parity);
    let packs: Vec<_> = [40, 3, 1, 7].into_iter().map(|frames| world.pack(frames)).collect();
    packs.iter().for_each(|(pack, _)| put(&repo, pack));
    (world, repo, packs)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_repository_has_no_problems() {
    let (world, repo, packs) = filled(Some(Parity::default()));
    assert_eq!(repo.last_scrub().unwrap(), None);
    let report = scrub(&repo);
    assert_eq!((report.packs, report.problems_total), (4, 0), "{:?}", report.problems);
    assert_eq!((report.log_records, report.objects), (3, 2), "configuration and settings");
    let mended = (report.packs_mended, report.parity_made, report.parity_mended, report.objects_mended);
    assert_eq!((mended, report.index_mended), ((0, 0, 0, 0), 0));
    let stored: usize = packs.iter().map(|(pack, _)| pack.bytes.len()).sum();
    assert!(report.bytes > stored as u64);
    assert_eq!(bkfs_store::repository::scrub::last_scrub_in(&world.place()).unwrap(), Some(report));
}

#[test]
fn every_pack_and_every_parity_is_mended() {
    let (world, repo, packs) = filled(Some(Parity::default()));
    let parity: Vec<_> = packs.iter().map(|(pack, _)| fs::read(world.parity_file(pack.id)).unwrap()).collect();
    for (pack, _) in &packs {
        flip(&world.pack_file(pack.id), 1000);
    }
    fs::remove_file(world.parity_file(packs[1].0.id)).unwrap();
    fs::write(world.pack_file(packs[1].0.id), &packs[1].0.bytes).unwrap();
    flip(&world.parity_file(packs[2].0.id), 5000);
    let report = scrub(&repo);
    assert_eq!((report.packs_mended, report.shards_mended, report.problems_total), (3, 3, 0), "{:?}", report.problems);
    assert_eq!((report.parity_made, report.parity_mended), (1, 1));
    for ((pack, _), parity) in packs.iter().zip(&parity) {
        assert!(fs::read(world.pack_file(pack.id)).unwrap() == pack.bytes);
        assert!(fs::read(world.parity_file(pack.id)).unwrap() == *parity);
    }
    assert_eq!(scrub(&repo).packs_mended, 0);
}

#[test]
fn damage_beyond_mending_is_reported_exactly() {
    let (world, repo, packs) = filled(Some(Parity::default()));
    let (pack, ids) = &packs[0];
    let at = 4 * SHARD_LEN;
    write_at(&world.pack_file(pack.id), at as u64, &vec![1; 3 * SHARD_LEN]);
    let report = scrub(&repo);
    assert_eq!((report.problems_total, report.lost.len()), (1, 1));
    let lost = &report.lost[0];
    let span = Span { start: at as u32, end: (at + 3 * SHARD_LEN) as u32 };
    assert_eq!((lost.pack, lost.spans.as_deref()), (pack.id, Some(&[span][..])));
    let unreadable = readable(&repo, pack, ids).iter().filter(|whole| !**whole).count();
    assert_eq!((lost.frames as usize, lost.frames_total), (unreadable, 40));
    assert!(report.problems[0].contains(&pack.id.to_string()), "{}", report.problems[0]);
    // The next scrub reports it again, exactly once.
    assert_eq!(scrub(&repo).problems_total, 1);

    fs::remove_file(world.pack_file(packs[3].0.id)).unwrap();
    fs::remove_file(world.pack_file(packs[1].0.id)).unwrap();
    fs::remove_file(world.parity_file(packs[1].0.id)).unwrap();
    let report = scrub(&repo);
    let lost: Vec<_> = report.lost.iter().map(|lost| (lost.pack, lost.spans.is_some(), lost.frames)).collect();
    assert_eq!(lost.len(), 3);
    assert!(lost.contains(&(packs[3].0.id, true, 7)) && lost.contains(&(packs[1].0.id, false, 3)), "{lost:?}");
}

#[test]
fn without_parity_damage_is_found_and_not_mended() {
    let (world, repo, packs) = filled(None);
    flip(&world.pack_file(packs[0].0.id), 1000);
    let report = scrub(&repo);
    assert_eq!((report.problems_total, report.parity_made, report.lost[0].spans.clone()), (1, 0, None));
    assert!(!world.place().join("parity").exists());
}

#[test]
fn small_objects_are_mended_from_their_other_copies() {
    let (world, repo, _) = filled(Some(Parity::default()));
    let whole = |name: &str| fs::read(world.place().join(name)).unwrap();
    let (config, settings, log) = (whole("config"), whole("settings"), whole("log"));
    flip(&world.place().join("config"), 100);
    fs::remove_file(world.place().join("settings.2")).unwrap();
    // Far from the end, where a writer that only appends does not look.
    flip(&world.place().join("log"), 60);
    let report = scrub(&repo);
    assert_eq!((report.objects_mended, report.problems_total), (3, 0), "{:?}", report.problems);
    assert!(whole("config") == config && whole("settings.2") == settings && whole("log") == log);

    flip(&world.place().join("log"), 60);
    flip(&world.place().join("log.2"), 60);
    flip(&world.place().join("config"), 100);
    flip(&world.place().join("config.2"), 200);
    let report = scrub(&repo);
    assert_eq!((report.objects_mended, report.problems_total), (0, 2), "{:?}", report.problems);
    assert!(report.problems.iter().any(|p| p.contains("the log, record 0")), "{:?}", report.problems);
    assert!(report.problems.iter().any(|p| p.contains("config") && p.contains("both")), "{:?}", report.problems);
}

#[test]
fn a_pack_that_both_the_disk_and_the_index_lost_comes_back() {
    let (world, repo, packs) = filled(Parity::percent(100));
    let (pack, ids) = &packs[2];
    drop(repo);
    // The parity of a small pack recreates the pack, even if the index was lost as well.
    fs::remove_file(world.pack_file(pack.id)).unwrap();
    fs::remove_dir_all(world.index()).unwrap();
    let repo = world.open();
    assert_eq!(repo.has(None, ids).unwrap(), [false]);
    let report = scrub(&repo);
    assert_eq!((report.packs_mended, report.problems_total), (1, 0), "{:?}", report.problems);
    assert_eq!(repo.has(None, ids).unwrap(), [true]);
    assert!(fs::read(world.pack_file(pack.id)).unwrap() == pack.bytes);
}

#[test]
fn a_stopped_scrub_resumes_where_it_was() {
    let (world, repo, packs) = filled(Some(Parity::default()));
    packs.iter().for_each(|(pack, _)| flip(&world.pack_file(pack.id), 700));
    let mut ids: Vec<_> = packs.iter().map(|(pack, _)| pack.id).collect();
    ids.sort();
    // So slow that it does not get past the first pack.
    let options = ScrubOptions { bytes_per_second: Some(1), resume: true };
    let progress = ScrubProgress::default();
    let stopped = std::thread::scope(|scope| {
        let running = scope.spawn(|| repo.scrub(&options, &progress).unwrap());
        while progress.packs.load(Ordering::Relaxed) == 0 {
            std::thread::yield_now();
        }
        progress.stop.store(true, Ordering::Relaxed);
        running.join().unwrap()
    });
    assert_eq!((stopped.ended, stopped.packs, stopped.packs_mended), (None, 1, 1));
    assert_eq!(repo.last_scrub().unwrap(), Some(stopped.clone()));
    // A resumed scrub does not go back. Damage in a pack that it has passed is left to the next scrub.
    flip(&world.pack_file(ids[0]), 700);
    let options = ScrubOptions { bytes_per_second: None, resume: true };
    let report = repo.scrub(&options, &ScrubProgress::default()).unwrap();
    assert_eq!((report.started, report.packs, report.packs_mended), (stopped.started, 4, 4));
    assert!(report.ended.is_some());
    let report = scrub(&repo);
    assert_eq!((report.packs, report.packs_mended), (4, 1));
}

#[test]
fn a_scrub_keeps_to_its_rate() {
    let (_world, repo, _) = filled(Some(Parity::default()));
    let since = Instant::now();
    let bytes = scrub(&repo).bytes;
    let quick = since.elapsed();
    let (since, rate) = (Instant::now(), bytes / 2);
    let options = ScrubOptions { bytes_per_second: Some(rate), resume: false };
    repo.scrub(&options, &ScrubProgress::default()).unwrap();
    let slow = since.elapsed().as_secs_f64();
    assert!((1.8..20.0).contains(&slow), "{slow} s for {bytes} bytes at {rate} a second; unbounded: {quick:?}");
}

#[test]
fn pushes_and_scrubs_do_not_disturb_each_other() {
    let (world, repo, _) = filled(Some(Parity::default()));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let more: Vec<_> = (0..30).map(|_| world.pack(2)).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let report = repo.scrub(&ScrubOptions::default(), &ScrubProgress::default()).unwrap();
                if report.problems_total > 0 {
                    panic!("{:?}", report.problems);
                }
            }
        });
        let _stop = super::SetOnDrop(&stop);
        more.iter().for_each(|(pack, _)| repo.put_pack(Lease { session: 1, generation: 1 }, pack).unwrap());
    });
    let report = scrub(&repo);
    assert_eq!((report.packs, report.problems_total, report.index_mended), (34, 0, 0));
    for (pack, ids) in &more {
        assert!(readable(&repo, pack, ids).iter().all(|whole| *whole));
    }
}
