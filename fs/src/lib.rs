//! bkfs on the local machine: pushing files, and restoring or mounting what was pushed.
//!
//! | module | what it does |
//! |---|---|
//! | [`push`] | makes a snapshot of local files: reads what changed, stores what is new, commits |
//! | [`walk`], [`exclude`] | find the files that a push includes |
//! | [`cache`] | remembers the last push, so that the next one reads and asks only what it must |
//! | [`restore`] | turns a snapshot, or a part of it, into files again |
//! | [`vfs`] | shows snapshots as a read-only file system, without knowing FUSE |
//! | [`mount`] | connects `vfs` to the kernel through FUSE |
//! | [`metadata`], [`userdb`], [`allocator`] | call the system: file attributes, names of owners, the C allocator |
//!
//! This crate knows no network and no terminal. It uses a repository only through [`bkfs_store::access::Access`], so a
//! local folder, memory and a server look alike.
//!
//! # Example
//!
//! A client pushes a folder with a key that cannot read, and the owner of the repository reads it back:
//!
//! ```
//! use std::{fs, sync::Arc};
//!
//! use bkfs_fs::push::{OpenedRepository, Push, PushOptions};
//! use bkfs_store::{
//!     access::{Access, InitRequest, OpenRequest},
//!     base::{
//!         id::{DomainId, RepoId},
//!         time::Time,
//!     },
//!     format::{
//!         config::{ChunkerParams, verify_config},
//!         keys::FullKey,
//!         roster::Roster,
//!     },
//!     owner::reader::Reader,
//!     repository::Repository,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let source = dir.path().join("source");
//! fs::create_dir(&source)?;
//! fs::write(source.join("letter.txt"), "Dear Anna,")?;
//!
//! // The owner creates a repository with one client.
//! let full_key = FullKey::random(RepoId([7; 16]));
//! let (push_key, entry) = full_key.new_client("laptop", None, DomainId::OWNER, Time::default());
//! let roster = full_key.sign_roster(&Roster { repo: full_key.repo, number: 1, clients: vec![entry] });
//! let config = full_key.config(Time::default(), ChunkerParams::default());
//! let access: Arc<dyn Access> = Arc::new(Repository::memory()?);
//! access.init(&InitRequest { config, roster, slots: vec![] })?;
//!
//! // The client pushes.
//! let opened = access.open(&OpenRequest { client: Some(push_key.client_id()), seen: None })?;
//! let config = verify_config(&opened.config)?;
//! let repository = OpenedRepository { access: access.clone(), opened: &opened, config: &config, key: &push_key };
//! let (target, host) = ("letters".to_owned(), "alpha".to_owned());
//! let options = PushOptions { target, host, base: Some(source), paths: vec![".".into()], ..PushOptions::default() };
//! let report = Push::new(repository, &dir.path().join("cache"), &options).run()?;
//! assert_eq!((report.totals.files, report.stats.errors), (1, 0));
//!
//! // The owner reads the newest snapshot.
//! let reader = Reader::new(access, full_key, &config, 16 << 20);
//! let newest = reader.snapshots()?.pop().expect("a snapshot was just pushed");
//! let letter = reader.resolve(&newest.snapshot.root, b"letter.txt")?;
//! assert_eq!(reader.file(&letter).read_at(0, 64)?, "Dear Anna,");
//! # Ok(())
//! # }
//! ```

pub mod allocator;
pub mod cache;
pub mod changes;
pub mod exclude;
pub mod filesystem;
pub mod metadata;
pub mod mount;
mod pool;
pub mod privileges;
pub mod push;
pub mod restore;
pub mod select;
pub mod userdb;
pub mod vfs;
pub mod walk;
pub mod watch;
