//! Lists that a store returns in parts, until it says that there is no more.
//!
//! Nothing that a key holder has signed says how many packs a store has: it may list packs that it invents, and never
//! end. So a part may not hold more than was asked for, the items must ascend, and there is a limit to a whole list.

use crate::base::{
    error::{Error, Result},
    id::PackId,
};

/// The most packs of one repository that a client lists: 128 TiB in packs of ordinary size. A list of so many takes 400
/// MB.
pub(crate) const PACKS_MAX: usize = 8 * 1024 * 1024;

/// Fails if a reply holds more items than were asked for.
pub(crate) fn expect_count(found: usize, asked: usize, what: &str) -> Result<()> {
    match found <= asked {
        true => Ok(()),
        false => Err(Error::Invalid(format!("the store was asked for {asked} {what} and returned {found}"))),
    }
}

/// A list of packs that is being read.
pub(crate) struct PackPages {
    last: Option<PackId>,
    count: usize,
    max: usize,
}

impl PackPages {
    /// A list of at most [`PACKS_MAX`] packs.
    pub fn new() -> Self {
        Self { last: None, count: 0, max: PACKS_MAX }
    }

    /// The last pack so far.
    pub fn last(&self) -> Option<PackId> {
        self.last
    }

    /// Takes in the next part, of which at most `asked` packs were asked for.
    pub fn add(&mut self, part: impl ExactSizeIterator<Item = PackId>, asked: usize) -> Result<()> {
        expect_count(part.len(), asked, "packs")?;
        self.count += part.len();
        if self.count > self.max {
            return Err(Error::TooLarge {
                what: "the number of packs that the store lists",
                size: self.count as u64,
                limit: self.max as u64,
            });
        }
        for id in part {
            if self.last.is_some_and(|last| id <= last) {
                return Err(Error::Invalid("the store lists its packs in the wrong order, and would never end".into()));
            }
            self.last = Some(id);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u8>) -> std::vec::IntoIter<PackId> {
        numbers.map(|number| PackId([number; 32])).collect::<Vec<_>>().into_iter()
    }

    #[test]
    fn a_list_of_packs_ends_at_a_limit() {
        let mut pages = PackPages { max: 9, ..PackPages::new() };
        pages.add(ids(0..4), 4).unwrap();
        pages.add(ids(4..8), 4).unwrap();
        assert_eq!(pages.last(), Some(PackId([7; 32])));
        assert!(matches!(pages.add(ids(8..10), 4), Err(Error::TooLarge { size: 10, limit: 9, .. })));
    }

    #[test]
    fn a_part_with_more_packs_than_were_asked_for_is_refused() {
        let error = PackPages::new().add(ids(0..5), 4).unwrap_err().to_string();
        assert!(error.contains("asked for 4 packs and returned 5"), "{error}");
    }

    #[test]
    fn packs_must_ascend_within_a_part_and_between_parts() {
        let mut pages = PackPages::new();
        pages.add(ids(3..5), 4).unwrap();
        assert!(pages.add(ids(4..6), 4).is_err());
        assert!(PackPages::new().add(ids(3..5).rev().collect::<Vec<_>>().into_iter(), 4).is_err());
    }
}
