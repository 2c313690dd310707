//! A push-only client that commits what nobody can read, or that commits without a break: it costs nobody their space.

use std::{
    fs,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use bkfs_store::{
    Error,
    access::{Open, OpenRequest, Push, Read},
    base::{
        id::{ChunkId, Hash, SnapshotId},
        time::Time,
    },
    crypto::DataKey,
    format::{
        keys::{KeyFile, PushKey},
        snapshot::{self, PushStats, Snapshot},
        tree::{Node, NodeKind, Subtree, Totals},
    },
};
use bkfs_transport::{
    Identity, Token,
    client::{Remote, join},
};

use crate::common::program::{Person, Server};

/// Somebody with the push key and the network rights of a client.
pub struct Thief {
    remote: Remote,
    key: PushKey,
}

/// What is wrong with a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Junk {
    /// Its data key does not open.
    Seal,
    /// Its tree is not stored.
    Tree,
    /// It names a log that never was. Its tree is not stored either.
    Head,
}

impl Thief {
    /// Joins the server as a client of the person that may only push, which is called `thief`.
    pub fn join(operator: &Person, server: &Server, person: &Person) -> Self {
        let file = person.path("thief.key");
        person.run(["key", "export-push", file.to_str().unwrap()]);
        let token = Token::parse(&server.invite(operator, "alice", "push")).unwrap();
        let identity = Identity::generate().unwrap();
        let joined = join(&token, &identity).unwrap();
        let remote = Remote::connect(&joined.url, &identity, token.fingerprint).unwrap();
        let key = KeyFile::decode(&fs::read(file).unwrap()).unwrap().push().clone();
        remote.show(&key);
        Self { remote, key }
    }

    /// Commits a snapshot that nobody can read.
    pub fn commit(&self, junk: Junk) -> Result<SnapshotId, Error> {
        let opened = self.remote.open(&OpenRequest { client: Some(self.key.client_id()), seen: None })?;
        let subtree = Some(Subtree { id: ChunkId([7; 32]), entries: 1, totals: Totals::default() });
        let root = Node { mode: 0o755, subtree, ..Node::new(b"", NodeKind::Directory) };
        self.commit_root(&opened, root, junk)
    }

    fn commit_root(&self, opened: &bkfs_store::access::Opened, root: Node, junk: Junk) -> Result<SnapshotId, Error> {
        let (key, last) = (DataKey::random(), opened.last);
        let record = Snapshot {
            time: Time { secs: 4_000_000_000, nanos: 0 },
            host: "h".into(),
            user: "u".into(),
            target: "t".into(),
            paths: vec![],
            tags: vec![],
            root,
            stats: PushStats::default(),
            program: "junk".into(),
            sequence: last.map_or(1, |last| last.sequence + 1),
            previous: last.map(|last| last.id),
            log_len: opened.now.log_len,
            log_head: if junk == Junk::Head { Hash([7; 32]) } else { opened.now.log_head },
        };
        let mut wrap = self.key.seal().unwrap().wrap(self.key.repo, &key);
        if junk == Junk::Seal {
            wrap.sealed.reverse();
        }
        let bytes = snapshot::seal(&record, &self.key, &self.key.ids(), &key, &wrap);
        Ok(self.remote.commit(opened.lease, &bytes)?.snapshot)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asserts the exit code of a command and the words that it prints.
#[track_caller]
pub fn expect(output: &Output, code: i32, words: &[&str]) {
    let all = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{all}");
    words.iter().for_each(|word| assert!(all.contains(word), "{word:?} is not in: {all}"));
}

/// A server whose floor is off, and a person with a snapshot on it and data that no snapshot needs.
fn with_dead_data() -> (Person, Server, Person) {
    let operator = Person::new();
    let server = Server::start_protecting(&operator, &operator.path("server"), "0s");
    let person = server.person("alice");
    fs::create_dir_all(person.path("src")).unwrap();
    fs::write(person.path("src/dead"), vec![1; 100]).unwrap();
    for n in 0..40u64 {
        let noise: Vec<u8> =
            (0..8192u64).flat_map(|i| blake3::hash(&(n << 32 | i).to_le_bytes()).as_bytes()[..1].to_vec()).collect();
        fs::write(person.path(&format!("src/dead-{n}")), noise).unwrap();
    }
    person.push(&person.path("src"));
    let dead = person.newest();
    for n in 0..40 {
        fs::remove_file(person.path(&format!("src/dead-{n}"))).unwrap();
    }
    fs::write(person.path("src/live"), "live\n").unwrap();
    person.push(&person.path("src"));
    person.run(["forget", "--now", &dead]);
    (operator, server, person)
}

#[test]
fn a_snapshot_that_nobody_can_read_stops_prunes_only_until_its_owner_says_so() {
    let (operator, server, person) = with_dead_data();
    let thief = Thief::join(&operator, &server, &person);
    let (seal, tree) = (thief.commit(Junk::Seal).unwrap(), thief.commit(Junk::Tree).unwrap());
    let (seal_id, tree_id) = (&*seal.short(), &*tree.short());

    expect(&person.output(["snapshots"]), 0, &["warning", seal_id, "thief"]);
    expect(&person.output(["check"]), 1, &[seal_id, tree_id, "(thief)"]);
    let stopped = ["2 snapshots cannot be read", seal_id, tree_id, "(thief)", "never stored", "bkfs forget --broken"];
    expect(&person.output(["prune", "--yes"]), 1, &stopped);
    expect(&person.output(["forget", "--broken", "--dry-run"]), 0, &[seal_id, tree_id, "would forget 2 snapshots"]);
    expect(
        &person.output(["forget", "--broken"]),
        1,
        &[seal_id, tree_id, "--broken --confirm", "nothing was forgotten"],
    );
    expect(&person.output(["forget", "--broken", "latest"]), 1, &["not the id of a broken snapshot"]);
    // One of them, and then the other.
    expect(&person.output(["forget", "--broken", "--confirm", seal_id]), 0, &["moved to the trash"]);
    expect(&person.output(["prune", "--yes"]), 1, &["1 snapshot", tree_id]);
    expect(&person.output(["forget", "--broken", "--confirm"]), 0, &[tree_id, "moved to the trash"]);

    expect(&person.output(["snapshots", "--trash"]), 0, &[seal_id, tree_id, "thief"]);
    expect(&person.output(["prune", "--yes", "--keep-trash"]), 0, &["freed", "dropped"]);
    expect(&person.output(["check", "--read-data"]), 0, &["no problems", "2 broken snapshots in the trash"]);
    assert_eq!(person.run(["cat", "latest:live"]), "live\n");
    // Bringing them back takes the statement back.
    person.run(["unforget", "--all"]);
    expect(&person.output(["prune", "--yes"]), 1, &["2 snapshots cannot be read"]);
    expect(&person.output(["forget", "--broken", "--confirm", "--now"]), 0, &["2 snapshots gone for good"]);
    expect(&person.output(["forget", "--broken"]), 0, &["all snapshots can be read"]);
}

#[test]
fn a_false_alarm_ends_when_its_snapshot_is_forgotten() {
    let (operator, server, person) = with_dead_data();
    let thief = Thief::join(&operator, &server, &person);
    let id = thief.commit(Junk::Head).unwrap();
    expect(&person.output(["snapshots"]), 13, &["fork: client", "or this client lies", &id.short()]);
    // It is forgotten, and the command has seen it as well.
    expect(&person.output(["forget", &id.to_string()]), 13, &["fork: client"]);
    let after = person.output(["snapshots"]);
    expect(&after, 0, &[]);
    assert!(!text(&after.stderr).contains("fork"), "{}", text(&after.stderr));
}

#[test]
fn commits_without_a_break_stop_neither_prunes_nor_pushes() {
    let (operator, server, person) = with_dead_data();
    let thief = Thief::join(&operator, &server, &person);
    // A tree that is stored: that of the person's own snapshot, which the thief may name without reading it.
    let root = {
        let file = person.path("full.key");
        person.run(["key", "export-full", file.to_str().unwrap()]);
        let key = KeyFile::decode(&fs::read(file).unwrap()).unwrap();
        let token = Token::parse(&server.invite(&operator, "alice", "all")).unwrap();
        let identity = Identity::generate().unwrap();
        let joined = join(&token, &identity).unwrap();
        let remote = Arc::new(Remote::connect(&joined.url, &identity, token.fingerprint).unwrap());
        let opened = remote.open(&OpenRequest::default()).unwrap();
        let full = key.full().unwrap();
        let config = bkfs_store::format::config::verify_config(&opened.config).unwrap();
        let access: Arc<dyn Read> = remote;
        let reader = bkfs_store::owner::reader::Reader::new(access, full.clone(), &config, 1 << 20);
        reader.snapshots().unwrap().pop().unwrap().snapshot.root
    };
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, spam) = (stop.clone(), thief);
    let spammer = thread::spawn(move || {
        let (mut committed, mut held) = (0u64, 0u64);
        while !stopped.load(Relaxed) {
            let opened = spam.remote.open(&OpenRequest { client: Some(spam.key.client_id()), seen: None }).unwrap();
            match spam.commit_root(&opened, root.clone(), Junk::Tree) {
                Ok(_) => committed += 1,
                Err(Error::CommitsHeld { .. }) => held += 1,
                Err(Error::LeaseRefused { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        (committed, held)
    });
    let source = person.path("src");
    let push = person.command().args(["push", "-C", source.to_str().unwrap(), "."]).spawn().unwrap();
    let prune = person.output(["prune", "--yes"]);
    stop.store(true, Relaxed);
    let (committed, held) = spammer.join().unwrap();
    expect(&prune, 0, &["freed", "dropped"]);
    expect(&push.wait_with_output().unwrap(), 0, &[]);
    assert!(committed > 10, "{committed} committed, {held} refused");
    println!("{committed} snapshots were committed meanwhile, {held} refused");
}
