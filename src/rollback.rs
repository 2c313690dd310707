//! What this process has found of a repository that was rolled back, or that shows its clients different histories.
//!
//! An older state is worth reading: on a bad day it may be all there is. So commands that read go on. But nobody may
//! take it for the newest state, least of all a script that only looks at the exit code. So what was found is printed
//! before anything else, and a command that would have ended well ends with [`Exit::RolledBack`].

use std::sync::{Mutex, PoisonError};

use crate::{failure::Exit, output};

/// What was found, and how much of it was printed.
static FOUND: Mutex<(Vec<String>, usize)> = Mutex::new((Vec::new(), 0));

/// Notes what was found: what happened, and what to do about it.
pub fn found(message: String) {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    if !found.0.contains(&message) {
        found.0.push(message);
    }
}

/// Forgets what was found: a person has accepted it.
pub fn accepted() {
    *FOUND.lock().unwrap_or_else(PoisonError::into_inner) = (Vec::new(), 0);
}

/// Prints what was found and not printed before. Returns whether anything was found.
pub fn warn() -> bool {
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let (messages, printed) = &mut *found;
    messages.iter().skip(*printed).for_each(|message| output::note(format!("warning: {message}")));
    *printed = messages.len();
    !messages.is_empty()
}

/// Returns the exit code of a command that has ended without an error.
pub fn exit_after(exit: Exit) -> Exit {
    match exit {
        Exit::Success | Exit::Incomplete if warn() => Exit::RolledBack,
        other => other,
    }
}
