//! The names of a repository's files and folders.

use crate::base::id::{Hash, PackId, SlotId, SnapshotId};

pub(super) const CONFIG: &str = "config";
pub(super) const SETTINGS: &str = "settings";
/// What the store has seen of its clock.
pub(super) const CLOCK: &str = "clock";
pub(super) const LOG: &str = "log";
pub(super) const SECOND_LOG: &str = "log.2";
pub(super) const SLOTS: &str = "slots";
pub(super) const SNAPSHOTS: &str = "snapshots";
/// The sets of frames that prunes condemned.
pub(super) const PRUNES: &str = "prunes";
/// It holds nothing, and takes room on the disk until what frees space needs it.
pub(super) const RESERVE: &str = "reserve";
/// Swept packs, until their time is over.
pub(super) const GRAVE: &str = "grave";

pub(super) fn pack(id: PackId) -> String {
    format!("packs/{:02x}/{id}", id.0[0])
}

/// The folder of the packs whose ids begin with a byte.
pub(super) fn pack_folder(first: u8) -> String {
    format!("packs/{first:02x}")
}

/// Parity is in folders of its own: damage to one folder does not hit both a pack and its parity, and listing packs is
/// no slower.
pub(super) fn parity(id: PackId) -> String {
    format!("parity/{:02x}/{id}", id.0[0])
}

pub(super) fn parity_folder(first: u8) -> String {
    format!("parity/{first:02x}")
}

/// The name of a swept pack while it is in the grave.
pub(super) fn in_grave(id: PackId) -> String {
    format!("{GRAVE}/{id}")
}

pub(super) fn condemned_set(hash: Hash) -> String {
    format!("{PRUNES}/{hash}")
}

pub(super) fn slot(id: SlotId) -> String {
    format!("{SLOTS}/{id}")
}

pub(super) fn snapshot(id: SnapshotId) -> String {
    format!("{SNAPSHOTS}/{id}")
}

/// The name of an object's second copy.
pub(super) fn second_copy(name: &str) -> String {
    match name.split_once('/') {
        Some((folder, file)) => format!("{folder}.2/{file}"),
        None => format!("{name}.2"),
    }
}

/// The names of both copies of an object.
pub(super) fn copies(name: &str) -> [String; 2] {
    [name.to_owned(), second_copy(name)]
}

/// The folders of the first and of the second copies of a folder's objects.
pub(super) fn folders(folder: &str) -> [String; 2] {
    [folder.to_owned(), format!("{folder}.2")]
}
