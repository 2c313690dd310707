//! Programs of the system that keep timers and crontabs.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use anyhow::Result;

use crate::failure::Failure;

/// Runs a program, and returns how it ended. Its messages are in English. It gets no passphrase.
pub fn run(program: &str, args: &[&str], input: Option<&str>) -> Result<Output> {
    let mut command = Command::new(program);
    command.args(args).env("LC_ALL", "C").env_remove("BKFS_PASSWORD").env_remove("BKFS_NEW_PASSWORD");
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let failed = |error: std::io::Error| {
        let hint = format!("{program} must be installed, and in one of the folders of PATH");
        Failure::new(format!("cannot run {program}: {error}"), hint)
    };
    let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        // A program that does not read it all says why, and ends with an error.
        let _ = pipe.write_all(text.as_bytes());
    }
    Ok(child.wait_with_output().map_err(failed)?)
}

/// Returns what a program said about its failure, in one line.
pub fn reason(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.is_empty() {
        true => output.status.to_string(),
        false => lines.join("; "),
    }
}
