//! The material for the stages. It is made from a seed, so that every run measures the same bytes.

use std::{fs, path::Path, sync::Arc};

use bkfs_fs::push::{OpenedRepository, Push, PushOptions};
use bkfs_store::{
    access::{Access, InitRequest, OpenRequest},
    base::{
        id::{DomainId, RepoId},
        time::Time,
    },
    crypto::random,
    format::{
        config::{ChunkerParams, Config, verify_config},
        keys::{FullKey, PushKey},
        roster::Roster,
    },
};

/// Returns bytes that nothing can compress.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Returns text of made-up words, some of them more frequent than others. It compresses about as well as source code.
pub fn text(len: usize, seed: u64) -> Vec<u8> {
    let dice = noise(len * 2, seed);
    let words: Vec<String> = (0..4096u64)
        .map(|n| {
            let letters = noise(12, n);
            let size = 2 + letters[11] as usize % 8;
            letters[..size].iter().map(|b| char::from(b'a' + b % 26)).collect()
        })
        .collect();
    let mut text = Vec::with_capacity(len + 16);
    for pair in dice.as_chunks::<2>().0 {
        let x = f64::from(u16::from_le_bytes(*pair)) / 65536.0;
        text.extend_from_slice(words[(4096.0_f64.powf(x) - 1.0) as usize].as_bytes());
        text.push(if pair[0] % 9 == 0 { b'\n' } else { b' ' });
        if text.len() >= len {
            break;
        }
    }
    text.truncate(len);
    text
}

/// Creates a tree of 100 folders with 40 small files each, and one file of 64 MB that does not compress.
pub fn tree(folder: &Path) {
    let text = text(1 << 20, 7);
    for dir in 0..100usize {
        let place = folder.join(format!("folder-{dir:03}"));
        fs::create_dir_all(&place).unwrap();
        for file in 0..40usize {
            let from = (dir * 7919 + file * 104_729) % (text.len() - 20_000);
            let len = 500 + (file * 1237 + dir * 31) % 15_000;
            fs::write(place.join(format!("file-{file:02}.txt")), &text[from..from + len]).unwrap();
        }
    }
    fs::write(folder.join("large"), noise(64 << 20, 9)).unwrap();
}

/// The keys of a repository's owner and of a client that pushes to it.
pub struct Owner {
    pub full: FullKey,
    pub push: PushKey,
    pub config: Config,
}

/// Creates a repository.
pub fn owner(access: &dyn Access) -> Owner {
    let now = Time { secs: 1_700_000_000, nanos: 0 };
    let full = FullKey::random(RepoId(random()));
    let (push, entry) = full.new_client("bench", None, DomainId::OWNER, now);
    let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients: vec![entry] });
    let config = full.config(now, ChunkerParams::default());
    access.init(&InitRequest { config: config.clone(), roster, slots: vec![] }).unwrap();
    Owner { config: verify_config(&config).unwrap(), full, push }
}

/// Pushes a folder.
pub fn push_folder(access: &Arc<dyn Access>, owner: &Owner, source: &Path, cache: &Path) {
    let seen = bkfs_fs::push::last_seen(cache, owner.full.repo, owner.push.client_id());
    let opened = access.open(&OpenRequest { client: Some(owner.push.client_id()), seen }).unwrap();
    let options = PushOptions {
        target: "bench".into(),
        base: Some(source.to_owned()),
        paths: vec![".".into()],
        host: "bench".into(),
        ..PushOptions::default()
    };
    let repository =
        OpenedRepository { access: access.clone(), opened: &opened, config: &owner.config, key: &owner.push };
    Push::new(repository, cache, &options).run().unwrap();
}
