//! Saying that the watch is alive, also while a push runs for hours.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{record::WatchRecord, telling};

/// How often it is said if the service manager does not want it more often.
const EVERY: Duration = Duration::from_secs(20);
/// If the watch neither pushes nor looks around for this long, something is stuck, and nothing is said.
const STUCK: Duration = Duration::from_secs(120);

/// When the watch last showed signs of life.
#[derive(Debug)]
pub struct Life {
    looked_around: Instant,
    pushes: bool,
}

impl Life {
    /// The watch looked around just now.
    pub fn new() -> Self {
        Self { looked_around: Instant::now(), pushes: false }
    }

    /// Notes that the watch looks around, and whether it pushes now: a push may take as long as it takes.
    pub fn note(&mut self, pushes: bool) {
        *self = Self { pushes, ..Self::new() };
    }

    fn is_stuck(&self, now: Instant) -> bool {
        !self.pushes && now.saturating_duration_since(self.looked_around) >= STUCK
    }
}

/// A thread that says that the watch is alive, until it is dropped.
pub struct Pulse {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Pulse {
    /// Starts the thread. Without it, others believe after a while that the watch has died.
    pub fn start(record: Arc<Mutex<WatchRecord>>, life: Arc<Mutex<Life>>) -> Self {
        let (end, ended) = channel();
        // The service manager wants to hear it twice in its time at least.
        let every = sd_notify::watchdog_enabled().map_or(EVERY, |within| (within / 3).min(EVERY));
        let run = move || {
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                if !life.lock().is_stuck(Instant::now()) {
                    telling::alive();
                    record.lock().alive();
                }
            }
        };
        let thread = std::thread::Builder::new().name("pulse".into()).spawn(run).ok();
        Self { end: Some(end), thread }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_push_may_take_long() {
        let mut life = Life::new();
        let later = Instant::now() + 2 * STUCK;
        assert!(!life.is_stuck(Instant::now()) && life.is_stuck(later));
        life.note(true);
        assert!(!life.is_stuck(later));
        life.note(false);
        assert!(life.is_stuck(later));
    }
}
