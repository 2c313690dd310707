//! A push-only client that takes the names of others: its snapshots are not taken for theirs, and what it pushes gets
//! no rights on the machine that restores it.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    process::{Command, Output},
};

use crate::{
    common::program::{Person, cannot_mount},
    junk::expect,
    skip,
};

/// A person who pushed, and a client of theirs that has only a push key.
struct Machines {
    person: Person,
}

impl Machines {
    fn new() -> Self {
        let person = Person::with_repo();
        fs::create_dir_all(person.path("src")).unwrap();
        fs::write(person.path("src/letter"), "mine\n").unwrap();
        person.run(["push", "--host", "alpha", "--target", "home", person.path("src").to_str().unwrap()]);
        person.run(["key", "export-push", person.path("thief.key").to_str().unwrap()]);
        Self { person }
    }

    fn as_other(&self, name: &str) -> Command {
        let mut command = self.person.command();
        command.env("BKFS_CONFIG_DIR", self.person.path(&format!("config-{name}")));
        command.env("BKFS_CACHE_DIR", self.person.path(&format!("cache-{name}")));
        command
    }

    /// Pushes the source with the thief's key and the honest client's names.
    fn push_as_thief(&self, args: &[&str]) {
        let (key, source) = (self.person.path("thief.key"), self.person.path("src"));
        let mut command = self.as_other("thief");
        command.env_remove("BKFS_PASSWORD").args(["push", "--host", "alpha", "--target", "home", "--key-file"]);
        expect(&command.arg(key).args(args).arg(source).output().unwrap(), 0, &[]);
    }

    /// Runs a command on a machine that is no client, and has another name.
    fn elsewhere(&self, args: &[&str]) -> Output {
        self.as_other("elsewhere").args(args).output().unwrap()
    }
}

#[test]
fn latest_is_never_the_snapshot_of_a_client_that_took_anothers_names() {
    let machines = Machines::new();
    let person = &machines.person;
    fs::write(person.path("src/letter"), "forged\n").unwrap();
    machines.push_as_thief(&[]);
    let letter = format!("latest:{}", person.path("src/letter").display());
    assert_eq!(person.run(["cat", &letter]), "mine\n");
    assert_eq!(
        person.run(["cat", &format!("latest:/{}", person.path("src/letter").strip_prefix("/").unwrap().display())]),
        "mine\n"
    );
    for filters in [&[][..], &["--host", "alpha"], &["--target", "home"], &["--host", "alpha", "--target", "home"]] {
        let mut args = vec!["cat", &letter];
        args.extend(filters);
        expect(&machines.elsewhere(&args), 1, &["latest is not clear", "2 clients", "(thief)", "--client"]);
    }
    expect(&machines.elsewhere(&["cat", "--client", "thief", &letter]), 0, &["forged"]);
    let honest = person.run(["snapshots", "--json"]);
    let honest: serde_json::Value = serde_json::from_str(&honest).unwrap();
    let client = honest[0]["client"].as_str().unwrap().to_owned();
    expect(&machines.elsewhere(&["cat", "--client", &client[..8], &letter]), 0, &["mine"]);
    assert_eq!(honest[1]["client_label"], "thief");
    expect(
        &machines.elsewhere(&["cat", "--client", "nobody", &letter]),
        1,
        &["no client is called nobody", "key list"],
    );
    expect(&person.output(["snapshots"]), 0, &["CLIENT", "thief"]);
    // A policy for the honest client's names forgets nothing because of the other's snapshots.
    for _ in 0..3 {
        machines.push_as_thief(&["--allow-empty"]);
    }
    person.run(["forget", "--keep-last", "1", "--confirm"]);
    assert_eq!(person.run(["cat", &letter]), "mine\n");
}

#[test]
fn the_mount_shows_a_target_of_several_clients_as_theirs() {
    if let Some(reason) = cannot_mount() {
        skip!("{reason}");
    }
    let machines = Machines::new();
    fs::write(machines.person.path("src/letter"), "forged\n").unwrap();
    machines.push_as_thief(&[]);
    let mount = machines.person.mount(&[]);
    for folder in ["latest", "targets/home/latest", "hosts/alpha/latest"] {
        let latest = mount.point.join(folder);
        assert!(!latest.symlink_metadata().unwrap().is_symlink(), "{folder} leads to neither");
        assert_eq!(fs::read_dir(latest).unwrap().count(), 2, "{folder}");
    }
    drop(mount);
    let mount = machines.person.mount(&["--client", "thief"]);
    assert!(mount.point.join("targets/home/latest").symlink_metadata().unwrap().is_symlink());
}

#[test]
fn what_a_push_only_client_stored_gets_no_rights_where_it_is_restored() {
    let machines = Machines::new();
    let person = &machines.person;
    if !rustix::process::geteuid().is_root() {
        skip!("devices and capabilities need root");
    }
    let (tool, device) = (person.path("src/tool"), person.path("src/device"));
    fs::write(&tool, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o6755)).unwrap();
    let status = Command::new("mknod").arg(&device).args(["c", "1", "3"]).status().unwrap();
    // cap_setuid, effective and permitted, as setcap writes it.
    let capability = [1, 0, 0, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if !status.success() || xattr::set(&tool, "security.capability", &capability).is_err() {
        skip!("this system allows no device nodes or no capabilities here");
    }
    machines.push_as_thief(&[]);
    let source = person.path("src");
    let from = format!("latest:{}", source.display());
    let restore = |name: &str, args: &[&str]| {
        let dest = person.path(name);
        let mut all = vec!["restore", "--client", "thief"];
        all.extend(args);
        all.extend([&*from, dest.to_str().unwrap()]);
        (person.output(&all), dest)
    };
    let (output, dest) = restore("plain", &[]);
    expect(&output, 1, &["2 entries", "can only push", "--privileged"]);
    assert_eq!(fs::metadata(dest.join("tool")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(xattr::get(dest.join("tool"), "security.capability").unwrap(), None);
    assert!(!dest.join("device").exists());
    let (output, dest) = restore("privileged", &["--privileged"]);
    expect(&output, 0, &[]);
    assert_eq!(fs::metadata(dest.join("tool")).unwrap().mode() & 0o7777, 0o6755);
    assert!(xattr::get(dest.join("tool"), "security.capability").unwrap().is_some());
    assert!(fs::metadata(dest.join("device")).unwrap().file_type().is_char_device());
    // Of a client that holds the full key, everything is restored.
    person.run(["push", "--host", "alpha", "--target", "home", source.to_str().unwrap()]);
    let dest = person.path("trusted");
    person.run(["restore", &from, dest.to_str().unwrap()]);
    assert_eq!(fs::metadata(dest.join("tool")).unwrap().mode() & 0o7777, 0o6755);
    assert!(dest.join("device").exists());

    if let Some(reason) = cannot_mount() {
        skip!("{reason}");
    }
    let mount = person.mount(&["--client", "thief", "--suid", "--dev"]);
    let shown = mount.latest().join(source.strip_prefix("/").unwrap());
    assert_eq!(fs::metadata(shown.join("tool")).unwrap().mode() & 0o7777, 0o755);
    assert!(!xattr::list(shown.join("tool")).unwrap().any(|name| name == "security.capability"));
    assert_eq!(fs::metadata(shown.join("device")).unwrap().rdev(), 0);
}
