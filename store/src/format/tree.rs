//! Trees: the contents of directories, cut by content into pages, with index levels above.
//!
//! A directory is a sequence of nodes in the byte order of their names. [`TreeBuilder`] cuts it into leaf pages where a
//! keyed hash of a name decides, and builds index pages above them by the same rule until one page is left. Equal
//! directories have equal pages whatever their history, and a change rewrites only the pages that it touches.
//! `format::content` does the same for the extents of large files. A page is a chunk of kind tree.

mod build;
mod node;
mod page;

pub use build::TreeBuilder;
pub use node::{Content, Device, Extent, Node, NodeKind, Subtree, Totals, Xattr};
pub use page::{DirChild, PAGE_MAX, Page, SpanChild};
pub(crate) use page::{PageKind, PageWriter};
