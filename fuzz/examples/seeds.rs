//! Writes the seeds of the fuzz targets, `grown/TARGET/seed-NAME`: the store's golden bytes, taken apart for targets
//! that want only what is behind a seal, a message of every kind, and programs of sessions. Random parts (nonces, keys)
//! differ from run to run.

use std::{fs, io, path::PathBuf};

use bkfs_fs::cache::{
    Change, Spool,
    record::{CachedEntry, RecordStamp, RecordWriter},
};
use bkfs_fuzz::{keys, message::Call, support};
use bkfs_store::{
    access::*,
    base::{codec, id::*},
    crypto::signed::Signed,
    format::{
        compress,
        config::Config,
        filter::encode_filter,
        frame::ChunkKind,
        keys::{KeyFile, Slot},
        log::{
            Event, LogRecord,
            file::{self as log_file, Position},
        },
        loss::{DamagedFrames, FrameBits, Lost, Quarantined},
        pack::{Footer, PackWriter},
        roster::{Roster, Standing},
        snapshot::{SnapshotObject, StoredSnapshot},
        tombstone::Tombstone,
        tree::*,
        verdict::Verdict,
    },
    repository::prune::condemned::{CondemnedPack, CondemnedSet},
};
use bkfs_transport::Identity;
use data_encoding::{BASE64, HEXLOWER};
use minicbor::{Decoder, Encode};

type Done = Result<(), Box<dyn std::error::Error>>;

fn put(target: &str, name: &str, bytes: &[u8]) -> Done {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("grown").join(target);
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join(format!("seed-{name}")), bytes)?)
}

fn golden(name: &str) -> io::Result<Vec<u8>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../store/tests/golden").join(name);
    let bytes = fs::read(&path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    if !name.ends_with(".hex") {
        return Ok(bytes);
    }
    let digits: Vec<u8> = bytes.into_iter().filter(|c| !c.is_ascii_whitespace()).collect();
    HEXLOWER.decode(&digits).map_err(io::Error::other)
}

/// Encodes parts for [`bkfs_fuzz::Input::part`].
fn parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    parts.into_iter().flat_map(|part| [&(part.len() as u16).to_le_bytes(), part].concat()).collect()
}

/// Encodes an array of encoded values.
fn array(values: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0x80 | values.len() as u8];
    values.iter().for_each(|value| bytes.extend_from_slice(value));
    bytes
}

fn cbor<T: Encode<()>>(value: T) -> Vec<u8> {
    codec::encode(&value)
}

fn cbor_bytes(bytes: &[u8]) -> Vec<u8> {
    cbor(<&minicbor::bytes::ByteSlice>::from(bytes))
}

/// Encodes a map from 0, 1, 2, ... to encoded values.
fn map(values: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0xa0 | values.len() as u8];
    for (at, value) in values.iter().enumerate() {
        bytes.push(at as u8);
        bytes.extend_from_slice(value);
    }
    bytes
}

fn frames() -> Done {
    let body = [&2u32.to_le_bytes()[..], &5u32.to_le_bytes(), &300u32.to_le_bytes(), b"hello", &[b'x'; 300]].concat();
    let mut packed = Vec::new();
    assert!(compress::compress(&body, 3, &mut packed), "it shrinks");
    for (codec, payload) in [(0u8, &body), (1, &packed)] {
        let header = [&[codec][..], &(body.len() as u32).to_le_bytes(), &(payload.len() as u32).to_le_bytes()].concat();
        put("frame", &format!("opened-{codec}"), &[&header, &payload[..], &[0; 7]].concat())?;
    }
    put("compress", "zstd", &[&(body.len() as u32).to_le_bytes(), &packed[..]].concat())?;
    put("chunker", "free", &[&[0][..], &[0, 4, 0, 0], &[0, 2, 0, 0], &[4, 0, 0, 0], &[0, 64, 0, 0], &body].concat())?;
    put("chunker", "valid", &[&[1, 0, 1, 2, 5, 0, 64, 0, 0, 0, 0, 4, 0, 100, 0][..], &body].concat())?;
    put("spool", "two", &[&[1, 2, 3, 0, 70, 1, 0, 0][..], &[5; 70], &[255, 1, 1, 0, 0, 0, 80, 0]].concat())
}

fn packs() -> Done {
    let keys = keys();
    let frame = |at: u8| [&keys.data.id().0[..], &[at; 60]].concat();
    let mut writer = PackWriter::new(ChunkKind::Tree, keys.full.repo, &keys.push.signing);
    writer.add_wrap(&keys.wrap);
    writer.add(&frame(1), &[ChunkId([1; 32])]);
    writer.add(&frame(2), &[ChunkId([2; 32]), ChunkId([3; 32])]);
    for (name, pack) in [("golden", golden("pack-v1.bin")?), ("ours", writer.finish().bytes.to_vec())] {
        put("pack", name, &pack)?;
        let footer = Footer::parse(&pack)?;
        let (front, rest) = pack.split_at(footer.table_offset);
        let table = &rest[..footer.table_len - 96];
        put("pack_sealed", name, &[&parts([front]), table].concat())?;
    }
    Ok(())
}

fn page<T: Encode<()>>(name: &str, kind: u8, level: u8, entries: &[T]) -> Done {
    let mut bytes = vec![kind, 1, level];
    bytes.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    entries.iter().for_each(|entry| bytes.extend(codec::encode(entry)));
    put("page", name, &bytes)
}

fn trees() -> Done {
    let bytes = golden("nodes-1.hex")?;
    put("tree", "nodes", &[&[40, 0], &bytes[..]].concat())?;
    put("tree", "extents", &[[0, 1, 0, 0, 0], [70, 9, 0, 0, 0], [250, 200, 1, 0, 0], [90, 1, 1, 0, 0]].concat())?;
    let mut nodes: Vec<Node> = codec::decode("nodes", &bytes)?;
    nodes.iter().enumerate().try_for_each(|(at, node)| put("page", &format!("node-{at}"), &codec::encode(node)))?;
    nodes.retain(|node| !node.name.is_empty());
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes.dedup_by(|a, b| a.name == b.name);
    page("nodes", b'D', 0, &nodes)?;
    let id = ChunkId([5; 32]);
    let children: Vec<_> = nodes.iter().map(|n| DirChild { first: n.name.clone(), id, entries: 7 }).collect();
    page("dirs", b'D', 1, &children)?;
    page("extents", b'F', 0, &[Extent::Data { id, len: 5 }, Extent::Hole { len: 5 << 40 }])?;
    page("spans", b'F', 2, &[SpanChild { id, len: 5 }, SpanChild { id, len: 5 << 40 }])?;
    page::<Node>("empty", b'D', 0, &[])?;

    let folder = std::env::temp_dir();
    let (mut spool, stamp) = (Spool::new(&folder), RecordStamp { generation: [1; 8], epoch: 2 });
    let mut writer = RecordWriter::new([7; 16], stamp);
    for (at, node) in nodes.iter().enumerate() {
        let mut stamp = [0; 41];
        stamp[0] = u8::from(at % 3 == 0);
        let encoded = codec::encode(node);
        let (name, is_distrusted) = (&node.name[..], at % 2 == 0);
        writer.add(&CachedEntry { name, stamp: &stamp, is_distrusted, is_calm: false, node: &encoded }, &mut spool);
    }
    writer.finish(&support::root().subtree.unwrap_or_else(|| unreachable!("a root has a tree")), &mut spool);
    let mut segments = Vec::new();
    spool.drain(|change| {
        if let Change::Put { bytes, .. } = change {
            segments.push(bytes[..bytes.len() - 8].to_vec());
        }
        Ok::<_, io::Error>(())
    })?;
    put("file_cache", "record", &parts(segments.iter().map(Vec::as_slice)))?;
    let first = [&segments[0][..1], &[0], &segments[0][2..]].concat();
    put("file_cache", "two", &parts([&first[..], &segments[0]]))
}

fn records() -> Done {
    let payload = |bytes: &[u8]| Signed::decode("a golden record", bytes).map(|signed| signed.payload);
    for (target, name, magic) in [
        ("config", "config-1", Config::HEADER.magic),
        ("roster", "roster-2", Roster::HEADER.magic),
        ("snapshot", "stored-snapshot-1", StoredSnapshot::HEADER.magic),
        ("tombstone", "tombstone-2", Tombstone::HEADER.magic),
        ("verdict", "verdict-1", Verdict::HEADER.magic),
    ] {
        let bytes = golden(&format!("{name}.hex"))?;
        put(target, "signed", &bytes)?;
        assert!(payload(&bytes)?.starts_with(&magic));
        put(target, "payload", &payload(&bytes)?)?;
    }
    let signed = golden("seal-keys-1.hex")?.split_off(32);
    put("seal_keys", "payload", &payload(&signed)?)?;
    put("seal_keys", "signed", &signed)?;
    put("snapshot", "record", &golden("snapshot-record-1.hex")?)?;
    put("roster", "label", &[&cbor("alpha")[..], &[0; 26]].concat())?;
    let (_, client) = keys().full.new_client("beta", None, DomainId::OWNER, support::time(1));
    let mut next = support::roster();
    (next.number, next.clients) = (2, [next.clients, vec![client]].concat());
    put("roster", "next", &Roster::HEADER.encode(&next))?;

    let (mut at, mut file, mut each) = (Position::default(), vec![], vec![]);
    for number in 1..=5 {
        // The head of their chain follows the records.
        let bytes = golden(&format!("log-records-{number}.hex"))?;
        let mut decoder = Decoder::new(&bytes);
        while decoder.position() + 32 < bytes.len() {
            let start = decoder.position();
            let _: LogRecord = decoder.decode()?;
            let record = bytes[start..decoder.position()].to_vec();
            put("log", &format!("record-{}", each.len()), &record)?;
            let (framed, next) = log_file::encode_bytes(at, &record);
            (at, file) = (next, [file, framed].concat());
            each.push(record);
        }
    }
    put("log", "file", &file)?;
    let (bodies, flip, cut) = (b"\x03\x05alpha\x04beta\x05gamma", b"\x01\x01\x09\x00\x01", b"\x01\x00\x30\x00");
    put("log_pair", "flip", &[&bodies[..], flip, b"\0"].concat())?;
    put("log_pair", "cut", &[&bodies[..], b"\0", cut].concat())?;
    put("log_pair", "both", &[&bodies[..], flip, cut].concat())?;
    for sample in 0..3u8 {
        put("parity", &format!("whole-{sample}"), &[sample, 0, 0])?;
        put("parity", &format!("flip-{sample}"), &[sample, 1, 20, 0, 0, 0, 1, 255, 0])?;
        put("parity", &format!("forged-{sample}"), &[sample + 129, 10, 0, 3, 1, 20, 0, 0, 0, 1, 255, 0])?;
    }
    put("log", "parts", &parts(each.iter().map(Vec::as_slice)))
}

fn credentials() -> Done {
    for name in ["push-key-file-1", "full-key-file-1"] {
        let text = String::from_utf8(golden(&format!("{name}.hex"))?)?;
        KeyFile::decode(text.as_bytes())?;
        put("key_file", name, text.as_bytes())?;
        // A check group ends each line.
        let lines = text.lines().filter(|line| !line.starts_with(['-', '#']));
        let body: String = lines.filter_map(|line| line.split_whitespace().next()).collect();
        put("key_file", &format!("{name}-record"), &BASE64.decode(body.as_bytes())?)?;
    }
    put("full_key", "record", &golden("full-key-1.hex")?)?;
    put("full_key", "recovery", &golden("recovery-1.hex")?)?;
    put("full_key", "typed", &[&[7; 112][..], &[3, 0, b'o', 50, 0, b'-']].concat())?;
    put("slot", "golden", &golden("slot-1.hex")?)?;
    put("wrap", "record", &cbor(&keys().wrap))?;
    put("wrap", "numbered", &golden("wrap-2.hex")?)?;
    put("wrap", "public", &keys().push.seal_public)?;
    put("wrap", "changed", &[1, 9, 0, 7, 7, 7])
}

/// All requests and replies of an [`Access`]. Their types are private to their crate, so their outer parts are encoded
/// by hand.
fn messages() -> Done {
    let (id, number) = (cbor(ChunkId([9; 32])), cbor(77u64));
    let ids = array(&[id.clone(), id.clone()]);
    let bytes = cbor_bytes(b"any bytes");
    let slot = Slot { id: SlotId([1; 16]), bytes: vec![2; 40] };
    let seen = Seen { incarnation: Incarnation([3; 16]), log_len: 5, log_head: Hash([4; 32]) };
    let object = SnapshotObject { id: SnapshotId([5; 32]), log_seq: 6, received: support::time(7), bytes: vec![8; 9] };
    let init = InitRequest { config: vec![1; 20], roster: vec![2; 20], slots: vec![slot.clone()] };
    let open = OpenRequest { client: Some(ClientId([6; 16])), seen: Some(seen) };
    let opened = Opened {
        config: vec![1; 20],
        roster: vec![2; 20],
        slots: vec![slot.clone()],
        now: seen,
        head_at_seen: Some(Hash([4; 32])),
        lease: Lease { session: 1, generation: 2 },
        lost: Lost::Ids(vec![ChunkId([9; 32])]),
        chunks: 3,
        last: Some(LastSnapshot { id: SnapshotId([5; 32]), sequence: 1 }),
        snapshots: vec![object.clone()],
        protect_secs: 5,
        time: support::time(6),
        standing: Some(Standing::Active),
        room: Some(Room { limit: 9, used: 8 }),
        seal_keys: vec![],
    };
    let receipt = Receipt { snapshot: SnapshotId([5; 32]), received: support::time(7), now: seen };
    let read = ReadRequest { ids: vec![ChunkId([9; 32])], neighbour_bytes: 5, avoid: vec![] };
    let lease = Lease { session: 1, generation: 2 };
    let limits = PruneLimits::default();
    let (prune, log_len, dry_run, is_confirmed, hold) = (1, 2, true, true, false);
    let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run, is_confirmed, hold };
    put("message", "condemn", &array(&[cbor(18u32), cbor(condemn)]))?;
    put("message", "head", &map(&[cbor("alice"), cbor("main"), cbor(18u32)]))?;
    put("prune", "filter", &encode_filter(&mut [1 << 60, 7, 9 << 50]))?;
    let mut frames = FrameBits::none(20);
    frames.set(17);
    let packs = vec![CondemnedPack { pack: PackId([1; 32]), frames }];
    let lost = Lost::Ids(vec![ChunkId([9; 32])]);
    put("prune", "condemned", &CondemnedSet { generation: 3, packs, lost }.encode())?;
    let forget =
        ForgetRequest { tombstones: vec![SignedTombstone(golden("tombstone-2.hex")?)], now: true, empty_trash: true };
    let asks = [
        vec![cbor_bytes(&[7; 16])],
        vec![cbor(init)],
        vec![cbor(open)],
        vec![cbor(Some(ClientId([1; 16]))), ids.clone()],
        vec![id.clone(), number.clone(), cbor(lease)],
        vec![cbor(read)],
        vec![ids.clone()],
        vec![cbor(lease), bytes.clone()],
        vec![number.clone(), cbor(8u32)],
        vec![number.clone(), cbor(8u32)],
        vec![number.clone(), cbor(8u32)],
        vec![bytes.clone()],
        vec![cbor(&slot)],
        vec![cbor(SlotId([1; 16]))],
        vec![id.clone(), cbor(8u32)],
        vec![id.clone()],
        vec![cbor(forget)],
        vec![ids.clone()],
        vec![cbor(PruneRequest::Live {
            prune: 1,
            filters: vec![Filter { first: 2, bytes: encode_filter(&mut [1 << 60, 7]) }],
        })],
    ];
    let ask = |name: &str, number: usize, fields: Vec<Vec<u8>>| {
        let ask = array(&[vec![cbor(number)], fields].concat());
        put("message", &format!("ask-{name}"), &ask)
    };
    for (at, fields) in asks.into_iter().enumerate() {
        ask(&at.to_string(), at, fields)?;
    }
    ask("mend", 20, vec![id.clone()])?;
    ask("places", 21, vec![ids.clone()])?;
    let pack = PackId([1; 32]);
    let mut some = FrameBits::none(20);
    (3..13).for_each(|n| some.set(n));
    let repairs = [
        RepairRequest::Verify { pack, dry_run: true },
        RepairRequest::Quarantine { after: None },
        RepairRequest::Quarantine { after: Some(pack) },
        RepairRequest::Drop { pack, keep: Keep::Whole },
        RepairRequest::Drop { pack, keep: Keep::Opened(some.clone()) },
    ];
    for (at, request) in repairs.into_iter().enumerate() {
        ask(&format!("repair-{at}"), 22, vec![cbor(request)])?;
    }
    let prunes = [
        PruneRequest::Begin { dry_run: true, ends_pushes: false },
        PruneRequest::Sweep,
        PruneRequest::Abort,
        PruneRequest::Committed { from: 7 },
        PruneRequest::Mixed { prune: 1, limits, bytes: 64 << 20 },
        PruneRequest::Moved { prune: 1, frames: vec![MovedFrame { pack, frame: 3, chunks: some.clone() }] },
    ];
    for (at, request) in prunes.into_iter().enumerate() {
        ask(&format!("prune-{at}"), 18, vec![cbor(request)])?;
    }
    let head = array(&[id.clone(), cbor(1u32), cbor(80u32)]);
    let error = array(&[cbor(9u32), cbor("a pack"), cbor(ClientId([6; 16]))]);
    let replies = [
        vec![error],
        vec![],
        vec![cbor(opened)],
        vec![bytes.clone()],
        vec![number.clone()],
        vec![array(&[head]), cbor(1u32), ids],
        vec![array(&[cbor(&keys().wrap)])],
        vec![cbor(receipt)],
        vec![array(&[cbor(object)])],
        vec![array(&[bytes.clone(), bytes])],
        vec![number.clone()],
        vec![array(&[cbor(PackInfo { id: PackId([1; 32]), len: 5, is_suspect: true, judged: Judged::Refused })])],
        vec![number.clone()],
        vec![cbor(ForgetReply { forgotten: 1, expired: vec![SnapshotId([5; 32])] })],
        vec![cbor(PruneReply::Swept(Swept::default()))],
    ];
    for (at, fields) in replies.into_iter().enumerate() {
        let reply = if fields.is_empty() { cbor(at) } else { array(&[vec![cbor(at)], fields].concat()) };
        put("message", &format!("reply-{at}"), &reply)?;
    }
    let reply = |name: &str, number: usize, fields: Vec<Vec<u8>>| {
        put("message", &format!("reply-{name}"), &array(&[vec![cbor(number)], fields].concat()))
    };
    reply("joined", 23, vec![cbor(31u32)])?;
    reply("places", 21, vec![array(&[number.clone(), number.clone()])])?;
    let spans = vec![Span { start: 0, end: 65_536 }, Span { start: 131_072, end: 131_073 }];
    for (at, mending) in
        [Mending::Whole, Mending::Mended(3), Mending::Lost(spans.clone()), Mending::NoParity].into_iter().enumerate()
    {
        reply(&format!("mended-{at}"), 20, vec![cbor(&mending)])?;
        reply(&format!("verified-{at}"), 22, vec![cbor(RepairReply::Verified(mending))])?;
    }
    let hurt = vec![
        Quarantined { pack, frames: DamagedFrames::Frames(some.clone()) },
        Quarantined { pack: PackId([2; 32]), frames: DamagedFrames::All },
    ];
    reply("quarantine", 22, vec![cbor(RepairReply::Quarantine(hurt.clone()))])?;
    let dropped = Dropped { is_gone: true, kept: 3, lost: 4 };
    reply("dropped", 22, vec![cbor(RepairReply::Dropped(dropped))])?;
    let (kind, ids) = (ChunkKind::Tree, vec![ChunkId([9; 32]), ChunkId([8; 32])]);
    let stats = PruneStats { packs: 3, bytes: 4, ..PruneStats::default() };
    let prunes = [
        PruneReply::Done,
        PruneReply::Begun { prune: 1, log_len: 2 },
        PruneReply::Grown { log_len: 3 },
        PruneReply::Unconfirmed(stats),
        PruneReply::Condemned(stats),
        PruneReply::Committed(vec![CommittedSnapshot { log_seq: 6, id: SnapshotId([5; 32]), is_due: true }]),
        PruneReply::Mixed(vec![MixedFrame { pack, frame: 3, kind, len: 640 << 10, ids }]),
    ];
    for (at, pruned) in prunes.into_iter().enumerate() {
        reply(&format!("pruned-{at}"), 14, vec![cbor(pruned)])?;
    }
    let (packs, lost) = (vec![pack], Lost::Ids(vec![ChunkId([9; 32])]));
    let events = [
        Event::Condemn { generation: 2, set: Hash([7; 32]) },
        Event::Sweep { packs: packs.clone() },
        Event::Revive { packs: packs.clone() },
        Event::Abort,
        Event::Quarantine { generation: 3, packs: hurt, lost },
        Event::Quarantine { generation: 3, packs: vec![], lost: Lost::Everything },
        Event::Release { packs },
        Event::Gap,
        Event::Verdict { signed: vec![1; 9], generation: Some(4), lost: Lost::Everything },
        Event::Inherit { packs: vec![pack] },
        Event::SealKeys { signed: vec![1; 9] },
    ];
    for (at, event) in events.into_iter().enumerate() {
        let record = LogRecord { seq: at as u64, time: support::time(9), event };
        put("log", &format!("event-{at}"), &cbor(record))?;
    }
    let time = |secs: i64| cbor(support::time(secs));
    let lost = map(&[cbor(pack), cbor(Some(spans)), cbor(2u32), cbor(250u32)]);
    let mut results = vec![time(1), time(2), cbor(Some(pack))];
    results.extend((3..13).map(|at: u64| cbor(at * 1000)));
    results.extend([array(&[lost]), array(&[cbor("log: it is damaged")]), cbor(1u64), time(3)]);
    let settings = map(&[cbor(5u8)]);
    let kept = |parts_of: [&[u8]; 2], results: &[u8]| [parts(parts_of), results.to_vec()].concat();
    put("kept", "both", &[&[7][..], &kept([&settings, &settings], &map(&results))].concat())?;
    // A scrub that was stopped and is resumed.
    results[1] = cbor(None::<u8>);
    put("kept", "stopped", &[&[15][..], &kept([&settings, &map(&[cbor(0u8)])], &map(&results))].concat())?;
    (3..13).for_each(|at| results[at] = cbor(u64::MAX));
    results[15] = cbor(u64::MAX);
    put("kept", "full", &[&[15][..], &kept([&settings, b"damaged"], &map(&results))].concat())?;
    put("kept", "other", &[&[4][..], &kept([b"", b"bkfsstst\x02\0"], &map(&results[..3]))].concat())?;
    let errors: [&[Vec<u8>]; 4] =
        [&[cbor("x")], std::slice::from_ref(&id), &[id.clone(), cbor("x")], &[id.clone(), number.clone()]];
    for (at, fields) in [0, 0, 0, 0, 1, 0, 0, 2, 2, 2, 2, 3, 0].into_iter().map(|at| errors[at]).enumerate() {
        let error = array(&[vec![cbor(at)], fields.to_vec()].concat());
        put("message", &format!("error-{at}"), &array(&[cbor(0u32), error]))?;
    }
    Ok(())
}

fn network() -> Done {
    let (hash, name) = (cbor(Hash([7; 32])), cbor("alice"));
    let addresses = || array(&[cbor("nas.example:7443"), cbor("[::1]:1")]);
    put("token", "record", &map(&[addresses(), hash.clone(), name.clone(), cbor_bytes(&[9; 16])]))?;
    for (at, text) in ["bkfs://nas.lan:7443/alice", "bkfs://[::1]:9/alice/work.2", "push, read", "all", "a.b-c_d"]
        .into_iter()
        .chain(["mzxw6ytboi", "77c264b2514ee0dc5e76c175acc75fc7ec162be45e41f52060c2996f141d7bcd"])
        .enumerate()
    {
        put("text", &at.to_string(), text.as_bytes())?;
    }
    put("identity", "new", &Identity::generate()?.encode())?;
    let record = |event: &[Vec<u8>]| array(&[cbor(1_763_000_000i64), array(event)]);
    let log = [
        record(&[cbor(0u32), cbor(1u32), addresses(), cbor(0u64)]),
        record(&[cbor(1u32), hash.clone(), name.clone(), cbor(3u32), cbor(1i64)]),
        record(&[cbor(2u32), hash.clone(), hash, name.clone(), cbor(3u32)]),
        record(&[cbor(3u32), name, cbor(5u64)]),
        record(&[cbor(4u32), addresses()]),
    ];
    put("server_log", "parts", &parts(log.iter().map(Vec::as_slice)))
}

/// Programs: the first byte has options, each step begins with its number.
fn sessions() -> Done {
    const FLOOR: u8 = 3;
    const PARITY: u8 = 4;
    // The owner's client pushes f1 and f2; a stranger's client pushes f1 with the same contents, and f3.
    let owner: &[u8] = &[0, 0, 1, 0x09, 0x12];
    let stranger: &[u8] = &[0, 2, 1, 0x09, 0x23];
    let prune: &[u8] = &[13, 4];
    let program =
        |name: &str, options: u8, steps: &[&[u8]]| put("session", name, &[&[options][..], &steps.concat()].concat());
    program("honest", 0, &[owner, stranger, prune])?;
    program("parity", PARITY, &[owner, stranger, &[19, 4], prune])?;
    // Both tree and data are forged, before and after the honest push; the owner checks, repairs and prunes.
    program("forged", 0, &[owner, &[5, 0, 0x30, 0, 0], &[5, 0, 0x30, 1, 0], stranger, &[15, 1], stranger, prune])?;
    program("forged-before", 0, &[&[5, 0x10, 0xf2, 0, 0], &[0, 2, 1, 0x09, 0x1a], &[15, 1], owner, prune, &[16, 1]])?;
    program("rubbish-key", 0, &[owner, &[5, 3, 0x30, 0, 0], &[5, 0x13, 0x30, 0, 0], owner, &[15, 1], prune])?;
    program("not-sealed", 0, &[owner, &[5, 0x28, 0x30, 1, 0], stranger, &[15, 1], &[16, 1], prune])?;
    program("stolen", 0, &[owner, &[8, 3, 0, 0, 0, 0], &[8, 7, 1, 0, 0, 0], &[15, 1], stranger, prune])?;
    // The thief commits under an honest client's lease, between its requests, and the owner prunes before it commits.
    let commit: &[u8] = &[9, 0, 0, 2, 0, 0];
    program("between", 0, &[owner, &[0, 1, 5, 0x1c, 0x25, 0b11_1000], commit, &[13, 4 + 16 + 32], prune])?;
    program("cut-off", 0, &[&[0, 0, 0x49, 0x09, 0x12], &[14, 4, 9], &[0, 0, 0x79, 0x1b, 0x24], owner, prune])?;
    program("blocked", 0, &[owner, commit, prune, &[13, 4 + 16], stranger, &[13, 4 + 8]])?;
    program("false-head", 0, &[owner, &[9, 0xc4, 1, 0, 0, 0], &[9, 0x4d, 9, 0, 0, 0], &[15, 0], stranger])?;
    program("floor", FLOOR, &[owner, &[11, 0, 0], &[17, 7], &[19, 0], &[12, 0], &[18, 1], &[11, 1, 0], prune])?;
    program("forgotten", 0, &[owner, owner, &[11, 1, 0], &[14, 6, 4], &[18, 1], stranger, &[19, 1], prune])?;
    program("clock", FLOOR, &[owner, &[17, 10], stranger, &[17, 11], &[11, 2, 0], &[17, 129], &[13, 6]])?;
    program("lies", 0, &[owner, &[10, 0, 0, 0x30, 0], &[10, 1, 0, 0x30, 0], &[10, 5, 2, 0x30, 1], stranger, prune])?;
    let calls = [
        Call::Has(None, vec![ChunkId([9; 32])]),
        Call::Open(OpenRequest::default(), None),
        Call::Prove(None, vec![Challenge { id: ChunkId([9; 32]), at: 5 }]),
        Call::PutPack(PackId([1; 32]), 4, Lease { session: 1, generation: 1 }),
        Call::Commit(Lease { session: 1, generation: 1 }, golden("stored-snapshot-1.hex")?),
        Call::PutRoster(golden("roster-2.hex")?),
        Call::WaitLog(1, 1),
    ];
    for (at, call) in calls.iter().enumerate() {
        let call = [&[4][..], &parts([&cbor(call)[..]])].concat();
        program(&format!("call-{at}"), 0, &[owner, &call, stranger])?;
    }
    Ok(())
}

fn main() -> Done {
    sessions()?;
    frames()?;
    packs()?;
    trees()?;
    records()?;
    credentials()?;
    messages()?;
    remembered()?;
    network()
}

/// What a reader remembers of three snapshots, as far as it does not differ from run to run.
fn remembered() -> Done {
    let repaired = u64::MAX.to_le_bytes();
    let (rotations, none) = ([1u64.to_le_bytes(), 2u64.to_le_bytes()].concat(), 0u64.to_le_bytes());
    let time = [&5i64.to_le_bytes()[..], &7u32.to_le_bytes()].concat();
    let commit = |n: u8| {
        let ids = [&[n; 32][..], &keys().push.client_id().0, &keys().ids.target_tag("home").0].concat();
        let (sequence, seq) = (u64::from(n).to_le_bytes(), u64::from(n).to_le_bytes());
        [&ids[..], &sequence, &seq, &time, &[n % 5], &time, &seq, &none].concat()
    };
    let commits = |count: u8| {
        let list: Vec<u8> = (0..count).flat_map(commit).collect();
        [&u64::from(count).to_le_bytes()[..], &list].concat()
    };
    let log = [&repaired[..], &rotations, &commits(3)].concat();
    let record = cbor(support::snapshot(2, Some(SnapshotId([1; 32]))));
    let row = |n: u8| {
        let ids = [&[n; 32][..], &keys().push.client_id().0, &keys().ids.target_tag("home").0].concat();
        let chain = [&2u64.to_le_bytes()[..], &[1], &[1; 32], &3u64.to_le_bytes(), &[0x88; 32]].concat();
        [&ids[..], &chain, &1u32.to_le_bytes(), &(record.len() as u32).to_le_bytes()].concat()
    };
    let table = [&2u64.to_le_bytes()[..], &row(1), &row(2)].concat();
    let block = record.repeat(2);
    for (name, kind) in [("sealed", 3u8), ("without-chain", 1), ("outside", 2)] {
        put("remembered", name, &[&[kind][..], &parts([&log[..], &table, &block])].concat())?;
    }
    let empty = [&repaired[..], &none, &none].concat();
    put("remembered", "no-commits", &[&[3][..], &parts([&empty[..], &[], &[]])].concat())
}
