//! A file on its way from the thread that reads it to the assembler.

use std::{collections::VecDeque, io};

use parking_lot::{Condvar, Mutex};

use super::{
    budget::{Budget, Closed},
    piece::{Piece, PieceSink, ReadJob},
    read::FileReader,
};

/// A file to be read, and the pieces that wait for the assembler.
pub struct PendingFile {
    /// The file.
    pub job: ReadJob,
    pieces: Mutex<VecDeque<Piece>>,
    arrived: Condvar,
}

impl PendingFile {
    /// A file that has not been read.
    pub fn new(job: ReadJob) -> Self {
        Self { job, pieces: Mutex::default(), arrived: Condvar::new() }
    }

    /// Waits for the next piece.
    pub fn next_piece(&self) -> Piece {
        let mut pieces = self.pieces.lock();
        loop {
            if let Some(piece) = pieces.pop_front() {
                return piece;
            }
            self.arrived.wait(&mut pieces);
        }
    }

    /// Reads the file within the budget. The last piece always arrives: if the reader stops early or panics, it is a
    /// failure.
    pub fn fill(&self, reader: &FileReader, budget: &Budget) {
        let unfinished = Unfinished(self);
        if reader.read(&self.job, &mut BudgetedSink { file: self, budget }).is_ok() {
            std::mem::forget(unfinished);
        }
    }

    /// Ends the wait for a file that no thread will read.
    pub fn abandon(&self) {
        self.put(Piece::Failed(io::ErrorKind::Interrupted.into()));
    }

    fn put(&self, piece: Piece) {
        self.pieces.lock().push_back(piece);
        self.arrived.notify_one();
    }
}

/// Abandons a file when dropped.
struct Unfinished<'a>(&'a PendingFile);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Puts pieces into a file, each when the budget has room for it.
struct BudgetedSink<'a> {
    file: &'a PendingFile,
    budget: &'a Budget,
}

impl PieceSink for BudgetedSink<'_> {
    fn reserve(&mut self, bytes: usize) -> Result<(), Closed> {
        self.budget.take(self.file.job.number, bytes)
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Closed> {
        self.file.put(piece);
        Ok(())
    }
}
