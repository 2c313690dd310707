//! Lists the snapshots of a local repository, then the folder at the root of the newest one, and prints how its first
//! file begins.
//!
//! ```text
//! cargo run --example read_snapshot [-- REPOSITORY]      default: target/example, as push_folder leaves it
//! ```
//!
//! A [`Reader`] takes any store that implements [`Read`](bkfs_store::access::Read): here a folder, elsewhere a
//! connection to a server. It trusts none of them, and verifies whatever they return.

use std::{env, error::Error, fs, path::PathBuf, sync::Arc};

use bkfs_store::{
    access::{Open, OpenRequest},
    format::{config::verify_config, keys::KeyFile},
    owner::reader::Reader,
    repository::Repository,
};

/// How much plaintext the reader keeps, in bytes.
const CACHE_BYTES: usize = 16 << 20;
/// How much of the file is printed, in bytes.
const PRINTED_BYTES: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let place = env::args_os().nth(1).map_or_else(|| "target/example".into(), PathBuf::from);
    let key = KeyFile::decode(&fs::read(place.with_extension("key"))?)?;
    let full = key.full().ok_or("this key file cannot read: it holds a push key")?.clone();

    let store = Arc::new(Repository::local(&place, &place.with_extension("index"))?);
    let opened = store.open(&OpenRequest::default())?;
    let config = verify_config(&opened.config)?;
    full.check_config(&config)?;
    let reader = Reader::new(store, full, &config, CACHE_BYTES);

    let snapshots = reader.snapshots()?;
    for info in &snapshots {
        let totals = info.snapshot.root.subtree.map(|subtree| subtree.totals).unwrap_or_default();
        println!("snapshot {}: {} files, {} bytes", info.id.short(), totals.files, totals.bytes);
    }
    let newest = snapshots.last().ok_or("there is no snapshot: run push_folder first")?;

    // A snapshot's root is a directory node. Its entries are fetched page by page.
    let root = newest.snapshot.root.subtree.ok_or("the root of a snapshot is a directory")?;
    let entries = reader.dir(&root).read_from(0, usize::MAX)?;
    for node in &entries {
        println!("{:>10}  {}", node.size, String::from_utf8_lossy(&node.name));
    }

    if let Some(node) = entries.iter().find(|node| !node.is_dir() && node.size > 0) {
        let start = reader.file(node).read_at(0, PRINTED_BYTES)?;
        println!("\n{} begins:\n{}", String::from_utf8_lossy(&node.name), String::from_utf8_lossy(&start));
    }
    Ok(())
}
