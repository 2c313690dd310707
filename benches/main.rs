//! What each hot stage costs by itself, for the roofline in `docs/BENCHMARKS.md`: one module a stage, or a few that belong
//! together. Whole commands beside other programs are measured elsewhere; nothing here asserts a time.
//!
//! ```text
//! cargo bench --bench stages            all
//! cargo bench --bench stages -- index   those whose names contain "index"
//! ```

#![allow(clippy::unwrap_used)]

mod bytes;
mod index;
mod material;
mod network;
mod read;
mod trees;
mod walk;

fn main() {
    divan::main();
}
