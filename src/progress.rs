//! Progress on a terminal: a line on standard error, redrawn a few times a second from counters that the work keeps.
//! Nothing is drawn if standard error is not a terminal, or with `--quiet` or `--json`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::context::Context;

/// Time between two drawings of the line.
const INTERVAL: Duration = Duration::from_millis(200);

/// A line that is being drawn. Dropping it clears the line.
pub struct ProgressLine {
    drawing: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// What a progress line shows.
#[derive(Debug, Clone, Default)]
pub struct ProgressView {
    /// How much is done, and the total. `None` if the total is unknown.
    pub done: Option<(u64, u64)>,
    /// The text after the bar.
    pub text: String,
}

impl ProgressLine {
    /// Starts to draw what `view` returns. Draws nothing if nobody watches.
    pub fn start(context: &Context, view: impl Fn() -> ProgressView + Send + 'static) -> Self {
        if !context.shows_progress() {
            return Self { drawing: None };
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let draw = move || {
            let bar = ProgressBar::new(0);
            let known = ProgressStyle::with_template("{bar:24} {percent:>3} %  {elapsed}  {wide_msg}");
            let unknown = ProgressStyle::with_template("{spinner} {elapsed}  {wide_msg}");
            let (Ok(known), Ok(unknown)) = (known, unknown) else { return };
            bar.set_style(unknown);
            let mut is_known = false;
            while !stopped.load(Ordering::Acquire) {
                let view = view();
                if let Some((done, total)) = view.done.filter(|(_, total)| *total > 0) {
                    if !is_known {
                        bar.set_style(known.clone());
                        is_known = true;
                    }
                    bar.set_length(total);
                    bar.set_position(done.min(total));
                }
                bar.set_message(view.text);
                bar.tick();
                std::thread::park_timeout(INTERVAL);
            }
            bar.finish_and_clear();
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(draw);
        Self { drawing: thread.ok().map(|thread| (stop, thread)) }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.drawing.take() {
            stop.store(true, Ordering::Release);
            thread.thread().unpark();
            // A panic while drawing must not fail the command.
            let _ = thread.join();
        }
    }
}
