//! What the integration tests share: the real program with a home of its own, trees with every odd thing, comparisons.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used)]

pub mod compare;
pub mod odd_tree;
pub mod program;

/// Says why a test does nothing here.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)*) => {{
        println!("skipped: {}", format_args!($($reason)*));
        return;
    }};
}
