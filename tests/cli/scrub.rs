//! Scrubbing: a repository in a folder, those of a server on demand, and those of a server in the background.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::{
    common::program::{Person, Server},
    damage, expect, files, make_source, network, packs, text,
};

/// Waits until a server has created the parity of its packs, which it does after they are acknowledged.
fn wait_for_parity(data: &Path) {
    let count = |of: &str| files(data).into_iter().filter(|path| path.to_str().unwrap().contains(of)).count();
    let begin = Instant::now();
    while count("/parity/") < count("/packs/") {
        assert!(begin.elapsed() < Duration::from_secs(60), "no parity was created");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn json(output: &std::process::Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_folder_is_scrubbed_without_keys() {
    let person = Person::with_repo();
    make_source(&person.path("src"));
    person.push(&person.path("src"));
    // A user who has neither a key nor the passphrase.
    let stranger = |args: &[&str]| {
        let mut command = person.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_CONFIG_DIR", person.path("nobody")).args(args).output().unwrap()
    };
    let output = stranger(&["scrub", "--last"]);
    expect(&output, 0, &[]);
    assert!(text(&output.stdout).contains("never scrubbed"));
    let output = stranger(&["scrub"]);
    expect(&output, 0, &[]);
    assert!(text(&output.stdout).contains("no problems"), "{}", text(&output.stdout));

    let pack = packs(&person.path("repo"))[0].clone();
    let whole = fs::read(&pack).unwrap();
    damage(&pack, 300_000..300_010);
    let output = stranger(&["scrub", "--json"]);
    expect(&output, 0, &[]);
    let report = json(&output);
    assert_eq!(
        (&report["packs_mended"], &report["shards_mended"], &report["problems_total"]),
        (&1.into(), &1.into(), &0.into())
    );
    assert!(fs::read(&pack).unwrap() == whole);

    damage(&pack, 300_000..700_000);
    let name = pack.file_name().unwrap().to_str().unwrap();
    let output = stranger(&["scrub"]);
    expect(&output, 1, &[name, "bytes are lost"]);
    let output = stranger(&["scrub", "--last", "--json"]);
    expect(&output, 1, &[]);
    let report = json(&output);
    let lost = &report["lost"][0];
    assert_eq!(lost["pack"], name);
    let span = (lost["bytes"][0][0].as_u64().unwrap(), lost["bytes"][0][1].as_u64().unwrap());
    assert!(span.0 <= 300_000 && span.1 >= 700_000 && span.1 - span.0 < 540_000, "{span:?}");
    assert!(lost["frames"].as_u64().unwrap() < lost["frames_total"].as_u64().unwrap());
}

#[test]
fn only_a_repository_in_a_folder_is_scrubbed_here() {
    let person = Person::new();
    expect(&person.output(["scrub"]), 10, &["no repository"]);
    assert!(!person.path("cache/index").exists());
    expect(&person.output(["scrub", "-r", "bkfs://localhost:1/alice"]), 1, &["server", "bkfs server scrub"]);
    expect(&person.output(["scrub", "--last", "--rate", "5M"]), 1, &["--rate"]);
}

#[test]
fn a_running_server_can_be_scrubbed_on_demand() {
    let (operator, _server, person) = network::pushed();
    let data = operator.path("server");
    let scrub =
        |extra: &[&str]| operator.output([&["server", "scrub", "--data", data.to_str().unwrap()], extra].concat());
    let output = scrub(&["--last"]);
    expect(&output, 0, &[]);
    assert!(text(&output.stdout).contains("alice/main: never scrubbed"), "{}", text(&output.stdout));
    wait_for_parity(&data);
    let pack = packs(&data)[0].clone();
    let whole = fs::read(&pack).unwrap();
    damage(&pack, 300_000..300_010);
    damage(&data.join("log.2"), 20..30);
    let output = scrub(&[]);
    expect(&output, 0, &[]);
    let printed = text(&output.stdout);
    assert!(printed.contains("alice/main: no problems") && printed.contains("mended 1 pack (1 shard)"), "{printed}");
    assert!(printed.contains("the server's own log"), "{printed}");
    assert!(fs::read(&pack).unwrap() == whole);
    expect(&person.output(["check", "--read-data"]), 0, &[]);

    damage(&pack, 300_000..700_000);
    let output = scrub(&["--json", "alice"]);
    expect(&output, 1, &[]);
    let report = json(&output);
    assert_eq!(report["server_mended"], serde_json::Value::Null);
    assert_eq!(report["repositories"][0]["account"], "alice");
    assert_eq!(report["repositories"][0]["problems_total"], 1);
    expect(&scrub(&["--last"]), 1, &["alice/main", "bytes are lost"]);
    expect(&scrub(&["bob"]), 1, &["bob"]);
    // Everything else can be read.
    assert_eq!(person.run(["cat", "latest:hello"]), "hello\n");
}

#[test]
fn a_server_scrubs_by_itself() {
    let (operator, server, _person) = network::pushed();
    let data = operator.path("server");
    let address = server.address.clone();
    wait_for_parity(&data);
    drop(server);
    let pack = packs(&data)[0].clone();
    let whole = fs::read(&pack).unwrap();
    damage(&pack, 300_000..300_010);
    let server = Server::run_with(&operator, &data, &address, &["--scrub-every", "1s", "--scrub-rate", "100M"]);
    let begin = Instant::now();
    while fs::read(&pack).unwrap() != whole {
        assert!(begin.elapsed() < Duration::from_secs(60), "it was not mended");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The next scrub starts a second later, so the last one may be running at any moment. Then the exit code is 130.
    let last = || operator.output(["server", "scrub", "--last", "--json", "--data", data.to_str().unwrap()]);
    loop {
        let output = last();
        let has_ended = output.status.code() == Some(0);
        expect(&output, if has_ended { 0 } else { 130 }, &[]);
        if has_ended && json(&output)["repositories"][0]["packs"].as_u64() > Some(0) {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "no scrub finishes: {}", text(&output.stdout));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(server);

    // With `off` it does not scrub.
    damage(&pack, 300_000..300_010);
    let damaged = fs::read(&pack).unwrap();
    let server = Server::run_with(&operator, &data, &address, &["--scrub-every", "off"]);
    std::thread::sleep(Duration::from_secs(3));
    assert!(fs::read(&pack).unwrap() == damaged);
    drop(server);
}
