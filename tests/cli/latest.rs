//! What `latest` stands for, in the shell and in a mount, when several jobs and machines push to one repository.

use std::{fs, path::Path, process::Output};

use crate::{common::program::Person, expect, skip, text};

/// Pushes as another machine: another client with another host name.
fn push_as(person: &Person, host: &str, args: &[&str]) {
    let mut command = person.command();
    command.env("BKFS_CONFIG_DIR", person.path(&format!("config-{host}")));
    command.env("BKFS_CACHE_DIR", person.path(&format!("cache-{host}")));
    expect(&command.args(["push", "--host", host]).args(args).output().unwrap(), 0, &[]);
}

fn write(path: &Path, contents: &str) -> String {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A machine with two jobs, of which `etc` ran last, and another machine that pushed after it.
fn two_jobs_and_a_neighbour() -> Person {
    let person = Person::with_repo();
    let letter = write(&person.path("home/letters/one"), "old\n");
    write(&person.path("home/other"), "other\n");
    let (home, etc) = (person.path("home"), person.path("etc"));
    let (home, etc) = (home.to_str().unwrap(), etc.to_str().unwrap());
    write(&person.path("etc/fstab"), "fstab\n");
    person.run(["push", "--target", "home", home]);
    fs::write(&letter, "new\n").unwrap();
    person.run(["push", "--target", "home", home]);
    person.run(["push", "--target", "etc", etc]);
    let theirs = write(&person.path("srv/page"), "page\n");
    push_as(&person, "beta", &["--target", "home", home]);
    push_as(&person, "beta", &["--target", "srv", Path::new(&theirs).parent().unwrap().to_str().unwrap()]);
    person
}

fn at(person: &Person, name: &str) -> String {
    format!("latest:{}", person.path(name).display())
}

#[test]
fn a_path_finds_the_series_that_holds_it() {
    let person = two_jobs_and_a_neighbour();
    let cat = |args: &[&str]| person.output([&["cat"], args].concat());
    let letter = at(&person, "home/letters/one");
    let output = cat(&[&letter]);
    expect(&output, 0, &["latest is", "target home"]);
    assert_eq!(text(&output.stdout), "new\n");
    assert!(text(&cat(&["--quiet", &letter]).stderr).is_empty());
    expect(&cat(&[&at(&person, "etc/fstab")]), 0, &["target etc"]);
    let out = person.path("out");
    person.run(["restore", &at(&person, "home/letters"), out.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(out.join("one")).unwrap(), "new\n");
    // What only another machine holds is not given unasked.
    expect(&cat(&[&at(&person, "srv/page")]), 1, &["no snapshot of this machine holds", "target srv", "--host"]);
    expect(&cat(&["--host", "beta", &at(&person, "srv/page")]), 0, &["host beta"]);
    expect(&cat(&[&at(&person, "nowhere/x")]), 1, &["nowhere/x", "target home", "target etc", "bkfs snapshots"]);
}

#[test]
fn a_deleted_file_is_not_taken_from_an_older_snapshot() {
    let person = two_jobs_and_a_neighbour();
    fs::remove_file(person.path("home/letters/one")).unwrap();
    let before: serde_json::Value =
        serde_json::from_str(&person.run(["snapshots", "--json", "--target", "home"])).unwrap();
    person.run(["push", "--target", "home", person.path("home").to_str().unwrap()]);
    let output = person.output(["cat", &at(&person, "home/letters/one")]);
    let id = before[1]["id"].as_str().unwrap();
    expect(&output, 1, &["letters/one", "the newest snapshots that have it", &id[..8]]);
    assert!(!text(&output.stderr).contains(&before[0]["id"].as_str().unwrap()[..8]), "an older one of the same series");
    expect(&person.output(["cat", &at(&person, "home/never")]), 1, &["never", "none has it"]);
    assert_eq!(person.run(["cat", &at(&person, "home/letters/one").replace("latest", &id[..12])]), "new\n");
}

#[test]
fn without_a_path_it_must_be_clear() {
    let person = two_jobs_and_a_neighbour();
    let out = person.path("out");
    let refused = person.output(["restore", "latest", out.to_str().unwrap()]);
    expect(&refused, 1, &["latest is not clear", "target home", "target etc", "--target"]);
    assert!(!text(&refused.stderr).contains("srv") && !out.exists(), "other machines do not count");
    expect(&person.output(["forget", "latest"]), 1, &["latest is not clear"]);
    expect(&person.output(["ls", "--target", "etc", "latest"]), 0, &["latest is", "target etc"]);
    expect(&person.output(["ls", "--host", "beta", "--target", "srv", "latest"]), 0, &["host beta"]);
    expect(&person.output(["ls", "--host", "beta", "latest"]), 1, &["latest is not clear", "target srv"]);
}

/// Runs the program in a terminal of its own.
fn at_a_terminal(person: &Person, folder: &Path, args: &str) -> Option<Output> {
    let mut command = person.command();
    let line = format!("{} {args}", command.get_program().to_str().unwrap());
    let envs: Vec<_> = command.get_envs().map(|(name, value)| (name.to_owned(), value.map(|v| v.to_owned()))).collect();
    command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(folder).stdin(std::process::Stdio::null());
    for (name, value) in envs {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().ok()
}

#[test]
fn at_a_terminal_the_working_folder_decides() {
    let person = two_jobs_and_a_neighbour();
    let Some(output) = at_a_terminal(&person, &person.path("home/letters"), "ls -R latest") else {
        skip!("there is no script(1)");
    };
    let shown = text(&output.stdout);
    assert!(output.status.success() && shown.contains("letters/one") && shown.contains("target home"), "{shown}");
    let output = at_a_terminal(&person, &person.path("srv"), "ls latest").unwrap();
    assert!(!output.status.success() && text(&output.stdout).contains("latest is not clear"), "{output:?}");
}

#[test]
fn a_mount_shows_what_the_filters_let_through() {
    if let Some(reason) = crate::common::program::cannot_mount() {
        skip!("{reason}");
    }
    let person = two_jobs_and_a_neighbour();
    person.run(["push", "--target", "etc", "--tag", "keep", person.path("etc").to_str().unwrap()]);
    let names = |path: &Path| {
        let mut names: Vec<String> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let host = person.host();
    {
        let mount = person.mount(&[]);
        assert_eq!(names(&mount.latest()), ["etc", "home@beta", &format!("home@{host}"), "srv"]);
        assert!(mount.latest().join("etc").join(person.path("etc/fstab").strip_prefix("/").unwrap()).exists());
        assert_eq!(names(&mount.point.join("targets")), ["etc", "home", "srv"]);
    }
    {
        let mount = person.mount(&["--target", "etc"]);
        assert_eq!(names(&mount.point.join("targets")), ["etc"]);
        assert_eq!(names(&mount.point.join("snapshots")).len(), 2);
        assert!(mount.latest().join(person.path("etc/fstab").strip_prefix("/").unwrap()).exists(), "its tree");
    }
    {
        let mount = person.mount(&["--host", &host, "--tag", "keep"]);
        assert_eq!((names(&mount.point.join("ids")).len(), names(&mount.point.join("tags"))), (1, vec!["keep".into()]));
        // A snapshot that passes appears, and one that does not stays hidden.
        person.run(["push", "--target", "home", person.path("home").to_str().unwrap()]);
        person.run(["push", "--target", "new", "--tag", "keep", person.path("home").to_str().unwrap()]);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while names(&mount.point.join("targets")) != ["etc", "new"] {
            assert!(std::time::Instant::now() < deadline, "{:?}", names(&mount.point.join("targets")));
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert!(mount.latest().join(person.path("etc/fstab").strip_prefix("/").unwrap()).exists(), "still the same");
        assert!(mount.point.join("targets/new/latest").exists());
    }
    let mount = person.mount(&["--path", person.path("srv").to_str().unwrap()]);
    assert_eq!(names(&mount.point.join("targets")), ["srv"]);
}

#[test]
fn a_mount_of_nothing_is_refused_unless_that_is_expected() {
    if let Some(reason) = crate::common::program::cannot_mount() {
        skip!("{reason}");
    }
    let person = two_jobs_and_a_neighbour();
    let point = person.path("mount");
    fs::create_dir(&point).unwrap();
    let point = point.to_str().unwrap();
    for filter in [["--target", "hmoe"], ["--host", "gamma"], ["--tag", "no"], ["--path", "/no"]] {
        let words = ["no snapshot passes", "etc, home, srv", "beta", "--nofail"];
        expect(&person.output(["mount", filter[0], filter[1], point]), 1, &words);
        expect(&person.output(["mount", "--background", filter[0], filter[1], point]), 1, &words);
    }
    let mount = person.mount(&["--nofail", "--target", "later"]);
    assert_eq!(fs::read_dir(mount.point.join("snapshots")).unwrap().count(), 0);
    assert!(!mount.latest().exists());
    person.run(["push", "--target", "later", "-C", person.path("home").to_str().unwrap(), "."]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !mount.latest().join("letters/one").exists() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
