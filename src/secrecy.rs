//! What keeps keys in the memory of this process.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Keeps the memory of this process to itself, because it may come to hold keys: no core dump, and no reading or
/// debugging by other processes of the same user. Root can still read it. Where the system forbids this, the program
/// works without.
pub fn hide_memory() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
