//! Keeps the bandwidth of a connection at the limit of the hour, while something long runs.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    time::Duration,
};

use crate::{context::Context, session::Session};

/// How often the clock is looked at. A time of day has no seconds.
const LOOK: Duration = Duration::from_secs(15);

/// Ends the following when it is dropped.
pub struct Following(#[allow(dead_code, reason = "held to be dropped")] Option<Sender<()>>);

/// From now on, gives the connection of a session the limits of the hour. Does nothing if the profile has no times, or
/// if the repository is a folder.
pub fn follow(context: &Context, session: &Session) -> Following {
    let limits = context.profile.as_ref().and_then(|profile| profile.settings.limits.as_ref());
    let has_times = limits.is_some_and(|limits| limits.times.as_ref().is_some_and(|times| !times.is_empty()));
    let Some(remote) = session.remote.clone().filter(|_| has_times) else { return Following(None) };
    let (sender, stop) = channel::<()>();
    let context = context.clone();
    let watch = move || {
        let mut set = None;
        loop {
            let (upload, download) = context.rates_now();
            if set != Some((upload, download)) {
                remote.limit(upload, download);
                set = Some((upload, download));
            }
            if stop.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("limits".into()).spawn(watch) {
        tracing::warn!("the limits stay as they are now: cannot start a thread: {error}");
    }
    Following(Some(sender))
}
