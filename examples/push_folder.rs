//! Pushes a folder into a local repository, which is made first if it is not there yet.
//!
//! ```text
//! cargo run --example push_folder [-- FOLDER [REPOSITORY]]      default: docs, into target/example
//! ```
//!
//! The owner's key goes to `REPOSITORY.key`. The example `read_snapshot` reads back with it what this one pushed. Run
//! this one again to see that only changes are stored.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bkfs_fs::push::{OpenedRepository, Push, PushOptions};
use bkfs_store::{
    access::{InitRequest, Manage, Open, OpenRequest},
    base::{
        id::{DomainId, RepoId},
        time::Time,
    },
    crypto::random,
    format::{
        config::{ChunkerParams, verify_config},
        keys::{FullKey, KeyFile},
        roster::Roster,
    },
    repository::{self, Repository},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args_os().skip(1).map(PathBuf::from);
    let folder = args.next().unwrap_or_else(|| "docs".into());
    let place = args.next().unwrap_or_else(|| "target/example".into());

    // The store: packs, snapshots and the log lie in `place`, an index that can be rebuilt beside it.
    let store = Arc::new(Repository::local(&place, &place.with_extension("index"))?);
    let key_path = place.with_extension("key");
    if !repository::exists(&place)? {
        fs::write(&key_path, init(&store)?.encode())?;
    }
    let key = KeyFile::decode(&fs::read(&key_path)?)?;
    // A push key is all that a push needs: it cannot read anything back.
    let push_key = key.push();

    let opened = store.open(&OpenRequest { client: Some(push_key.client_id()), seen: None })?;
    let config = verify_config(&opened.config)?;
    let options = PushOptions {
        target: "example".into(),
        base: Some(folder),
        paths: vec![".".into()],
        host: "laptop".into(),
        program: "push_folder".into(),
        ..PushOptions::default()
    };
    let repository = OpenedRepository { access: store, opened: &opened, config: &config, key: push_key };
    let report = Push::new(repository, &cache_of(&place), &options).run()?;

    for (path, error) in &report.problems {
        println!("not stored: {}: {error}", path.display());
    }
    println!(
        "{} files of {} bytes, {} of them unchanged; {} bytes stored",
        report.totals.files, report.totals.bytes, report.stats.files_unchanged, report.stats.bytes_stored
    );
    Ok(())
}

/// Makes the repository, with this machine as its only client. The store sees the full key's signatures, never the key.
fn init(store: &Repository) -> Result<KeyFile, Box<dyn Error>> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let now = Time { secs: i64::try_from(since.as_secs())?, nanos: since.subsec_nanos() };
    let full = FullKey::random(RepoId(random()));
    let (push, entry) = full.new_client("laptop", None, DomainId::OWNER, now);
    let roster = Roster { repo: full.repo, number: 1, clients: vec![entry] };
    let config = full.config(now, ChunkerParams::default());
    store.init(&InitRequest { config, roster: full.sign_roster(&roster), slots: vec![] })?;
    Ok(KeyFile::Full { full, push })
}

/// What this machine remembers of its pushes.
fn cache_of(place: &Path) -> PathBuf {
    place.with_extension("cache")
}
