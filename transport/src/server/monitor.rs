//! What an operator's monitoring reads: all metrics as text in the format of Prometheus, and whether the server works.
//!
//! What each repository holds is surveyed at most once a minute, however often somebody asks. What clients choose is
//! shown as it is stored, which is opaque, and the number of those series is bounded.
//!
//! `survey` looks at repositories, and `http` answers.

pub(super) mod http;
mod survey;

use std::sync::Arc;

use parking_lot::Mutex;

use self::survey::Survey;
use super::{metrics::text::Exposition, state::ServerState};

/// A server as it is monitored.
pub(super) struct Monitor {
    state: Arc<ServerState>,
    survey: Mutex<Survey>,
}

impl Monitor {
    pub fn new(state: Arc<ServerState>) -> Self {
        Self { state, survey: Mutex::default() }
    }

    /// Returns all metrics as text. Blocks.
    fn render(&self) -> String {
        let mut out = Exposition::default();
        self.state.metrics.render(&mut out);
        let open = self.state.open_repositories.count() as u64;
        out.gauge("bkfs_open_repositories", "Repositories that are open.").add(&[], open);
        self.survey.lock().refreshed(&self.state).render(&mut out);
        out.text()
    }

    /// Returns why the server is not healthy, if it isn't. Blocks.
    fn unhealthy(&self) -> Option<String> {
        if *self.state.stopping.borrow() {
            return Some("the server stops".into());
        }
        self.state.registry.refresh().err().map(|error| format!("the server's log: {error}"))
    }
}
