//! How often a prune may have the stored ids of one first byte looked through.
//!
//! Each filter costs a look at all stored copies of chunks whose ids have its first byte, and a filter may be two bytes
//! long. A key holder sends one filter for each first byte, more if the live ids do not fit into one, and one more each
//! time that snapshots were committed meanwhile.

use crate::{
    base::error::{Error, Result},
    format::filter::FILTER_IDS,
};

/// Filters with as many ids are free: with half a megabyte or more, they pay for themselves. Only the last one of each
/// round has fewer. What is stored does not bound how many of these an honest key holder sends, because a client can
/// commit a tree that names chunks which it never stored.
const LARGE_FILTER: usize = FILTER_IDS / 2;
/// How often all copies of a first byte may be looked at for smaller filters.
const SCANS_MAX: u64 = 32;
/// How many copies may be looked at in any case. If few are stored, a prune can mark hundreds of times while clients
/// commit without a break ([`super::hold`]), and this many are looked at in less than a second.
const VISITS_FREE: u64 = 4 << 20;

/// What the filters of one prune have cost so far, by first bytes.
#[derive(Debug)]
pub(super) struct ScanBudget(Box<[Cost; 256]>);

#[derive(Debug, Clone, Copy, Default)]
struct Cost {
    is_seen: bool,
    /// How many copies the last scan looked at.
    rows: u64,
    /// How many copies all scans for small filters together have looked at.
    visits: u64,
}

impl Default for ScanBudget {
    fn default() -> Self {
        Self(Box::new([Cost::default(); 256]))
    }
}

impl ScanBudget {
    /// Whether a filter came before for ids with this first byte.
    pub fn has_seen(&self, first: u8) -> bool {
        self.0[usize::from(first)].is_seen
    }

    /// Whether a filter came for every first byte.
    pub fn is_complete(&self) -> bool {
        self.0.iter().all(|cost| cost.is_seen)
    }

    /// Fails if a filter of `ids` ids is too much.
    pub fn expect_room(&self, first: u8, ids: usize) -> Result<()> {
        let cost = self.0[usize::from(first)];
        let max = VISITS_FREE.saturating_add(cost.rows.saturating_mul(SCANS_MAX));
        if ids >= LARGE_FILTER || cost.visits < max {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "this prune has sent too many small filters of ids that begin with byte {first:02x}; if clients commit \
             snapshots all the time, run it again when they do not"
        )))
    }

    /// Notes that a filter came for ids with this first byte.
    pub fn set_seen(&mut self, first: u8) {
        self.0[usize::from(first)].is_seen = true;
    }

    /// Notes that a filter of `ids` ids was compared with `rows` copies.
    pub fn charge(&mut self, first: u8, ids: usize, rows: u64) {
        let cost = &mut self.0[usize::from(first)];
        cost.rows = rows;
        if ids < LARGE_FILTER {
            cost.visits = cost.visits.saturating_add(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many filters of `ids` ids are taken, of 65,536, if there are `rows` copies of one first byte; and how many
    /// copies are looked at for them.
    fn taken(ids: usize, rows: u64) -> (u64, u64) {
        let mut budget = ScanBudget::default();
        let taken = (0..65_536).take_while(|_| {
            let has_room = budget.expect_room(7, ids).is_ok();
            if has_room {
                budget.charge(7, ids, rows);
            }
            has_room
        });
        let taken = taken.count() as u64;
        (taken, taken * rows)
    }

    #[test]
    fn small_filters_of_one_first_byte_are_refused_beyond_a_number_of_scans() {
        // 65,536 filters of two bytes would have looked at 17,000,000,000 copies.
        assert_eq!(taken(2, 262_144), (48, 48 * 262_144));
        let (filters, visits) = taken(0, 100_000_000);
        assert!(filters == 33 && visits <= 100_000_000 * 33, "{filters}");
        // Few copies cost little, and the rounds of a prune must not run out.
        assert_eq!(taken(0, 0).0, 65_536);
        assert!(taken(0, 1000).0 > 4000);
    }

    #[test]
    fn filters_that_are_full_are_not_counted() {
        let mut budget = ScanBudget::default();
        for _ in 0..1000 {
            budget.expect_room(0, FILTER_IDS - 3).unwrap();
            budget.charge(0, FILTER_IDS - 3, 1_000_000_000);
        }
        budget.expect_room(0, 5).unwrap();
        budget.charge(0, 5, 1_000_000_000);
        budget.set_seen(0);
        assert!(budget.has_seen(0) && !budget.has_seen(1) && !budget.is_complete());
    }
}
