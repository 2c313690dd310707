//! Programs that tell: they get the text on their standard input, and do not run for long.

use std::{
    io::{self, Write},
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::message::Message;
use crate::shell::{how_it_failed, shell};

/// Runs the command of a profile.
pub(super) fn run(command: &str, message: &Message, timeout: Duration) -> Result<(), String> {
    feed(shell(command, &message.environment), message.text.as_bytes(), timeout)
}

/// Starts a program, gives it its input, and waits until it ends, or ends it.
pub(super) fn feed(mut program: Command, input: &[u8], timeout: Duration) -> Result<(), String> {
    let failed = |error: io::Error| format!("it cannot be run: {error}");
    let to_stderr = io::stderr().as_fd().try_clone_to_owned().map(Stdio::from).map_err(failed)?;
    // A group of its own, so that what a shell has started ends with it.
    program.process_group(0);
    let mut child = program.stdin(Stdio::piped()).stdout(to_stderr).spawn().map_err(failed)?;
    let begun = Instant::now();
    if let Some(mut pipe) = child.stdin.take() {
        let input = input.to_vec();
        // A program need not read it, and then the write fails, or waits until the program ends.
        std::thread::spawn(move || drop(pipe.write_all(&input)));
    }
    loop {
        match child.try_wait().map_err(failed)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("it {}", how_it_failed(status))),
            None if begun.elapsed() < timeout => std::thread::sleep(Duration::from_millis(10)),
            None => {
                if let Some(group) = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default()) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = child.wait();
                return Err(format!("it did not end within {} s, and was ended", timeout.as_secs()));
            }
        }
    }
}
