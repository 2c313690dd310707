//! `bkfs key export-push`, `bkfs key export-full` and `bkfs key recovery`.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bkfs_store::format::keys::KeyFile;
use clap::Args;

use crate::{
    args::RepoArgs,
    context::{Context, host_name},
    enrol,
    failure::Failure,
    output,
    session::Session,
};

/// Arguments of `key recovery`.
#[derive(Debug, Args)]
pub struct RecoveryArgs {
    #[command(flatten)]
    repo: RepoArgs,
}

/// Arguments of `key export-push` and `key export-full`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Name the client like this on the roster [default: the file's name]
    #[arg(long, value_name = "NAME")]
    label: Option<String>,
    /// The file to write; it must not exist yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Writes the push key of a new client.
pub fn push(context: &Context, args: &ExportArgs) -> Result<()> {
    export(context, args, false)
}

/// Writes the full key, with a new client.
pub fn full(context: &Context, args: &ExportArgs) -> Result<()> {
    export(context, args, true)
}

fn export(context: &Context, args: &ExportArgs, with_full: bool) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    session.warn_of_rollback();
    let full = session.full_key(context, "exporting a key")?;
    // Created before the roster changes: otherwise the roster could keep a client whose key nobody has.
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

/// Creates the file. It must be new: an existing file may have other readers, or hold another key.
fn create(path: &Path) -> Result<fs::File> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => Ok(file),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Failure::new(format!("{} already exists", path.display()), "give the name of a new file").into())
        }
        Err(e) => Err(e).with_context(|| format!("creating {}", path.display())),
    }
}

/// Prints the recovery sheet.
pub fn recovery(context: &Context, args: &RecoveryArgs) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    session.warn_of_rollback();
    let full = session.full_key(context, "printing the recovery sheet")?;
    let words = full.recovery_text();
    let now = session.opened.now;
    // Reading a sheet skips comments and empty lines, so the whole sheet can be typed in as it is.
    output::line(format!(
        "# bkfs recovery sheet, {}\n# repository {}\n# at {}\n# log: {} entries, head {}\n#\n\
         # Anyone who has these lines can read everything. To use them, type them into a file and name\n\
         # the file in BKFS_KEY_FILE. Spaces, dashes and upper or lower case do not matter.\n\n{}",
        output::time_name(output::now()),
        full.repo,
        session.place,
        now.log_len,
        now.log_head,
        words.trim_end(),
    ))
}
