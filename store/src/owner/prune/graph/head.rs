//! The head: a small file that lists the blocks of the graph. It is authenticated with a key that only a holder of the
//! full key has. Otherwise, an attacker who changes what a page seems to name could make a prune delete what is needed.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use minicbor::{Decode, Encode};

use super::{
    super::{
        blocks::BlockList,
        damage::{WHAT, damaged},
    },
    names::StoredTable,
};
use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
    },
    crypto::Secret,
};

const NAME: &str = "head";
const TAG: usize = 32;

/// The head's record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(super) struct Head {
    /// The number in the name of the file of entries.
    #[n(0)]
    pub entries_file: u64,
    /// The number in the name of the file of names.
    #[n(1)]
    pub names_file: u64,
    /// The number of entries.
    #[n(2)]
    pub count: u64,
    /// The blocks of entries.
    #[n(3)]
    pub entries: BlockList,
    /// The number of the first entry of each block, eight bytes each.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub firsts: Vec<u8>,
    /// The blocks of names.
    #[n(5)]
    pub names: StoredTable,
}

impl Head {
    /// The version goes up whenever pages can name something new: entries that were written before lack it.
    const HEADER: Header = Header { what: WHAT, magic: *b"bkfsmark", version: 1 };

    /// Reads the head in a folder; none if there is none.
    pub fn read(folder: &Path, key: &Secret) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, error)),
        };
        let (authenticated, tag) = bytes.split_last_chunk::<TAG>().ok_or_else(|| damaged(&path, "it is cut off"))?;
        // Comparing `blake3::Hash` values takes constant time.
        if blake3::keyed_hash(key.bytes(), authenticated) != blake3::Hash::from_bytes(*tag) {
            return Err(damaged(&path, "it was not written with this key"));
        }
        Self::HEADER.decode(authenticated).map(Some)
    }

    /// Writes the head to a folder, in place of the one before.
    pub fn write(&self, folder: &Path, key: &Secret) -> Result<()> {
        let mut bytes = Self::HEADER.encode(self);
        let tag = blake3::keyed_hash(key.bytes(), &bytes);
        bytes.extend_from_slice(tag.as_bytes());
        let (path, temporary) = (folder.join(NAME), folder.join(".head"));
        let write = || {
            let mut options = fs::File::options();
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?.write_all(&bytes)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|e| Error::io(&path, e))
    }

    /// Returns the path of the file of entries with this number.
    pub fn entries_path(folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{number:016x}.entries"))
    }

    /// Returns the path of the file of names with this number.
    pub fn names_path(folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{number:016x}.names"))
    }
}
