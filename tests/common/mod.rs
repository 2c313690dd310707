//! What the integration tests share: the real program with its own home folder, trees with unusual entries,
//! comparisons.
#![allow(dead_code, reason = "each test program uses only a part of this module")]
#![allow(clippy::unwrap_used)]

pub mod compare;
pub mod json_doc;
pub mod odd_tree;
pub mod poor_disk;
pub mod program;
pub mod terminal;

/// Prints why a test is skipped, and returns from it.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("skipped: {}", format_args!($($reason)*));
        return;
    }};
}
