//! `bkfs key export-push`, `export-full` and `recovery`.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context as _, Result};
use bkfs_store::format::keys::KeyFile;

use super::ExportArgs;
use crate::{
    cli::RepoArgs,
    context::{Context, host_name},
    enrol,
    failure::Failure,
    output,
    session::Session,
};

/// Writes a fresh client's push key.
pub fn push(context: &Context, args: &ExportArgs) -> Result<()> {
    export(context, args, false)
}

/// Writes the full key with a fresh client.
pub fn full(context: &Context, args: &ExportArgs) -> Result<()> {
    export(context, args, true)
}

fn export(context: &Context, args: &ExportArgs, with_full: bool) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    session.warn_of_rollback();
    let full = session.full_key(context, "exporting a key")?;
    // Before the roster changes: no client should be left on it whose key nobody has.
    let mut file = create(&args.file)?;
    let label = args.label.clone().unwrap_or_else(|| match args.file.file_stem() {
        Some(stem) => output::name(stem.as_encoded_bytes()),
        None => host_name(),
    });
    let url = Some(session.place.to_string());
    let written = enrol::add_client(session.access.as_ref(), &full, &label, url, with_full).and_then(|push| {
        let client = push.client_id();
        let key = if with_full { KeyFile::Full { full, push } } else { KeyFile::Push(push) };
        file.write_all(&key.encode())
            .and_then(|()| file.sync_all())
            .with_context(|| args.file.display().to_string())?;
        Ok(client)
    });
    let client = written.inspect_err(|_| drop(fs::remove_file(&args.file)))?;
    if !context.quiet && !context.json {
        let what = if with_full { "full key" } else { "push key" };
        output::line(format!(
            "wrote the {what} of new client {} ({label}) to {}",
            client.short(),
            args.file.display()
        ))?;
    }
    Ok(())
}

/// Makes the file, which must be new: an existing one may have readers, or another key in it.
fn create(path: &Path) -> Result<fs::File> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => Ok(file),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Failure::new(format!("{} is there already", path.display()), "name a new file").into())
        }
        Err(e) => Err(e).with_context(|| format!("making {}", path.display())),
    }
}

/// Prints the recovery sheet.
pub fn recovery(context: &Context, repo: &RepoArgs) -> Result<()> {
    let session = Session::open(context, repo)?;
    session.warn_of_rollback();
    let full = session.full_key(context, "printing the recovery sheet")?;
    let words = full.recovery_text();
    let now = session.opened.now;
    // Comment lines and empty ones are skipped when the sheet is read back, so it can be typed in as it is.
    output::line(format!(
        "# bkfs recovery sheet, {}\n# repository {}\n# at {}\n# log: {} entries, head {}\n#\n\
         # Whoever has these lines can read everything. To use them, type them into a file and name it\n\
         # in BKFS_KEY_FILE. Spaces, dashes and capitals do not matter.\n\n{}",
        output::time_name(output::now()),
        full.repo,
        session.place,
        now.log_len,
        now.log_head,
        words.trim_end(),
    ))
}
