//! The settings of a server: options first, then the file, then what is usual.

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use anyhow::Result;
use bkfs_transport::server::{AuditOptions, Options, ScrubSchedule};
use clap::Args;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{
    args::{ParityArg, parse_duration, parse_size},
    failure::Failure,
    logging::{LogFormat, LogLevel},
};

/// The file in the data folder.
const FILE: &str = "server.toml";
/// The audit log in the data folder.
const AUDIT_FILE: &str = "audit.log";
const AUDIT_SIZE: u64 = 16 << 20;
const AUDIT_KEEP: u32 = 4;

/// The options with which a server's settings are given.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    /// Read settings from this file instead of server.toml in the data folder
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The address and UDP port to listen on [default: 0.0.0.0:7443]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Space for error correction in new repositories, in percent of the data, or off [default: 5%]
    #[arg(long, value_name = "PERCENT|off")]
    parity: Option<ParityArg>,
    /// Verify and mend each repository this often, or off [default: 30d]
    #[arg(long, value_name = "TIME|off")]
    scrub_every: Option<IntervalArg>,
    /// Read at most this much per second to scrub [default: 20M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    scrub_rate: Option<u64>,
    /// Answer /metrics and /healthz over HTTP at this address, or off [default: off]
    #[arg(long, value_name = "ADDR:PORT|off")]
    metrics: Option<OrOff<SocketAddr>>,
    /// Record who did what in this file, or off [default: audit.log in the data folder]
    #[arg(long, value_name = "FILE|off")]
    audit_log: Option<OrOff<PathBuf>>,
    /// Begin a new audit log when it has this size [default: 16M]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    audit_size: Option<u64>,
    /// Keep this many older audit logs [default: 4]
    #[arg(long, value_name = "COUNT")]
    audit_keep: Option<u32>,
    /// Write the log to standard error as text or JSON, or send it to the journal [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Log this and what is more important (-v, -q and BKFS_LOG win) [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<LogLevel>,
    /// Delete what is due from the trash and the grave this often. Only tests need another time
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = parse_duration, hide = true)]
    tidy_every: Duration,
    /// Close repositories that nobody has used for this long. Only tests need another time
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration, hide = true)]
    close_after: Duration,
}

/// The file. Each key is an option of the same name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
struct SettingsToml {
    #[serde(deserialize_with = "parsed")]
    listen: Option<SocketAddr>,
    #[serde(deserialize_with = "parsed")]
    parity: Option<ParityArg>,
    #[serde(deserialize_with = "parsed")]
    scrub_every: Option<IntervalArg>,
    #[serde(deserialize_with = "parsed")]
    scrub_rate: Option<Size>,
    #[serde(deserialize_with = "parsed")]
    metrics: Option<OrOff<SocketAddr>>,
    #[serde(deserialize_with = "parsed")]
    audit_log: Option<OrOff<PathBuf>>,
    #[serde(deserialize_with = "parsed")]
    audit_size: Option<Size>,
    audit_keep: Option<u32>,
    #[serde(deserialize_with = "parsed")]
    log_format: Option<LogFormat>,
    #[serde(deserialize_with = "parsed")]
    log_level: Option<LogLevel>,
}

/// The settings of a server.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub listen: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub log_format: LogFormat,
    pub log_level: LogLevel,
    parity: ParityArg,
    scrub_every: Option<Duration>,
    scrub_rate: u64,
    audit_log: OrOff<PathBuf>,
    audit_size: u64,
    audit_keep: u32,
    tidy_every: Duration,
    close_after: Duration,
}

/// The settings as `bkfs server config` shows them, and as the file may hold them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Shown {
    listen: String,
    parity: String,
    scrub_every: String,
    scrub_rate: String,
    metrics: String,
    audit_log: String,
    audit_size: String,
    audit_keep: u32,
    log_format: String,
    log_level: String,
}

/// The time between two scrubs, or `off`.
#[derive(Debug, Clone, Copy)]
struct IntervalArg(Option<Duration>);

impl FromStr for IntervalArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            text => parse_duration(text).map(|every| Self(Some(every))).map_err(|e| format!("{e}, or off")),
        }
    }
}

/// A value, or `off`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct OrOff<T>(Option<T>);

impl<T: FromStr<Err: std::fmt::Display>> FromStr for OrOff<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self(None)),
            "" => Err("it is empty; give a value, or off".into()),
            text => text.parse().map(|value| Self(Some(value))).map_err(|e| format!("{e}; give a value, or off")),
        }
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy)]
struct Size(u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_size(text).map(Self)
    }
}

/// Parses a value of the file as that of an option is parsed. The error gets the value's place in the file.
fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err: std::fmt::Display>>(from: D) -> Result<Option<T>, D::Error> {
    String::deserialize(from)?.parse().map(Some).map_err(D::Error::custom)
}

impl Settings {
    /// Reads the file, and merges it with the options.
    pub fn read(data: &Path, args: &SettingsArgs) -> Result<Self> {
        let path = args.config.clone().unwrap_or_else(|| data.join(FILE));
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && args.config.is_none() => String::new(),
            text => text.map_err(|error| Failure::new(format!("{}: {error}", path.display()), ""))?,
        };
        let file: SettingsToml = toml::from_str(&text).map_err(|error| {
            let hint = "`bkfs server run --help` lists the settings: a key of the file is an option without --";
            Failure::new(format!("{}: {}", path.display(), error.to_string().trim_end()), hint)
        })?;
        let audit_log = args.audit_log.clone().or(file.audit_log);
        Ok(Self {
            listen: args.listen.or(file.listen).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 7443))),
            metrics: args.metrics.or(file.metrics).and_then(|metrics| metrics.0),
            log_format: args.log_format.or(file.log_format).unwrap_or_default(),
            log_level: args.log_level.or(file.log_level).unwrap_or_default(),
            parity: args.parity.or(file.parity).unwrap_or(ParityArg(Some(Default::default()))),
            scrub_every: match args.scrub_every.or(file.scrub_every) {
                Some(every) => every.0,
                None => Some(ScrubSchedule::default().every),
            },
            scrub_rate: size(args.scrub_rate, file.scrub_rate, ScrubSchedule::default().bytes_per_second),
            audit_log: audit_log.unwrap_or_else(|| OrOff(Some(AUDIT_FILE.into()))),
            audit_size: size(args.audit_size, file.audit_size, AUDIT_SIZE),
            audit_keep: args.audit_keep.or(file.audit_keep).unwrap_or(AUDIT_KEEP),
            tidy_every: args.tidy_every,
            close_after: args.close_after,
        })
    }

    /// The options of the server. Relative paths are below the data folder.
    pub fn options(&self, data: &Path) -> Options {
        let scrub = self.scrub_every.map(|every| ScrubSchedule { every, bytes_per_second: self.scrub_rate });
        let audit = self.audit_log.0.as_ref().map(|path| AuditOptions {
            path: data.join(path),
            bytes_max: self.audit_size,
            kept: self.audit_keep,
        });
        let (tidy_every, close_after) = (self.tidy_every, self.close_after);
        Options { parity: self.parity.0, scrub, tidy_every, close_after, audit, metrics: self.metrics }
    }

    /// The settings in which another value than this one only counts after a restart, and which differ.
    pub fn needing_restart(&self, other: &Self) -> Vec<&'static str> {
        let differing = [
            ("listen", self.listen != other.listen),
            ("metrics", self.metrics != other.metrics),
            ("log-format", self.log_format != other.log_format),
        ];
        differing.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    /// These settings, with those that only count after a restart as they were at the start.
    pub fn with_start_of(self, started: &Self) -> Self {
        Self { listen: started.listen, metrics: started.metrics, log_format: started.log_format, ..self }
    }

    /// The settings for people, as the file may hold them.
    pub fn shown(&self, data: &Path) -> Shown {
        let off = || "off".to_owned();
        Shown {
            listen: self.listen.to_string(),
            parity: self.parity.0.map_or_else(off, |parity| format!("{}%", parity.get())),
            scrub_every: self.scrub_every.map_or_else(off, |every| format!("{}s", every.as_secs())),
            scrub_rate: self.scrub_rate.to_string(),
            metrics: self.metrics.map_or_else(off, |at| at.to_string()),
            audit_log: self.audit_log.0.as_ref().map_or_else(off, |path| data.join(path).display().to_string()),
            audit_size: self.audit_size.to_string(),
            audit_keep: self.audit_keep,
            log_format: self.log_format.name().into(),
            log_level: self.log_level.name().into(),
        }
    }
}

fn size(given: Option<u64>, in_file: Option<Size>, usual: u64) -> u64 {
    given.or(in_file.map(|size| size.0)).unwrap_or(usual)
}
