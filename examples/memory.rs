//! A repository in memory, used through the crates: create it, push with a key that cannot read, and read with one that
//! can. The same code works with a folder (`Repository::local`) or, with `bkfs-transport`, with a server: all of them
//! implement `Access`.
//!
//! ```text
//! cargo run --example memory
//! ```

use std::{error::Error, fs, sync::Arc};

use bkfs_fs::push::{Progress, PushOptions, push};
use bkfs_store::{
    access::{Access, InitRequest, OpenRequest},
    config::ChunkerParams,
    crypto::random,
    id::RepoId,
    keys::{FullKey, verify_config},
    reader::Reader,
    repository::Repository,
    roster::Roster,
    tree::Time,
};

fn main() -> Result<(), Box<dyn Error>> {
    // Something to back up.
    let dir = tempfile::tempdir()?;
    let source = dir.path().join("source");
    fs::create_dir_all(source.join("letters"))?;
    fs::write(source.join("letters/to-anna.txt"), "Dear Anna,\n")?;
    fs::write(source.join("numbers.bin"), vec![7; 3 << 20])?;

    // The owner creates the repository and its first client. The store never sees the full key.
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

    // The laptop pushes twice. Its key can do nothing else.
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
        let report = push(&access, &opened, &config, &laptop, &cache, &options, &Arc::new(Progress::default()))?;
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
