//! Shared by the fuzz targets: the keys of the store's golden bytes, a parser that cuts the input into parts, the
//! property that most records must have, and [sessions](session).
//!
//! Parts of the store's tests, and modules of `transport` that are private in part, are compiled in by their paths.

pub mod session;

#[allow(missing_docs, clippy::all, reason = "it is part of the tests")]
#[path = "../../store/tests/support/mod.rs"]
pub mod support;

#[allow(dead_code, clippy::all, reason = "it is part of the tests")]
#[path = "../../store/tests/many/client.rs"]
mod client;
#[allow(dead_code, clippy::all, reason = "it is part of the tests")]
#[path = "../../store/tests/many/model.rs"]
mod model;
/// What `client` takes the time from.
mod process {
    pub use crate::session::clock;
}

#[path = "../../transport/src/addresses.rs"]
mod addresses;
#[allow(dead_code, reason = "it is part of transport")]
#[path = "../../transport/src/server/authorization.rs"]
mod authorization;
#[allow(dead_code, reason = "it is part of transport")]
#[path = "../../transport/src/key_proof.rs"]
mod key_proof;
#[allow(dead_code, reason = "it is part of transport")]
#[path = "../../transport/src/message.rs"]
pub mod message;
#[allow(dead_code, reason = "it is part of transport")]
#[path = "../../transport/src/permission.rs"]
pub mod permission;
#[allow(dead_code, reason = "it is part of transport")]
#[path = "../../transport/src/token.rs"]
pub mod token;
#[allow(dead_code, reason = "it is part of transport")]
#[path = "../../transport/src/url.rs"]
pub mod url;
#[allow(dead_code, reason = "it is part of transport")]
#[path = "../../transport/src/wire_error.rs"]
pub mod wire_error;

use std::{
    fmt::Debug,
    sync::{Arc, LazyLock},
};

use bkfs_store::{
    base::codec,
    crypto::{DataKey, Wrap},
    format::{
        keys::{FullKey, IdKeys, PushKey},
        roster::Roster,
    },
    owner::keyring::KeyRing,
};
use minicbor::{Decode, Encode};

/// Fixed keys, and objects that are made with them once.
pub struct Keys {
    /// The owner's key.
    pub full: FullKey,
    /// A client's key.
    pub push: PushKey,
    /// The keys for ids.
    pub ids: IdKeys,
    /// A data key.
    pub data: DataKey,
    /// The wrap of `data`. It differs from run to run.
    pub wrap: Wrap,
    /// A roster with the client of `push`.
    pub roster: Roster,
    /// Opens what is sealed under the keys.
    pub ring: KeyRing,
}

/// Returns the fixed keys.
pub fn keys() -> &'static Keys {
    static KEYS: LazyLock<Keys> = LazyLock::new(|| {
        let (full, push, data) = (support::full_key(), support::push_key(), support::data_key());
        let wrap = full.seal.public().wrap(full.repo, &data);
        let ring = KeyRing::new(full.clone(), Arc::new(support::Wraps(vec![])));
        Keys { ids: full.ids(), full, push, data, wrap, roster: support::roster(), ring }
    });
    &KEYS
}

/// A fuzzer's input. It is read from the front; beyond its end are zeros, or nothing.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Removes up to `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// Removes exactly `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let (mut array, bytes) = ([0; N], self.bytes(N));
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    /// Removes a byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Removes two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Removes four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Removes a length of two bytes, and that many bytes. Returns `None` at the end of the input.
    pub fn part(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let len = self.u16();
        Some(self.bytes(len.into()))
    }
}

/// Asserts that a decoded value encodes to bytes that decode to the same value, and that it has only one encoding.
pub fn encodes_back<T>(value: &T)
where
    T: Encode<()> + for<'b> Decode<'b, ()> + PartialEq + Debug,
{
    let bytes = codec::encode(value);
    let again: T = codec::decode("what was encoded", &bytes).expect("decodes");
    assert_eq!(&again, value);
    assert_eq!(codec::encode(&again), bytes);
}

/// Asserts that a pack's table is within the format's bounds, and that its frames are contiguous up to `end`.
pub fn check_table(table: &bkfs_store::format::pack::PackTable, end: usize) {
    assert!(table.wraps.len() <= 64 && (1..=65_536).contains(&table.frames.len()) && table.chunks() <= 262_144);
    let mut at = 16;
    for frame in &table.frames {
        assert_eq!(frame.offset as usize, at);
        assert!((72..=(9 << 20) + 1024).contains(&frame.len) && (1..=16_384).contains(&frame.ids.len()));
        at += frame.len as usize;
    }
    assert_eq!(at, end);
    table.wraps.iter().for_each(encodes_back);
}
