//! The cost of each hot stage by itself, for the roofline in `docs/BENCHMARKS.md`. Each module measures one stage, or a
//! few that belong together. Comparisons of whole commands with other programs are elsewhere. Nothing here asserts a
//! time.
//!
//! ```text
//! cargo bench --bench stages            run all benchmarks
//! cargo bench --bench stages -- index   run those whose names contain "index"
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
