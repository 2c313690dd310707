//! Fair shares of something that is scarce: no client and no account can take all of it.
//!
//! A request first waits for room in its client's share, then in its account's, then in the whole. Each of the three is
//! a queue in order of arrival. So those who use up their own share wait for themselves. What waits for the whole is
//! bounded by the shares.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bkfs_store::base::id::Hash;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::url::Name;

/// From this many parties on, those that use nothing are forgotten.
const PARTIES_MAX: usize = 1024;

/// How much a client, an account and all together may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub client: u32,
    pub account: u32,
    pub total: u32,
}

/// Who has a share.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Party {
    Client(Hash),
    Account(Name),
}

/// Something scarce.
pub(super) struct Shares {
    limits: Limits,
    total: Arc<Semaphore>,
    parties: Mutex<HashMap<Party, Arc<Semaphore>>>,
    /// How many requests wait for room in the share of their account.
    waiting: Mutex<HashMap<Name, usize>>,
    /// How many requests wait for room in the whole.
    waiting_for_all: AtomicUsize,
}

/// A part of it. The part is free again when this is dropped.
pub(super) struct Share {
    permits: [OwnedSemaphorePermit; 3],
}

impl Shares {
    pub fn new(limits: Limits) -> Self {
        let (total, parties) = (Arc::new(Semaphore::new(limits.total as usize)), Mutex::default());
        Self { limits, total, parties, waiting: Mutex::default(), waiting_for_all: AtomicUsize::new(0) }
    }

    /// Waits for a part of this size, or of a client's whole share if that is less.
    pub async fn acquire(&self, account: &Name, client: Hash, size: usize) -> Share {
        let size = self.clamp(size);
        let of_client = acquire(self.of(Party::Client(client), self.limits.client), size).await;
        let of_account = {
            let _waiting = WaitingForAccount::begin(&self.waiting, account);
            acquire(self.of(Party::Account(account.clone()), self.limits.account), size).await
        };
        let _waiting = WaitingForAll::begin(&self.waiting_for_all);
        let of_total = acquire(self.total.clone(), size).await;
        Share { permits: [of_client, of_account, of_total] }
    }

    /// Takes a part of this size if there is room for it.
    pub fn try_acquire(&self, account: &Name, client: Hash, size: usize) -> Option<Share> {
        let size = self.clamp(size);
        let of_client = self.of(Party::Client(client), self.limits.client).try_acquire_many_owned(size).ok()?;
        let of_account = self.of(Party::Account(account.clone()), self.limits.account);
        let of_account = of_account.try_acquire_many_owned(size).ok()?;
        let of_total = self.total.clone().try_acquire_many_owned(size).ok()?;
        Some(Share { permits: [of_client, of_account, of_total] })
    }

    /// Whether requests wait because an account holds what they need: others of that account, or those that wait for
    /// room in the whole.
    pub fn is_contended(&self, account: Option<&Name>) -> bool {
        self.waiting_for_all.load(Relaxed) > 0
            || account.is_some_and(|account| self.waiting.lock().contains_key(account))
    }

    /// Whether requests wait for room in the whole while an account holds more than its fair part of it. If there is no
    /// room, at least one account does.
    pub fn is_over_fair_part(&self, account: &Name) -> bool {
        if self.waiting_for_all.load(Relaxed) == 0 {
            return false;
        }
        let parties = self.parties.lock();
        let accounts = parties.iter().filter_map(|(party, share)| match party {
            // Those that hold something, or wait for it.
            Party::Account(name) if Arc::strong_count(share) > 1 => Some((name, share)),
            _ => None,
        });
        let (mut count, mut held) = (0, 0);
        for (name, share) in accounts {
            count += 1;
            if name == account {
                held = self.limits.account as usize - share.available_permits();
            }
        }
        held * count > self.limits.total as usize
    }

    fn clamp(&self, size: usize) -> u32 {
        let Limits { client, account, total } = self.limits;
        u32::try_from(size).unwrap_or(u32::MAX).min(client).min(account).min(total)
    }

    fn of(&self, party: Party, limit: u32) -> Arc<Semaphore> {
        let mut parties = self.parties.lock();
        if parties.len() >= PARTIES_MAX {
            parties.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        }
        parties.entry(party).or_insert_with(|| Arc::new(Semaphore::new(limit as usize))).clone()
    }
}

impl Share {
    /// Gives back what is more than this size.
    pub fn shrink(&mut self, size: usize) {
        for permit in &mut self.permits {
            drop(permit.split(permit.num_permits().saturating_sub(size)));
        }
    }
}

async fn acquire(semaphore: Arc<Semaphore>, size: u32) -> OwnedSemaphorePermit {
    semaphore.acquire_many_owned(size).await.expect("no semaphore is ever closed")
}

/// Counts a request that waits for room in the share of its account, also if it is given up.
struct WaitingForAccount<'a> {
    waiting: &'a Mutex<HashMap<Name, usize>>,
    account: &'a Name,
}

impl<'a> WaitingForAccount<'a> {
    fn begin(waiting: &'a Mutex<HashMap<Name, usize>>, account: &'a Name) -> Self {
        *waiting.lock().entry(account.clone()).or_default() += 1;
        Self { waiting, account }
    }
}

impl Drop for WaitingForAccount<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiting.lock();
        if let Some(count) = waiting.get_mut(self.account) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(self.account);
            }
        }
    }
}

/// Counts a request that waits for room in the whole, also if it is given up.
struct WaitingForAll<'a>(&'a AtomicUsize);

impl<'a> WaitingForAll<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Self {
        waiting.fetch_add(1, Relaxed);
        Self(waiting)
    }
}

impl Drop for WaitingForAll<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Poll};

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => None,
        }
    }

    #[test]
    fn who_uses_up_a_share_waits_alone() {
        let shares = Shares::new(Limits { client: 4, account: 6, total: 10 });
        let [a, b]: [Name; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let take = |account, client, size| shares.try_acquire(account, Hash([client; 32]), size);
        let mut first = take(&a, 1, 100).unwrap();
        assert!(take(&a, 1, 1).is_none(), "a client has its share and no more");
        let second = take(&a, 2, 2).unwrap();
        assert!(take(&a, 3, 1).is_none(), "and so has an account");
        let third = take(&b, 4, 4).unwrap();
        assert!(take(&b, 5, 1).is_none(), "all is taken");
        {
            let mut waiting = pin!(shares.acquire(&b, Hash([5; 32]), 1));
            assert!(poll(waiting.as_mut()).is_none() && shares.is_contended(None));
            first.shrink(1);
            assert!(poll(waiting.as_mut()).is_some());
        }
        assert!(!shares.is_contended(None));
        drop((first, second, third));
        assert_eq!(shares.total.available_permits(), 10);
        // A client that waits for itself hinders nobody.
        let whole = take(&a, 1, 4).unwrap();
        {
            let mut waiting = pin!(shares.acquire(&a, Hash([1; 32]), 1));
            assert!(poll(waiting.as_mut()).is_none() && !shares.is_contended(Some(&a)));
        }
        drop(whole);
        // What waits for its account is contention there, and nowhere else.
        let held = [take(&a, 1, 4).unwrap(), take(&a, 2, 2).unwrap()];
        let mut waiting = pin!(shares.acquire(&a, Hash([3; 32]), 1));
        assert!(poll(waiting.as_mut()).is_none());
        assert!(shares.is_contended(Some(&a)) && !shares.is_contended(Some(&b)) && !shares.is_contended(None));
        drop(held);
        assert!(poll(waiting.as_mut()).is_some() && !shares.is_contended(Some(&a)));
    }

    #[test]
    fn somebody_holds_more_than_a_fair_part_of_what_is_used_up() {
        let shares = Shares::new(Limits { client: 96, account: 96, total: 192 });
        let names: Vec<Name> = (0..15).map(|n| format!("a{n}").parse().unwrap()).collect();
        let take = |n: usize, size| shares.try_acquire(&names[n], Hash([n as u8; 32]), size);
        // Two accounts hold all of it.
        let held = [take(0, 96).unwrap(), take(1, 96).unwrap()];
        assert!(!shares.is_over_fair_part(&names[0]), "nobody else wants any");
        {
            let mut waiting = pin!(shares.acquire(&names[2], Hash([2; 32]), 1));
            assert!(poll(waiting.as_mut()).is_none());
            assert!(shares.is_over_fair_part(&names[0]) && shares.is_over_fair_part(&names[1]));
            assert!(!shares.is_over_fair_part(&names[2]) && !shares.is_over_fair_part(&names[3]));
        }
        drop(held);
        // Twelve accounts hold a little each, and a thirteenth waits.
        let held: Vec<Share> = (0..12).map(|n| take(n, 16).unwrap()).collect();
        let mut waiting = pin!(shares.acquire(&names[12], Hash([12; 32]), 1));
        assert!(poll(waiting.as_mut()).is_none() && (0..12).all(|n| shares.is_over_fair_part(&names[n])));
        drop(held);
        assert!(poll(waiting.as_mut()).is_some() && !shares.is_over_fair_part(&names[0]));
    }

    #[test]
    fn a_client_that_joins_again_and_again_keeps_nobody_from_joining() {
        let (shares, account) = (Shares::new(super::super::limits::JOINS), "a".parse().unwrap());
        let client = |n| Hash([n; 32]);
        let _joins = shares.try_acquire(&account, client(1), 1).unwrap();
        let mut again: Vec<_> = (0..9).map(|_| Box::pin(shares.acquire(&account, client(1), 1))).collect();
        assert!(again.iter_mut().all(|join| poll(join.as_mut()).is_none()));
        assert!(poll(pin!(shares.acquire(&account, client(2), 1)).as_mut()).is_some());
    }

    #[test]
    fn parties_that_use_nothing_are_forgotten() {
        let shares = Shares::new(Limits { client: 1, account: 9999, total: 9999 });
        let account: Name = "a".parse().unwrap();
        let client = |n: u32| Hash(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let held = shares.try_acquire(&account, client(0), 1).unwrap();
        (1..5000).for_each(|n| drop(shares.try_acquire(&account, client(n), 1).unwrap()));
        assert!(shares.parties.lock().len() <= PARTIES_MAX);
        assert!(shares.try_acquire(&account, client(0), 1).is_none());
        drop(held);
    }
}
