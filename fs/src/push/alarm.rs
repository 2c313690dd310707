//! An alarm for what a program that encrypts files in place leaves behind: files that were text, tables or programs and
//! are noise now.
//!
//! Of each file that is read, a part of its first chunk is looked at. If the distribution of its bytes is that of
//! random numbers, as in encrypted and in compressed data, the file is *noise*; otherwise it is *calm*. The file cache
//! remembers which files were calm. A calm file that is noise at the next push has become unreadable to whoever made
//! it. So has, probably, a calm file that is gone while a new one that is noise has its name with something after it:
//! that is how some of these programs name what they encrypt. Photos, archives and packages that come and go are
//! neither, and what was noise before proves nothing.

use std::time::{Duration, Instant};

/// Bytes of a file that are looked at.
const SAMPLE: usize = 4096;
/// Of fewer bytes nothing can be said.
const SAMPLE_MIN: usize = 512;
/// Noise has nearly as many bits of information in each byte as so few bytes can show; this much may be missing.
const MISSING_BITS: f64 = 0.12;
/// Pushes of this time count together: a watch pushes while files are encrypted one after another.
const WINDOW: Duration = Duration::from_secs(3600);

/// What the bytes of a file look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Like something that a person or a program can read.
    Calm,
    /// Like random numbers.
    Noise,
}

impl Look {
    /// Looks at the beginning of a file; none if there is too little of it.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        // The very beginning is often a head in the clear.
        let bytes = &bytes[bytes.len() / 8..];
        let bytes = &bytes[..bytes.len().min(SAMPLE)];
        if bytes.len() < SAMPLE_MIN {
            return None;
        }
        let mut counts = [0u32; 256];
        bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        let len = bytes.len() as f64;
        let bits = |count: &u32| {
            let share = f64::from(*count) / len;
            -share * share.log2()
        };
        let entropy: f64 = counts.iter().filter(|count| **count > 0).map(bits).sum();
        // The expected entropy of so many random bytes (Miller 1955).
        let expected = 8.0 - 255.0 / (2.0 * len * std::f64::consts::LN_2);
        Some(if entropy >= expected - MISSING_BITS { Self::Noise } else { Self::Calm })
    }
}

/// What a push saw of files that became noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upheaval {
    /// Calm files that are noise now.
    pub became_noise: u64,
    /// New files that are noise, with the name of a calm file that is gone and something after it.
    pub renamed: u64,
}

impl Upheaval {
    /// How many files have probably become unreadable.
    pub fn files(&self) -> u64 {
        self.became_noise.saturating_add(self.renamed)
    }

    /// Adds what another push saw.
    pub fn add(&mut self, other: &Self) {
        self.became_noise = self.became_noise.saturating_add(other.became_noise);
        self.renamed = self.renamed.saturating_add(other.renamed);
    }
}

/// How many files must have become unreadable for an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmLimits {
    /// At least this many.
    pub files: u64,
    /// And this share of all, in percent.
    pub percent: u32,
}

impl Default for AlarmLimits {
    fn default() -> Self {
        Self { files: 20, percent: 5 }
    }
}

/// That many files have become unreadable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alarm {
    /// How many.
    pub files: u64,
    /// Of how many in the snapshot.
    pub of: u64,
}

impl AlarmLimits {
    /// Whether what pushes saw is alarming. `of` is the number of files in the snapshot.
    pub fn judge(&self, seen: &Upheaval, of: u64) -> Option<Alarm> {
        let files = seen.files();
        let is_alarming = files >= self.files.max(1)
            && u128::from(files) * 100 >= u128::from(of.max(files)) * u128::from(self.percent);
        is_alarming.then_some(Alarm { files, of })
    }
}

/// What the pushes of a series saw within the last hour.
#[derive(Debug, Default)]
pub struct Recent(Vec<(Instant, Upheaval)>);

impl Recent {
    /// What they saw, with what the present push saw.
    pub fn with(&self, now: Instant, seen: &Upheaval) -> Upheaval {
        let mut all = *seen;
        let recent = self.0.iter().filter(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
        recent.for_each(|(_, seen)| all.add(seen));
        all
    }

    /// Adds what the present push saw.
    pub fn add(&mut self, now: Instant, seen: Upheaval) {
        self.0.retain(|(at, _)| now.saturating_duration_since(*at) < WINDOW);
        if seen != Upheaval::default() {
            self.0.push((now, seen));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn noise_is_told_from_what_can_be_read() {
        let text: Vec<u8> = include_bytes!("alarm.rs").to_vec();
        let numbers: Vec<u8> = (0..4096u32).flat_map(|number| (number * 7919).to_le_bytes()).collect();
        for calm in [text.clone(), vec![0; 9000], numbers, text[..1000].to_vec()] {
            assert_eq!(Look::of(&calm), Some(Look::Calm), "{} bytes", calm.len());
        }
        for len in [600, 1000, 5000, 200_000] {
            assert_eq!(Look::of(&noise(len)), Some(Look::Noise), "{len}");
        }
        let packed = zstd_of(&text.repeat(3));
        assert_eq!(Look::of(&packed), Some(Look::Noise));
        assert_eq!((Look::of(&noise(500)), Look::of(b"")), (None, None));
        // A program: the one that runs this test.
        let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Look::of(&program[..1 << 20]), Some(Look::Calm));
    }

    fn zstd_of(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Vec::new();
        assert!(bkfs_store::format::compress::compress(bytes, 19, &mut packed));
        packed
    }

    #[test]
    fn an_alarm_needs_a_number_and_a_share() {
        let limits = AlarmLimits::default();
        let became = |files| Upheaval { became_noise: files, ..Upheaval::default() };
        assert_eq!(limits.judge(&became(19), 50), None, "too few");
        assert_eq!(limits.judge(&became(20), 400), Some(Alarm { files: 20, of: 400 }));
        assert_eq!(limits.judge(&became(20), 401), None, "too small a share");
        let both = Upheaval { became_noise: 10, renamed: 90 };
        assert_eq!(limits.judge(&both, 1000).map(|alarm| alarm.files), Some(100));
        assert_eq!(AlarmLimits { files: 0, percent: 0 }.judge(&became(0), 0), None);
    }

    #[test]
    fn pushes_of_an_hour_count_together() {
        let (begin, mut recent) = (Instant::now(), Recent::default());
        let seen = Upheaval { became_noise: 8, ..Upheaval::default() };
        for minutes in [0, 20, 40] {
            recent.add(begin + Duration::from_secs(minutes * 60), seen);
        }
        let at = |minutes: u64| recent.with(begin + Duration::from_secs(minutes * 60), &seen).files();
        assert_eq!((at(50), at(70), at(200)), (32, 24, 8));
    }
}
