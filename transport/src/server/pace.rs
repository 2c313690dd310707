//! How fast bytes must come and go. Time-outs are on progress, never on the whole: a slow link is no reason to fail.
//!
//! There are three floors. A request that does practically nothing is given up after half a minute. A request that is
//! slow is given up only while others wait for the room that it holds. While somebody waits for room in the whole, an
//! account that holds more than its fair part of it must move all that it holds within a minute.

use std::{future::Future, pin::pin};

use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use tokio::time::Instant;

use super::{
    limits::{GREEDY_TICKS, IDLE_BYTES, IDLE_TICKS, SLOW_BYTES, TICK},
    shares::Shares,
};
use crate::{stream::StreamError, url::Name};

/// The most bytes that are handed to QUIC at a time: progress is seen in these steps.
const STEP: usize = 64 * 1024;

/// Why a request was given up.
pub(super) enum Halt {
    /// The stream failed.
    Stream(StreamError),
    /// It was too slow.
    Stalled,
}

impl From<StreamError> for Halt {
    fn from(error: StreamError) -> Self {
        Self::Stream(error)
    }
}

impl<E: std::error::Error> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Stream(error.into())
    }
}

/// The pace of one request.
pub(super) struct Pace<'s> {
    /// What it holds a share of, or waits for.
    shares: &'s Shares,
    /// Of which account, and how many bytes of it.
    held: Option<(Name, usize)>,
    tick_ends: Instant,
    /// Bytes in this tick.
    moved: usize,
    idle_ticks: u32,
}

impl<'s> Pace<'s> {
    pub fn new(shares: &'s Shares) -> Self {
        Self { shares, held: None, tick_ends: Instant::now() + TICK, moved: 0, idle_ticks: 0 }
    }

    /// The request holds a share of an account now, of so many bytes.
    pub fn holds(&mut self, account: &Name, bytes: usize) {
        self.held = Some((account.clone(), bytes));
    }

    /// Begins again: the server itself took its time.
    pub fn restart(&mut self) {
        (self.tick_ends, self.moved, self.idle_ticks) = (Instant::now() + TICK, 0, 0);
    }

    /// Notes progress.
    pub fn moved(&mut self, bytes: usize) {
        self.moved += bytes;
    }

    /// Waits for something that the client must do. Fails if the request has become too slow meanwhile.
    pub async fn wait<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Halt> {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                value = &mut future => return Ok(value),
                () = tokio::time::sleep_until(self.tick_ends) => self.end_tick()?,
            }
        }
    }

    fn end_tick(&mut self) -> Result<(), Halt> {
        let account = self.held.as_ref().map(|(account, _)| account);
        let greedy = self.held.as_ref().filter(|(account, _)| self.shares.is_over_fair_part(account));
        let is_greedy = greedy.is_some_and(|(_, held)| self.moved < held / GREEDY_TICKS);
        let (is_slow, is_idle) = (self.moved < SLOW_BYTES, self.moved < IDLE_BYTES);
        self.idle_ticks = if is_idle { self.idle_ticks + 1 } else { 0 };
        if self.idle_ticks >= IDLE_TICKS || is_slow && self.shares.is_contended(account) || is_greedy {
            return Err(Halt::Stalled);
        }
        (self.tick_ends, self.moved) = (Instant::now() + TICK, 0);
        Ok(())
    }

    /// Receives a number of bytes, which the caller has bounded.
    pub async fn receive(&mut self, stream: &mut RecvStream, len: usize) -> Result<Vec<u8>, Halt> {
        // The length is only the peer's word: memory grows with the bytes that arrive.
        let mut bytes = Vec::with_capacity(len.min(STEP));
        while bytes.len() < len {
            match self.wait(stream.read_chunk(len - bytes.len(), true)).await?? {
                Some(chunk) => {
                    self.moved(chunk.bytes.len());
                    bytes.extend_from_slice(&chunk.bytes);
                }
                None => return Err(Halt::Stream(StreamError("the stream ended early".into()))),
            }
        }
        Ok(bytes)
    }

    /// Sends bytes.
    pub async fn send(&mut self, stream: &mut SendStream, mut bytes: Bytes) -> Result<(), Halt> {
        while !bytes.is_empty() {
            let step = bytes.split_to(bytes.len().min(STEP));
            let len = step.len();
            self.wait(stream.write_chunk(step)).await??;
            self.moved(len);
        }
        Ok(())
    }
}
