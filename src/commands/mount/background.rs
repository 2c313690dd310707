//! `--background`: the program starts itself again as a child, and returns as soon as the child reports that the mount
//! is ready.
//!
//! Until then the child keeps the terminal, so it can ask for a passphrase and print errors. It reports through its
//! standard output. Then it leaves the terminal and the session, and logs to a file.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::{
        ffi::OsStrExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::args::MountArgs;
use crate::{
    context::Context,
    failure::{Exit, Failure},
    rollback, signals,
};

/// What the child writes to standard output when the mount is ready.
const READY: &[u8; 6] = b"ready\n";
/// What it writes if the mount is ready, and shows a repository that was rolled back. The child has said so.
const ROLLED_BACK: &[u8; 6] = b"older\n";
/// A log longer than this is started again from empty.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Starts the child and waits until it is ready or has ended.
pub fn run(context: &Context, args: &MountArgs) -> Result<Exit> {
    let program = std::env::current_exe().context("finding the program's own file")?;
    let mut child = Command::new(program)
        .arg0("bkfs")
        .args(arguments(context, args))
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the mount in the background")?;
    let mut report = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(READY.len() as u64).read_to_end(&mut report).context("waiting for the mount")?;
    }
    if report == READY {
        return Ok(Exit::Success);
    }
    if report == ROLLED_BACK {
        return Ok(Exit::RolledBack);
    }
    // The child has printed the reason on standard error.
    let status = child.wait().context("waiting for the mount")?;
    if let Some(signal) = status.signal() {
        if signals::asks_to_stop(signal) {
            signals::end(signal);
        }
        return Err(Failure::new(format!("the mount in the background was ended by signal {signal}"), "").into());
    }
    let exits =
        [Exit::Incomplete, Exit::NoRepository, Exit::Locked, Exit::WrongKey, Exit::RolledBack, Exit::Interrupted];
    Ok(exits.into_iter().find(|exit| status.code() == Some(*exit as i32)).unwrap_or(Exit::Error))
}

/// Returns the arguments for the child: the same command, with every option made explicit.
fn arguments(context: &Context, args: &MountArgs) -> Vec<OsString> {
    let mut list: Vec<OsString> = vec!["mount".into(), "--is-child".into()];
    let mut add = |name: &str, value: &dyn AsRef<std::ffi::OsStr>| {
        list.push(name.into());
        list.push(value.as_ref().into());
    };
    if let Some(repository) = context.repository(&args.repo) {
        add("--repository", &repository);
    }
    if let Some(profile) = &context.profile_name {
        add("--profile", profile);
    }
    if let Some(selector) = &args.snapshot {
        add("--snapshot", &selector.to_os_string());
    }
    for (name, value) in
        [("--client", &args.filters.client), ("--host", &args.filters.host), ("--target", &args.filters.target)]
    {
        if let Some(value) = value {
            add(name, value);
        }
    }
    args.filters.tag.iter().for_each(|tag| add("--tag", tag));
    args.filters.path.iter().for_each(|path| add("--path", path));
    add("--config-dir", &context.folders.config);
    add("--cache-dir", &context.folders.cache);
    for (name, value) in [("--key-file", &context.key_file), ("--password-file", &context.password_file)] {
        if let Some(value) = value {
            add(name, value);
        }
    }
    list.extend((0..context.verbose).map(|_| "-v".into()));
    let flags = [
        ("--allow-other", args.allow_other),
        ("--nofail", args.nofail),
        ("--dev", args.dev),
        ("--suid", args.suid),
        ("--noexec", args.noexec),
        ("--quiet", context.quiet),
    ];
    list.extend(flags.iter().filter(|(_, set)| *set).map(|(name, _)| OsString::from(name)));
    list.push("--".into());
    list.push(args.mountpoint.clone().into());
    list
}

/// Runs in the child when the mount is ready: reports that, then leaves the terminal, the session and the working
/// folder.
pub fn detach(context: &Context, mountpoint: &Path) -> Result<()> {
    let log = log_file(context, mountpoint)?;
    let mut out = std::io::stdout().lock();
    let report = if rollback::warn() { ROLLED_BACK } else { READY };
    out.write_all(report).and_then(|()| out.flush()).context("reporting that the mount is ready")?;
    let null = File::open("/dev/null").context("/dev/null")?;
    rustix::stdio::dup2_stdin(&null).context("leaving the terminal")?;
    rustix::stdio::dup2_stdout(&log).context("leaving the terminal")?;
    rustix::stdio::dup2_stderr(&log).context("leaving the terminal")?;
    // Fails only if the process already leads a process group. Then there is no terminal to leave.
    let _ = rustix::process::setsid();
    std::env::set_current_dir("/").context("leaving the working folder")
}

/// Opens the log of a mount in the background, where it writes what is wrong.
fn log_file(context: &Context, mountpoint: &Path) -> Result<File> {
    let folder = context.folders.cache.join("log");
    crate::config::make_private_dir(&folder)?;
    let name: String = mountpoint
        .as_os_str()
        .as_bytes()
        .iter()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(*b) } else { '-' })
        .take(100)
        .collect();
    let path: PathBuf = folder.join(format!("mount{name}.log"));
    let is_long = path.metadata().is_ok_and(|meta| meta.len() > LOG_BYTES_MAX);
    let mut options = OpenOptions::new();
    options.create(true).write(true).append(!is_long).truncate(is_long);
    options.open(&path).map_err(|e| Failure::new(format!("cannot open the log {}: {e}", path.display()), "").into())
}
