//! Notices: the lines that a server's operator reads. Each says what happened, who did it, and from where.
//!
//! What comes from the network is untrusted. Names in a notice are [`crate::url::Name`]s, which hold nothing that could
//! pass for a line of its own; errors are escaped and cut. Failures cost their author nothing, so their number is
//! bounded: see [`Limiter`]. What succeeds may cost nothing either, if it is only repeated, and is bounded for each
//! client: see [`Acts`].

use std::{
    collections::HashMap,
    fmt::{Display, Write as _},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bkfs_store::{Error, ErrorKind, base::id::Hash};
use parking_lot::Mutex;

use crate::url::Name;

/// How many notices of one class may come at once.
const BURST: u32 = 20;
/// How long it takes until one more may come. With at most 1 KB in a line, a class writes less than 9 MB a day.
const REFILL: Duration = Duration::from_secs(10);
/// The same for what one client does. A push from a hundred sources, or a prune of a large repository, stays far below
/// it, and a client that only repeats itself writes about 30 MB a day.
const ACTS_BURST: u32 = 1000;
const ACTS_REFILL: Duration = Duration::from_secs(1);
/// The most characters of an error in a notice.
const ERROR_CHARS_MAX: usize = 400;

/// The bounds of notices about failures, for each class of them: a stranger must not silence what clients report, nor a
/// client what other clients or the server itself meet.
#[derive(Default)]
pub(super) struct Notices {
    strangers: Limiter,
    refusals: ByClient,
    failures: ByClient,
    work: Limiter,
    acts: Acts,
}

/// Who made a request, and for which repository.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub client: Hash,
    pub address: SocketAddr,
    pub account: &'a Name,
    pub repository: &'a Name,
}

/// How much a failure concerns the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    /// The server cannot do its work.
    Storage,
    /// A client tries what it may not do, or what does not work.
    Refused,
    /// It belongs to normal work.
    Normal,
}

impl Notices {
    /// A peer that is not a client was turned away.
    pub fn stranger(&self, address: SocketAddr, why: &str, error: &dyn Display) {
        if let Some(suppressed) = self.strangers.pass(Instant::now()).map(if_any) {
            tracing::warn!(%address, error = one_line(error), suppressed, "{why}");
        }
    }

    /// A client has done something of a kind. Returns how many notices of such acts of it were left out before this
    /// one, or `None` if this one is left out, too.
    pub fn acted(&self, client: Hash, kind: u8) -> Option<u64> {
        self.acts.pass(client, kind, Instant::now())
    }

    /// A request failed.
    pub fn failed(&self, origin: Origin<'_>, is_client: bool, error: &Error) {
        let Origin { client, address, account, repository } = origin;
        if !is_client {
            return self.stranger(address, "a stranger was refused", error);
        }
        let (id, concern, error) = (client, concern(error), one_line(error));
        let client = id.short();
        let limiter = match concern {
            Concern::Storage => &self.failures,
            Concern::Refused => &self.refusals,
            Concern::Normal => return tracing::debug!(%account, %repository, client, error, "a request failed"),
        };
        let Some(suppressed) = limiter.pass(id, Instant::now()).map(if_any) else { return };
        if concern == Concern::Storage {
            tracing::error!(%account, %repository, client, %address, error, suppressed, "a request failed");
        } else {
            tracing::warn!(%account, %repository, client, %address, error, suppressed, "a request was refused");
        }
    }

    /// Work that the server does by itself failed.
    pub fn work_failed(&self, work: &str, place: &dyn Display, error: &Error) {
        let Some(suppressed) = self.work.pass(Instant::now()).map(if_any) else { return };
        let (place, error) = (one_line(place), one_line(error));
        tracing::error!(place, error, suppressed, "{work} failed");
    }
}

/// A count for a notice, which does not show 0.
pub(super) fn if_any(count: u64) -> Option<u64> {
    (count > 0).then_some(count)
}

/// Returns how much an error concerns the operator.
pub(super) fn concern(error: &Error) -> Concern {
    match error.kind() {
        // Clients ask whether there is a repository before they make one, and wait for leases.
        ErrorKind::NoRepository | ErrorKind::Locked | ErrorKind::NotFound | ErrorKind::Interrupted => Concern::Normal,
        _ if matches!(error, Error::BadInput(_) | Error::NotOnRoster { .. } | Error::OverQuota { .. }) => {
            Concern::Refused
        }
        ErrorKind::Full | ErrorKind::Damaged => Concern::Storage,
        _ if matches!(error, Error::Io { .. } | Error::Index { .. }) => Concern::Storage,
        _ => Concern::Refused,
    }
}

/// Returns text as one line of bounded length, without anything that controls a terminal.
pub(super) fn one_line(text: &dyn Display) -> String {
    let text = text.to_string();
    let mut line = String::with_capacity(text.len().min(ERROR_CHARS_MAX));
    for c in text.chars() {
        if line.len() >= ERROR_CHARS_MAX {
            line.push_str("...");
            break;
        }
        match c.is_ascii() && !c.is_ascii_control() || c.is_alphanumeric() {
            true => line.push(c),
            false => {
                let _ = write!(line, "{}", c.escape_default());
            }
        }
    }
    line
}

/// Bounds how many notices of each client's acts pass: [`ACTS_BURST`] of a kind at once, and then one in each
/// [`ACTS_REFILL`]. A kind is a number of [`crate::message::number`]: what a client repeats hides nothing else that it
/// does. Only clients that have joined act, so there are no more bounds than those.
#[derive(Default)]
pub(super) struct Acts(Mutex<HashMap<(Hash, u8), Bucket>>);

impl Acts {
    /// Decides about a notice, as [`Limiter::pass`] does.
    pub fn pass(&self, client: Hash, kind: u8, now: Instant) -> Option<u64> {
        self.0.lock().entry((client, kind)).or_default().pass(now, ACTS_BURST, ACTS_REFILL)
    }
}

/// Bounds how many notices pass of each client, as [`Limiter`] does. Only clients that have joined are counted.
#[derive(Default)]
pub(super) struct ByClient(Mutex<HashMap<Hash, Bucket>>);

impl ByClient {
    /// Decides about a notice, as [`Limiter::pass`] does.
    pub fn pass(&self, client: Hash, now: Instant) -> Option<u64> {
        self.0.lock().entry(client).or_default().pass(now, BURST, REFILL)
    }
}

/// Bounds how many notices pass: [`BURST`] at once, and then one in each [`REFILL`].
#[derive(Default)]
pub(super) struct Limiter(Mutex<Bucket>);

#[derive(Default)]
struct Bucket {
    /// How many notices have passed that time has not made up for.
    used: u32,
    /// Since when `used` has not been reduced.
    since: Option<Instant>,
    suppressed: u64,
}

impl Limiter {
    /// Decides about a notice. Returns how many were suppressed before it, or `None` if it is suppressed, too.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        self.0.lock().pass(now, BURST, REFILL)
    }
}

impl Bucket {
    fn pass(&mut self, now: Instant, burst: u32, refill: Duration) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        let refilled = (now.saturating_duration_since(since).as_secs() / refill.as_secs()).min(burst.into()) as u32;
        if refilled >= self.used {
            (self.used, self.since) = (0, Some(now));
        } else {
            self.used -= refilled;
            self.since = Some(since + refill * refilled);
        }
        if self.used == burst {
            self.suppressed += 1;
            return None;
        }
        self.used += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_of_failures_are_bounded() {
        let (limiter, start) = (Limiter::default(), Instant::now());
        let passed = |secs, count: u32| {
            let now = start + Duration::from_secs(secs);
            (0..count).filter(|_| limiter.pass(now).is_some()).count()
        };
        assert_eq!(passed(0, 1000), 20);
        assert_eq!(passed(9, 1000), 0);
        assert_eq!(passed(10, 1000), 1);
        assert_eq!(passed(35, 1000), 2);
        let day: usize = (36..86_400).map(|secs| passed(secs, 3)).sum();
        assert!((8_000..=8_640).contains(&day), "{day}");
        assert_eq!(passed(2 * 86_400, 1000), 20, "time makes up for one burst at most");
        let next = start + Duration::from_secs(3 * 86_400);
        assert_eq!(limiter.pass(next), Some(980), "the next notice counts what was suppressed");
        assert_eq!(limiter.pass(next), Some(0));
    }

    #[test]
    fn no_client_silences_another_and_no_kind_of_act_another_kind() {
        let (notices, now) = (Notices::default(), Instant::now());
        let [one, two] = [1, 2].map(|n| Hash([n; 32]));
        assert_eq!((0..100).filter(|_| notices.failures.pass(one, now).is_some()).count(), 20);
        assert!(notices.failures.pass(two, now).is_some() && notices.work.pass(now).is_some());
        assert_eq!((0..2000).filter(|_| notices.acts.pass(one, 1, now).is_some()).count(), 1000);
        assert_eq!((notices.acts.pass(one, 2, now), notices.acts.pass(two, 1, now)), (Some(0), Some(0)));
    }

    #[test]
    fn a_notice_is_one_short_line() {
        let hostile = "a\nWARN all is well\u{1b}[2J\u{202e}\r".to_owned() + &"x".repeat(10_000);
        let line = one_line(&hostile);
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line}");
        assert!(line.starts_with("a\\nWARN all is well\\u{1b}[2J\\u{202e}\\r") && line.len() < 450, "{line}");
    }

    #[test]
    fn a_full_disk_is_an_error_and_a_first_look_is_not() {
        assert_eq!(concern(&Error::Full { place: "x".into() }), Concern::Storage);
        assert_eq!(concern(&Error::NoRepository { place: "x".into() }), Concern::Normal);
        assert_eq!(concern(&Error::OverQuota { reason: "x".into() }), Concern::Refused);
        let rubbish = Error::damaged("a pack", "it is rubbish");
        assert_eq!(concern(&rubbish), Concern::Storage);
        assert_eq!(concern(&rubbish.in_input()), Concern::Refused, "only its sender is concerned");
        assert_eq!(concern(&Error::NoPermission { operation: "x".into() }), Concern::Refused);
    }
}
