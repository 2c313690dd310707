//! Trees: the contents of directories, cut by content into pages, with index levels above.

mod node;

pub use node::{Content, Device, Extent, Node, NodeKind, Subtree, Time, Totals, Xattr};
