//! Errors of policies and plans.

use super::group::Group;

/// Why a policy cannot be read or planned with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// The policy has no rule.
    #[error(
        "the policy keeps nothing, so nothing was forgotten: give at least one --keep-… above 0, or name the snapshots \
         to forget"
    )]
    EmptyPolicy,
    /// The policy's rules keep no snapshot of a group.
    #[error(
        "the policy would forget all {snapshots} snapshots of {group}, so nothing was forgotten: add --keep-last 1, or \
         name the snapshots to forget"
    )]
    KeepsNothing {
        /// The group.
        group: Box<Group>,
        /// How many snapshots it has.
        snapshots: usize,
    },
    /// A text that is not a count, an age, a list of tags or a grouping.
    #[error("{text:?} is not a valid {what}: {reason}")]
    Syntax {
        /// What was expected.
        what: &'static str,
        /// What was given, shortened.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RetentionError {
    /// Characters of a wrong text that an error shows at most.
    const SHOWN_CHARS: usize = 40;

    /// A syntax error in a text.
    pub(super) fn syntax(what: &'static str, text: &str, reason: impl Into<String>) -> Self {
        RetentionError::Syntax { what, text: text.chars().take(Self::SHOWN_CHARS).collect(), reason: reason.into() }
    }
}
