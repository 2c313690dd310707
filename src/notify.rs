//! Tells people how profiles are doing: by a command, an HTTP ping, a webhook, or mail.
//!
//! [`decide`] says whether anybody is told, and is pure. The same failure is told once in `notify.repeat`; that a
//! profile works again is told always, if a failure was. A ping is for a service that watches, so each run sends it. A
//! notification that fails is a warning: it never fails a run.

mod decide;
mod http;
mod mail;
mod process;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

pub use decide::overdue_for;

use self::{
    decide::{Decision, after_run, when_overdue},
    http::Http,
};
use crate::{
    config::{RunRecord, RunResult, Runs},
    context::{Context, host_name},
    output,
    profile::{Notify, Profile},
    run::{Environment, ProfileOutcome, environment, environment_after, exit},
};

/// How long to wait for each of them, if the profile does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After what time the same failure is told again, if the profile does not say.
const REPEAT: Duration = Duration::from_secs(86_400);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A run failed, or a part of it.
    Failed,
    /// The last success is too long ago.
    Overdue,
    /// A run succeeded after people were told of something bad.
    Recovered,
    /// A person wants to know whether it arrives.
    Test,
}

/// What is told.
#[derive(Debug, Clone)]
struct Message {
    /// One line.
    subject: String,
    /// All of it, for people.
    text: String,
    /// For programs.
    data: MessageJson,
    /// For the command.
    environment: Environment,
}

/// What a webhook gets.
#[derive(Debug, Clone, Serialize)]
struct MessageJson {
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

/// How telling went.
#[derive(Debug, Serialize)]
pub struct Told {
    /// The key of the profile: `command`, `ping`, `webhook` or `mail`.
    pub by: &'static str,
    /// What went wrong.
    pub error: Option<String>,
}

/// Tells a service that a run begins.
pub fn started(profile: &Profile) {
    let Some(notify) = &profile.settings.notify else { return };
    if let Some(url) = &notify.ping {
        warn(&profile.name, [Told { by: "ping", error: http(notify).and_then(|http| http.get(url, "/start")).err() }]);
    }
}

/// Tells how a run ended, if that is worth telling.
pub fn ended(profile: &Profile, outcome: &ProfileOutcome, runs: &Runs) {
    let Some(notify) = &profile.settings.notify else { return };
    let (result, error) = (outcome.result(), outcome.error().unwrap_or_default());
    if let Some(url) = &notify.ping {
        let pinged = http(notify).and_then(|http| match result {
            RunResult::Success => http.get(url, ""),
            _ => http.post(url, "/fail", "text/plain; charset=utf-8", &error),
        });
        warn(&profile.name, [Told { by: "ping", error: pinged.err() }]);
    }
    let environment = environment_after(environment(profile), outcome);
    let decide = |record: &RunRecord, now| after_run(record.told.as_ref(), result, &error, now, repeat(notify));
    let code = Some(exit(result) as u8);
    tell(profile, notify, runs, decide, |event| message(profile, event, &error, code, environment));
}

/// Tells that a profile is overdue, if it is and people were not told yet. Returns whether it is overdue.
///
/// A run that never begins cannot tell, so something else has to call this: `bkfs status`.
pub fn overdue(context: &Context, profile: &Profile) -> Result<bool> {
    let runs = context.folders.runs(&profile.name);
    let Some(record) = runs.read()? else { return Ok(false) };
    let Some(age) = overdue_for(profile, &record, output::now().secs) else { return Ok(false) };
    let Some(notify) = &profile.settings.notify else { return Ok(true) };
    let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    let error = format!("the last success is {} ago", output::duration(age));
    let decide = |record: &RunRecord, now| when_overdue(record.told.as_ref(), now, repeat(notify));
    tell(profile, notify, &runs, decide, |event| message(profile, event, &error, None, environment(profile)));
    Ok(true)
}

/// Sends a test by each way of a profile. A ping counts as a success at its service.
pub fn test(profile: &Profile) -> Vec<Told> {
    let Some(notify) = &profile.settings.notify else { return Vec::new() };
    let pinged =
        notify.ping.iter().map(|url| Told { by: "ping", error: http(notify).and_then(|http| http.get(url, "")).err() });
    let mut told: Vec<Told> = pinged.collect();
    told.extend(send(notify, &message(profile, Event::Test, "", None, environment(profile))));
    told
}

/// Decides, records what was decided, and sends.
fn tell(
    profile: &Profile,
    notify: &Notify,
    runs: &Runs,
    decide: impl Fn(&RunRecord, i64) -> Decision,
    message: impl FnOnce(Event) -> Message,
) {
    let mut event = None;
    let now = output::now().secs;
    // Recorded before it is sent: two processes must not tell the same.
    let recorded = runs.update(|record| {
        let decision = decide(record, now);
        (event, record.told) = (decision.event, decision.told);
    });
    if let Err(error) = recorded {
        tracing::warn!("cannot record who was told: {error:#}");
    }
    if let Some(event) = event {
        warn(&profile.name, send(notify, &message(event)));
    }
}

fn send(notify: &Notify, message: &Message) -> Vec<Told> {
    let timeout = timeout(notify);
    let mut told = Vec::new();
    if let Some(command) = &notify.command {
        told.push(Told { by: "command", error: process::run(command, message, timeout).err() });
    }
    if let Some(url) = &notify.webhook {
        let posted = http(notify).and_then(|http| {
            let body = output::json_text(&message.data).map_err(|error| error.to_string())?;
            http.post(url, "", "application/json", &body)
        });
        told.push(Told { by: "webhook", error: posted.err() });
    }
    if let Some(mail) = notify.mail.as_ref().filter(|mail| !mail.0.is_empty()) {
        told.push(Told { by: "mail", error: mail::send(notify.sendmail.as_deref(), &mail.0, message, timeout).err() });
    }
    told
}

fn message(profile: &Profile, event: Event, error: &str, exit: Option<u8>, environment: Environment) -> Message {
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

fn warn(profile: &str, told: impl IntoIterator<Item = Told>) {
    for Told { by, error } in told {
        if let Some(error) = error {
            output::note(format!("warning: {profile}: notify.{by}: {error}"));
        }
    }
}

fn http(notify: &Notify) -> Result<Http, String> {
    Http::new(timeout(notify))
}

fn timeout(notify: &Notify) -> Duration {
    notify.timeout.as_ref().map_or(TIMEOUT, |timeout| *timeout.get())
}

fn repeat(notify: &Notify) -> Duration {
    notify.repeat.as_ref().map_or(REPEAT, |repeat| *repeat.get())
}
