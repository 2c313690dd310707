//! The program's log: to standard error as text or JSON, or to the journal. Its level can change while a server runs.

use std::{io::IsTerminal, str::FromStr, sync::OnceLock};

use anyhow::{Context as _, Result};
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::{args::GlobalArgs, log_writer::LogWriter, output};

/// How the log is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people, to standard error
    #[default]
    Text,
    /// An object of JSON on each line, to standard error
    Json,
    /// Entries with fields, to the journal of systemd
    Journald,
}

/// How important something must be to be logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
#[allow(missing_docs, reason = "the names of tracing's levels")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

const LEVELS: [LogLevel; 5] = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];

impl LogFormat {
    /// The name of the format, as options and files give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Journald => "journald",
        }
    }
}

impl LogLevel {
    /// The name of the level, as options and files give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Text, Self::Json, Self::Journald];
        all.into_iter().find(|format| format.name() == text).ok_or_else(|| "give text, json or journald".into())
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let level = LEVELS.into_iter().find(|level| level.name() == text);
        level.ok_or_else(|| "give error, warn, info, debug or trace".into())
    }
}

/// Changes the level, unless options or BKFS_LOG have set it.
static CHANGE_LEVEL: OnceLock<Box<dyn Fn(LogLevel) + Send + Sync>> = OnceLock::new();

/// Starts the log of a command: warnings, and more with `-v` or BKFS_LOG.
pub fn start(global: &GlobalArgs) -> Result<()> {
    let has_times = global.verbose > 1;
    start_with(global, LogFormat::Text, LogLevel::Warn, has_times)
}

/// Starts the log of a server, which also says what it does.
pub fn start_for_server(global: &GlobalArgs, format: LogFormat, level: LogLevel) -> Result<()> {
    start_with(global, format, level, !is_journal() || global.verbose > 1)
}

/// Sets the level of a running server's log.
pub fn set_level(level: LogLevel) {
    if let Some(change) = CHANGE_LEVEL.get() {
        change(level);
    }
}

fn start_with(global: &GlobalArgs, format: LogFormat, level: LogLevel, has_times: bool) -> Result<()> {
    let given = std::env::var("BKFS_LOG").ok().filter(|text| !text.is_empty());
    let parsed = given.as_ref().map(EnvFilter::try_new);
    if let Some(Err(error)) = &parsed {
        output::note(format!("warning: BKFS_LOG is ignored: {error}"));
    }
    let parsed = parsed.and_then(Result::ok);
    let is_fixed = parsed.is_some() || global.quiet || global.verbose > 0;
    let (filter, handle) = reload::Layer::new(parsed.unwrap_or_else(|| filter(changed_by_flags(level, global))));
    if !is_fixed {
        // A level that cannot be changed stays.
        let _ = CHANGE_LEVEL.set(Box::new(move |level| drop(handle.reload(self::filter(level)))));
    }
    let text = || {
        tracing_subscriber::fmt::layer()
            .with_writer(|| LogWriter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_target(global.verbose > 1)
    };
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text if has_times => text().boxed(),
        // cron and the journal add their own times, and on a terminal the times of a command are noise.
        LogFormat::Text => text().without_time().boxed(),
        // JSON escapes by itself what would end or change a line.
        LogFormat::Json => text().with_writer(std::io::stderr).json().flatten_event(true).with_target(true).boxed(),
        LogFormat::Journald => {
            let journal = tracing_journald::layer().context("the journal of systemd cannot be reached")?;
            journal.with_syslog_identifier("bkfs".into()).boxed()
        }
    };
    // A second start changes nothing.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Ok(())
}

/// Returns the level that `-q` and `-v` make of one.
fn changed_by_flags(level: LogLevel, global: &GlobalArgs) -> LogLevel {
    let at = LEVELS.iter().position(|one| *one == level).unwrap_or_default();
    let more = LEVELS.get(at + usize::from(global.verbose)).copied().unwrap_or(LogLevel::Trace);
    if global.quiet { LogLevel::Error } else { more }
}

fn filter(level: LogLevel) -> EnvFilter {
    let own = level.name();
    EnvFilter::new(format!("{LIBRARIES},bkfs={own},bkfs_store={own},bkfs_fs={own},bkfs_transport={own}"))
}

/// What libraries may say. Only BKFS_LOG asks for more: what TLS and QUIC trace is long, and says nothing to a user.
/// Warnings of fuser are left out: it warns when umount(8) unmounts before it does, which is how a mount normally ends.
const LIBRARIES: &str = "warn,fuser=error";

/// Returns whether standard error goes to the journal, which adds times: systemd.exec(5) says to compare device and
/// inode with JOURNAL_STREAM, because the variable is inherited by programs whose output goes elsewhere.
fn is_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").ok();
    let stat = rustix::fs::fstat(std::io::stderr());
    stream.zip(stat.ok()).is_some_and(|(stream, stat)| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}
