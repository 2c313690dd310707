//! The command line of `bkfs`, a FUSE-mountable versioned backup filesystem.
//!
//! This crate owns what the libraries do not know: arguments, the environment, home folders, terminals and exit codes.
//! What a command *does* is in `store`, `transport` and `fs`. Each subcommand has a file in `commands/`. Under the name
//! `mount.bkfs` the program is a helper for mount(8): see [`mount_helper`].

mod args;
mod ask;
mod catalog;
mod cli;
mod clients;
mod commands;
mod completion;
mod config;
mod context;
mod denied;
mod enrol;
mod environment;
mod failure;
mod kernel_keyring;
mod limits;
mod log_writer;
mod logging;
mod mount_helper;
mod notify;
mod output;
mod owner;
mod passphrase;
mod place;
mod profile;
mod progress;
mod push_job;
mod rollback;
mod run;
mod schedule;
mod secrecy;
mod selector;
mod session;
mod shell;
mod signals;
mod status;
mod values;
mod watching;
mod work;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, FromArgMatches, builder::Resettable};
use clap_complete::CompleteEnv;

use crate::{
    args::Typed,
    cli::Cli,
    commands::{
        Command,
        server::{self, ServerCommand},
    },
    context::Context,
    failure::{Exit, exit_of, is_closed_pipe},
};

fn main() -> ExitCode {
    bkfs_fs::allocator::configure();
    // Ends the program if a shell asks what could come next.
    CompleteEnv::with_factory(Cli::command).var(completion::VARIABLE).bin("bkfs").complete();
    let args: Vec<OsString> = std::env::args_os().collect();
    let is_json = asks_for_json(&args);
    let run = |args: Vec<OsString>| match mount_helper::is_called(&args) {
        true => run_as_helper(args),
        false => run(args, is_json),
    };
    let exit = match signals::catch().and_then(|()| run(args)) {
        Ok(exit) => exit,
        Err(error) if is_closed_pipe(&error) => Exit::Success,
        Err(error) => {
            failure::print(&error, is_json);
            exit_of(&error)
        }
    };
    if exit == Exit::Interrupted {
        signals::end_if_stopped();
    }
    exit.into()
}

/// Whether the arguments ask for JSON. Known before they are parsed, because they may be wrong.
fn asks_for_json(args: &[OsString]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json")
}

fn run(args: Vec<OsString>, is_json: bool) -> anyhow::Result<Exit> {
    let (cli, typed) = match parse(&args).map_err(|error| without_environment(error, args)) {
        Ok(parsed) => parsed,
        Err(error) if error.use_stderr() && is_json => return Err(failure::usage(&error).into()),
        Err(error) => {
            // Help and version are not errors, and neither is a pipe that closes while they are printed.
            let _ = error.print();
            return Ok(if error.use_stderr() { Exit::Error } else { Exit::Success });
        }
    };
    match &cli.command {
        Command::Server(ServerCommand::Run(args)) => {
            let settings = server::run::Settings::read(&args.data.folder()?, &args.settings)?;
            logging::start_for_server(&cli.global, settings.log_format, settings.log_level)?;
        }
        _ => {
            logging::start(&cli.global)?;
            secrecy::hide_memory();
        }
    }
    let mut context = Context::new(&cli.global)?.typed(typed);
    if cli.command.uses_profile() {
        context = context.with_given_profile()?;
    }
    commands::run(&context, cli.command, Cli::command).map(rollback::exit_after)
}

fn parse(args: &[OsString]) -> Result<(Cli, Typed), clap::Error> {
    let matches = Cli::command().try_get_matches_from(args)?;
    let cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))?;
    Ok((cli, Typed::of(&matches)))
}

/// Returns the error for wrong arguments as it would be without the environment: clap counts options that are set there
/// as given, and would show them in every usage line.
fn without_environment(error: clap::Error, args: Vec<OsString>) -> clap::Error {
    fn forget(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.env(Resettable::Reset)).mut_subcommands(forget)
    }
    let again = forget(Cli::command()).try_get_matches_from(args);
    again.err().filter(|again| again.kind() == error.kind()).unwrap_or(error)
}

fn run_as_helper(args: Vec<OsString>) -> anyhow::Result<Exit> {
    let (global, args) = mount_helper::parse(args)?;
    logging::start(&global)?;
    secrecy::hide_memory();
    let context = Context::new(&global)?;
    context.folders.check_owner()?;
    // For mount(8), any other code says that nothing is mounted. The warning was printed.
    commands::mount::run(&context, args).map(|exit| if exit == Exit::RolledBack { Exit::Success } else { exit })
}
