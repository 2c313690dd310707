//! A thief with a stolen push key. The thief speaks to the store through the same traits as an honest client, and
//! uploads packs that an honest client would never make.

use std::{path::Path, sync::Arc};

use bkfs_store::{
    access::{Access, OpenRequest},
    base::id::{ChunkId, PackId},
    crypto::{DataKey, random},
    format::{
        frame::{ChunkKind, FrameBuilder},
        keys::{KeyFile, PushKey},
        pack::{Pack, PackWriter},
    },
    repository::Repository,
};
use bkfs_transport::{
    Identity, Token,
    client::{Joined, Remote, join},
};

use crate::common::program::Person;

/// What is inside the frames of a forged pack.
#[derive(Debug, Clone, Copy)]
pub enum Rubbish {
    /// Frames that open, and hold something else.
    Sealed,
    /// Bytes that do not open.
    Noise,
}

/// Somebody who has the push key of a client.
pub struct Thief {
    access: Arc<dyn Access>,
    key: PushKey,
}

impl Thief {
    /// Returns a thief who can write to the folder of a repository.
    pub fn at_folder(person: &Person, key_file: &Path) -> Self {
        let repository = Repository::local(Path::new(&person.repo), &person.path("thief-index")).unwrap();
        Self { access: Arc::new(repository), key: read(key_file) }
    }

    /// Returns a thief who has also joined the server.
    pub fn at_server(token: &str, key_file: &Path) -> Self {
        let (token, identity) = (Token::parse(token).unwrap(), Identity::generate().unwrap());
        let Joined { url, .. } = join(&token, &identity).unwrap();
        let remote = Remote::connect(&url, &identity, token.fingerprint).unwrap();
        Self { access: Arc::new(remote), key: read(key_file) }
    }

    /// Returns the id that contents have, if they are one chunk: a push key is enough to compute it.
    pub fn id_of(&self, contents: &[u8]) -> ChunkId {
        self.key.ids().data_id(contents)
    }

    /// Uploads a pack whose table claims `ids` and whose frames hold rubbish. Returns the pack.
    pub fn forge(&self, kind: ChunkKind, ids: &[ChunkId], rubbish: Rubbish) -> PackId {
        let key = DataKey::random();
        let mut writer = PackWriter::new(kind, self.key.repo, &self.key.signing);
        writer.add_wrap(&self.key.seal().unwrap().wrap(self.key.repo, &key));
        for ids in ids.chunks(100) {
            let mut frame = FrameBuilder::new();
            ids.iter().for_each(|_| frame.push(&random::<16>()));
            let mut sealed = frame.seal(self.key.repo, kind, &key, 1);
            if matches!(rubbish, Rubbish::Noise) {
                let last = sealed.len() - 20;
                sealed[last] ^= 1;
            }
            writer.add(&sealed, ids);
        }
        let upload = writer.finish();
        let opened = self.access.open(&OpenRequest { client: Some(self.key.client_id()), seen: None }).unwrap();
        self.access.put_pack(opened.lease, &upload).unwrap();
        upload.id
    }
}

fn read(key_file: &Path) -> PushKey {
    KeyFile::decode(&std::fs::read(key_file).unwrap()).unwrap().push().clone()
}

/// The chunks of all packs in the folder of a repository, by kind, with only the first sixteen bytes of their ids: as
/// much as the known-set in a stolen cache tells. The other bytes are made up.
pub fn known_prefixes(repo: &Path, kind: ChunkKind) -> Vec<ChunkId> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(repo.join("packs")).unwrap() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap().into();
            let pack = Pack::parse(&bytes).unwrap();
            let ids = pack.table.frames.iter().flat_map(|frame| &frame.ids).filter(|_| pack.table.kind == kind);
            found.extend(ids.map(|id| {
                let mut known: [u8; 32] = random();
                known[..16].copy_from_slice(&id.0[..16]);
                ChunkId(known)
            }));
        }
    }
    found
}
