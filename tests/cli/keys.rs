//! Passphrases and key files, and what each of them can do.

use std::os::unix::fs::PermissionsExt;

use crate::{common::program::Person, expect, make_source, text};

fn pushed() -> Person {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    person
}

#[test]
fn a_wrong_passphrase_is_named() {
    let person = pushed();
    let output = person.command().env("BKFS_PASSWORD", "wrong").arg("snapshots").output().unwrap();
    expect(&output, 12, &["wrong passphrase", "1 tried"]);
    let output = person
        .command()
        .env("BKFS_PASSWORD", "wrong")
        .args(["restore", "latest"])
        .arg(person.path("out"))
        .output()
        .unwrap();
    expect(&output, 12, &["wrong passphrase"]);
    assert!(!person.path("out").exists(), "nothing was created");
}

#[test]
fn without_a_terminal_there_is_no_prompt() {
    let person = pushed();
    let without_passphrase = || {
        let mut command = person.command();
        command.env_remove("BKFS_PASSWORD");
        command
    };
    // This machine has its push key, which cannot read.
    expect(&without_passphrase().arg("snapshots").output().unwrap(), 12, &["push key cannot read", "BKFS_PASSWORD"]);
    // A machine without any key.
    let output = without_passphrase().env("BKFS_CONFIG_DIR", person.path("other")).arg("snapshots").output().unwrap();
    expect(&output, 12, &["no terminal", "BKFS_PASSWORD"]);
    let output = without_passphrase().args(["init", "-r"]).arg(person.path("new")).output().unwrap();
    expect(&output, 12, &["passphrase", "no terminal"]);
    assert!(!person.path("new").exists());
}

#[test]
fn cron_pushes_without_a_passphrase_and_incrementally() {
    let person = pushed();
    let source = person.path("src");
    std::fs::write(source.join("new"), "new\n").unwrap();
    let output = person
        .command()
        .env_remove("BKFS_PASSWORD")
        .args(["push", "--json", "-C"])
        .arg(&source)
        .arg(".")
        .output()
        .unwrap();
    expect(&output, 0, &[]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["files_new"], 1);
    assert!(report["bytes_added"].as_u64().unwrap() < 10_000, "{report}");
    assert_eq!(person.run(["cat", "latest:new"]), "new\n");
}

#[test]
fn passphrases_come_from_files_and_commands() {
    let person = pushed();
    let file = person.path("pass");
    std::fs::write(&file, "correct horse battery staple\n").unwrap();
    let without_passphrase = || {
        let mut command = person.command();
        command.env_remove("BKFS_PASSWORD").args(["ls", "latest"]);
        command
    };
    expect(&without_passphrase().env("BKFS_PASSWORD_FILE", &file).output().unwrap(), 0, &[]);
    expect(&without_passphrase().arg("--password-file").arg(&file).output().unwrap(), 0, &[]);
    expect(
        &without_passphrase().env("BKFS_PASSWORD_COMMAND", format!("cat {}", file.display())).output().unwrap(),
        0,
        &[],
    );
    expect(
        &without_passphrase().env("BKFS_PASSWORD_COMMAND", "exit 7").output().unwrap(),
        12,
        &["BKFS_PASSWORD_COMMAND", "code 7"],
    );
    expect(&without_passphrase().env("BKFS_PASSWORD_FILE", "/no/such").output().unwrap(), 12, &["/no/such"]);
}

#[test]
fn an_exported_push_key_pushes_and_reads_nothing() {
    let person = pushed();
    let key = person.path("laptop.key");
    person.run(["key", "export-push", key.to_str().unwrap()]);
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    expect(&person.output(["key", "export-push", key.to_str().unwrap()]), 1, &["already exists"]);

    // Another machine, which has only the key file.
    let other = |args: &[&str]| {
        let mut command = person.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_KEY_FILE", &key);
        command.env("BKFS_CONFIG_DIR", person.path("other")).env("BKFS_CACHE_DIR", person.path("other-cache"));
        command.args(args).output().unwrap()
    };
    let source = person.path("src");
    std::fs::write(source.join("of-laptop"), "x\n").unwrap();
    expect(&other(&["push", "-C", source.to_str().unwrap(), "."]), 0, &[]);
    std::fs::write(source.join("of-laptop-2"), "y\n").unwrap();
    let second = other(&["push", "--json", "-C", source.to_str().unwrap(), "."]);
    expect(&second, 0, &[]);
    let report: serde_json::Value = serde_json::from_slice(&second.stdout).unwrap();
    assert_eq!(report["files_new"], 1, "{report}");
    for args in [&["snapshots"][..], &["ls", "latest"], &["check"], &["key", "list"]] {
        expect(&other(args), 12, &["push key cannot read"]);
    }
    assert_eq!(person.run(["cat", "--client", "laptop", "latest:of-laptop-2"]), "y\n", "the owner can read it");
    let clients = person.run(["key", "list"]);
    assert!(clients.contains("laptop") && clients.contains("GROUP") && clients.contains("owner"), "{clients}");
}

#[test]
fn an_exported_full_key_needs_no_passphrase() {
    let person = pushed();
    let key = person.path("full.key");
    person.run(["key", "export-full", key.to_str().unwrap()]);
    let with_key = |args: &[&str]| {
        let mut command = person.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_KEY_FILE", &key).env("BKFS_CONFIG_DIR", person.path("other"));
        command.args(args).output().unwrap()
    };
    expect(&with_key(&["ls", "latest"]), 0, &[]);
    expect(&with_key(&["push", "/etc/hostname"]), 0, &[]);
    expect(&with_key(&["check"]), 0, &[]);
    assert_eq!(person.run(["snapshots", "--json"]).matches("\"id\"").count(), 2);
}

#[test]
fn a_key_of_another_repository_is_refused() {
    let (person, other) = (pushed(), Person::with_repo());
    let key = other.path("full.key");
    other.run(["key", "export-full", key.to_str().unwrap()]);
    for args in [&["ls", "latest"][..], &["push", "/etc/hostname"]] {
        let output = person.command().env("BKFS_KEY_FILE", &key).args(args).output().unwrap();
        expect(&output, 12, &["belongs to repository"]);
    }
    std::fs::write(&key, "no key at all").unwrap();
    let output = person.command().env("BKFS_KEY_FILE", &key).args(["ls", "latest"]).output().unwrap();
    expect(&output, 1, &[key.to_str().unwrap()]);
    let output = person.command().env("BKFS_KEY_FILE", "/no/such.key").args(["ls", "latest"]).output().unwrap();
    expect(&output, 12, &["/no/such.key", "does not exist"]);
}

#[test]
fn passphrases_are_added_changed_and_removed() {
    let person = pushed();
    let with = |passphrase: &str, args: &[&str]| {
        person.command().env("BKFS_PASSWORD", passphrase).args(args).output().unwrap()
    };
    let mut command = person.command();
    expect(&command.env("BKFS_NEW_PASSWORD", "second").args(["key", "add"]).output().unwrap(), 0, &[]);
    expect(&with("second", &["ls", "latest"]), 0, &[]);
    let mut command = person.command();
    command.env("BKFS_PASSWORD", "second").env("BKFS_NEW_PASSWORD", "third").args(["key", "change"]);
    expect(&command.output().unwrap(), 0, &[]);
    expect(&with("second", &["ls", "latest"]), 12, &["wrong passphrase"]);
    expect(&with("third", &["ls", "latest"]), 0, &[]);

    let list: serde_json::Value = serde_json::from_str(&person.run(["key", "list", "--json"])).unwrap();
    let slots: Vec<&str> = list["slots"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(slots.len(), 2);
    for slot in slots {
        // One slot is removed; the last one stays.
        person.command().args(["key", "remove", slot]).output().unwrap();
    }
    let left = [with("correct horse battery staple", &["ls", "latest"]), with("third", &["ls", "latest"])];
    assert_eq!(left.iter().filter(|o| o.status.success()).count(), 1, "{}", text(&left[0].stderr));
    expect(&person.output(["key", "remove", "ffffffffffff"]), if left[0].status.success() { 1 } else { 12 }, &[]);
}

#[test]
fn a_machine_with_the_passphrase_enrols_itself() {
    let person = pushed();
    let other = |passphrase: bool, args: &[&str]| {
        let mut command = person.command();
        command.env("BKFS_CONFIG_DIR", person.path("other")).env("BKFS_CACHE_DIR", person.path("other-cache"));
        if !passphrase {
            command.env_remove("BKFS_PASSWORD");
        }
        command.args(args).output().unwrap()
    };
    expect(&other(true, &["push", "/etc/hostname"]), 0, &[]);
    expect(&other(false, &["push", "/etc/hostname"]), 0, &[]);
    let list: serde_json::Value = serde_json::from_str(&person.run(["key", "list", "--json"])).unwrap();
    assert_eq!(list["clients"].as_array().unwrap().len(), 2, "it enrolled only once");
    assert_eq!(person.run(["snapshots", "--json"]).matches("\"received\"").count(), 3);
}

#[test]
fn a_revoked_client_cannot_push() {
    let person = pushed();
    let key = person.path("laptop.key");
    person.run(["key", "export-push", key.to_str().unwrap()]);
    let list: serde_json::Value = serde_json::from_str(&person.run(["key", "list", "--json"])).unwrap();
    let id = list["clients"][1]["id"].as_str().unwrap();
    person.run(["client", "revoke", &id[..12]]);
    let output = person.command().env("BKFS_KEY_FILE", &key).args(["push", "/etc/hostname"]).output().unwrap();
    expect(&output, 12, &[&id[..8], "was removed"]);
    expect(&person.output(["push", "/etc/hostname"]), 0, &[]);
}

#[test]
fn the_recovery_sheet_opens_the_repository() {
    let person = pushed();
    let sheet = person.run(["key", "recovery"]);
    assert!(sheet.contains("head"), "{sheet}");
    let typed = person.path("sheet");
    std::fs::write(&typed, sheet.to_lowercase()).unwrap();
    let output = person
        .command()
        .env_remove("BKFS_PASSWORD")
        .env("BKFS_KEY_FILE", &typed)
        .env("BKFS_CONFIG_DIR", person.path("other"))
        .args(["cat", "latest:hello"])
        .output()
        .unwrap();
    expect(&output, 0, &[]);
    assert_eq!(text(&output.stdout), "hello\n");
}

#[test]
fn an_unlocked_repository_needs_no_passphrase() {
    let person = pushed();
    let output = person.output(["key", "unlock", "--for", "60s"]);
    if text(&output.stderr).contains("keyring") {
        crate::skip!("no keyrings here");
    }
    expect(&output, 0, &[]);
    let without_passphrase = |args: &[&str]| person.command().env_remove("BKFS_PASSWORD").args(args).output().unwrap();
    let unlocked = without_passphrase(&["ls", "latest"]);
    person.run(["key", "lock"]);
    expect(&unlocked, 0, &[]);
    expect(&without_passphrase(&["ls", "latest"]), 12, &[]);
    expect(&person.output(["key", "unlock", "--for", "soon"]), 1, &["soon"]);
}
