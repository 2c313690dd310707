//! Long work: what the commands that may run for minutes have in common.
//!
//! [`Work`] owns the counters of such a command. It catches the signals that ask the program to stop, and draws a
//! progress line while the work runs. It does not know what the work is: the libraries keep the counters, and they stop
//! where it is safe.

use std::sync::Arc;

use crate::{
    context::Context,
    progress::{ProgressLine, ProgressView},
    signals,
};

/// Work that shows its progress and can be stopped. `P` holds its counters and the request to stop.
pub struct Work<'a, P> {
    context: &'a Context,
    progress: Arc<P>,
}

impl<'a, P: Default + Send + Sync + 'static> Work<'a, P> {
    /// Prepares the work. From now on the first signal calls `stop`, and the second one ends the process.
    pub fn new(context: &'a Context, stop: impl FnOnce(&P) + Send + 'static) -> Self {
        let progress = Arc::new(P::default());
        let stopped = progress.clone();
        signals::on_stop(move || stop(&stopped));
        Self { context, progress }
    }

    /// Runs `work`, and draws what `view` returns until it ends. Can be called again, with the same counters.
    pub fn run<T>(&self, view: impl Fn(&P) -> ProgressView + Send + 'static, work: impl FnOnce(&Arc<P>) -> T) -> T {
        let shown = self.progress.clone();
        let _line = ProgressLine::start(self.context, move || view(&shown));
        work(&self.progress)
    }

    /// The counters.
    pub fn progress(&self) -> &P {
        &self.progress
    }
}
