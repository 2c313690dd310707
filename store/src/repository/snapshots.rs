//! Snapshots: committing and forgetting them.

mod commit;
mod forget;
