//! What `bkfs prune` says about disk space is what is on the disk.

use std::path::Path;

use bkfs_store::{
    access::{Filter, Maintain, PruneLimits, PruneReply, PruneRequest},
    format::filter::encode_filter,
    repository::Repository,
};
use serde_json::Value;

use crate::{
    common::program::{Person, Server},
    expect,
    prune::{bytes, files, fill, json, number, pushed, remove, write},
    text,
};

const MIB: i64 = 1 << 20;

/// Bytes on the disk of packs, parity and the grave.
fn on_disk(repo: &Path) -> [i64; 3] {
    ["packs", "parity", "grave"].map(|folder| bytes(&repo.join(folder)) as i64)
}

fn signed(report: &Value, name: &str) -> i64 {
    report[name].as_i64().unwrap_or_else(|| panic!("{name} in {report}"))
}

#[track_caller]
fn expect_space(report: &Value, repo: &Path) {
    let [packs, parity, grave] = on_disk(repo);
    let space = &report["on_disk"];
    assert_eq!(signed(space, "bytes_packs"), packs, "{report}");
    assert_eq!(signed(space, "bytes_parity"), parity, "{report}");
    assert_eq!(signed(space, "bytes_grave"), grave, "{report}");
    assert_eq!(signed(space, "bytes"), packs + parity + grave, "{report}");
}

/// Prunes, and compares what the prune says with what is on the disk.
#[track_caller]
fn prune(person: &Person, repo: &Path, args: &[&str]) -> Value {
    let before: i64 = on_disk(repo).iter().sum();
    let report = json(person, &[&["prune"], args].concat());
    let after: i64 = on_disk(repo).iter().sum();
    assert_eq!(signed(&report, "bytes_freed"), before - after, "{report}");
    expect_space(&report, repo);
    report
}

#[test]
fn what_a_prune_frees_is_free_on_the_disk() {
    let person = Person::with_repo();
    let repo = person.path("repo");
    let [first, second] = fill(&person);
    person.run(["forget", "--now", &first]);
    let dry = json(&person, &["prune", "--dry-run"]);
    expect_space(&dry, &repo);
    let report = prune(&person, &repo, &[]);
    let (would, did) = (signed(&dry, "bytes_freed"), signed(&report, "bytes_freed"));
    assert!(did > MIB && (would - did).abs() < MIB / 10, "{would} and {did}");
    assert_eq!(signed(&report, "bytes_to_grave"), 0);
    // Also with frames that are sent again, and with nothing to do.
    person.run(["forget", "--now", &second]);
    (0..200).for_each(|n| write(&person, &format!("small{n:03}"), 1000 + n, 5000));
    let third = pushed(&person);
    (0..200).filter(|n| n % 10 != 7).for_each(|n| remove(&person, &format!("small{n:03}")));
    pushed(&person);
    person.run(["forget", &third]);
    let printed = person.run(["prune", "--keep-trash"]);
    assert!(printed.contains("in the trash, with their data: 1 snapshot, until the next prune"), "{printed}");
    let report = prune(&person, &repo, &["--yes"]);
    assert!(signed(&report, "frames_reframed") > 0, "{report}");
    assert_eq!(signed(&prune(&person, &repo, &[]), "bytes_freed"), 0);
}

#[test]
fn what_lies_in_the_grave_is_not_called_free() {
    let operator = Person::new();
    let data = operator.path("server");
    let server = Server::start(&operator, &data);
    let person = server.person("alice");
    let repo = data.join("accounts/alice/main");
    let [first, second] = fill(&person);
    operator.run(["server", "purge", "--data", data.to_str().unwrap(), "alice", &first]);
    let dry = json(&person, &["prune", "--dry-run"]);
    assert!(signed(&dry, "bytes_freed") < -3 * MIB && signed(&dry, "bytes_to_grave") > 4 * MIB, "{dry}");
    let report = prune(&person, &repo, &[]);
    // The rewritten pack lies in the grave, and what is needed of it is there twice.
    assert!(signed(&report, "bytes_freed") < -3 * MIB, "{report}");
    assert_eq!(signed(&report, "bytes_to_grave"), on_disk(&repo)[2]);
    // Sending mixed frames again, which a dry run leaves out, may free one small pack of tree pages more.
    let more = signed(&report, "bytes_to_grave") - signed(&dry, "bytes_to_grave");
    assert!((0..16 * 1024).contains(&more), "{report} {dry}");
    assert!(report["on_disk"]["grave_until"].is_string(), "{report}");
    person.run(["forget", &second]);
    // The same again, as a person sees it. How chunks lie in packs differs by run, and so does what this prune moves.
    let before = on_disk(&repo);
    let printed = person.run(["prune"]);
    let after = on_disk(&repo);
    let freed = before.iter().sum::<i64>() - after.iter().sum::<i64>();
    match freed >= 0 {
        true => expect_size(size_after(&printed, "freed "), freed, &printed),
        false => expect_size(size_before(&printed, " more than was freed"), -freed, &printed),
    }
    let moved = after[2] - before[2];
    match moved > 0 {
        true => expect_size(size_before(&printed, " to the grave, "), moved, &printed),
        false => assert!(!printed.contains("to the grave"), "{printed}"),
    }
    let packs = match files(&repo.join("grave")).len() {
        1 => "1 pack".to_owned(),
        n => format!("{n} packs"),
    };
    expect_size(size_before(&printed, &format!(" in the grave ({packs}, the last until ")), after[2], &printed);
    assert!(printed.contains("in the trash, with their data: 1 snapshot, "), "{printed}");
}

/// Compares a size that was printed with three digits.
#[track_caller]
fn expect_size(shown: f64, bytes: i64, printed: &str) {
    assert!((shown - bytes as f64).abs() <= bytes as f64 / 100.0, "{shown} is {bytes} in {printed}");
}

/// Returns the size that stands before these words, in bytes.
#[track_caller]
fn size_before(printed: &str, words: &str) -> f64 {
    let (before, _) = printed.split_once(words).unwrap_or_else(|| panic!("{words:?} in {printed}"));
    let mut last = before.rsplitn(3, ' ');
    let unit = last.next().unwrap_or_default();
    let units = ["B", "KiB", "MiB"];
    let power = units.iter().position(|u| *u == unit).unwrap_or_else(|| panic!("a unit before {words:?} in {printed}"));
    last.next().unwrap_or_default().parse::<f64>().unwrap() * 1024_f64.powi(power as i32)
}

/// Returns the size that stands behind these words, in bytes.
#[track_caller]
fn size_after(printed: &str, words: &str) -> f64 {
    let (_, after) = printed.split_once(words).unwrap_or_else(|| panic!("{words:?} in {printed}"));
    let end = after.find([':', ';', '\n']).unwrap_or(after.len());
    size_before(&format!("{}|", &after[..end]), "|")
}

/// Condemns everything, as a prune does that is killed before it sweeps.
fn condemn(repo: &Repository) {
    let PruneReply::Begun { prune, log_len } =
        repo.prune(&PruneRequest::Begin { dry_run: false, ends_pushes: false }).unwrap()
    else {
        panic!("begun")
    };
    let filters = (0..=255).map(|first| Filter { first, bytes: encode_filter(&mut []) }).collect();
    repo.prune(&PruneRequest::Live { prune, filters }).unwrap();
    let limits = PruneLimits::default();
    let request = PruneRequest::Condemn { prune, log_len, limits, dry_run: false, is_confirmed: true, hold: false };
    assert!(matches!(repo.prune(&request).unwrap(), PruneReply::Condemned(_)));
}

#[test]
fn a_dry_run_counts_what_a_killed_prune_left() {
    let person = Person::with_repo();
    fill(&person);
    let repo = Repository::local(&person.path("repo"), &person.path("index")).unwrap();
    condemn(&repo);
    let log = std::fs::read(person.path("repo/log")).unwrap();
    for _ in 0..2 {
        let dry = person.output(["prune", "--dry-run"]);
        expect(&dry, 0, &[]);
        assert!(text(&dry.stdout).contains("an earlier prune was interrupted"), "{dry:?}");
    }
    let dry = json(&person, &["prune", "--dry-run"]);
    assert_eq!(number(&dry, "packs_left"), number(&dry, "packs"), "{dry}");
    assert!(signed(&dry, "bytes_freed") >= on_disk(&person.path("repo"))[0], "{dry}");
    assert_eq!(std::fs::read(person.path("repo/log")).unwrap(), log, "a dry run changes nothing");
    repo.prune(&PruneRequest::Abort).unwrap();
    assert_eq!(number(&json(&person, &["prune", "--dry-run"]), "packs_left"), 0);
    person.run(["check", "--read-data"]);
}
