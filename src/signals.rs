//! SIGINT and SIGTERM. The first signal asks the command to stop where it is safe; the second ends the process at once.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::Exit;

/// Catches the signals from now on. `on_stop` runs once, on its own thread, when the first signal arrives.
pub fn on_stop(on_stop: impl FnOnce() + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("preparing for signals")?;
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        let catch = |kind| signal(kind).context("catching signals");
        (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?)
    };
    let watch = move || {
        let mut wait = || {
            runtime.block_on(async {
                tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            });
        };
        wait();
        on_stop();
        wait();
        std::process::exit(Exit::Interrupted as i32);
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).context("starting a thread")?;
    Ok(())
}
