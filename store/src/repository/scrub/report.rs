//! What a scrub found. This is what is kept and shown.

use minicbor::{Decode, Encode};

use crate::{
    access::Span,
    base::{id::PackId, time::Time},
};

/// What a scrub found. Counts begin with the scrub, and go on if it was stopped and resumed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ScrubReport {
    /// When it began, by the store's clock.
    #[n(0)]
    pub started: Time,
    /// When it ended; none if it runs or was stopped.
    #[n(1)]
    pub ended: Option<Time>,
    /// The last pack that is done. Packs are scrubbed in the order of their ids.
    #[n(2)]
    pub reached: Option<PackId>,
    /// Records of the log.
    #[n(3)]
    pub log_records: u64,
    /// Small objects: configuration, settings, key slots, snapshots.
    #[n(4)]
    pub objects: u64,
    /// Objects that had one copy damaged or missing, which was restored. The log counts as one.
    #[n(5)]
    pub objects_mended: u64,
    /// Packs.
    #[n(6)]
    pub packs: u64,
    /// Bytes of packs and parity that were read.
    #[n(7)]
    pub bytes: u64,
    /// Packs that were damaged, and are whole again.
    #[n(8)]
    pub packs_mended: u64,
    /// Shards of these packs that were restored.
    #[n(9)]
    pub shards_mended: u64,
    /// Parity that was missing, and was made.
    #[n(10)]
    pub parity_made: u64,
    /// Parity that was damaged, and was made again.
    #[n(11)]
    pub parity_mended: u64,
    /// Packs for which the index differed from their tables, and was corrected.
    #[n(12)]
    pub index_mended: u64,
    /// Packs that are damaged for good; at most [`ScrubReport::KEPT_MAX`].
    #[n(13)]
    pub lost: Vec<LostPack>,
    /// Everything that is still wrong, in words; at most [`ScrubReport::KEPT_MAX`].
    #[n(14)]
    pub problems: Vec<String>,
    /// How many problems there are.
    #[n(15)]
    pub problems_total: u64,
    /// When this was written.
    #[n(16)]
    pub kept: Time,
}

/// A pack that is damaged beyond mending.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct LostPack {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// What is lost of it; none if there is no parity that could tell.
    #[n(1)]
    pub spans: Option<Vec<Span>>,
    /// Frames that touch these spans.
    #[n(2)]
    pub frames: u32,
    /// Frames of the pack.
    #[n(3)]
    pub frames_total: u32,
}

/// No real count is larger.
const COUNT_MAX: u64 = u64::MAX / 2;

impl ScrubReport {
    /// How many lost packs and problems are kept.
    pub const KEPT_MAX: usize = 1000;

    pub(super) fn new(started: Time) -> Self {
        Self {
            started,
            ended: None,
            reached: None,
            log_records: 0,
            objects: 0,
            objects_mended: 0,
            packs: 0,
            bytes: 0,
            packs_mended: 0,
            shards_mended: 0,
            parity_made: 0,
            parity_mended: 0,
            index_mended: 0,
            lost: Vec::new(),
            problems: Vec::new(),
            problems_total: 0,
            kept: started,
        }
    }

    /// Forgets what is verified again when a scrub goes on: everything except packs. Also forgets counts that are too
    /// large to be real: nothing vouches for kept results, and counting must not overflow.
    pub(super) fn begin_again(&mut self) {
        (self.log_records, self.objects) = (0, 0);
        let counts = [&mut self.objects_mended, &mut self.packs, &mut self.bytes, &mut self.packs_mended];
        let more = [&mut self.shards_mended, &mut self.parity_made, &mut self.parity_mended, &mut self.index_mended];
        let counts = counts.into_iter().chain(more).chain([&mut self.problems_total]);
        counts.filter(|count| **count > COUNT_MAX).for_each(|count| *count = 0);
        let before = self.problems.len();
        self.problems.retain(|text| text.starts_with("pack "));
        self.problems_total = self.problems_total.saturating_sub((before - self.problems.len()) as u64);
    }

    pub(super) fn add_problem(&mut self, text: String) {
        if self.problems.contains(&text) {
            return;
        }
        tracing::error!(problem = text, "scrubbing found a problem");
        self.problems_total += 1;
        if self.problems.len() < Self::KEPT_MAX {
            self.problems.push(text);
        }
    }

    pub(super) fn add_lost(&mut self, lost: LostPack) {
        let (pack, frames, total) = (lost.pack, lost.frames, lost.frames_total);
        self.add_problem(match &lost.spans {
            Some(spans) => {
                let bytes: u64 = spans.iter().map(|span| u64::from(span.end - span.start)).sum();
                let first = spans.iter().take(8).map(|span| format!("{}..{}", span.start, span.end));
                let more = if spans.len() > 8 { ", ..." } else { "" };
                let first: Vec<_> = first.collect();
                let places = first.join(", ");
                match total {
                    // The list of its frames is lost, too.
                    0 => format!("pack {pack}: {bytes} bytes are lost (at {places}{more})"),
                    _ => format!(
                        "pack {pack}: {bytes} bytes are lost, in {frames} of its {total} frames (at {places}{more})"
                    ),
                }
            }
            None => format!("pack {pack}: it is damaged, and has no parity that tells where"),
        });
        if self.lost.len() < Self::KEPT_MAX && self.lost.iter().all(|other| other.pack != pack) {
            self.lost.push(lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::scrub::results::HEADER;

    /// Golden bytes: these are never edited.
    #[test]
    fn golden_results() {
        let mut report = ScrubReport::new(Time { secs: 1_000, nanos: 5 });
        report.ended = Some(Time { secs: 2_000, nanos: 0 });
        (report.packs, report.bytes, report.shards_mended) = (3, 70_000, 2);
        let spans = Some(vec![Span { start: 65_536, end: 131_072 }]);
        report.add_lost(LostPack { pack: PackId([7; 32]), spans, frames: 2, frames_total: 250 });
        let bytes = HEADER.encode(&report);
        assert_eq!(
            blake3::hash(&bytes).to_hex().as_str(),
            "ead23ef9371e83d12ebcb6cd1685fe2b1134b28a55133de3073ca91d94bb5952"
        );
        assert_eq!(HEADER.decode::<ScrubReport>(&bytes).unwrap(), report);
        assert_eq!(report.problems.len(), 1);
        assert!(report.problems[0].contains("65536 bytes are lost, in 2 of its 250 frames (at 65536..131072)"));
    }

    /// Found by fuzzing: a count overflowed.
    #[test]
    fn impossible_counts_begin_again() {
        let most = u64::MAX;
        let report = ScrubReport::new(Time::default());
        let mut report =
            ScrubReport { objects_mended: most, index_mended: most, problems_total: most, bytes: 7, ..report };
        report.begin_again();
        assert_eq!((report.objects_mended, report.index_mended, report.bytes), (0, 0, 7));
        report.add_problem("the first".into());
        assert_eq!(report.problems_total, 1);
    }

    #[test]
    fn kept_problems_are_bounded_and_unique() {
        let mut report = ScrubReport::new(Time::default());
        for i in 0..2000u32 {
            report.add_problem(format!("problem {i}"));
            report.add_problem("the same".into());
        }
        assert_eq!((report.problems.len(), report.problems_total), (ScrubReport::KEPT_MAX, 2001));
    }
}
