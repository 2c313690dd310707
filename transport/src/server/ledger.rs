//! What each account stores, so that its limits hold.
//!
//! What is about to be stored is **reserved** first: within the limits, together with what is stored and what others
//! have reserved. When it is stored, the reservation is **settled**: it becomes part of what is stored. A reservation
//! that is dropped is given back. Both are done under one lock, so any number of clients at once cannot exceed a limit.
//!
//! What is stored is **measured** on the disk when it is first asked for, because the operator's commands and earlier
//! runs of the server write there, too. After that it is counted. The count may be too high, for example after a prune
//! or if a pack was put twice at the same time. So nothing is refused before it was measured again, unless that was
//! done a moment ago and nothing was removed since. It may be too low by what no limit refuses: a prune's copies and
//! records of the log. So it is measured again after such work, once in a while.
//!
//! What a prune copies, and records that end a client or forget a snapshot, must be possible in an account that is
//! full. They are **overdrafts**: reserved within twice the limits. Without any bound, a prune could be repeated in
//! such a way that it copies nearly everything each time, while the grave keeps what it was copied from.
//!
//! Measuring takes no lock. What is settled in the meantime may or may not have been seen, and is added: again, the
//! count may be too high until the next time.

use std::{
    collections::HashMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::{
    Error, Result,
    access::Room,
    format::fate::Fate,
    repository::{Repository, Usage},
};
use parking_lot::Mutex;

use super::{accounts::Bound, layout, quota::Amount};
use crate::url::Name;

/// A measurement that is younger than this decides, if nothing was removed since. A new one is not always better: the
/// parity of a pack that was just stored is made in the background, and is not on the disk yet.
const FRESH: Duration = Duration::from_secs(10);
/// After something changed that was not counted, the count is used for this long.
const STALE_MAX: Duration = Duration::from_secs(60);

/// What the ledger asks about accounts.
pub(super) trait Accounting {
    /// The limits that bound an account.
    fn bounds(&self, account: &Name) -> Vec<Bound>;

    /// Measures what an account stores. Snapshots are counted only if that is asked for.
    fn measure(&self, account: &Name, counts_snapshots: bool) -> Result<Amount>;
}

/// The books of all accounts.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<HashMap<Name, Entry>>>);

/// The books of one account.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// What is stored; none before it was measured.
    stored: Option<Amount>,
    reserved: Amount,
    measured: Option<Instant>,
    /// Whether something changed that was not counted.
    is_stale: bool,
    /// Whether snapshots were counted, which is only done if they are limited.
    counts_snapshots: bool,
    /// How many measurements are going on, and what was settled since the first of them began.
    measuring: u32,
    settled_meanwhile: Amount,
}

/// Room that an account has reserved. It is given back when this is dropped, unless it was settled.
#[must_use = "a reservation that is dropped is given back"]
pub(super) struct Reservation {
    ledger: Ledger,
    account: Name,
    amount: Amount,
    is_overdraft: bool,
}

impl Ledger {
    /// Reserves room in an account. Fails if a limit of the account, or of its parent, does not allow it.
    pub fn reserve(&self, accounting: &impl Accounting, account: &Name, amount: Amount) -> Result<Reservation> {
        self.begin(account, false).grown(accounting, amount)
    }

    /// Reserves room within twice the limits.
    pub fn overdraw(&self, accounting: &impl Accounting, account: &Name, amount: Amount) -> Result<Reservation> {
        self.begin(account, true).grown(accounting, amount)
    }

    fn begin(&self, account: &Name, is_overdraft: bool) -> Reservation {
        Reservation { ledger: self.clone(), account: account.clone(), amount: Amount::default(), is_overdraft }
    }

    /// Something was removed, or stored without a reservation.
    pub fn changed(&self, account: &Name) {
        if let Some(entry) = self.0.lock().get_mut(account) {
            entry.is_stale = true;
        }
    }

    /// Forgets all that was counted: the disk is measured again when it is next asked for.
    pub fn changed_everywhere(&self) {
        self.0.lock().values_mut().for_each(|entry| entry.is_stale = true);
    }

    /// Whether an account is to be measured again.
    #[cfg(test)]
    pub fn is_stale(&self, account: &Name) -> bool {
        self.0.lock().get(account).is_some_and(|entry| entry.is_stale)
    }

    /// How many bytes an account may store by the tightest limit; none if there is no limit.
    pub fn room(&self, accounting: &impl Accounting, account: &Name) -> Result<Option<Room>> {
        self.room_within(accounting, accounting.bounds(account))
    }

    /// The same within twice the limits.
    pub fn room_for_overdraft(&self, accounting: &impl Accounting, account: &Name) -> Result<Option<Room>> {
        self.room_within(accounting, doubled(accounting.bounds(account)))
    }

    fn room_within(&self, accounting: &impl Accounting, mut bounds: Vec<Bound>) -> Result<Option<Room>> {
        bounds.retain(|bound| bound.limits.bytes.is_some());
        self.measure(accounting, &bounds, is_outdated)?;
        let entries = self.0.lock();
        let rooms = bounds
            .iter()
            .filter_map(|bound| Some(Room { limit: bound.limits.bytes?, used: in_use(&entries, bound).bytes }));
        Ok(rooms.min_by_key(Room::left))
    }

    /// Measures those accounts that share a bound and that `is_due` selects.
    fn measure(&self, accounting: &impl Accounting, bounds: &[Bound], is_due: fn(&Entry) -> bool) -> Result<()> {
        let limits_snapshots = bounds.iter().any(|bound| bound.limits.snapshots.is_some());
        for account in bounds.iter().flat_map(|bound| &bound.sharers) {
            let counts_snapshots = {
                let mut entries = self.0.lock();
                let entry = entries.entry(account.clone()).or_default();
                // Once they are counted, they stay so: another account that shares a bound may not limit them.
                let counts_snapshots = limits_snapshots || entry.counts_snapshots;
                if !is_due(entry) && entry.counts_snapshots == counts_snapshots {
                    continue;
                }
                if entry.measuring == 0 {
                    entry.settled_meanwhile = Amount::default();
                }
                entry.measuring += 1;
                // What changes from now on may not be seen.
                entry.is_stale = false;
                counts_snapshots
            };
            let measured = accounting.measure(account, counts_snapshots);
            let mut entries = self.0.lock();
            let entry = entries.entry(account.clone()).or_default();
            entry.measuring -= 1;
            match measured {
                Ok(amount) => {
                    entry.stored = Some(amount.plus(entry.settled_meanwhile));
                    entry.measured = Some(Instant::now());
                    entry.counts_snapshots = counts_snapshots;
                    entry.is_stale |= entry.settled_meanwhile != Amount::default();
                }
                Err(error) => {
                    entry.is_stale = true;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

fn doubled(mut bounds: Vec<Bound>) -> Vec<Bound> {
    bounds.iter_mut().for_each(|bound| bound.limits = bound.limits.doubled());
    bounds
}

impl Reservation {
    fn grown(mut self, accounting: &impl Accounting, amount: Amount) -> Result<Self> {
        self.grow(accounting, amount)?;
        Ok(self)
    }

    /// Reserves more.
    pub fn grow(&mut self, accounting: &impl Accounting, more: Amount) -> Result<()> {
        let bounds = accounting.bounds(&self.account);
        let bounds = if self.is_overdraft { doubled(bounds) } else { bounds };
        let ledger = &self.ledger;
        ledger.measure(accounting, &bounds, is_outdated)?;
        for is_last in [false, true] {
            let mut entries = self.ledger.0.lock();
            let exceeded =
                bounds.iter().find_map(|bound| Some((bound, bound.limits.exceeded_by(in_use(&entries, bound), more)?)));
            let Some((bound, excess)) = exceeded else {
                let entry = entries.entry(self.account.clone()).or_default();
                entry.reserved = entry.reserved.plus(more);
                self.amount = self.amount.plus(more);
                return Ok(());
            };
            drop(entries);
            if is_last {
                let reason = format!("the quota of account {} is used up: {excess}", bound.account);
                return Err(Error::OverQuota { reason });
            }
            ledger.measure(accounting, &bounds, may_be_too_high)?;
        }
        Ok(())
    }

    /// What was reserved is stored now.
    pub fn settle(self) {
        let amount = self.amount;
        self.settle_as(amount);
    }

    /// So much is stored now, whatever was reserved.
    pub fn settle_as(mut self, stored: Amount) {
        let mut entries = self.ledger.0.lock();
        let entry = entries.entry(self.account.clone()).or_default();
        entry.reserved = entry.reserved.minus(std::mem::take(&mut self.amount));
        entry.stored = entry.stored.map(|before| before.plus(stored));
        if entry.measuring > 0 {
            entry.settled_meanwhile = entry.settled_meanwhile.plus(stored);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.amount == Amount::default() {
            return;
        }
        let mut entries = self.ledger.0.lock();
        if let Some(entry) = entries.get_mut(&self.account) {
            entry.reserved = entry.reserved.minus(self.amount);
            // Part of it may have been stored before the failure.
            entry.is_stale = true;
        }
    }
}

/// What the accounts that share a bound have stored and reserved.
fn in_use(entries: &HashMap<Name, Entry>, bound: &Bound) -> Amount {
    let entries = bound.sharers.iter().filter_map(|account| entries.get(account));
    entries.fold(Amount::default(), |sum, entry| sum.plus(entry.stored.unwrap_or_default()).plus(entry.reserved))
}

fn is_outdated(entry: &Entry) -> bool {
    entry.stored.is_none() || entry.is_stale && entry.measured.is_none_or(|at| at.elapsed() > STALE_MAX)
}

fn may_be_too_high(entry: &Entry) -> bool {
    entry.is_stale || entry.measured.is_none_or(|at| at.elapsed() > FRESH)
}

/// Measures what is stored in an account's folder. `snapshots` counts those of a repository.
pub(super) fn measure(folder: &Path, snapshots: impl Fn(&Name) -> Result<u64>) -> Result<Amount> {
    let mut sum = Amount::default();
    for name in layout::names(folder)? {
        let folder = folder.join(name.as_str());
        let usage = Usage::of_folder(&folder)?;
        let amount = match bkfs_store::repository::exists(&folder)? {
            true => Amount::of_repository(usage, snapshots(&name)?),
            // A repository that is being made, or was not finished.
            false => Amount { repositories: 0, ..Amount::of_repository(usage, 0) },
        };
        sum = sum.plus(amount);
    }
    Ok(sum)
}

/// How many snapshots of a repository are not gone for good.
pub(super) fn snapshots(repository: &Repository) -> Result<u64> {
    Ok(repository.operator().commits()?.iter().filter(|commit| !Fate::is_expired(commit.fate)).count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::quota::Limits;

    /// Alice may store 150 bytes and 3 snapshots, and shares the bytes of her parent with Bob.
    struct Family {
        stored: Amount,
    }

    impl Accounting for Family {
        fn bounds(&self, account: &Name) -> Vec<Bound> {
            let sharers = vec![name("parent"), name("alice"), name("bob")];
            let limits = Limits { bytes: Some(10_000), ..Limits::default() };
            let parents = Bound { account: name("parent"), limits, sharers };
            let limits = Limits { bytes: Some(150), snapshots: Some(3), ..Limits::default() };
            let own = Bound { account: account.clone(), limits, sharers: vec![account.clone()] };
            if account.as_str() == "alice" { vec![own, parents] } else { vec![parents] }
        }

        fn measure(&self, _: &Name, counts_snapshots: bool) -> Result<Amount> {
            let snapshots = if counts_snapshots { self.stored.snapshots } else { 0 };
            Ok(Amount { snapshots, ..self.stored })
        }
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn bytes(bytes: u64) -> Amount {
        Amount { bytes, ..Amount::default() }
    }

    #[test]
    fn an_overdraft_is_bounded_by_twice_the_limit_and_settled_as_what_was_stored() {
        let (ledger, family, alice) = (Ledger::default(), Family { stored: bytes(140) }, name("alice"));
        assert!(ledger.reserve(&family, &alice, bytes(20)).is_err());
        assert_eq!(ledger.room_for_overdraft(&family, &alice).unwrap().unwrap().left(), 160);
        let reservation = ledger.overdraw(&family, &alice, bytes(160)).unwrap();
        assert!(ledger.overdraw(&family, &alice, bytes(1)).is_err());
        reservation.settle_as(bytes(100));
        assert_eq!(ledger.room_for_overdraft(&family, &alice).unwrap().unwrap().left(), 60);
        assert!(ledger.reserve(&family, &alice, bytes(1)).is_err());
        // Measured again, since it could not be stored: nothing is there.
        assert_eq!(ledger.room(&family, &alice).unwrap().unwrap().left(), 0);
        drop(ledger.overdraw(&family, &alice, bytes(60)).unwrap());
        ledger.changed(&alice);
    }

    #[test]
    fn snapshots_stay_counted_when_another_account_is_measured_that_does_not_limit_them() {
        let stored = Amount { snapshots: 3, ..bytes(10) };
        let (ledger, family, alice) = (Ledger::default(), Family { stored }, name("alice"));
        assert!(ledger.reserve(&family, &alice, Amount { snapshots: 1, ..Amount::default() }).is_err());
        let bounds = family.bounds(&name("bob"));
        ledger.measure(&family, &bounds, |_| true).unwrap();
        assert_eq!(ledger.0.lock()[&alice].stored.unwrap().snapshots, 3);
    }
}
