//! What a run did, and how that counts.

use bkfs_store::owner::{check::CheckReport, prune::PruneReport};

use crate::{
    config::RunResult,
    failure::{Exit, describe, exit_of},
    push_job::{Pushed, alarm_text},
};

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What happened, to what.
    pub message: String,
    /// What to do about it. May be empty.
    pub hint: String,
}

/// What forgetting did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// How many snapshots went to the trash.
    pub trashed: u64,
    /// Why nothing was forgotten in some groups.
    pub holds: Vec<String>,
}

/// What was done in one repository.
pub struct RepositoryOutcome {
    /// Its name in the profile.
    pub repository: String,
    /// The push, if it made a snapshot.
    pub pushed: Option<Pushed>,
    /// What was forgotten, if the profile says so and the key can.
    pub forgotten: Option<Forgotten>,
    /// What was pruned, if it was due.
    pub pruned: Option<PruneReport>,
    /// What was checked, if it was due.
    pub checked: Option<CheckReport>,
    /// What the profile asks for and was not done, because key or server do not allow it.
    pub skipped: Vec<String>,
    /// What went wrong. Problems of the reports are not among them.
    pub troubles: Vec<Trouble>,
    /// Whether a signal stopped it.
    pub is_interrupted: bool,
    /// How long it took.
    pub duration_ms: u64,
}

impl RepositoryOutcome {
    /// Nothing was done yet.
    pub fn new(repository: &str) -> Self {
        Self {
            repository: repository.to_owned(),
            pushed: None,
            forgotten: None,
            pruned: None,
            checked: None,
            skipped: Vec::new(),
            troubles: Vec::new(),
            is_interrupted: false,
            duration_ms: 0,
        }
    }

    /// Notes that a step failed.
    pub fn fail(&mut self, step: &str, error: &anyhow::Error) {
        let described = describe(error);
        self.is_interrupted |= exit_of(error) == Exit::Interrupted;
        let message = if step.is_empty() { described.message } else { format!("{step}: {}", described.message) };
        self.troubles.push(Trouble { message, hint: described.hint });
    }

    /// Returns how it ended.
    pub fn result(&self) -> RunResult {
        let is_damaged = self.checked.as_ref().is_some_and(|report| report.problems_total > 0);
        let is_held = self.forgotten.as_ref().is_some_and(|forgotten| !forgotten.holds.is_empty());
        match &self.pushed {
            _ if self.is_interrupted => RunResult::Interrupted,
            None => RunResult::Failed,
            Some(_) if is_damaged => RunResult::Failed,
            Some(pushed) if pushed.rollback.is_some() => RunResult::Failed,
            Some(pushed) if pushed.exit() != Exit::Success || is_held => RunResult::Partly,
            Some(_) if !self.troubles.is_empty() => RunResult::Partly,
            Some(_) => RunResult::Success,
        }
    }

    /// Returns what went wrong, in a line, if anything did.
    pub fn error(&self) -> Option<String> {
        let mut parts: Vec<String> = self.troubles.iter().map(|trouble| trouble.message.clone()).collect();
        if let Some(pushed) = &self.pushed {
            let stats = &pushed.report.stats;
            if stats.errors > 0 {
                parts.push(format!("{} of the source could not be read", crate::output::count(stats.errors, "part")));
            }
            parts.extend(pushed.report.alarm.as_ref().map(alarm_text));
            parts.extend(pushed.emptied.iter().map(|(path, _)| format!("{} has no files now", path.display())));
            parts.extend(pushed.rollback.iter().map(|how| format!("{} was rolled back: {how}", pushed.place)));
        }
        parts.extend(self.forgotten.iter().flat_map(|forgotten| &forgotten.holds).map(|hold| format!("held: {hold}")));
        if let Some(report) = self.checked.as_ref().filter(|report| report.problems_total > 0) {
            parts.push(format!("the check found {}", crate::output::count(report.problems_total, "problem")));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// What a run of one profile did.
pub struct ProfileOutcome {
    /// The profile.
    pub profile: String,
    /// The repositories that were reached before the run ended.
    pub repositories: Vec<RepositoryOutcome>,
    /// What went wrong apart from them: hooks.
    pub troubles: Vec<Trouble>,
    /// Whether another run of the profile is under way, so that nothing was done.
    pub is_busy: bool,
    /// Whether a signal stopped it.
    pub is_interrupted: bool,
    /// How long it took.
    pub duration_ms: u64,
}

impl ProfileOutcome {
    /// Nothing was done yet.
    pub fn new(profile: &str) -> Self {
        Self {
            profile: profile.to_owned(),
            repositories: Vec::new(),
            troubles: Vec::new(),
            is_busy: false,
            is_interrupted: false,
            duration_ms: 0,
        }
    }

    /// Notes that something outside of the repositories failed.
    pub fn fail(&mut self, error: &anyhow::Error) {
        let described = describe(error);
        self.troubles.push(Trouble { message: described.message, hint: described.hint });
    }

    /// Returns how it ended.
    pub fn result(&self) -> RunResult {
        if self.is_interrupted {
            return RunResult::Interrupted;
        }
        let results = self.repositories.iter().map(RepositoryOutcome::result);
        combined(results, !self.troubles.is_empty())
    }

    /// Returns what went wrong, in a line, if anything did.
    pub fn error(&self) -> Option<String> {
        let own = self.troubles.iter().map(|trouble| trouble.message.clone());
        let below = self.repositories.iter().filter_map(|outcome| {
            let error = outcome.error()?;
            Some(if error.contains(&outcome.repository) { error } else { format!("{}: {error}", outcome.repository) })
        });
        let mut parts: Vec<String> = own.chain(below).collect();
        if self.is_interrupted && parts.is_empty() {
            parts.push("a signal stopped it".to_owned());
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Returns how several parts ended together. With `troubles` of its own, the whole is no success.
pub fn combined(results: impl IntoIterator<Item = RunResult>, has_troubles: bool) -> RunResult {
    let results: Vec<RunResult> = results.into_iter().collect();
    let all = |result| results.iter().all(|one| *one == result);
    match () {
        () if results.contains(&RunResult::Interrupted) => RunResult::Interrupted,
        () if all(RunResult::Failed) => RunResult::Failed,
        () if all(RunResult::Success) && !has_troubles => RunResult::Success,
        () => RunResult::Partly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failure_among_several_is_partly() {
        use RunResult::{Failed, Interrupted, Partly, Success};
        for (results, has_troubles, whole) in [
            (&[Success, Success][..], false, Success),
            (&[Success], true, Partly),
            (&[Success, Failed], false, Partly),
            (&[Success, Partly], false, Partly),
            (&[Failed, Partly], false, Partly),
            (&[Failed, Failed], false, Failed),
            (&[Failed, Interrupted], false, Interrupted),
            // The hook `before` failed, so there is none.
            (&[], true, Failed),
        ] {
            assert_eq!(combined(results.iter().copied(), has_troubles), whole, "{results:?}");
        }
    }
}
