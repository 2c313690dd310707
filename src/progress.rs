//! Progress on a terminal: a line on standard error, redrawn a few times a second from counters that the work keeps.
//! Nothing is drawn if standard error is not a terminal, or with `--quiet` or `--json`. With `--progress-json` the same
//! is written for programs, as a line of JSON each second.

use std::{
    collections::VecDeque,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bkfs_transport::client;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{context::Context, output};

/// Time between two drawings of the line.
const INTERVAL: Duration = Duration::from_millis(200);
/// Time between two lines of JSON.
const JSON_INTERVAL: Duration = Duration::from_secs(1);
/// The span over which a speed is measured.
const SPEED_OVER: Duration = Duration::from_secs(5);

/// A line that is being drawn. Dropping it clears the line.
pub struct ProgressLine {
    drawing: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

/// What a progress line shows.
#[derive(Debug, Clone, Default)]
pub struct ProgressView {
    /// How much is done, and the total. `None` if the total is unknown.
    pub done: Option<(u64, u64)>,
    /// Bytes that were moved so far, to show how fast. `None` if there is nothing to tell.
    pub moved: Option<u64>,
    /// The text after the bar.
    pub text: String,
}

impl ProgressLine {
    /// Starts to draw what `view` returns, or to write it as JSON. Draws nothing if nobody watches.
    pub fn start(context: &Context, view: impl Fn() -> ProgressView + Send + 'static) -> Self {
        if context.progress_json {
            return Self::start_json(view);
        }
        if !context.shows_progress() {
            return Self { drawing: None };
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let draw = move || {
            let bar = ProgressBar::new(0);
            let known = ProgressStyle::with_template("{bar:24} {percent:>3} %  {elapsed}, {eta} left  {wide_msg}");
            let unknown = ProgressStyle::with_template("{spinner} {elapsed}  {wide_msg}");
            let (Ok(known), Ok(unknown)) = (known, unknown) else { return };
            bar.set_style(unknown);
            let mut is_known = false;
            let mut speed = Speed::default();
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
                let speed = view.moved.and_then(|moved| speed.update(Instant::now(), moved));
                bar.set_message(match speed {
                    _ if client::is_waiting() => format!("waiting for the server  {}", view.text),
                    Some(speed) => format!("{}/s  {}", output::size(speed), view.text),
                    None => view.text,
                });
                bar.tick();
                std::thread::park_timeout(INTERVAL);
            }
            bar.finish_and_clear();
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(draw);
        Self { drawing: thread.ok().map(|thread| (stop, thread)) }
    }
}

impl ProgressLine {
    /// Writes lines of JSON: one at once, one each second, and one at the end.
    fn start_json(view: impl Fn() -> ProgressView + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let write = move || {
            let (begun, mut speed) = (Instant::now(), Speed::default());
            loop {
                let is_last = stopped.load(Ordering::Acquire);
                let ProgressView { done, moved, text } = view();
                let progress = ProgressJson {
                    done: done.map(|(done, _)| done),
                    total: done.map(|(_, total)| total).filter(|total| *total > 0),
                    moved,
                    moved_per_second: moved.and_then(|moved| speed.update(Instant::now(), moved)),
                    seconds: begun.elapsed().as_secs(),
                    waiting: client::is_waiting(),
                    text,
                };
                // Whoever read the lines may be gone.
                if let Ok(line) = output::json_text(&ProgressLineJson { progress }) {
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
                if is_last {
                    return;
                }
                let due = Instant::now() + JSON_INTERVAL;
                while !stopped.load(Ordering::Acquire) && Instant::now() < due {
                    std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
                }
            }
        };
        let thread = std::thread::Builder::new().name("progress".into()).spawn(write);
        Self { drawing: thread.ok().map(|thread| (stop, thread)) }
    }
}

/// A line of progress.
#[derive(Serialize)]
struct ProgressLineJson {
    progress: ProgressJson,
}

#[derive(Serialize)]
struct ProgressJson {
    done: Option<u64>,
    total: Option<u64>,
    moved: Option<u64>,
    moved_per_second: Option<u64>,
    seconds: u64,
    waiting: bool,
    text: String,
}

/// How fast a counter grows, over the last few seconds.
#[derive(Default)]
struct Speed {
    samples: VecDeque<(Instant, u64)>,
}

impl Speed {
    /// Adds a reading of the counter. Returns the growth in a second; none until there is enough to tell.
    fn update(&mut self, now: Instant, count: u64) -> Option<u64> {
        self.samples.push_back((now, count));
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|(at, _)| now - *at >= SPEED_OVER) {
            self.samples.pop_front();
        }
        let (first, before) = *self.samples.front()?;
        let millis = u64::try_from((now - first).as_millis()).ok()?;
        let grown = count.saturating_sub(before);
        (millis >= 1000).then(|| grown.saturating_mul(1000) / millis)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let begin = Instant::now();
        let mut speed = Speed::default();
        let mut at = |tenths: u64, count| speed.update(begin + Duration::from_millis(100 * tenths), count);
        assert_eq!((at(0, 0), at(5, 500)), (None, None));
        assert_eq!(at(10, 1000), Some(1000));
        for tenths in 11..=100 {
            at(tenths, 1000);
        }
        assert_eq!(at(101, 1000), Some(0));
        assert_eq!(at(102, 100), Some(0), "a counter that starts again is no speed");
    }
}
