//! A repository in memory, used through the crates: made, pushed to with a key that cannot read, and read back with the
//! one that can. The same code works on a folder (`Repository::local`) or, with `bkfs-transport`, on a server: they all
//! are an `Access`.
//!
//! ```text
//! cargo run --example memory
//! ```

use std::{error::Error, fs, sync::Arc};

use bkfs_fs::push::{OpenedRepository, Push, PushOptions};
use bkfs_store::{
    access::{Access, InitRequest, OpenRequest},
    base::{id::RepoId, time::Time},
    crypto::random,
    format::{
        config::{ChunkerParams, verify_config},
        keys::FullKey,
        roster::Roster,
    },
    owner::reader::Reader,
    repository::Repository,
};

fn main() -> Result<(), Box<dyn Error>> {
    // Something to back up.
    let dir = tempfile::tempdir()?;
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("letters"))?;
    fs::write(source.join("letters/to-anna.txt"), "Dear Anna,\n")?;
    fs::write(source.join("numbers.bin"), vec![7; 3 << 20])?;

    // The owner makes the repository, and the first client with it. The store never sees the full key.
    let now = Time { secs: 1_800_000_000, nanos: 0 };
    let full = FullKey::random(RepoId(random()));
    let (laptop, entry) = full.new_client("laptop", None, false, now);
    let roster = Roster { repo: full.repo, number: 1, clients: vec![entry] };
    let access: Arc<dyn Access> = Arc::new(Repository::memory()?);
    access.init(&InitRequest {
        config: full.config(now, ChunkerParams::default()),
        roster: full.sign_roster(&roster),
        slots: vec![],
    })?;

    // The laptop pushes, twice. Its key can do nothing else.
    let options = PushOptions {
        target: "example".into(),
        base: Some(source.clone()),
        paths: vec![".".into()],
        host: "laptop".into(),
        user: "me".into(),
        program: "an example".into(),
        ..PushOptions::default()
    };
    for version in ["first", "second"] {
        let opened = access.open(&OpenRequest { client: Some(laptop.client_id()), seen: None })?;
        let config = verify_config(&opened.config)?;
        let cache = dir.path().join("cache");
        let repository = OpenedRepository { access: access.clone(), opened: &opened, config: &config, key: &laptop };
        let report = Push::new(repository, &cache, &options).run()?;
        println!(
            "{version} push: {} files, {} bytes; {} bytes stored",
            report.totals.files, report.totals.bytes, report.stats.bytes_stored
        );
        fs::write(source.join("letters/to-anna.txt"), "Dear Anna,\nthank you for your letter.\n")?;
    }

    // The owner reads every version.
    let config = verify_config(&access.open(&OpenRequest::default())?.config)?;
    let reader = Reader::new(access, full, &config, 16 << 20);
    for info in reader.snapshots()? {
        let letter = reader.resolve(&info.snapshot.root, b"letters/to-anna.txt")?;
        let file = reader.file(&letter);
        let text = file.read_at(0, usize::try_from(file.len())?)?;
        println!("snapshot {}: {:?}", info.id.short(), String::from_utf8_lossy(&text));
    }
    Ok(())
}
