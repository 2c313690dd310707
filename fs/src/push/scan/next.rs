//! What the scanner meets in a directory, one after another.

use std::sync::Arc;

use crate::{
    push::stream::{StreamFile, StreamTree},
    walk::{Entry, ListTask},
};

/// What comes next in a directory.
pub enum Next {
    /// An entry of the source, and the streams below it if it is a directory.
    Entry { entry: Entry, task: Option<Arc<ListTask>>, streams: StreamTree },
    /// A file that is read from a stream.
    Stream { name: Vec<u8>, file: StreamFile },
    /// A directory that only streams have.
    StreamDir { name: Vec<u8>, streams: StreamTree },
    /// Nothing.
    End,
}
