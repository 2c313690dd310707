//! Tidying in the background: removing what is due from the trash and the grave of a repository.

use bkfs_store::{Result, repository::Tidied};

use super::state::ServerState;
use crate::url::Name;

/// Tidies a repository.
pub(super) fn tidy(state: &ServerState, account: &Name, name: &Name) -> Result<()> {
    let tidied = state.background_repository(account, name)?.operator().tidy()?;
    if tidied != Tidied::default() {
        let Tidied { expired, packs, bytes, sets } = tidied;
        tracing::info!(%account, repository = %name, expired, packs, bytes, sets, "removed what was due");
    }
    Ok(())
}
