//! Golden bytes: each format of keys and records as it was first written. A record must still encode to exactly these
//! bytes. A sealed object, whose bytes are random, must still open. The files in `golden/` are never edited: a format
//! that changes gets a new version and a new file, and the old file must still be readable.
//!
//! With `BKFS_GOLDEN_WRITE=1`, missing files are written; existing ones never are.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::PathBuf, sync::Arc};

use bkfs_store::{
    Error,
    base::{codec, id::*, time::Time},
    crypto::{SealNumber, SealSecret, Secret, Wrap},
    format::{
        config::verify_config,
        keys::{
            FullKey, KeyFile, SealKeys, SlotInfo,
            slot::{self, SlotParams},
        },
        log::{Event, LogRecord},
        loss::{DamagedFrames, FrameBits, Lost, Quarantined},
        roster::verify_roster,
        snapshot,
        tombstone::Tombstone,
        tree::*,
        verdict::{Refused, Verdict},
    },
    owner::keyring::KeyRing,
};
use support::*;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The golden bytes of a name. If they are missing and may be written, they are first made with `make`.
fn golden(name: &str, make: impl FnOnce() -> Vec<u8>) -> Vec<u8> {
    let path = path(&format!("{name}.hex"));
    if !path.exists() && std::env::var_os("BKFS_GOLDEN_WRITE").is_some() {
        let hex: String = make().iter().map(|b| format!("{b:02x}")).collect();
        let lines: Vec<&str> = (0..hex.len()).step_by(100).map(|at| &hex[at..hex.len().min(at + 100)]).collect();
        fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let hex: String = fs::read_to_string(&path).unwrap().split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// Compares bytes that are the same in every run with the golden ones.
fn same(name: &str, bytes: &[u8]) {
    let golden = golden(name, || bytes.to_vec());
    assert!(
        golden == bytes,
        "{name}: the format changed: {}",
        bytes.iter().map(|b| format!("{b:02x}")).collect::<String>()
    );
}

/// Nodes that have everything a node can have.
fn odd_nodes() -> Vec<Node> {
    let xattr = Xattr { name: b"user.bin".to_vec(), value: vec![0, 255, 10] };
    let data = Extent::Data { id: ChunkId([0xaa; 32]), len: 70_000 };
    let hole = Extent::Hole { len: 5 << 30 };
    let file = Node {
        mode: 0o4755,
        user: Some("alice".into()),
        group: Some("users".into()),
        ctime: Some(time(1)),
        btime: Some(Time { secs: i64::MIN, nanos: 0 }),
        size: 70_000 + (5 << 30),
        xattrs: Some(vec![xattr]),
        hard_link: Some(HardLinkGroup([0xbb; 16])),
        links: Some(2),
        content: Some(Content::Extents(vec![data, hole])),
        ..node(b"sparse \xff", NodeKind::File)
    };
    let inline = Node { size: 5, content: Some(Content::Inline(b"hello".to_vec())), ..node(b"short", NodeKind::File) };
    let large =
        Node { size: 1 << 40, content: Some(Content::Tree(ChunkId([0xcc; 32]))), ..node(b"image", NodeKind::File) };
    let device = |kind| Node { device: Some(Device { major: 8, minor: 1 }), ..node(b"sda1", kind) };
    vec![
        file,
        inline,
        large,
        root(),
        Node { target: Some(b"../\xfe".to_vec()), ..node(b"link", NodeKind::Symlink) },
        node(b"fifo", NodeKind::Fifo),
        node(b"socket", NodeKind::Socket),
        device(NodeKind::CharDevice),
        device(NodeKind::BlockDevice),
    ]
}

#[test]
fn nodes() {
    let nodes = odd_nodes();
    for node in &nodes {
        node.validate(node.name.is_empty()).unwrap();
    }
    let bytes = codec::encode(&nodes);
    same("nodes-1", &bytes);
    assert_eq!(codec::decode::<Vec<Node>>("nodes", &bytes).unwrap(), nodes);
}

/// A record of each kind.
fn log_events() -> Vec<LogRecord> {
    let events = vec![
        Event::Init { config: Hash([1; 32]) },
        Event::Incarnation { incarnation: Incarnation([2; 16]), reason: "init".into() },
        Event::Roster { signed: vec![3; 4] },
        Event::Commit {
            snapshot: SnapshotId([4; 32]),
            client: ClientId([5; 16]),
            target: TargetTag([6; 16]),
            sequence: 7,
            sender: Some(Hash([8; 32])),
        },
        Event::Annotation { snapshot: SnapshotId([4; 32]), signed: vec![9; 3] },
        Event::Forget { snapshot: SnapshotId([4; 32]), signed: vec![12; 5] },
        Event::Unforget { snapshot: SnapshotId([4; 32]) },
        Event::Expire { snapshot: SnapshotId([4; 32]) },
        Event::Condemn { generation: 2, set: Hash([10; 32]) },
        Event::Sweep { packs: vec![PackId([11; 32])] },
        Event::Revive { packs: vec![PackId([12; 32])] },
        Event::Abort,
    ];
    let numbered = events.into_iter().enumerate();
    numbered.map(|(seq, event)| LogRecord { seq: seq as u64, time: time(1_763_000_000), event }).collect()
}

/// What key holders find.
fn verdict_events() -> Vec<LogRecord> {
    let events = vec![
        Event::Verdict { signed: vec![4; 8], generation: Some(5), lost: Lost::Ids(vec![ChunkId([15; 32])]) },
        Event::Verdict { signed: vec![4; 8], generation: None, lost: Lost::Ids(vec![]) },
        Event::Inherit { packs: vec![PackId([13; 32])] },
    ];
    let numbered = events.into_iter().enumerate();
    numbered.map(|(seq, event)| LogRecord { seq: seq as u64, time: time(1_763_000_000), event }).collect()
}

/// A rotation of the seal key.
fn seal_key_events() -> Vec<LogRecord> {
    vec![LogRecord { seq: 0, time: time(1_763_000_000), event: Event::SealKeys { signed: vec![5; 6] } }]
}

/// The kinds that came after those.
fn latest_events() -> Vec<LogRecord> {
    vec![LogRecord { seq: 0, time: time(1_763_000_000), event: Event::Gap }]
}

/// The kinds that came later.
fn later_events() -> Vec<LogRecord> {
    let frames = |number: u32| {
        let mut bits = FrameBits::none(12);
        bits.set(number);
        DamagedFrames::Frames(bits)
    };
    let packs = vec![
        Quarantined { pack: PackId([13; 32]), frames: frames(9) },
        Quarantined { pack: PackId([14; 32]), frames: DamagedFrames::All },
    ];
    let events = vec![
        Event::Quarantine { generation: 3, packs, lost: Lost::Ids(vec![ChunkId([15; 32])]) },
        Event::Quarantine { generation: 4, packs: vec![], lost: Lost::Everything },
        Event::Release { packs: vec![PackId([13; 32])] },
    ];
    let numbered = events.into_iter().enumerate();
    numbered.map(|(seq, event)| LogRecord { seq: seq as u64, time: time(1_763_000_000), event }).collect()
}

#[test]
fn log_records() {
    for (name, records) in [
        ("log-records-1", log_events()),
        ("log-records-2", later_events()),
        ("log-records-3", latest_events()),
        ("log-records-4", verdict_events()),
        ("log-records-5", seal_key_events()),
    ] {
        golden_records(name, records);
    }
}

fn golden_records(name: &str, records: Vec<LogRecord>) {
    let mut head = Hash::default();
    let mut bytes = Vec::new();
    for record in records {
        let encoded = record.encode();
        assert_eq!(codec::decode::<LogRecord>("a log record", &encoded).unwrap(), record);
        head = LogRecord::link(head, &encoded);
        bytes.extend(encoded);
    }
    bytes.extend(head.0);
    same(name, &bytes);
}

#[test]
fn tombstone() {
    let tombstone = Tombstone { repo: full_key().repo, snapshot: SnapshotId([4; 32]), log_len: 9, is_broken: false };
    let bytes = golden("tombstone-2", || tombstone.sign(&full_key()));
    let admin = full_key().admin.verifying_key();
    assert_eq!(Tombstone::verify(&bytes, &admin, full_key().repo).unwrap(), tombstone);
    // Signing is deterministic.
    same("tombstone-2", &tombstone.sign(&full_key()));
}

#[test]
fn verdict() {
    let mut frames = FrameBits::none(12);
    frames.set(9);
    let refused = vec![Refused { pack: PackId([14; 32]), frames }];
    let verdict = Verdict { repo: full_key().repo, verified: vec![PackId([13; 32])], refused };
    let bytes = golden("verdict-1", || verdict.sign(&full_key()));
    let admin = full_key().admin.verifying_key();
    assert_eq!(Verdict::verify(&bytes, &admin, full_key().repo).unwrap(), verdict);
    assert!(Verdict::verify(&bytes, &admin, RepoId([9; 16])).is_err());
    same("verdict-1", &verdict.sign(&full_key()));
}

#[test]
fn configuration() {
    let bytes = golden("config-1", config);
    let full = full_key();
    let read = verify_config(&bytes).unwrap();
    full.check_config(&read).unwrap();
    push_key().check_config(&read).unwrap();
    same("config-1", &config());
}

#[test]
fn rosters() {
    let full = full_key();
    same("roster-2", &full.sign_roster(&roster()));
    let bytes = golden("roster-2", Vec::new);
    assert_eq!(verify_roster(&bytes, &full.admin.verifying_key(), full.repo).unwrap(), roster());
}

#[test]
fn seal_keys_and_what_is_sealed_to_the_second() {
    // The new private key, then the list.
    let bytes = golden("seal-keys-1", || {
        let rotated = support::seal_keys().rotate(&full_key()).unwrap();
        [&rotated.full.seal.seed().bytes()[..], &rotated.signed].concat()
    });
    let (seed, signed) = bytes.split_at(32);
    let list = SealKeys::verify(signed, &support::config_record()).unwrap();
    let seal = SealSecret::from_seed(Secret::new(seed.try_into().unwrap()), SealNumber::FIRST);
    let full = list.complete(&FullKey { seal, ..full_key() }).unwrap();
    assert_eq!((list.number(), full.seal.number(), full.older.len()), (SealNumber(2), SealNumber(2), 1));
    assert_eq!(full.older[0].seed().bytes(), full_key().seal.seed().bytes());
    let wrap = golden("wrap-2", || codec::encode(&full.seal.public().wrap(full.repo, &data_key())));
    let wrap: Wrap = codec::decode("a wrap", &wrap).unwrap();
    assert_eq!((wrap.seal_key, full.unwrap(&wrap).unwrap().id()), (SealNumber(2), data_key().id()));
    assert!(matches!(full_key().unwrap(&wrap), Err(Error::KeyOutdated { have: 1, needed: 2 })));
}

#[test]
fn labels() {
    let full = full_key();
    let mut client = roster().clients.remove(0);
    client.label = golden("label-1", || full.seal_label(client.id, "alpha"));
    assert_eq!(full.open_label(&client).unwrap(), "alpha");
}

#[test]
fn full_keys() {
    let full = full_key();
    same("full-key-1", &full.encode());
    let read = FullKey::decode(&golden("full-key-1", Vec::new)).unwrap();
    assert_eq!(read.encode(), full.encode());
    same("recovery-1", full.recovery_text().as_bytes());
    let words = String::from_utf8(golden("recovery-1", Vec::new)).unwrap();
    assert_eq!(FullKey::from_recovery_text(&words).unwrap().encode(), full.encode());
    // Each division is another one.
    let divide =
        || full.recovery_shares(2, 3).unwrap().iter().map(|sheet| sheet.as_bytes()).collect::<Vec<_>>().concat();
    let sheets = String::from_utf8(golden("recovery-shares-1", divide)).unwrap();
    assert_eq!(FullKey::from_recovery_text(&sheets).unwrap().encode(), full.encode());
}

#[test]
fn key_files() {
    for (name, file) in [
        ("push-key-file-1", KeyFile::Push(push_key())),
        ("full-key-file-1", KeyFile::Full { full: full_key(), push: push_key() }),
    ] {
        same(name, &file.encode());
        let read = KeyFile::decode(&golden(name, Vec::new)).unwrap();
        assert_eq!(read.encode(), file.encode());
        assert_eq!(read.push().client_id(), push_key().client_id());
        assert_eq!(read.push().url, push_key().url);
        assert_eq!(read.full().is_some(), file.full().is_some());
    }
}

#[test]
fn slots() {
    let id = SlotId([0xdd; 16]);
    let info = SlotInfo { label: "the safe".into(), host: "alpha".into(), created: time(1_763_000_000) };
    // The slot's name is bound to its bytes, so the file holds both.
    let bytes = golden("slot-1", || {
        let slot = slot::seal_slot(&full_key(), b"correct horse", SlotParams::LEAST, &info).unwrap();
        [&slot.id.0[..], &slot.bytes].concat()
    });
    let (name, bytes) = bytes.split_at(SlotId::LEN);
    let slot = bkfs_store::format::keys::Slot { id: SlotId::from_slice(name).unwrap(), bytes: bytes.to_vec() };
    assert_ne!(slot.id, id);
    assert_eq!(slot::slot_params(&slot).unwrap(), SlotParams::LEAST);
    assert_eq!(slot::slot_info(&full_key(), &slot).unwrap(), info);
    assert_eq!(slot::open_slot(&slot, b"correct horse").unwrap().unwrap().encode(), full_key().encode());
    assert!(slot::open_slot(&slot, b"wrong horse").unwrap().is_none());
    let moved = bkfs_store::format::keys::Slot { id, ..slot };
    assert!(slot::open_slot(&moved, b"correct horse").unwrap().is_none());
    assert!(slot::slot_info(&full_key(), &moved).is_err());
}

#[test]
fn stored_snapshots() {
    let (full, push) = (full_key(), push_key());
    let bytes = golden("stored-snapshot-1", || {
        let key = data_key();
        let wrap = push.seal().unwrap().wrap(push.repo, &key);
        snapshot::seal(&support::snapshot(1, None), &push, &push.ids(), &key, &wrap)
    });
    let stored = snapshot::verify_stored(&bytes, &roster(), time(1_763_000_001)).unwrap();
    assert_eq!(stored.wrap.key, data_key().id());
    let ring = KeyRing::new(full, Arc::new(Wraps(vec![])));
    let opened = ring.open_snapshot(&stored, snapshot::snapshot_id(&bytes)).unwrap();
    assert_eq!(opened, support::snapshot(1, None));
    same("snapshot-record-1", &snapshot::Snapshot::HEADER.encode(&opened));
}

proptest::proptest! {
    #[test]
    fn damaged_records_do_not_panic(at: proptest::sample::Index, to: u8, cut: bool) {
        let records = ["nodes-1", "log-records-1", "snapshot-record-1", "config-1", "roster-2", "full-key-1"];
        for name in records.into_iter().chain(["stored-snapshot-1", "seal-keys-1"]) {
            let mut bytes = golden(name, Vec::new);
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = to }
            if let Ok(nodes) = codec::decode::<Vec<Node>>("nodes", &bytes) {
                for node in nodes {
                    let _ = node.validate(false);
                }
            }
            let _ = codec::decode::<LogRecord>("a log record", &bytes);
            let _ = snapshot::Snapshot::HEADER.decode::<snapshot::Snapshot>(&bytes);
            let _ = snapshot::verify_stored(&bytes, &roster(), time(1));
            let _ = verify_config(&bytes);
            let _ = verify_roster(&bytes, &full_key().admin.verifying_key(), full_key().repo);
            let _ = FullKey::decode(&bytes);
            let _ = SealKeys::verify(bytes.get(32..).unwrap_or_default(), &support::config_record());
        }
    }
}
