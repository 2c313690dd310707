//! The tables of the index. Each table is named once, in the list below.
//!
//! The list gives the field by which the code knows a table, its name on disk, its types, and so how the table is
//! opened and emptied. A name on disk never changes, even if the field gets a better one: renaming a table would make
//! every index that exists lose it.

use heed::{
    CommitToken, Database, DatabaseOpener, OnCommit, RwTxn, WithoutTls,
    byteorder::BigEndian,
    types::{Bytes, U32, U64, Unit},
};

use super::lmdb::Table;

/// The number of a pack: its short name in this index.
type PackNumber = U32<BigEndian>;
/// A record's place in the log.
type Seq = U64<BigEndian>;
/// Any number.
type Number = U64<BigEndian>;

macro_rules! tables {
    ($($(#[$doc:meta])* $field:ident = $name:literal: $key:ty => $value:ty $(, $flags:expr)?;)*) => {
        /// All tables of an index.
        pub(super) struct Tables<'e> {
            $($(#[$doc])* pub $field: Database<'e, $key, $value>,)*
        }

        impl<'e> Tables<'e> {
            /// All tables, by their names on disk.
            pub const LIST: &'static [Table<'static>] = &[$(Table {
                name: $name,
                has_duplicates: false $(|| $flags.contains(DatabaseFlags::DUP_SORT))?,
            }),*];

            /// Opens all tables, and creates those that do not exist.
            pub fn open(opener: &DatabaseOpener<'e, WithoutTls>, txn: &mut RwTxn<'e>) -> heed::Result<Self> {
                Ok(Self {
                    $($field: {
                        let mut options = opener.database_options().types::<$key, $value>();
                        options.name($name);
                        $(options.flags($flags);)?
                        options.create(txn)?
                    },)*
                })
            }

            /// Empties all tables.
            pub fn clear(&self, txn: &mut RwTxn<'_>) -> heed::Result<()> {
                $(self.$field.clear(txn)?;)*
                Ok(())
            }
        }

        impl OnCommit for Tables<'_> {
            type Committed = Tables<'static>;

            fn on_commit(self, token: &CommitToken) -> Tables<'static> {
                Tables { $($field: self.$field.on_commit(token),)* }
            }
        }
    };
}

tables! {
    /// New rows of chunks, which wait to be moved ([`super::chunk_tables`]).
    fresh_chunks = "fresh chunks": Bytes => Unit;
    /// All other rows of chunks.
    settled_chunks = "chunks": Bytes => Unit;
    /// The row of each pack.
    packs = "packs": PackNumber => Bytes;
    /// Pack id -> number.
    pack_numbers = "pack_numbers": Bytes => PackNumber;
    /// Data key and client -> wrap.
    wraps = "wraps": Bytes => Bytes;
    /// The commits of the log.
    commits = "commits": Seq => Bytes;
    /// Snapshot id -> its commit.
    snapshots = "snapshots": Bytes => Seq;
    /// Client -> its newest commit.
    clients = "clients": Bytes => Seq;
    /// Where each record of the log begins in its file.
    offsets = "offsets": Seq => Number;
    /// Single values ([`super::meta`]).
    meta = "meta": Bytes => Bytes;
    /// Pack id -> its condemned frames.
    condemned = "dead": Bytes => Bytes;
    /// Pack id -> when the pack was swept, and whether its file has been moved.
    swept = "swept": Bytes => Bytes;
    /// The session that last stored each pack, and when.
    pins = "pins": PackNumber => Bytes;
    /// The condemnations of the log.
    condemnations = "condemns": Seq => Bytes;
    /// Packs whose parity has not been made yet.
    without_parity = "bare": Bytes => Unit;
    /// Pack id -> its frames in quarantine.
    quarantined = "hurt": Bytes => Bytes;
    /// Packs that a key holder has opened, with good results.
    verified = "verified": Bytes => Bytes;
    /// Pack id -> its frames that do not hold what the pack's table names.
    refused = "refused": Bytes => Bytes;
    /// What each quarantine of the log lost.
    losses = "losses": Seq => Bytes;
}
