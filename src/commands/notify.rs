//! `bkfs notify test`: whether notifications arrive, before they are needed.

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    commands::config::none,
    completion,
    context::Context,
    failure::{Exit, Failure},
    notify::{self, Told},
    output,
    profile::Profiles,
};

/// The commands about notifications.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    Test(TestArgs),
}

/// Arguments of `notify test`.
#[derive(Debug, Args)]
#[command(
    about = "Send a test by each way that profiles name",
    long_about = "Send a test by each way that `notify` of a profile names: command, ping, webhook, mail. Without a \
        name, by those of all profiles that `bkfs run` runs. The exit code is 1 if one of them fails. A ping counts as \
        a success at the service that gets it.",
    after_help = "Example:\n  bkfs notify test home"
)]
pub struct TestArgs {
    /// The profile [default: all that run]
    #[arg(value_name = "PROFILE", add = completion::profile())]
    profile: Option<String>,
}

#[derive(Serialize)]
struct TestJson {
    profiles: Vec<ProfileJson>,
}

#[derive(Serialize)]
struct ProfileJson {
    profile: String,
    told: Vec<Told>,
}

/// Runs `bkfs notify`.
pub fn run(context: &Context, command: &NotifyCommand) -> Result<Exit> {
    let NotifyCommand::Test(args) = command;
    let profiles = Profiles::load(&context.folders);
    let named = args.profile.clone().or_else(|| context.profile_name.clone());
    let names: Vec<String> =
        named.as_ref().map_or_else(|| profiles.names().map(str::to_owned).collect(), |name| vec![name.clone()]);
    if names.is_empty() {
        return Err(none(&profiles).into());
    }
    let mut found = Vec::new();
    for name in names {
        let profile = profiles.get(&name)?;
        if named.is_some() || profile.is_runnable() {
            found.push(ProfileJson { profile: name, told: notify::test(&profile) });
        }
    }
    if found.iter().all(|profile| profile.told.is_empty()) {
        let hint = "write a table [profile.NAME.notify] with command, ping, webhook or mail; see `bkfs config sample`";
        return Err(Failure::new("no profile says whom to tell", hint).into());
    }
    let all_told = found.iter().flat_map(|profile| &profile.told).all(|told| told.error.is_none());
    print(context, found)?;
    Ok(if all_told { Exit::Success } else { Exit::Error })
}

fn print(context: &Context, found: Vec<ProfileJson>) -> Result<()> {
    if context.json {
        return output::json_pretty(&TestJson { profiles: found });
    }
    for ProfileJson { profile, told } in &found {
        for Told { by, error } in told {
            match error {
                Some(error) => output::note(format!("{profile}: notify.{by}: {error}")),
                None if context.quiet => {}
                None => output::line(format!("{profile}: notify.{by}: sent"))?,
            }
        }
    }
    Ok(())
}
