//! Tells people how profiles are doing: by a command, an HTTP ping, a webhook, or mail.
//!
//! [`decide`] says whether anybody is told, and is pure. The same failure is told once in `notify.repeat`; that a
//! profile works again is told always, if a failure was. A ping is for a service that watches, so each run sends it. A
//! notification that fails is a warning: it never fails a run.

mod decide;
mod http;
mod mail;
mod message;
mod process;

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

pub use decide::overdue_for;

use self::{
    decide::{Decision, Event, after_run, when_overdue},
    http::Http,
    message::{Message, message},
};
use crate::{
    config::{RunRecord, RunResult, Runs},
    context::Context,
    environment, output,
    profile::{Notify, Profile},
    shell::Environment,
};

/// How long to wait for each of them, if the profile does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// After what time the same failure is told again, if the profile does not say.
const REPEAT: Duration = Duration::from_secs(86_400);

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

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// Whether it succeeded.
    pub result: RunResult,
    /// What went wrong, in a line. Empty if nothing did.
    pub error: String,
    /// What hooks learn of it.
    pub environment: Environment,
}

/// Tells how a run ended, if that is worth telling.
pub fn ended(profile: &Profile, ended: Ended, runs: &Runs) {
    let Some(notify) = &profile.settings.notify else { return };
    let Ended { result, error, environment } = ended;
    if let Some(url) = &notify.ping {
        let pinged = http(notify).and_then(|http| match result {
            RunResult::Success => http.get(url, ""),
            _ => http.post(url, "/fail", "text/plain; charset=utf-8", &error),
        });
        warn(&profile.name, [Told { by: "ping", error: pinged.err() }]);
    }
    let decide = |record: &RunRecord, now| after_run(record.told.as_ref(), result, &error, now, repeat(notify));
    let code = Some(result.exit() as u8);
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
    tell(profile, notify, &runs, decide, |event| message(profile, event, &error, None, environment::of(profile)));
    Ok(true)
}

/// Sends a test by each way of a profile. A ping counts as a success at its service.
pub fn test(profile: &Profile) -> Vec<Told> {
    let Some(notify) = &profile.settings.notify else { return Vec::new() };
    let pinged =
        notify.ping.iter().map(|url| Told { by: "ping", error: http(notify).and_then(|http| http.get(url, "")).err() });
    let mut told: Vec<Told> = pinged.collect();
    told.extend(send(notify, &message(profile, Event::Test, "", None, environment::of(profile))));
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
