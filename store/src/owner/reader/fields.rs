//! Fields of a fixed length, one after another: the layout of what readers remember. It is read by the program that
//! wrote it, many thousand rows at a time.

use crate::base::time::Time;

/// Bytes that are read from front to back.
pub(super) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn time(&mut self) -> Option<Time> {
        let (secs, nanos) = (self.array().map(i64::from_le_bytes)?, self.u32()?);
        (nanos < 1_000_000_000).then_some(Time { secs, nanos })
    }

    /// Reads the number of rows of `len` bytes that follow. It is no more than there is room for.
    pub fn count(&mut self, len: usize) -> Option<usize> {
        let count = usize::try_from(self.u64()?).ok()?;
        (count.checked_mul(len)? <= self.0.len()).then_some(count)
    }

    /// Returns the next `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Writes what [`Fields::time`] reads.
    pub fn put_time(bytes: &mut Vec<u8>, time: Time) {
        bytes.extend_from_slice(&time.secs.to_le_bytes());
        bytes.extend_from_slice(&time.nanos.to_le_bytes());
    }
}
