//! What is told, for people and for programs.

use serde::Serialize;

use super::decide::Event;
use crate::{context::host_name, output, profile::Profile, shell::Environment};

/// What is told.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// One line.
    pub subject: String,
    /// All of it, for people.
    pub text: String,
    /// For programs.
    pub data: MessageJson,
    /// For the command.
    pub environment: Environment,
}

/// What a webhook gets.
#[derive(Debug, Clone, Serialize)]
pub(super) struct MessageJson {
    event: Event,
    profile: String,
    host: String,
    time: String,
    subject: String,
    text: String,
    /// What went wrong; empty if nothing did.
    error: String,
    /// The exit code of the run.
    exit: Option<u8>,
}

/// Says what happened. `exit` is the exit code of the run, if it was one.
pub(super) fn message(
    profile: &Profile,
    event: Event,
    error: &str,
    exit: Option<u8>,
    environment: Environment,
) -> Message {
    let (host, name) = (host_name(), &profile.name);
    let what = match event {
        Event::Failed if exit == Some(3) => "was partly done",
        Event::Failed => "failed",
        Event::Overdue => "is overdue",
        Event::Recovered => "works again",
        Event::Test => "can tell you: this is a test",
    };
    let subject = format!("bkfs: backup {name} on {host} {what}");
    let time = output::now();
    let mut text = format!("The backup {name} on {host} {what}.\n\nTime: {}\n", output::time_local(time));
    text += &format!("Repositories: {}\n", profile.repositories().join(", "));
    if !error.is_empty() {
        text += &format!("\n{}\n", error.replace("; ", "\n"));
    }
    let data = MessageJson {
        event,
        profile: name.clone(),
        host,
        time: output::time_json(time),
        subject: subject.clone(),
        text: text.clone(),
        error: error.to_owned(),
        exit,
    };
    let event_name = serde_json::to_value(event).ok().and_then(|name| Some(name.as_str()?.to_owned()));
    let environment = environment
        .with("BKFS_EVENT", event_name.unwrap_or_default())
        .with("BKFS_SUBJECT", &subject)
        .with("BKFS_ERROR", error);
    Message { subject, text, data, environment }
}
