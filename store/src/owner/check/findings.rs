//! The problems that a check has found so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::report::{CheckReport, Problem};
use crate::base::{
    error::{Error, Result},
    id::SnapshotId,
};

/// Collects problems, from several threads.
#[derive(Debug, Default)]
pub(super) struct Findings {
    problems: Mutex<Vec<Problem>>,
    total: AtomicU64,
}

impl Findings {
    /// Notes an error as a problem. What is wrong with one file is one problem, if it is noted in one go. Returns the
    /// error instead if the check cannot continue after it.
    pub fn note(&self, snapshot: Option<SnapshotId>, path: &[u8], error: Error) -> Result<()> {
        if matches!(error, Error::Interrupted | Error::Unreachable(_) | Error::NoPermission { .. }) {
            return Err(error);
        }
        if let Some(last) = self.problems.lock().last_mut()
            && !path.is_empty()
            && (last.snapshot, last.path.as_slice()) == (snapshot, path)
        {
            last.more += 1;
            return Ok(());
        }
        self.add(vec![Problem { snapshot, path: path.to_owned(), error, more: 0 }], 1);
        Ok(())
    }

    /// Notes an error that belongs to no snapshot.
    pub fn note_general(&self, error: Error) -> Result<()> {
        self.note(None, b"", error)
    }

    /// Whether there are no problems.
    pub fn is_empty(&self) -> bool {
        self.total.load(Relaxed) == 0
    }

    /// Adds the problems of `other`.
    pub fn merge(&self, other: Findings) {
        let (problems, total) = other.into_parts();
        self.add(problems, total);
    }

    /// Returns the problems that were kept, and how many there were in all.
    pub fn into_parts(self) -> (Vec<Problem>, u64) {
        (self.problems.into_inner(), self.total.into_inner())
    }

    fn add(&self, more: Vec<Problem>, total: u64) {
        self.total.fetch_add(total, Relaxed);
        let mut problems = self.problems.lock();
        let room = CheckReport::PROBLEMS_MAX - problems.len();
        problems.extend(more.into_iter().take(room));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_damaged_parts_of_a_file_are_one_problem() {
        let findings = Findings::default();
        let snapshot = Some(SnapshotId([1; 32]));
        for path in ["a", "a", "a", "b", ""] {
            findings.note(snapshot, path.as_bytes(), Error::Invalid("x".into())).unwrap();
        }
        findings.note_general(Error::Invalid("y".into())).unwrap();
        let (problems, total) = findings.into_parts();
        let more: Vec<_> = problems.iter().map(|problem| problem.more).collect();
        assert_eq!((more, total), (vec![2, 0, 0, 0], 4));
        assert!(problems[0].to_string().ends_with("/a: x (and 2 more damaged parts)"), "{}", problems[0]);
    }
}
