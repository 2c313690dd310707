//! `bkfs init`: creates a repository and its keys, and makes this machine the first client.

use std::path::PathBuf;

use anyhow::Result;
use bkfs_store::{
    Error, ErrorKind,
    access::{InitRequest, OpenRequest},
    base::{
        id::{ClientId, DomainId, RepoId},
        medium,
    },
    crypto::random,
    format::{
        config::ChunkerParams,
        keys::{
            FullKey, KeyFile, SlotInfo,
            slot::{self, SlotParams},
        },
        roster::Roster,
    },
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
    about = "Create a repository",
    long_about = "Create a repository.\n\n\
        A passphrase protects it. The passphrase is taken from BKFS_PASSWORD, BKFS_PASSWORD_FILE or \
        BKFS_PASSWORD_COMMAND, or asked for. This machine becomes the first client: its push key is kept in the \
        configuration folder, so that `bkfs push` needs no passphrase, even from cron.",
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

const PARITY_HELP: &str = "Space for error correction, in percent of the data (1% to 100%), or off. The default is 5%: \
    in each pack of 16 MiB, any burst of damage up to 768 KiB and any 13 damaged places can be mended. Parity does not \
    protect against the loss of a disk: keep a second repository for that. On a server, the operator sets the amount \
    (`bkfs server run --parity`)";

/// The label of the passphrase slot that a repository begins with.
const FIRST_SLOT_LABEL: &str = "first";

#[derive(Serialize)]
struct InitJson {
    repository: String,
    place: String,
    client: String,
}

/// Runs `bkfs init`.
pub fn run(context: &Context, args: InitArgs) -> Result<Exit> {
    let place = Place::parse(context.repository(&args.repo))?;
    let Created { full, client, push_key } = create(context, &place, args.parity)?;
    if context.json {
        output::json(&InitJson {
            repository: full.repo.to_string(),
            place: place.to_string(),
            client: client.to_string(),
        })?;
    } else if !context.quiet {
        output::line(format!("created repository {} at {place}", full.repo.short()))?;
        output::line(format!("this machine's push key is {}", push_key.display()))?;
        output::line(
            "nobody can read the repository without the passphrase: keep it safe, or print `bkfs key recovery`",
        )?;
    }
    Ok(Exit::Success)
}

/// A repository that was created.
pub struct Created {
    /// Its full key.
    pub full: FullKey,
    /// The first client, which is this machine.
    pub client: ClientId,
    /// Where the push key of this machine is kept.
    pub push_key: PathBuf,
}

/// Creates a repository, and makes this machine its first client. Prints what the place lacks, and nothing else.
pub fn create(context: &Context, place: &Place, parity: Option<ParityArg>) -> Result<Created> {
    let access = session::connect_new(context, place, parity)?;
    // Checked here, before anyone is asked for a passphrase.
    match access.open(&OpenRequest::default()) {
        Ok(_) => return Err(Error::RepositoryExists { place: place.to_string() }.into()),
        Err(error) if error.kind() == ErrorKind::NoRepository => {}
        Err(error) => return Err(error.into()),
    }
    // Created before the repository: its push key must have a place to be kept.
    config::make_private_dir(&context.folders.config)?;
    let passphrase = passphrase::initial(context)?;

    let now = output::now();
    let slot_info = SlotInfo { label: FIRST_SLOT_LABEL.to_owned(), host: host_name(), created: now };
    let full = FullKey::random(RepoId(random()));
    let url = Some(place.to_string());
    let (push, client) = full.new_client(&host_name(), url, DomainId::OWNER, now);
    let roster = Roster { repo: full.repo, number: 1, clients: vec![client] };
    access.init(&InitRequest {
        config: full.config(now, ChunkerParams::default()),
        roster: full.sign_roster(&roster),
        slots: vec![slot::seal_slot(&full, passphrase.as_bytes(), SlotParams::default(), &slot_info)?],
    })?;

    let folder = context.folders.repository(full.repo);
    let client = push.client_id();
    folder.set_push_key(&KeyFile::Push(push).encode())?;
    context.folders.places().set_repository(&place.to_string(), full.repo)?;
    folder.advance(&place.copy(), access.open(&OpenRequest::default())?.now)?;

    if !context.quiet {
        medium::lacks().iter().for_each(|lack| output::note(format!("note: {place}: {lack}")));
    }
    Ok(Created { full, client, push_key: folder.push_key_path() })
}
