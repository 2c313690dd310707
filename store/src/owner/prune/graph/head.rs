//! The small file that says which blocks belong to the memory of earlier marks. It is sealed by a key that only a holder of the
//! full key has: whoever could change what a page is said to name could make a prune take what is needed.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use minicbor::{Decode, Encode};

use super::{super::blocks::List, WHAT, damaged, names::TableList};
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
    /// Number of the file of entries.
    #[n(0)]
    pub entries_file: u64,
    /// Number of the file of names.
    #[n(1)]
    pub names_file: u64,
    /// How many entries there are.
    #[n(2)]
    pub count: u64,
    /// The blocks of entries.
    #[n(3)]
    pub entries: List,
    /// The number of the first entry of each block, eight bytes each.
    #[cbor(n(4), with = "minicbor::bytes")]
    pub firsts: Vec<u8>,
    /// The blocks of names.
    #[n(5)]
    pub names: TableList,
}

impl Head {
    /// Raised whenever a page can name more than this program knows of: then what is remembered is not enough.
    const HEADER: Header = Header { what: WHAT, magic: *b"bkfsmark", version: 1 };

    /// The head in a folder; none if there is none.
    pub fn read(folder: &Path, key: &Secret) -> Result<Option<Self>> {
        let path = folder.join(NAME);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, error)),
        };
        let (sealed, tag) = bytes.split_last_chunk::<TAG>().ok_or_else(|| damaged(&path, "it is cut off"))?;
        // The comparison of blake3's hashes takes the same time whatever they are.
        if blake3::keyed_hash(&key.0, sealed) != blake3::Hash::from_bytes(*tag) {
            return Err(damaged(&path, "it was not written with this key"));
        }
        Self::HEADER.decode(sealed).map(Some)
    }

    /// Puts the head into a folder, in place of another.
    pub fn write(&self, folder: &Path, key: &Secret) -> Result<()> {
        let mut bytes = Self::HEADER.encode(self);
        let tag = blake3::keyed_hash(&key.0, &bytes);
        bytes.extend_from_slice(tag.as_bytes());
        let (path, temporary) = (folder.join(NAME), folder.join(".head"));
        let write = || {
            let mut options = fs::File::options();
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?.write_all(&bytes)?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|e| Error::io(&path, e))
    }

    /// Where the file of entries of this number lies.
    pub fn entries_path(folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{number:016x}.entries"))
    }

    /// Where the file of names of this number lies.
    pub fn names_path(folder: &Path, number: u64) -> PathBuf {
        folder.join(format!("{number:016x}.names"))
    }
}
