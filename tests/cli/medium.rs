//! File systems that lack something: a repository works on them as far as that is safe, and what is not promised there
//! is said once.

use std::{fs, process::Stdio};

use crate::{
    common::{
        poor_disk,
        program::{Person, cannot_mount},
    },
    expect, make_source, text,
};

/// Returns a person whose repository and configuration are on a file system that lacks much.
fn on_poor_disk() -> Option<(Person, fuser::BackgroundSession)> {
    if let Some(reason) = cannot_mount() {
        println!("skipped: {reason}");
        return None;
    }
    let mut person = Person::new();
    let (real, shown) = (person.path("real"), person.path("shown"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&shown).unwrap();
    let lacks = poor_disk::Lacks { locks_and_folder_sync: true, hard_links: true, time_detail: false };
    let disk = poor_disk::mount(&real, &shown, lacks).unwrap();
    person.repo = shown.join("repo").to_str().unwrap().to_owned();
    make_source(&person.path("src"));
    Some((person, disk))
}

#[test]
fn a_repository_works_without_locks_and_without_syncing_folders() {
    let Some((person, disk)) = on_poor_disk() else { return };
    let output = person.output(["init"]);
    expect(&output, 0, &["note: ", "cannot sync a folder", "power cut", "has no locks", "one machine at a time"]);
    for round in 0..3 {
        fs::write(person.path("src/changing"), [round; 5000]).unwrap();
        let output = person.output(["push", "-C", person.path("src").to_str().unwrap(), "."]);
        expect(&output, 0, &[]);
        assert_eq!(text(&output.stderr), "", "it is said once");
    }
    assert!(!person.path("shown/repo/lock.held").exists(), "each lock is released");
    person.run(["forget", "--keep-last", "1"]);
    person.run(["prune"]);
    person.run(["check", "--read-data"]);
    // A restore works there, too, times included: a second one keeps what is there.
    let restored = person.path("shown/restored");
    for (files, kept) in [("files", "kept"), ("kept", "files")] {
        let output = person.run(["restore", "--json", "latest", restored.to_str().unwrap()]);
        let report: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert!(report[files].as_u64().unwrap() > 0 && report[kept] == 0, "{report}");
    }
    let modified = |path: &str| fs::metadata(person.path(path)).unwrap().modified().unwrap();
    for file in ["sub/big", "changing"] {
        let bytes = |folder: &str| fs::read(person.path(folder).join(file)).unwrap();
        assert!(bytes("shown/restored") == bytes("src"), "{file}");
        assert_eq!(modified(&format!("shown/restored/{file}")), modified(&format!("src/{file}")), "{file}");
    }
    drop(disk);
}

#[test]
fn pushes_at_the_same_time_do_not_harm_each_other_there() {
    let Some((person, disk)) = on_poor_disk() else { return };
    person.run(["init"]);
    let source = person.path("src");
    let push = |target: &str| {
        let mut command = person.command();
        command.args(["push", "--target", target, "-C"]).arg(&source).arg(".");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = ["a", "b", "c"].map(push).into();
    for child in running {
        // A client's snapshots are numbered: one of two at the same time may have to be run again.
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() || text(&output.stderr).contains("run the command again"), "{output:?}");
    }
    person.run(["check", "--read-data"]);
    drop(disk);
}

#[test]
fn the_lock_of_a_killed_process_is_taken_over_and_that_of_another_machine_is_not() {
    let Some((person, disk)) = on_poor_disk() else { return };
    person.run(["init"]);
    let held = person.path("real/repo/lock.held");
    // A process of this machine that has ended.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap();
    let gone = format!("process 4194303 on here\n{}\n{}\n4194303 1\n", boot.trim(), namespace.display());
    fs::write(&held, gone).unwrap();
    person.push(&person.path("src"));
    assert!(!held.exists());
    // Another machine: it may still be at work.
    fs::write(&held, "process 7 on elsewhere\nx\ny\n7 1\n").unwrap();
    let output = person.output(["push", "-C", person.path("src").to_str().unwrap(), "."]);
    expect(&output, 1, &["process 7 on elsewhere", "remove ", "lock.held"]);
    fs::remove_file(&held).unwrap();
    person.push(&person.path("src"));
    drop(disk);
}
