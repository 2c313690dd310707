//! The forms of the commands, and what they print.

use crate::{common::program::Person, expect, make_source, text};

#[test]
fn a_repository_serves_from_init_to_restore() {
    let person = Person::with_repo();
    let source = person.path("src");
    make_source(&source);
    // Not a terminal: nothing is printed if nothing is wrong.
    assert_eq!(person.run(["push", "--tag", "one", "-C", source.to_str().unwrap(), "."]), "");
    std::fs::write(source.join("hello"), "hello again\n").unwrap();
    let report: serde_json::Value =
        serde_json::from_str(&person.run(["push", "--json", "-C", source.to_str().unwrap(), "."])).unwrap();
    assert_eq!((report["files"].as_u64(), report["errors_total"].as_u64()), (Some(3), Some(0)));

    let list: serde_json::Value = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2, "oldest first");
    assert_eq!(list[0]["tags"][0], "one");
    assert_eq!(list[1]["id"], report["snapshot"]);
    for field in ["id", "time", "host", "target", "paths", "tags", "files", "bytes", "added"] {
        assert!(!list[0][field].is_null(), "{field}");
    }
    let (one, two) = (list[0]["id"].as_str().unwrap(), list[1]["id"].as_str().unwrap());

    assert_eq!(person.run(["ls", "latest"]), "hello\nsub/\n");
    assert_eq!(person.run(["ls", "-R", &one[..16]]), "hello\nsub/\nsub/big\nsub/small\n");
    assert_eq!(person.run(["cat", &format!("{one}:hello")]), "hello\n");
    assert_eq!(person.run(["cat", &format!("{two}:/hello")]), "hello again\n");
    assert_eq!(person.run(["cat", "--tag", "one", "latest:hello"]), "hello\n");

    let out = person.path("out");
    person.run(["restore", &format!("{one}:sub"), out.to_str().unwrap()]);
    assert_eq!(std::fs::read(out.join("big")).unwrap(), std::fs::read(source.join("sub/big")).unwrap());
    person.run(["restore", "latest:hello", out.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(out.join("hello")).unwrap(), "hello again\n");
    assert!(person.run(["check"]).starts_with("no problems: 2 snapshots"));
    assert!(person.run(["check", "--read-data"]).starts_with("no problems: 2 snapshots"));
}

#[test]
fn absolute_paths_are_kept() {
    let person = Person::with_repo();
    let source = person.path("src");
    make_source(&source);
    person.run(["backup", source.to_str().unwrap()]);
    assert_eq!(person.run(["cat", &format!("latest:{}/hello", source.display())]), "hello\n");
    let list: serde_json::Value = serde_json::from_str(&person.run(["snapshots", "--json"])).unwrap();
    assert_eq!(list[0]["paths"][0], source.to_str().unwrap());
    assert!(list[0]["target"].as_str().unwrap().ends_with(&format!(":{}", source.display())));
}

#[test]
fn a_dry_run_sends_nothing() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    let text = person.run(["-v", "push", "--dry-run", person.path("src").to_str().unwrap()]);
    assert!(text.contains("nothing was sent"), "{text}");
    assert_eq!(person.run(["snapshots", "--json"]).trim(), "[]");
}

#[test]
fn invalid_arguments_are_refused() {
    let person = Person::with_repo();
    expect(&person.output(["snapshot"]), 1, &["snapshot"]);
    expect(&person.output(["push"]), 1, &["PATH"]);
    expect(&person.output(["ls", "newest"]), 1, &["newest", "latest"]);
    expect(&person.output(["ls", "latest"]), 1, &["no snapshots yet"]);
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    expect(&person.output(["ls", "latest:a/../b"]), 1, &["`..`"]);
    expect(&person.output(["cat", "latest:absent"]), 1, &["absent"]);
    expect(&person.output(["cat", "latest:sub"]), 1, &["sub", "not a regular file"]);
    expect(&person.output(["cat", "latest"]), 1, &["no file given"]);
    let file = person.path("src/hello");
    expect(&person.output(["restore", "latest", file.to_str().unwrap()]), 1, &["src/hello is not a folder"]);
    expect(&person.output(["ls", "ffffffffffffffff"]), 1, &["ffffffffffffffff"]);
    expect(&person.output(["ls", "--host", "nowhere", "latest"]), 1, &["--host"]);
    expect(&person.output(["push", "--exclude-larger-than", "5X", "/etc"]), 1, &["5X"]);
    expect(&person.output(["-r", "x", "push"]), 1, &[]);
}

#[test]
fn without_a_repository_the_place_is_named() {
    let person = Person::new();
    for args in [&["snapshots"][..], &["push", "/etc"], &["check"], &["key", "list"]] {
        expect(&person.output(args), 10, &[person.repo.as_str(), "bkfs init"]);
    }
    assert!(!person.path("repo").exists(), "nothing was created");
    let output = person.command().env_remove("BKFS_REPOSITORY").arg("snapshots").output().unwrap();
    expect(&output, 1, &["no repository given", "BKFS_REPOSITORY"]);
    let output = person.command().env("BKFS_REPOSITORY", "sftp://host/x").arg("snapshots").output().unwrap();
    expect(&output, 1, &["sftp"]);
}

#[test]
fn an_existing_repository_is_not_made_again() {
    let person = Person::with_repo();
    let before = std::fs::read(person.path("repo/config")).unwrap();
    expect(&person.output(["init"]), 1, &["already", person.repo.as_str()]);
    assert_eq!(std::fs::read(person.path("repo/config")).unwrap(), before);
}

#[test]
fn unusable_folders_are_named_with_a_remedy() {
    let person = Person::new();
    let with = |name: &str, args: &[&str]| person.command().env(name, "/proc/no/such").args(args).output().unwrap();
    expect(&with("BKFS_CACHE_DIR", &["init"]), 1, &["/proc/no/such", "--cache-dir"]);
    expect(&with("BKFS_CONFIG_DIR", &["init"]), 1, &["/proc/no/such", "--config-dir"]);
    assert!(!person.path("repo").exists(), "nothing was created");
}

#[test]
fn help_has_examples_for_every_command() {
    let person = Person::new();
    for command in ["init", "push", "snapshots", "ls", "cat", "restore", "mount", "check"] {
        let help = person.run(["help", command]);
        assert_eq!(help, person.run([command, "--help"]));
        assert!(help.contains("Examples:"), "{command}");
        // No argument appears under a heading that it does not belong to.
        let takes_a_name = ["push", "ls", "cat", "restore", "mount"].contains(&command);
        assert_eq!(help.contains("\nArguments:\n"), takes_a_name, "{command}: {help}");
    }
    assert!(person.run(["help", "mount"]).contains("hosts/NAME/"), "the long text");
    assert!(person.run(["help", "key", "recovery"]).contains("BKFS_KEY_FILE"));
    assert!(person.run(["help"]).contains("Exit codes:"));
    expect(&person.output(["help", "psuh"]), 1, &["psuh"]);
    assert!(person.run(["--version"]).starts_with("bkfs "));
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    let mut child = person
        .command()
        .args(["--quiet", "cat", "latest:sub/big"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}
