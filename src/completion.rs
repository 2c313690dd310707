//! Completion of arguments by the shell, as far as it needs a repository: snapshots, paths in them, targets and hosts.
//!
//! The script of `bkfs completions` runs the program again for each completion. For what a repository holds, the
//! program then runs itself as a command that lists it: without a terminal, so that it never asks for a passphrase. If
//! the repository cannot be opened without a question, there is nothing to offer.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io::Read,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use serde_json::Value;

use crate::{config::Folders, profile::Profiles};

/// The variable in which the script names the shell.
pub const VARIABLE: &str = "BKFS_COMPLETE";
/// How long a person waits for what is offered.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most bytes of a list that are read.
const LIST_MAX: u64 = 16 << 20;
/// The most snapshots that are offered, newest first.
const SNAPSHOTS_MAX: usize = 200;

/// Completes `SNAPSHOT`.
pub fn snapshot() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| snapshots(&current.to_string_lossy()))
}

/// Completes `SNAPSHOT[:PATH]`.
pub fn selector() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let current = current.to_string_lossy();
        match current.split_once(':') {
            Some((snapshot, path)) => paths(snapshot, path),
            None => snapshots(&current),
        }
    })
}

/// Completes what snapshots have in a field: `target` or `host`.
pub fn field(name: &'static str) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let current = current.to_string_lossy();
        let found: BTreeSet<String> =
            listed().iter().filter_map(|snapshot| Some(snapshot[name].as_str()?.to_owned())).collect();
        let fits = found.into_iter().filter(|value| value.starts_with(&*current));
        fits.map(CompletionCandidate::new).collect()
    })
}

/// Completes the name of a profile.
pub fn profile() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let current = current.to_string_lossy();
        // The environment only: options may stand behind what is completed.
        let variable = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
        let folders = Folders::new(variable("BKFS_CONFIG_DIR"), variable("BKFS_CACHE_DIR"));
        let profiles = folders.map(|folders| Profiles::load(&folders)).unwrap_or_default();
        let fits = profiles.names().filter(|name| name.starts_with(&*current));
        fits.map(CompletionCandidate::new).collect()
    })
}

/// The snapshots of the repository, oldest first.
fn listed() -> Vec<Value> {
    let text = run(&["snapshots", "--json"]);
    serde_json::from_slice::<Value>(&text).ok().and_then(|list| list.as_array().cloned()).unwrap_or_default()
}

fn snapshots(current: &str) -> Vec<CompletionCandidate> {
    let latest = "latest".starts_with(current).then(|| CompletionCandidate::new("latest"));
    let listed = listed();
    let others = listed.iter().rev().take(SNAPSHOTS_MAX).filter_map(|snapshot| {
        let (id, text) =
            (snapshot["id"].as_str()?.get(..8)?, |field: &str| snapshot[field].as_str().unwrap_or_default());
        let about = format!("{} {}", text("time"), text("target"));
        id.starts_with(current).then(|| CompletionCandidate::new(id).help(Some(about.into())))
    });
    latest.into_iter().chain(others).enumerate().map(|(at, found)| found.display_order(Some(at))).collect()
}

/// The entries of a folder in a snapshot that continue a path.
fn paths(snapshot: &str, path: &str) -> Vec<CompletionCandidate> {
    let (folder, begun) =
        path.rsplit_once('/').map_or(("", path), |(_, begun)| (&path[..path.len() - begun.len()], begun));
    let text = run(&["ls", "--", &format!("{snapshot}:{folder}")]);
    let text = String::from_utf8_lossy(&text);
    let fits = text.lines().filter(|name| name.starts_with(begun) && !name.is_empty());
    fits.map(|name| CompletionCandidate::new(format!("{snapshot}:{folder}{name}"))).collect()
}

/// Runs the program itself on the repository that the command line names, and returns what it prints.
fn run(args: &[&str]) -> Vec<u8> {
    let Ok(program) = std::env::current_exe() else { return Vec::new() };
    let mut command = Command::new(program);
    command.args(args.iter().take(1));
    for names in [["-r", "--repository"], ["-P", "--profile"]] {
        command.args(option(names, std::env::args_os()));
    }
    command.args(args.iter().skip(1));
    command.env_remove(VARIABLE).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return Vec::new() };
    let reading = child.stdout.take().map(|out| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            out.take(LIST_MAX).read_to_end(&mut text).map(|_| text).unwrap_or_default()
        })
    });
    let begin = Instant::now();
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if begin.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
        }
    };
    let text = reading.and_then(|reading| reading.join().ok()).unwrap_or_default();
    if ended { text } else { Vec::new() }
}

/// Finds an option with its value, among words that may not be complete. `names` are its short and its long name.
fn option([short, long]: [&str; 2], words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.skip_while(|word| word != "--").skip(1);
    while let Some(word) = words.next() {
        let text = word.to_string_lossy();
        if text == short || text == long {
            return words.next().map(|value| vec![short.into(), value]).unwrap_or_default();
        }
        if text.starts_with(&format!("{long}=")) || (text.starts_with(short) && !text.starts_with("--")) {
            return vec![word];
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_and_profile_are_found_among_the_words() {
        let found = |words: &str| {
            let words = || words.split(' ').map(OsString::from);
            let found = option(["-r", "--repository"], words()).into_iter();
            found
                .chain(option(["-P", "--profile"], words()))
                .collect::<Vec<_>>()
                .join(OsStr::new(" "))
                .into_string()
                .unwrap()
        };
        assert_eq!(found("bkfs -- bkfs ls -r /r late"), "-r /r");
        assert_eq!(found("bkfs -- bkfs ls late -r/r"), "-r/r");
        assert_eq!(found("bkfs -- bkfs ls --repository=/r x"), "--repository=/r");
        assert_eq!(found("bkfs -- bkfs ls latest"), "");
        assert_eq!(found("bkfs -- bkfs ls latest -r"), "");
        assert_eq!(found("bkfs ls -r /r"), "");
        assert_eq!(found("bkfs -- bkfs -P home ls -r /r lat"), "-r /r -P home");
        assert_eq!(found("bkfs -- bkfs ls --profile=home"), "--profile=home");
    }
}
