//! Which copy of a chunk is read, and who may rely on it: compared with a simple model, across verdicts, prunes and new
//! indexes. Some packs hold rubbish under the ids of others' chunks.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, sync::Arc};

use bkfs_store::{
    access::*,
    base::{id::*, time::Time},
    crypto::DataKey,
    format::{
        filter::{encode_filter, filter_key},
        frame::{ChunkKind, FrameBuilder},
        keys::{FullKey, PushKey},
        loss::FrameBits,
        pack::PackWriter,
        roster::Roster,
        verdict::{Refused, Verdict},
    },
    owner::reader::Reader,
    repository::Repository,
};
use proptest::prelude::*;
use support::full_key;

/// The domain of each client: two of the owner, two strangers, two of a group.
const DOMAINS: [u8; 6] = [0, 0, 1, 2, 3, 3];
const CHUNKS: u8 = 6;

#[derive(Debug, Clone)]
enum Step {
    /// A client puts a pack with these chunks: each in a frame of its own.
    Put {
        client: usize,
        chunks: Vec<u8>,
        is_forged: bool,
    },
    /// A key holder opens one of the packs.
    Judge(prop::sample::Index),
    /// Everything is live, and yet a prune finds something to do.
    Prune,
    Rebuild,
}

fn step() -> impl Strategy<Value = Step> {
    let chunks = prop::sample::subsequence((0..CHUNKS).collect::<Vec<_>>(), 1..=CHUNKS as usize);
    prop_oneof![
        5 => (0..DOMAINS.len(), chunks, any::<bool>())
            .prop_map(|(client, chunks, is_forged)| Step::Put { client, chunks, is_forged }),
        3 => any::<prop::sample::Index>().prop_map(Step::Judge),
        1 => Just(Step::Prune),
        1 => Just(Step::Rebuild),
    ]
}

/// A pack as the model knows it. A prune may write it again, with others; the model does not follow that.
#[derive(Debug, Clone)]
struct Put {
    id: PackId,
    domain: u8,
    chunks: Vec<u8>,
    is_forged: bool,
    is_judged: bool,
}

struct World {
    folder: tempfile::TempDir,
    indexes: u32,
    full: FullKey,
    clients: Vec<PushKey>,
    repo: Option<Arc<Repository>>,
    puts: Vec<Put>,
}

fn contents(chunk: u8) -> Vec<u8> {
    vec![chunk; 100]
}

impl World {
    fn new() -> Self {
        let (full, now) = (full_key(), Time { secs: 1, nanos: 0 });
        let domain = |number: u8| if number == 0 { DomainId::OWNER } else { DomainId([number; 16]) };
        let new = DOMAINS.iter().map(|number| full.new_client("client", None, domain(*number), now));
        let (clients, entries): (Vec<_>, Vec<_>) = new.unzip();
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: entries });
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self { folder, indexes: 0, full, clients, repo: None, puts: vec![] };
        world.rebuild();
        world.repo().init(&InitRequest { config: support::config(), roster, slots: vec![] }).unwrap();
        world
    }

    fn repo(&self) -> &Arc<Repository> {
        self.repo.as_ref().unwrap()
    }

    /// Opens the repository with a new index, in which packs get other numbers.
    fn rebuild(&mut self) {
        self.repo = None;
        self.indexes += 1;
        let index = self.folder.path().join(format!("index-{}", self.indexes));
        let repo = Repository::local(&self.folder.path().join("repo"), &index).unwrap();
        self.repo = Some(Arc::new(repo.with_parity(None)));
    }

    fn id(&self, chunk: u8) -> ChunkId {
        self.full.ids().data_id(&contents(chunk))
    }

    fn put(&mut self, client: usize, chunks: Vec<u8>, is_forged: bool) {
        let (push, key) = (&self.clients[client], DataKey::random());
        let mut writer = PackWriter::new(ChunkKind::Data, push.repo, &push.signing);
        writer.add_wrap(&push.seal().unwrap().wrap(push.repo, &key));
        for chunk in &chunks {
            let mut frame = FrameBuilder::new();
            frame.push(&if is_forged { b"rubbish".to_vec() } else { contents(*chunk) });
            writer.add(&frame.seal(push.repo, ChunkKind::Data, &key, 1), &[self.id(*chunk)]);
        }
        let upload = writer.finish();
        self.repo().put_pack(Lease::default(), &upload).unwrap();
        let domain = DOMAINS[client];
        self.puts.push(Put { id: upload.id, domain, chunks, is_forged, is_judged: false });
    }

    fn judge(&mut self, at: usize) {
        let put = &mut self.puts[at];
        put.is_judged = true;
        let (mut verified, mut refused) = (vec![], vec![]);
        if put.is_forged {
            let mut frames = FrameBits::none(put.chunks.len());
            (0..put.chunks.len() as u32).for_each(|frame| frames.set(frame));
            refused.push(Refused { pack: put.id, frames });
        } else {
            verified.push(put.id);
        }
        let verdict = Verdict { repo: self.full.repo, verified, refused };
        self.repo().judge(&verdict.sign(&self.full)).unwrap();
    }

    fn prune(&mut self) {
        let repo = self.repo();
        let PruneReply::Begun { prune, log_len } =
            repo.prune(&PruneRequest::Begin { dry_run: false, ends_pushes: false }).unwrap()
        else {
            panic!()
        };
        let mut live: BTreeMap<u8, Vec<u64>> = (0..=u8::MAX).map(|first| (first, vec![])).collect();
        for chunk in 0..CHUNKS {
            let id = self.id(chunk);
            live.get_mut(&id.0[0]).unwrap().push(filter_key(&id));
        }
        let filters = live.into_iter().map(|(first, mut keys)| Filter { first, bytes: encode_filter(&mut keys) });
        repo.prune(&PruneRequest::Live { prune, filters: filters.collect() }).unwrap();
        let limits = PruneLimits { unused: Unused::Bytes(0), repack_bytes: None };
        let condemn = PruneRequest::Condemn { prune, log_len, limits, dry_run: false, is_confirmed: true, hold: false };
        repo.prune(&condemn).unwrap();
        loop {
            let PruneReply::Swept(swept) = repo.prune(&PruneRequest::Sweep).unwrap() else { panic!() };
            if swept.left == 0 {
                return;
            }
        }
    }

    /// Compares the repository with the model. `was_pruned` tells that packs may have been written again.
    fn check(&self, was_pruned: bool) {
        let ids: Vec<ChunkId> = (0..CHUNKS).map(|chunk| self.id(chunk)).collect();
        let holds = |put: &&Put, chunk: u8| put.chunks.contains(&chunk);
        let copies = |chunk: u8| self.puts.iter().filter(move |put| holds(put, chunk));
        let is_refused = |put: &Put| put.is_judged && put.is_forged;
        let is_verified = |put: &Put| put.is_judged && !put.is_forged;
        for (client, domain) in self.clients.iter().zip(DOMAINS) {
            let has = self.repo().has(Some(client.client_id()), &ids).unwrap();
            for chunk in 0..CHUNKS {
                let expected = copies(chunk).any(|put| is_verified(put) || put.domain == domain && !is_refused(put));
                assert_eq!(has[chunk as usize], expected, "chunk {chunk} for domain {domain}: {:?}", self.puts);
            }
        }
        // In the order in which they are read.
        for chunk in (0..CHUNKS).filter(|_| !was_pruned) {
            let is_of_others = |put: &Put| !is_verified(put) && put.domain != 0;
            let best = copies(chunk).min_by_key(|put| (is_refused(put), !is_verified(put), is_of_others(put), put.id));
            let request = ReadRequest { ids: vec![self.id(chunk)], ..ReadRequest::default() };
            let frames = self.repo().read(&request).unwrap().frames;
            assert_eq!(frames.first().map(|frame| frame.pack), best.map(|put| put.id), "chunk {chunk}");
        }
    }

    /// Whatever else is stored, a chunk can be read that was ever put.
    fn read_all(&self) {
        let config = bkfs_store::format::config::verify_config(&support::config()).unwrap();
        let reader = Reader::new(self.repo().clone(), self.full.clone(), &config, 1 << 20);
        for chunk in 0..CHUNKS {
            let is_there = self.puts.iter().any(|put| !put.is_forged && put.chunks.contains(&chunk));
            let read = reader.data(self.id(chunk));
            assert_eq!(read.is_ok(), is_there, "chunk {chunk}: {read:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn copies_are_chosen_as_the_model_says(steps in prop::collection::vec(step(), 1..24)) {
        let (mut world, mut was_pruned) = (World::new(), false);
        for step in steps {
            match step {
                Step::Put { client, chunks, is_forged } => world.put(client, chunks, is_forged),
                Step::Judge(at) if !world.puts.is_empty() => {
                    let at = at.index(world.puts.len());
                    // A copy that a prune has written again is another pack.
                    if !was_pruned {
                        world.judge(at);
                    }
                }
                Step::Judge(_) => {}
                Step::Prune => {
                    world.prune();
                    was_pruned = true;
                }
                Step::Rebuild => world.rebuild(),
            }
            world.check(was_pruned);
        }
        world.read_all();
    }
}
