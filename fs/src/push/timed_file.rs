//! Reading a file that does not say how long it is: to its end, within limits.
//!
//! Such a file may have no end, and a read of it may never return, whatever flags it was opened with: a FUSE file
//! system answers when it likes. Therefore a thread of its own reads it. If an answer takes too long, that thread is
//! left behind. It ends when its read does. A process whose thread is in a read that the kernel cannot interrupt does
//! not end before that, either.

use std::{
    io,
    os::fd::OwnedFd,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::Builder,
    time::{Duration, Instant},
};

use rustix::io::Errno;

/// How long reading may take.
const TIME_MAX: Duration = Duration::from_secs(5);
/// How many bytes the file may have. Files that the kernel makes are far smaller. `/proc/kcore` is not.
const BYTES_MAX: usize = 64 << 20;
/// Bytes that are read at a time.
const PART: usize = 64 * 1024;

/// A file that is being read.
pub struct TimedFile {
    wanted: Sender<()>,
    parts: Receiver<io::Result<Vec<u8>>>,
    until: Instant,
    left: usize,
}

impl TimedFile {
    /// Starts to read an open file at its offset.
    pub fn start(file: OwnedFd) -> io::Result<Self> {
        let (wanted, want) = channel();
        let (part, parts) = channel();
        let run = move || {
            while want.recv().is_ok() && part.send(read(&file)).is_ok() {}
        };
        Builder::new().name("read-timed".to_owned()).spawn(run)?;
        Ok(Self { wanted, parts, until: Instant::now() + TIME_MAX, left: BYTES_MAX })
    }

    /// The next part; empty at the end. Fails if the end does not come within the limits.
    pub fn next_part(&mut self) -> io::Result<Vec<u8>> {
        let ended = || io::Error::other("the thread that reads it has ended");
        self.wanted.send(()).map_err(|_| ended())?;
        let part = match self.parts.recv_timeout(self.until.saturating_duration_since(Instant::now())) {
            Ok(part) => part?,
            Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            Err(RecvTimeoutError::Timeout) => {
                let reason = format!("reading it did not end within {} seconds", TIME_MAX.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, reason));
            }
        };
        let Some(left) = self.left.checked_sub(part.len()) else {
            let reason = format!("it does not say how long it is, and has no end within {} MiB", BYTES_MAX >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        };
        self.left = left;
        Ok(part)
    }
}

fn read(file: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut part = vec![0; PART];
    loop {
        match rustix::io::read(file, &mut part) {
            Ok(len) => {
                part.truncate(len);
                return Ok(part);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let reason = "it has no end: reading it waits for something to happen";
                return Err(io::Error::new(io::ErrorKind::WouldBlock, reason));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
