//! Work that blocks, on tokio's threads for it.

use bkfs_store::{Error, Result};

/// Runs something that blocks.
pub(super) async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => Err(Error::Invalid(format!("the server failed: {error}"))),
    }
}
