//! Files of a snapshot that are read from standard input, or from what a command prints.
//!
//! A command runs with `sh -c` in a process group of its own. It reads nothing, and its standard error is that of bkfs.
//! If the push is stopped, or does not want the rest, the whole group is ended.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt},
            process::CommandExt,
        },
    },
    process::{Child, ChildStdout, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use bkfs_fs::{
    push::{Stream, StreamFile, StreamSource, check_streams},
    walk::Roots,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid},
};

use super::{
    feed::{Feed, JobStream},
    job::PushJob,
};
use crate::{
    failure::Failure,
    output,
    shell::{Environment, how_it_failed, shell},
};

/// How long a call waits for something to happen, before the push looks whether it was stopped.
const WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// The pause between two looks at whether a command has ended.
const PAUSE: Duration = Duration::from_millis(10);
/// How many of them a call makes.
const LOOKS: u32 = 20;
/// How long a command has to end by itself when it is told to, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Returns the streams of a job, for the push. Fails if a path is none.
pub(super) fn files(job: &PushJob) -> Result<Vec<StreamFile>> {
    let file = |stream: &JobStream| {
        let source: Arc<dyn StreamSource> = match &stream.feed {
            Feed::Stdin => Arc::new(StdinSource::default()),
            Feed::Command(command) => Arc::new(CommandSource { command: command.clone() }),
        };
        StreamFile::new(stream.name.as_os_str().as_bytes(), source)
    };
    job.streams.iter().map(|stream| file(stream).map_err(|error| failure(stream, &error.to_string()))).collect()
}

/// Fails if a stream cannot be pushed, before the repository is opened.
pub(super) fn check(job: &PushJob) -> Result<()> {
    let files = files(job)?;
    for stream in &job.streams {
        match &stream.feed {
            Feed::Stdin => check_stdin()?,
            Feed::Command(command) if command.trim().is_empty() => return Err(failure(stream, "the command is empty")),
            Feed::Command(_) => {}
        }
    }
    let wrong = |error: io::Error| Failure::new(error.to_string(), "nothing was pushed");
    let base = job.base.as_deref();
    let roots = if job.paths.is_empty() { Roots::without_paths(base) } else { Roots::new(base, &job.paths) };
    check_streams(&files, &roots.map_err(wrong)?).map_err(wrong)?;
    Ok(())
}

fn failure(stream: &JobStream, why: &str) -> anyhow::Error {
    let what = match &stream.feed {
        Feed::Stdin => "--stdin".to_owned(),
        Feed::Command(command) => format!("the command {command:?}"),
    };
    Failure::new(format!("{what}: {why}"), "nothing was pushed").into()
}

/// Fails if there is nothing to read on standard input.
fn check_stdin() -> Result<()> {
    let stdin = io::stdin();
    if rustix::termios::isatty(&stdin) {
        let hint = "pipe something into it, like `pg_dump mydb | bkfs push --stdin db.sql`";
        return Err(Failure::new("--stdin: standard input is a terminal", hint).into());
    }
    if was_closed(stdin.as_fd()) {
        let hint = "pipe something into it; an empty file is stored with `bkfs push --stdin NAME < /dev/null`";
        return Err(Failure::new("--stdin: standard input is closed", hint).into());
    }
    Ok(())
}

/// Returns whether standard input was closed when the program started. The standard library has put /dev/null in its
/// place, open for reading and writing. Somebody who means an empty file opens it for reading.
fn was_closed(stdin: BorrowedFd<'_>) -> bool {
    let is_writable = rustix::fs::fcntl_getfl(stdin).is_ok_and(|flags| flags.contains(OFlags::RDWR));
    let is_null = || {
        let meta = stdin.try_clone_to_owned().map(File::from).and_then(|file| file.metadata()).ok()?;
        let null = std::fs::metadata("/dev/null").ok()?;
        Some(meta.file_type().is_char_device() && meta.rdev() == null.rdev())
    };
    is_writable && is_null() == Some(true)
}

/// Waits until there is something to read, but not for long.
fn wait_for(fd: BorrowedFd<'_>) -> io::Result<()> {
    match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&WAIT))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

/// Standard input, which can be read once.
#[derive(Default)]
struct StdinSource {
    is_taken: AtomicBool,
}

struct Stdin;

impl StreamSource for StdinSource {
    fn open(&self) -> io::Result<Box<dyn Stream>> {
        if self.is_taken.swap(true, Relaxed) {
            let why = "standard input was read already, and the repository has lost what was stored of it while the \
                       push ran; push again";
            return Err(io::Error::other(why));
        }
        Ok(Box::new(Stdin))
    }
}

impl Stream for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Not through the buffer of the standard library: nothing else reads it.
        let stdin = io::stdin();
        wait_for(stdin.as_fd())?;
        Ok(rustix::io::read(&stdin, buffer)?)
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A shell command.
struct CommandSource {
    command: String,
}

/// A shell command that runs.
struct Running {
    /// The command, as it is shown.
    command: String,
    child: Child,
    output: ChildStdout,
    has_ended: bool,
}

impl StreamSource for CommandSource {
    fn open(&self) -> io::Result<Box<dyn Stream>> {
        let failed = |error: io::Error| {
            io::Error::new(error.kind(), format!("cannot run the command {}: {error}", self.shown()))
        };
        tracing::info!("running the command {}", self.shown());
        let mut command = shell(&self.command, &Environment::default());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(failed)?;
        let output = child.stdout.take().ok_or_else(|| failed(io::Error::other("it has no output")))?;
        Ok(Box::new(Running { command: self.shown(), child, output, has_ended: false }))
    }
}

impl CommandSource {
    fn shown(&self) -> String {
        format!("`{}`", output::name(self.command.as_bytes()))
    }
}

impl Stream for Running {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        wait_for(self.output.as_fd())?;
        Ok(rustix::io::read(&self.output, buffer)?)
    }

    fn finish(&mut self) -> io::Result<()> {
        for _ in 0..LOOKS {
            let Some(status) = self.child.try_wait()? else {
                std::thread::sleep(PAUSE);
                continue;
            };
            self.has_ended = true;
            return match status.success() {
                true => Ok(()),
                false => Err(io::Error::other(format!("the command {} {}", self.command, how_it_failed(status)))),
            };
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Drop for Running {
    /// Ends the shell and what it has started: first politely, so that a dump can remove its temporary files.
    fn drop(&mut self) {
        let Some(group) = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or_default()) else { return };
        if self.has_ended {
            return;
        }
        let _ = kill_process_group(group, Signal::TERM);
        let begun = Instant::now();
        // Until it is waited for, no other process can get its number.
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while begun.elapsed() < GRACE && matches!(waitid(WaitId::Pid(group), options), Ok(None)) {
            std::thread::sleep(PAUSE);
        }
        let _ = kill_process_group(group, Signal::KILL);
        let _ = self.child.wait();
    }
}
