//! Restoring into an empty folder: contents are read in the order in which they are stored, ahead of the threads that
//! write them.
//!
//! Small files share frames. If several threads restored several folders at a time, each in its own order, they would
//! fetch and open the same frames again and again. So would a single thread that follows the tree alone: files that
//! changed in later pushes, and copies of other files, are stored far from their neighbours. Therefore one thread walks
//! the tree, creates the folders, and gathers the small files into stretches. Another asks where their contents are
//! stored, and cuts each stretch, in that order, into large requests. A few threads fetch these, and all others write
//! the files whose contents have arrived.
//!
//! ```text
//! walk ──► stretches ──► sort ──► requests ──► fetch ──► files with their contents ──► write
//!   └──── large files: the threads that write them fetch them, in steps ──┘
//! ```
//!
//! The first stretch is one request, so that writing begins immediately. Each stretch is longer than the one before, up
//! to a bound on the memory for its files. Bytes that were fetched and are not written yet are bounded, and so is
//! everything else that waits. If a request fails, the writing threads ask for its files one by one, and report those
//! that are damaged.

mod request;
mod stretch;
mod walk;

use std::{
    io,
    ops::ControlFlow,
    sync::Arc,
    thread::{Builder, Scope},
};

use crossbeam_channel::bounded;

use super::{folder::Folder, worker::Workers};
use crate::pool::WorkerPool;
use request::{Request, Requester, fetch};
use stretch::Stretch;
use walk::TreeWalk;

/// Threads that fetch; one opens frames while the other waits for the store.
const THREADS: usize = 2;

/// Starts the threads that read ahead everything below a folder, and add the tasks to restore it. Fails if the system
/// refuses a thread that is needed.
pub(super) fn start<'scope>(
    workers: &'scope Workers<'_>,
    folder: Arc<Folder>,
    scope: &'scope Scope<'scope, '_>,
) -> io::Result<()> {
    let fetch = move |request: Request<'scope>| {
        fetch(workers, request);
        ControlFlow::Continue(())
    };
    let requests = WorkerPool::full(scope, "fetch", THREADS, 1, fetch)?.into_sender();
    // The channel holds nothing: one stretch is gathered while another is requested.
    let (stretches, gathered) = bounded::<Stretch>(0);
    let working = workers.queue.working();
    Builder::new().name("request".to_owned()).spawn_scoped(scope, move || {
        let requester = Requester::new(workers, requests);
        gathered.iter().for_each(|stretch| requester.request(stretch));
        // This thread is the last that has something to send, so it holds the guard.
        drop(working);
    })?;
    let walk = move || TreeWalk::new(workers, stretches).run(folder);
    Builder::new().name("walk".to_owned()).spawn_scoped(scope, walk).map(drop)
}
