//! bkfs at rest: a repository of encrypted, deduplicated snapshots, from its bytes on disk to reading a file with a
//! key.
//!
//! This crate does not use the network, FUSE, a terminal, the home directory or the environment.
//!
//! # The map
//!
//! The crate has six rooms, from the bottom up. Each uses only rooms listed before it, except that [`repository`] and
//! [`owner`] never use each other.
//!
//! | room | what is in it | keys |
//! |---|---|---|
//! | [`base`] | ids, errors, time, the encoding of records | |
//! | [`crypto`] | AEAD, signatures, sealing to a public key, signed envelopes; no formats | as arguments |
//! | [`format`](mod@format) | the formats: frames, packs, trees, snapshots, the log, keys; pure functions over bytes, no I/O | as arguments |
//! | [`access`] | **the seam**: the traits through which a store is used, and their requests and replies | never |
//! | [`repository`] | below the seam: a repository's store with its index; commit, prune, scrub, repair | never |
//! | [`owner`] | above the seam: what the holder of a full key does; read, check, retention, prune, repair | full key |
//!
//! Only ciphertext passes the seam. So a store can be a folder, memory, or a server that cannot read what it stores.
//! `docs/FORMAT.md` describes every byte that this crate writes.
//!
//! # Example
//!
//! A repository in memory. A client with a push key stores a file and commits a snapshot; the owner reads it back.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bkfs_store::{
//!     access::{Access, InitRequest, OpenRequest},
//!     base::{
//!         id::{DomainId, RepoId},
//!         time::Time,
//!     },
//!     crypto::{DataKey, random},
//!     format::{
//!         compress::LEVEL_DEFAULT,
//!         config::{ChunkerParams, verify_config},
//!         frame::{ChunkKind, FrameBuilder},
//!         keys::FullKey,
//!         pack::PackWriter,
//!         roster::Roster,
//!         snapshot::{self, PathBytes, PushStats, Snapshot},
//!         tree::{Content, Extent, Node, NodeKind, TreeBuilder},
//!     },
//!     owner::reader::Reader,
//!     repository::Repository,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The owner creates the repository and enrols a client. The full key stays with the owner.
//! let now = Time { secs: 1_800_000_000, nanos: 0 };
//! let full = FullKey::random(RepoId(random()));
//! let (push, client) = full.new_client("laptop", None, DomainId::OWNER, now);
//! let roster = Roster { repo: full.repo, number: 1, clients: vec![client] };
//! let access: Arc<dyn Access> = Arc::new(Repository::memory()?);
//! access.init(&InitRequest {
//!     config: full.config(now, ChunkerParams::default()),
//!     roster: full.sign_roster(&roster),
//!     slots: vec![],
//! })?;
//!
//! // The client opens it. Every push has a data key of its own, sealed to the owner's public key as a wrap.
//! let opened = access.open(&OpenRequest { client: Some(push.client_id()), seen: None })?;
//! let (ids, key) = (push.ids(), DataKey::random());
//! let wrap = push.seal()?.wrap(push.repo, &key);
//!
//! // A file of one chunk, and the tree of a folder with that file.
//! let text = b"Dear Anna,\n".to_vec();
//! let chunk = ids.data_id(&text);
//! let file = Node {
//!     size: text.len() as u64,
//!     content: Some(Content::Extents(vec![Extent::Data { id: chunk, len: text.len() as u32 }])),
//!     ..Node::new("letter.txt", NodeKind::File)
//! };
//! let mut pages = Vec::new();
//! let mut tree = TreeBuilder::new(&ids);
//! tree.add(&file, &mut |id, page| pages.push((id, page)))?;
//! let subtree = tree.finish(&mut |id, page| pages.push((id, page)))?;
//! let root = Node { subtree: Some(subtree), ..Node::new("", NodeKind::Directory) };
//!
//! // Chunks of data and pages of trees go into different packs. Each pack has one frame here.
//! for (kind, chunks) in [(ChunkKind::Data, vec![(chunk, text)]), (ChunkKind::Tree, pages)] {
//!     let mut frame = FrameBuilder::new();
//!     chunks.iter().for_each(|(_, bytes)| frame.push(bytes));
//!     let ids: Vec<_> = chunks.iter().map(|(id, _)| *id).collect();
//!     let mut pack = PackWriter::new(kind, push.repo, &push.signing);
//!     pack.add_wrap(&wrap);
//!     pack.add(&frame.seal(push.repo, kind, &key, LEVEL_DEFAULT), &ids);
//!     access.put_pack(opened.lease, &pack.finish())?;
//! }
//!
//! // Everything that the snapshot needs is durable: commit it.
//! let snapshot = Snapshot {
//!     time: now,
//!     host: "laptop".into(),
//!     user: "me".into(),
//!     target: "letters".into(),
//!     paths: vec![PathBytes(b"/home/me/letters".to_vec())],
//!     tags: vec![],
//!     root,
//!     stats: PushStats::default(),
//!     program: "an example".into(),
//!     sequence: 1,
//!     previous: None,
//!     log_len: opened.now.log_len,
//!     log_head: opened.now.log_head,
//! };
//! access.commit(opened.lease, &snapshot::seal(&snapshot, &push, &ids, &key, &wrap))?;
//!
//! // The owner reads it back, with a cache of 1 MiB.
//! let config = verify_config(&access.open(&OpenRequest::default())?.config)?;
//! let reader = Reader::new(access, full, &config, 1 << 20);
//! let info = reader.snapshots()?.pop().expect("it was committed");
//! let file = reader.resolve(&info.snapshot.root, b"letter.txt")?;
//! assert_eq!(reader.file(&file).read_at(0, 100)?, "Dear Anna,\n");
//! # Ok(())
//! # }
//! ```

pub mod access;
pub mod base;
pub mod crypto;
pub mod format;
pub mod owner;
pub mod repository;

pub use base::error::{Error, ErrorKind, Result};
