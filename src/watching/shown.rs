//! How paths of a snapshot are shown.

use std::path::Path;

/// A path of the snapshot, for people.
pub fn shown(path: &[u8]) -> String {
    let path = crate::output::name(path);
    if path.is_empty() { "everything".to_owned() } else { Path::new("/").join(path).display().to_string() }
}
