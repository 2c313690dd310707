//! `bkfs init`: makes a repository, its keys, and this machine its first client.

use anyhow::Result;
use bkfs_store::{
    Error, ErrorKind,
    access::{InitRequest, OpenRequest},
    config::ChunkerParams,
    crypto::random,
    id::RepoId,
    keys::{FullKey, KeyFile, slot, slot::SlotParams},
    roster::Roster,
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::{ParityArg, RepoArgs},
    config,
    context::{Context, host_name},
    failure::Exit,
    output, passphrase,
    place::Place,
    session,
};

/// Arguments of `init`.
#[derive(Debug, Args)]
#[command(
    about = "Make a new repository",
    long_about = "Make a new repository. It is protected by a passphrase, from BKFS_PASSWORD, BKFS_PASSWORD_FILE, \
        BKFS_PASSWORD_COMMAND or asked for. This machine becomes its first client: its push key is kept in the \
        configuration folder, so that `bkfs push` from cron needs no passphrase.",
    after_help = "Examples:\n  bkfs init -r /media/usb/repo\n  bkfs init -r bkfs://nas.lan:7443/alice\n  \
        bkfs init -r /media/old/repo --parity 20%\n  \
        BKFS_PASSWORD_COMMAND='pass show backup' bkfs init -r /srv/backup"
)]
pub struct InitArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Space for error correction, in percent of the data, or off
    #[arg(long, value_name = "PERCENT|off", long_help = PARITY_HELP)]
    parity: Option<ParityArg>,
}

const PARITY_HELP: &str = "Space for error correction, in percent of the data (1% to 100%), or off. Without it, 5%: of each pack of 16 MiB, \
    any burst of damage up to 768 KiB and any 13 damaged places are mended. A lost disk is not: that needs a second \
    repository. On a server, whoever runs it decides (`bkfs server run --parity`)";

#[derive(Serialize)]
struct InitJson {
    repository: String,
    place: String,
    client: String,
}

/// Runs it.
pub fn run(context: &Context, args: InitArgs) -> Result<Exit> {
    let place = Place::parse(args.repo.repository.as_deref())?;
    let access = session::connect_new(context, &place, args.parity)?;
    // Before anybody is asked for a passphrase.
    match access.open(&OpenRequest::default()) {
        Ok(_) => return Err(Error::RepositoryExists { place: place.to_string() }.into()),
        Err(error) if error.kind() == ErrorKind::NoRepository => {}
        Err(error) => return Err(error.into()),
    }
    // Nor should there be a repository whose key has no place to be kept.
    config::make_private_dir(&context.folders.config)?;
    let passphrase = passphrase::initial(context)?;

    let now = output::now();
    let full = FullKey::random(RepoId(random()));
    let url = Some(place.to_string());
    let (push, client) = full.new_client(&host_name(), url, true, now);
    let roster = Roster { repo: full.repo, number: 1, clients: vec![client] };
    access.init(&InitRequest {
        config: full.config(now, ChunkerParams::default()),
        roster: full.sign_roster(&roster),
        slots: vec![slot::seal_slot(&full, passphrase.as_bytes(), SlotParams::default())?],
    })?;

    let folder = context.folders.repository(full.repo);
    let client = push.client_id();
    folder.set_push_key(&KeyFile::Push(push).encode())?;
    context.folders.places().set_repository(&place.to_string(), full.repo)?;
    folder.advance(access.open(&OpenRequest::default())?.now)?;

    if context.json {
        output::json(&InitJson {
            repository: full.repo.to_string(),
            place: place.to_string(),
            client: client.to_string(),
        })?;
    } else if !context.quiet {
        output::line(format!("made repository {} at {place}", full.repo.short()))?;
        output::line(format!("this machine's push key is {}", folder.push_key_path().display()))?;
        output::line("without the passphrase nobody can read it: keep it safe, or print `bkfs key recovery`")?;
    }
    Ok(Exit::Success)
}
