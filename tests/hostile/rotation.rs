//! A server that hides a rotation of the seal key from a client that can only push, or makes one up: whoever has the
//! older private key wants to read what is pushed.

use std::{fs, process::Output};

use bkfs_store::{
    access::Open,
    base::id::RepoId,
    format::{
        config::{ChunkerParams, verify_config},
        keys::{FullKey, SealKeys},
    },
};
use bkfs_transport::message::{Call, Reply};

use super::liar::{Liar, LyingServer};
use crate::common::program::Person;

/// An owner who has rotated the seal key, and a laptop that can only push.
struct Scene {
    server: LyingServer,
    owner: Person,
}

impl Scene {
    fn new() -> Self {
        let server = LyingServer::start();
        let owner = server.person();
        fs::create_dir(owner.path("src")).unwrap();
        let key = owner.path("laptop.key");
        owner.run(["key", "export-push", key.to_str().unwrap()]);
        let scene = Self { server, owner };
        // The same network identity, and nothing else.
        fs::create_dir(scene.owner.path("laptop")).unwrap();
        for entry in fs::read_dir(scene.owner.path("config")).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), scene.owner.path("laptop").join(entry.file_name())).unwrap();
            }
        }
        let enrolled = scene.laptop(&["key", "enrol", "--push-key", key.to_str().unwrap()]);
        assert!(enrolled.status.success(), "{}", String::from_utf8_lossy(&enrolled.stderr));
        scene
    }

    fn laptop(&self, args: &[&str]) -> Output {
        let mut command = self.owner.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_CONFIG_DIR", self.owner.path("laptop"));
        command.env("BKFS_CACHE_DIR", self.owner.path("laptop-cache")).args(args).output().unwrap()
    }

    fn laptop_pushes(&self, name: &str) -> Output {
        fs::write(self.owner.path("src").join(name), name).unwrap();
        let source = self.owner.path("src");
        self.laptop(&["push", "-C", source.to_str().unwrap(), "."])
    }

    /// From now on, the server shows this list of seal keys.
    fn show(&self, seal_keys: Vec<u8>) {
        self.server.liar.tell(move |liar: &Liar, call| {
            let Call::Open(request, _) = call else { return None };
            let mut opened = liar.store.open(request).unwrap();
            opened.seal_keys = seal_keys.clone();
            Some(Reply::Opened(Box::new(opened)).into())
        });
    }

    fn shown_honestly(&self) -> Vec<u8> {
        self.server.liar.store.open(&Default::default()).unwrap().seal_keys
    }

    fn commits(&self) -> usize {
        self.server.liar.store.operator().commits().unwrap().len()
    }
}

#[track_caller]
fn expect(output: &Output, code: i32, parts: &[&str]) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing from: {text}");
    }
}

#[test]
fn a_rotation_cannot_be_hidden_from_a_client_that_has_seen_it() {
    let scene = Scene::new();
    expect(&scene.laptop_pushes("one"), 0, &[]);
    scene.owner.run(["key", "rotate", "--yes"]);
    let second = scene.shown_honestly();
    expect(&scene.laptop_pushes("two"), 0, &[]);
    scene.owner.run(["key", "rotate", "--yes"]);
    expect(&scene.laptop_pushes("three"), 0, &[]);
    let commits = scene.commits();
    for older in [Vec::new(), second] {
        // The log that the server shows is the whole one.
        scene.show(older);
        scene.server.liar.count("");
        expect(&scene.laptop_pushes("four"), 13, &["newest seal key is number", "has seen number 3"]);
        assert_eq!(scene.server.liar.count("PutPack"), 0, "nothing was sealed to an older key");
        // The owner's passphrase gives the newest private key, which shows it as well.
        expect(&scene.owner.output(["snapshots"]), 13, &["seal key"]);
    }
    assert_eq!(scene.commits(), commits);
    scene.server.liar.tell(|_, _| None);
    expect(&scene.laptop_pushes("four"), 0, &[]);
    expect(&scene.owner.output(["check", "--read-data"]), 0, &[]);
}

#[test]
fn a_rotation_cannot_be_made_up() {
    let scene = Scene::new();
    expect(&scene.laptop_pushes("one"), 0, &[]);
    let opened = scene.server.liar.store.open(&Default::default()).unwrap();
    let config = verify_config(&opened.config).unwrap();
    // A list that ends in a key of the server's own, signed with another key than the owner's.
    let thief = FullKey::random(config.repo);
    let made_up = SealKeys::verify(&[], &config).unwrap().rotate(&thief).unwrap().signed;
    let foreign = FullKey::random(RepoId([9; 16]));
    let foreign_config = verify_config(&foreign.config(config.created, ChunkerParams::default())).unwrap();
    let foreign = SealKeys::verify(&[], &foreign_config).unwrap().rotate(&foreign).unwrap().signed;
    for (list, why) in [(made_up, "signature is not valid"), (foreign, "signature is not valid"), (vec![1; 99], "list")]
    {
        scene.show(list);
        scene.server.liar.count("");
        expect(&scene.laptop_pushes("two"), 1, &["the list of seal keys is damaged", why]);
        assert_eq!(scene.server.liar.count("PutPack"), 0);
    }
    assert_eq!(scene.commits(), 1);
}

/// A client that has not seen the rotation cannot know of it. A store that is honest does not take what it pushes.
/// (What one that is not honest takes, the owner is told of: `store/tests/rotation.rs`.)
#[test]
fn what_is_sealed_to_an_older_key_is_not_taken() {
    let scene = Scene::new();
    expect(&scene.laptop_pushes("one"), 0, &[]);
    scene.owner.run(["key", "rotate", "--yes"]);
    scene.show(Vec::new());
    expect(&scene.laptop_pushes("two"), 11, &["seals to seal key 1, and the newest is seal key 2"]);
    assert_eq!(scene.commits(), 1);
}
