//! A file on its way from the thread that reads it to the assembler.

use std::{collections::VecDeque, io, time::Duration};

use parking_lot::{Condvar, Mutex};

use super::{
    budget::{Budget, Closed},
    piece::{Piece, PieceSink, ReadJob},
    read::FileReader,
};

/// How long to wait for a piece before a look at whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(200);

/// A file to be read, and the pieces that wait for the assembler.
pub struct PendingFile {
    /// The file.
    pub job: ReadJob,
    /// What was read of it.
    pub pieces: PieceQueue,
}

/// The pieces of a file that wait for the assembler.
#[derive(Default)]
pub struct PieceQueue {
    pieces: Mutex<VecDeque<Piece>>,
    arrived: Condvar,
}

impl PieceQueue {
    /// Waits for the next piece. Fails if `is_over` meanwhile: what is read from may be silent for hours.
    pub fn next(&self, is_over: impl Fn() -> bool) -> Result<Piece, Closed> {
        let mut pieces = self.pieces.lock();
        loop {
            if let Some(piece) = pieces.pop_front() {
                return Ok(piece);
            }
            if self.arrived.wait_for(&mut pieces, PATIENCE).timed_out() && is_over() {
                return Err(Closed);
            }
        }
    }

    /// Fills the queue with the pieces of the file of this number, within the budget. The last piece always arrives: if
    /// `read` stops early or panics, it is a failure.
    pub fn fill(&self, number: u64, budget: &Budget, read: impl FnOnce(&mut dyn PieceSink) -> Result<(), Closed>) {
        let unfinished = Unfinished(self);
        if read(&mut BudgetedSink { number, pieces: self, budget }).is_ok() {
            std::mem::forget(unfinished);
        }
    }

    /// Ends the wait for a file that nothing more is read of.
    pub fn abandon(&self) {
        self.put(Piece::Failed(io::ErrorKind::Interrupted.into()));
    }

    fn put(&self, piece: Piece) {
        self.pieces.lock().push_back(piece);
        self.arrived.notify_one();
    }
}

impl PendingFile {
    /// A file that has not been read.
    pub fn new(job: ReadJob) -> Self {
        Self { job, pieces: PieceQueue::default() }
    }

    /// Reads the file within the budget.
    pub fn fill(&self, reader: &FileReader, budget: &Budget) {
        self.pieces.fill(self.job.number, budget, |sink| reader.read(&self.job, sink));
    }
}

/// Abandons a file when dropped.
struct Unfinished<'a>(&'a PieceQueue);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Puts the pieces of a file into a queue, each when the budget has room for it.
struct BudgetedSink<'a> {
    number: u64,
    pieces: &'a PieceQueue,
    budget: &'a Budget,
}

impl PieceSink for BudgetedSink<'_> {
    fn reserve(&mut self, bytes: usize) -> Result<(), Closed> {
        self.budget.take(self.number, bytes)
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Closed> {
        self.pieces.put(piece);
        Ok(())
    }
}
