//! A few of many chunk ids, each as likely as any other (Vitter's algorithm R).
//!
//! The store knows the ids and the order in which they come. So what decides is random numbers of the push, and not the
//! ids themselves: a store must not be able to tell which of them it will be asked about.

use bkfs_store::{base::id::ChunkId, crypto};

/// How many ids a sample keeps.
pub const SAMPLE: usize = 64;

/// A few of the ids that were offered.
#[derive(Debug, Default)]
pub struct Sample {
    ids: Vec<ChunkId>,
    offered: u64,
    random: RandomNumbers,
}

impl Sample {
    /// Offers an id.
    pub fn offer(&mut self, id: ChunkId) {
        self.offer_with(|| Some(id));
    }

    /// Offers an id that is only made if it is taken. There may turn out to be none.
    pub fn offer_with(&mut self, make: impl FnOnce() -> Option<ChunkId>) {
        self.offered += 1;
        if self.ids.len() < SAMPLE {
            self.ids.extend(make());
        } else if let Some(slot) = self.ids.get_mut((self.random.next() % self.offered) as usize)
            && let Some(id) = make()
        {
            *slot = id;
        }
    }

    /// The ids that were taken.
    pub fn ids(&self) -> &[ChunkId] {
        &self.ids
    }

    /// Takes a few of the ids of several samples, in proportion to what was offered to each.
    pub fn merge(samples: Vec<Self>) -> Vec<ChunkId> {
        let (mut random, mut samples) = (RandomNumbers::default(), samples);
        let mut taken = Vec::with_capacity(SAMPLE);
        while taken.len() < SAMPLE {
            samples.retain(|sample| !sample.ids.is_empty());
            let total: u64 = samples.iter().map(|sample| sample.offered).sum();
            if total == 0 {
                break;
            }
            let mut at = random.next() % total;
            for sample in &mut samples {
                if at < sample.offered {
                    let place = random.next() % sample.ids.len() as u64;
                    taken.push(sample.ids.swap_remove(place as usize));
                    break;
                }
                at -= sample.offered;
            }
        }
        taken
    }
}

/// Random numbers, fetched from the kernel many at a time.
#[derive(Debug, Default)]
pub struct RandomNumbers(Vec<u64>);

impl RandomNumbers {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        if self.0.is_empty() {
            let bytes: [u8; 512] = crypto::random();
            self.0.extend(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)));
        }
        self.0.pop().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u16) -> ChunkId {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&number.to_le_bytes());
        ChunkId(id)
    }

    #[test]
    fn a_sample_keeps_a_few_of_all_and_makes_no_others() {
        let (mut sample, mut made) = (Sample::default(), 0);
        for number in 0..6400 {
            sample.offer_with(|| {
                made += 1;
                Some(id(number))
            });
        }
        assert_eq!((sample.ids().len(), sample.offered), (SAMPLE, 6400));
        // 64 * (1 + ln 100) are expected.
        assert!((200..1000).contains(&made), "{made} were made");
        let late = sample.ids().iter().filter(|taken| **taken > id(3200) || taken.0[1] >= 12).count();
        assert!((8..=56).contains(&late), "{late} of 64 are of the second half");
    }

    #[test]
    fn samples_are_merged_in_proportion() {
        let (mut few, mut many) = (Sample::default(), Sample::default());
        (0..10).for_each(|number| few.offer(id(number)));
        (0..60_000).for_each(|number| many.offer(id(1000 + number % 60_000)));
        let taken = Sample::merge(vec![few, many]);
        assert_eq!(taken.len(), SAMPLE);
        assert!(taken.iter().filter(|taken| taken.0[1] == 0 && taken.0[0] < 10).count() < 10);
        let (mut one, mut other) = (Sample::default(), Sample::default());
        (0..3).for_each(|number| one.offer(id(number)));
        other.offer(id(9));
        assert_eq!(Sample::merge(vec![one, Sample::default(), other]).len(), 4, "all, if there are few");
        assert!(Sample::merge(vec![]).is_empty());
    }
}
