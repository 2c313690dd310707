//! What a push excludes: for each option, exactly which entries are in the snapshot.

use std::{fs, path::Path, process::Command};

use crate::{common::program::Person, expect, text};

/// Creates files of one byte, and their folders.
fn touch(dir: &Path, names: &[&str]) {
    for name in names {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
}

/// Pushes a folder with the given arguments, and lists the snapshot.
fn pushed(person: &Person, source: &Path, args: &[&str]) -> Vec<String> {
    let mut all = vec!["push", "-C", source.to_str().unwrap()];
    all.extend(args);
    if !args.contains(&"--") {
        all.extend(["--", "."]);
    }
    person.run(&all);
    listed(person)
}

fn listed(person: &Person) -> Vec<String> {
    person.run(["ls", "-R", &person.newest()]).lines().map(str::to_owned).collect()
}

#[test]
fn patterns_mean_what_they_mean_to_git() {
    let person = Person::with_repo();
    let source = person.path("src");
    touch(
        &source,
        &["a.o", "keep.o", "build/x", "deep/build/x", "deep/a.o", "deep/build.c", "logs/1.log", "logs/k.log"],
    );
    assert_eq!(
        pushed(&person, &source, &["-e", "*.o", "-e", "!keep.o", "--exclude", "build/"]),
        ["deep/", "deep/build.c", "keep.o", "logs/", "logs/1.log", "logs/k.log"]
    );
    // Patterns with a slash are anchored at the root of the snapshot.
    assert_eq!(
        pushed(&person, &source, &["-e", "/build", "-e", "/a.o", "-e", "logs/*", "-e", "!/logs/k.log"]),
        ["deep/", "deep/a.o", "deep/build/", "deep/build/x", "deep/build.c", "keep.o", "logs/", "logs/k.log"]
    );
    // A pattern with `!` brings nothing back from an excluded folder.
    assert_eq!(
        pushed(&person, &source, &["-e", "deep", "-e", "!deep/a.o", "-e", "logs/**"]),
        ["a.o", "build/", "build/x", "keep.o", "logs/"]
    );
    // Without patterns everything is pushed: what one push excluded is not missing from the next.
    assert_eq!(pushed(&person, &source, &[]).len(), 12);
}

#[test]
fn without_a_base_patterns_are_anchored_at_the_root() {
    let person = Person::with_repo();
    let source = person.path("src");
    touch(&source, &["cache/x", "sub/cache/x", "y"]);
    let anchored = format!("{}/cache", source.display());
    person.run(["push", "-e", &anchored, source.to_str().unwrap()]);
    let top = format!("{}/", source.strip_prefix("/").unwrap().display());
    let below: Vec<_> = listed(&person).iter().filter_map(|line| line.strip_prefix(&top).map(str::to_owned)).collect();
    assert_eq!(below, ["", "sub/", "sub/cache/", "sub/cache/x", "y"]);
}

#[test]
fn a_file_of_patterns_is_read() {
    let person = Person::with_repo();
    let (source, rules) = (person.path("src"), person.path("rules"));
    touch(
        &source,
        &["#odd", "a.tmp", "keep.tmp", "d/a.tmp", "d/cache/x", "e/cache", "e/f", "top", "e/top", "with space"],
    );
    let lines = "# a comment\n\n*.tmp\n!keep.tmp\r\n  \ncache/\n/top\n\\#odd\nwith\\ space\n";
    fs::write(&rules, format!("\u{feff}{lines}")).unwrap();
    let file = rules.to_str().unwrap();
    assert_eq!(
        pushed(&person, &source, &["--exclude-file", file]),
        ["d/", "e/", "e/cache", "e/f", "e/top", "keep.tmp"]
    );
    // Several files apply in order, and the patterns on the command line apply after them.
    let more = person.path("more");
    fs::write(&more, "!a.tmp\ne").unwrap();
    assert_eq!(
        pushed(&person, &source, &["-e", "!/top", "--exclude-file", file, "--exclude-file", more.to_str().unwrap()]),
        ["a.tmp", "d/", "d/a.tmp", "keep.tmp", "top"]
    );
    // A file of patterns that cannot be read is named, and nothing is pushed with the other rules.
    let before = person.run(["snapshots", "--json"]);
    let push = |file: &Path| person.output(["push", "--exclude-file", file.to_str().unwrap(), "/etc/hostname"]);
    expect(&push(&person.path("absent")), 1, &["absent", "No such file"]);
    expect(&push(&source), 1, &["src", "directory"]);
    assert_eq!(person.run(["snapshots", "--json"]), before);
}

#[test]
fn a_marked_folder_keeps_only_its_mark() {
    let person = Person::with_repo();
    let source = person.path("src");
    touch(&source, &["a/.nobackup", "a/x", "a/d/x", "b/x", "b/c/.nobackup/in", "b/c/x", "b/nobackup", "e/stop", "e/x"]);
    assert_eq!(
        pushed(&person, &source, &["--exclude-if-present", ".nobackup", "--exclude-if-present", "stop"]),
        ["a/", "a/.nobackup", "b/", "b/c/", "b/c/.nobackup/", "b/c/.nobackup/in", "b/nobackup", "b/x", "e/", "e/stop"]
    );
    // Paths that are named are pushed all the same.
    assert_eq!(
        pushed(&person, &source, &["--exclude-if-present", ".nobackup", "--", "a", "a/x"]),
        ["a/", "a/.nobackup", "a/x"]
    );
}

#[test]
fn caches_are_recognized_by_their_signature() {
    let person = Person::with_repo();
    let source = person.path("src");
    touch(&source, &["cache/data", "cache/sub/data", "fake/CACHEDIR.TAG", "fake/data", "short/data", "link/data"]);
    let signature = "Signature: 8a477f597d28d172789f06886806bc55";
    fs::write(source.join("cache/CACHEDIR.TAG"), format!("{signature}\n# a comment\n")).unwrap();
    fs::write(source.join("short/CACHEDIR.TAG"), &signature[..40]).unwrap();
    // The standard requires a regular file.
    std::os::unix::fs::symlink("../cache/CACHEDIR.TAG", source.join("link/CACHEDIR.TAG")).unwrap();
    let kept = [
        "fake/",
        "fake/CACHEDIR.TAG",
        "fake/data",
        "link/",
        "link/CACHEDIR.TAG",
        "link/data",
        "short/",
        "short/CACHEDIR.TAG",
        "short/data",
    ];
    let left = pushed(&person, &source, &["--exclude-caches"]);
    assert_eq!(left, [&["cache/", "cache/CACHEDIR.TAG"][..], &kept].concat());
    let all = pushed(&person, &source, &[]);
    assert_eq!(all.len(), left.len() + 3, "{all:?}");
}

#[test]
fn large_files_are_excluded_by_size() {
    let person = Person::with_repo();
    let source = person.path("src");
    touch(&source, &["d/small"]);
    fs::write(source.join("just"), vec![1; 2048]).unwrap();
    fs::write(source.join("over"), vec![1; 2049]).unwrap();
    // The size is the one that ls shows, not the space on disk.
    fs::File::create(source.join("d/holes")).unwrap().set_len(1 << 30).unwrap();
    std::os::unix::fs::symlink("over", source.join("link")).unwrap();
    let limit = ["--exclude-larger-than", "2K"];
    assert_eq!(pushed(&person, &source, &limit), ["d/", "d/small", "just", "link"]);
    assert_eq!(
        pushed(&person, &source, &["--exclude-larger-than", "2k", "--", "over", "d"]),
        ["d/", "d/small", "over"]
    );
    // A file that grew beyond the limit is not in the next snapshot.
    fs::write(source.join("just"), vec![1; 4096]).unwrap();
    assert_eq!(pushed(&person, &source, &limit), ["d/", "d/small", "link"]);
}

#[test]
fn other_file_systems_are_excluded_on_request() {
    let person = Person::with_repo();
    let source = person.path("src");
    touch(&source, &["a", "sub/disk/under", "sub/z"]);
    // Runs in its own mount namespace: nothing else sees the mount, and it ends with the process.
    let push = |args: &[&str]| {
        let script = "mount -t tmpfs tmpfs \"$DISK\" && mkdir \"$DISK/d\" && echo x >\"$DISK/d/inside\" || exit 99; \
                      exec \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).env("DISK", source.join("sub/disk"));
        for (name, value) in person.command().get_envs().filter_map(|(name, value)| Some((name, value?))) {
            command.env(name, value);
        }
        command.arg(env!("CARGO_BIN_EXE_bkfs")).args(["push", "-C"]).arg(&source).args(args).output().unwrap()
    };
    let first = push(&["."]);
    if !rustix::process::geteuid().is_root()
        || text(&first.stderr).contains("unshare")
        || first.status.code() == Some(99)
    {
        crate::skip!("only root can mount a disk");
    }
    expect(&first, 0, &[]);
    assert_eq!(listed(&person), ["a", "sub/", "sub/disk/", "sub/disk/d/", "sub/disk/d/inside", "sub/z"]);
    expect(&push(&["--one-file-system", "."]), 0, &[]);
    assert_eq!(listed(&person), ["a", "sub/", "sub/disk/", "sub/z"]);
    // A file system that is named is pushed.
    expect(&push(&["-x", ".", "sub/disk"]), 0, &[]);
    assert_eq!(listed(&person), ["a", "sub/", "sub/disk/", "sub/disk/d/", "sub/disk/d/inside", "sub/z"]);
    expect(&push(&["-x", "sub/disk/d"]), 0, &[]);
    assert_eq!(listed(&person), ["sub/", "sub/disk/", "sub/disk/d/", "sub/disk/d/inside"]);
}

#[test]
fn braces_exclude_no_folder_and_no_pattern_is_an_error() {
    let person = Person::with_repo();
    let source = person.path("src");
    touch(&source, &["a/x", "b", "{a,b}", "a{"]);
    assert_eq!(pushed(&person, &source, &["-e", "{a,b}"]), ["a/", "a/x", "a{", "b"]);
    assert_eq!(pushed(&person, &source, &["-e", "a{"]), ["a/", "a/x", "b", "{a,b}"]);
    assert_eq!(pushed(&person, &source, &["-e", "[z-"]), ["a/", "a/x", "a{", "b", "{a,b}"]);
}
