//! The way of one file's pieces from the thread that reads it to the one that puts the snapshot together.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::{Condvar, Mutex};

use super::{
    budget::{Budget, Closed},
    read::{Job, Piece, Sink},
};

/// A file to be read, and what was read of it so far.
pub struct Outbox {
    /// The file.
    pub job: Job,
    pieces: Mutex<VecDeque<Piece>>,
    arrived: Condvar,
}

impl Outbox {
    /// Nothing is read yet.
    pub fn new(job: Job) -> Self {
        Self { job, pieces: Mutex::default(), arrived: Condvar::new() }
    }

    /// Waits for the next piece.
    pub fn next(&self) -> Piece {
        let mut pieces = self.pieces.lock();
        loop {
            if let Some(piece) = pieces.pop_front() {
                return piece;
            }
            self.arrived.wait(&mut pieces);
        }
    }

    /// Puts a piece in.
    pub fn put(&self, piece: Piece) {
        self.pieces.lock().push_back(piece);
        self.arrived.notify_one();
    }
}

/// The reading end, bound to the budget.
pub struct Writer<'a> {
    /// Where pieces go.
    pub outbox: &'a Arc<Outbox>,
    /// Where their room comes from.
    pub budget: &'a Budget,
}

impl Sink for Writer<'_> {
    fn reserve(&mut self, bytes: usize) -> Result<(), Closed> {
        self.budget.take(self.outbox.job.number, bytes)
    }

    fn piece(&mut self, piece: Piece) -> Result<(), Closed> {
        self.outbox.put(piece);
        Ok(())
    }
}
