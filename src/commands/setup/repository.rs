//! The repository: join its server, create it or use the one that is there, and make this machine a client.

use std::{fs, io::Write as _, path::Path};

use anyhow::{Context as _, Result};
use bkfs_store::{ErrorKind, access::OpenRequest, format::keys::FullKey};
use bkfs_transport::client::Joined;
use zeroize::Zeroizing;

use super::questions::{Recovery, To};
use crate::{
    args::RepoArgs,
    commands::{
        init::{self, Created},
        join,
        key::export,
    },
    config::read_optional,
    context::Context,
    failure::Failure,
    output,
    place::Place,
    push_job::{enrol_this_machine, enrol_with},
    session::{self, Session},
};

/// A repository to which this machine can push.
pub struct Ready {
    /// Whether it was created now.
    pub is_new: bool,
    /// The recovery sheet, if it is to be printed.
    pub sheet: Option<Zeroizing<String>>,
}

/// Returns the place, and joins its server if there is an invitation that was not used yet.
pub fn reach(context: &Context, to: &To, push_key: Option<&Path>) -> Result<Place> {
    if let Some(place) = to.known_place(context)? {
        return Ok(place);
    }
    let To::Token(token) = to else {
        return Err(Failure::new("it is not known where to back up", "give --to").into());
    };
    let key = push_key.map(|path| join::read_push_key(context, path)).transpose()?;
    let joined = join::enrol(context, token, key, false)?;
    let Joined { url, can } = &joined;
    if !context.quiet {
        output::note(format!(
            "joined account {} of the server at {}; this machine may: {can}",
            url.account,
            url.server()
        ));
    }
    Ok(To::joined(&joined))
}

/// Opens the repository, or creates it if there is none; makes this machine a client, and writes the recovery sheet.
pub fn open_or_create(context: &Context, place: &Place, recovery: &Recovery) -> Result<Ready> {
    let access = session::connect_new(context, place, None)?;
    let is_new = match access.open(&OpenRequest::default()) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::NoRepository => true,
        Err(error) => return Err(error.into()),
    };
    drop(access);
    let created = is_new.then(|| init::create(context, place, None)).transpose()?;
    let repo = RepoArgs { repository: Some(place.to_string()) };
    let mut session = Session::open(&context.clone().for_place(), &repo)?;
    session.warn_of_rollback();
    if !context.quiet && !context.json {
        let id = session.config.repo.short();
        let what = if is_new { "created repository" } else { "using repository" };
        output::line(format!("{what} {id} at {place}"))?;
    }
    let mut full: Option<FullKey> = created.map(|Created { full, .. }| full);
    let needs_sheet = match recovery {
        Recovery::None => false,
        Recovery::Terminal => true,
        Recovery::File(path) => !is_sheet_of(path, &session)?,
    };
    if full.is_none() && needs_sheet {
        full = Some(session.full_key(context, "writing the recovery sheet")?);
    }
    if session.push_key().is_none() {
        match &full {
            Some(full) => enrol_with(&mut session, full)?,
            None => enrol_this_machine(context, &mut session)?,
        };
    }
    let sheet = full.filter(|_| needs_sheet).map(|full| Zeroizing::new(export::sheet(&session, &full)));
    if let (Some(sheet), Recovery::File(path)) = (&sheet, recovery) {
        let mut file = export::create(path)?;
        let written = writeln!(file, "{}", sheet.as_str()).and_then(|()| file.sync_all());
        written.inspect_err(|_| drop(fs::remove_file(path))).with_context(|| path.display().to_string())?;
    }
    Ok(Ready { is_new, sheet })
}

/// Returns whether a file is a recovery sheet of this repository already. Fails if it is something else.
fn is_sheet_of(path: &Path, session: &Session) -> Result<bool> {
    let Some(found) = read_optional(path)? else { return Ok(false) };
    let found = Zeroizing::new(found);
    let text = String::from_utf8_lossy(&found);
    let repository = format!("# repository {}", session.config.repo);
    match text.starts_with("# bkfs recovery sheet") && text.lines().any(|line| line == repository) {
        true => Ok(true),
        false => {
            let hint = "name a new file for the recovery sheet with --recovery; the repository is there, and the setup \
                        goes on from it";
            Err(Failure::new(format!("{} exists already, and is not its recovery sheet", path.display()), hint).into())
        }
    }
}
