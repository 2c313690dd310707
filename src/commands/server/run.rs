//! `bkfs server run`: runs a server until it is stopped, and changes its settings when it is told to read them again.

mod settings;

use std::{
    net::UdpSocket,
    sync::{
        Arc, Mutex,
        mpsc::{self, Sender},
    },
};

use anyhow::{Context as _, Result};
use bkfs_transport::server::{self, Listen};
use clap::Args;
use sd_notify::NotifyState;
use serde_json::json;

pub use self::settings::{Settings, SettingsArgs};
use super::data::DataArgs;
use crate::{context::Context, failure::Exit, logging, output, signals};

/// Arguments of `server run`.
#[derive(Debug, Args)]
#[command(
    about = "Run the server until it is stopped",
    long_about = "Run the server until it is stopped.\n\n\
        Settings come from the options, then from the file server.toml in the data folder (or the one that --config \
        names). SIGHUP reads the file, the certificate and the audit log's file again, while the server runs. SIGTERM \
        stops it: requests that have arrived are answered first, and clients continue at the next server.\n\n\
        If a service manager passes a UDP socket (systemd's socket activation), the server listens on that one.",
    after_help = "Examples:\n  bkfs server run --data /srv/bkfs --listen 0.0.0.0:7443\n  \
        bkfs server run --data /srv/bkfs --metrics 127.0.0.1:9127 --log-format json"
)]
pub struct RunArgs {
    #[command(flatten)]
    pub data: DataArgs,
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Arguments of `server config`.
#[derive(Debug, Args)]
#[command(
    about = "Show the settings that `bkfs server run` would use",
    long_about = "Show the settings that `bkfs server run` would use, with the same options and files. A mistake in \
        the file is an error that names the line, so this also checks a file before a \
        reload; -q prints nothing else.",
    after_help = "Examples:\n  bkfs server config --data /srv/bkfs\n  \
        bkfs server config --data /srv/bkfs --config /etc/bkfs/server.toml --json"
)]
pub struct ConfigArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs `bkfs server run`.
pub fn run(context: &Context, args: &RunArgs) -> Result<Exit> {
    let data = args.data.folder_to_write()?;
    let settings = Settings::read(&data, &args.settings)?;
    let (stop, stopped) = mpsc::channel();
    signals::on_stop(move || {
        let _ = stop.send(());
    });
    let listen = passed_socket()?.map_or(Listen::At(settings.listen), Listen::On);
    let running = Arc::new(Mutex::new(Some(server::start(&data, listen, settings.options(&data))?)));
    let (address, reloads) = (local_addr(&running), reloader(&running, args, settings)?);
    signals::on_hangup(move || {
        let _ = reloads.send(());
    });
    match context.json {
        true => output::json(&json!({ "listening": address }))?,
        false => output::line(format!("listening on {address}"))?,
    }
    // Errors are ignored: without a service manager nobody needs to be notified.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let _ = stopped.recv();
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let server = lock(&running).take();
    if let Some(server) = server {
        server.stop();
    }
    Ok(signals::exit_after_stop())
}

/// Runs `bkfs server config`.
pub fn show(context: &Context, args: &ConfigArgs) -> Result<()> {
    let data = args.data.folder()?;
    let shown = Settings::read(&data, &args.settings)?.shown(&data);
    match context.json {
        true => output::json_pretty(&shown),
        false if context.quiet => Ok(()),
        false => output::line(toml::to_string(&shown).context("encoding TOML")?.trim_end()),
    }
}

type Running = Arc<Mutex<Option<server::RunningServer>>>;

fn lock(running: &Running) -> std::sync::MutexGuard<'_, Option<server::RunningServer>> {
    running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn local_addr(running: &Running) -> String {
    lock(running).as_ref().map(|server| server.local_addr().to_string()).unwrap_or_default()
}

/// Returns the UDP socket that a service manager has passed to this process, if one has.
fn passed_socket() -> Result<Option<UdpSocket>> {
    let mut passed = listenfd::ListenFd::from_env();
    match passed.len() {
        0 => Ok(None),
        _ => passed.take_udp_socket(0).context("the socket that the service manager passed is not a UDP socket"),
    }
}

/// Starts the thread that reads the settings again whenever something is sent to it.
fn reloader(running: &Running, args: &RunArgs, mut settings: Settings) -> Result<Sender<()>> {
    let (send, receive) = mpsc::channel();
    let (running, data, given) = (running.clone(), args.data.folder()?, args.settings.clone());
    let reload = move || {
        for () in receive {
            match Settings::read(&data, &given).and_then(|read| {
                lock(&running).as_ref().map_or(Ok(()), |server| server.reload(read.options(&data)))?;
                Ok(read)
            }) {
                Ok(read) => {
                    logging::set_level(read.log_level);
                    let kept = settings.needing_restart(&read);
                    if !kept.is_empty() {
                        tracing::warn!("changes of {} need a restart", kept.join(", "));
                    }
                    tracing::info!("the settings were read again");
                    settings = read.with_start_of(&settings);
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "the settings could not be read again; the old ones stay");
                }
            }
        }
    };
    std::thread::Builder::new().name("reload".into()).spawn(reload).context("starting a thread")?;
    Ok(send)
}
