//! The command line of `bkfs`, a FUSE-mountable versioned backup filesystem.
//!
//! This crate owns what the libraries do not know: arguments, the environment, home folders, terminals and exit codes.
//! What a command *does* is in `store`, `transport` and `fs`. Each subcommand has a file in `commands/`. Under the name
//! `mount.bkfs` the program is a helper for mount(8): see [`mount_helper`].

mod args;
mod catalog;
mod cli;
mod commands;
mod config;
mod context;
mod enrol;
mod failure;
mod kernel_keyring;
mod mount_helper;
mod output;
mod passphrase;
mod place;
mod progress;
mod selector;
mod session;
mod signals;
mod work;

use std::{ffi::OsString, io::IsTerminal, process::ExitCode};

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::{
    args::GlobalArgs,
    cli::Cli,
    context::Context,
    failure::{Exit, describe, exit_of, is_closed_pipe},
};

fn main() -> ExitCode {
    bkfs_fs::allocator::configure();
    let args: Vec<OsString> = std::env::args_os().collect();
    let outcome = match mount_helper::is_called(&args) {
        true => run_as_helper(args),
        false => run(args),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) if is_closed_pipe(&error) => Exit::Success.into(),
        Err(error) => {
            eprintln!("{}", describe(&error));
            exit_of(&error).into()
        }
    }
}

fn run(args: Vec<OsString>) -> anyhow::Result<Exit> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are not errors, and neither is a pipe that closes while they are printed.
            let _ = error.print();
            return Ok(if error.use_stderr() { Exit::Error } else { Exit::Success });
        }
    };
    start_logging(&cli.global);
    let context = Context::new(&cli.global)?;
    commands::run(&context, cli.command)
}

fn run_as_helper(args: Vec<OsString>) -> anyhow::Result<Exit> {
    let (global, args) = mount_helper::parse(args)?;
    start_logging(&global);
    commands::mount::run(&Context::new(&global)?, args)
}

/// Sends warnings to standard error; `-v` and BKFS_LOG ask for more. Warnings of fuser are left out: it warns when
/// umount(8) unmounts before it does, which is how a mount normally ends.
fn start_logging(global: &GlobalArgs) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn,fuser=error",
        (false, 1) => "warn,fuser=error,bkfs=info,bkfs_store=info,bkfs_fs=info,bkfs_transport=info",
        (false, 2) => "info,bkfs=debug,bkfs_store=debug,bkfs_fs=debug,bkfs_transport=debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_env("BKFS_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(global.verbose > 1);
    // journald and cron add their own times, and on a terminal times are noise.
    let _ = match global.verbose > 1 {
        true => subscriber.try_init(),
        false => subscriber.without_time().try_init(),
    };
}
