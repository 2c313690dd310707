//! `bkfs key export-push`, `bkfs key export-full` and `bkfs key recovery`.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bkfs_fs::vfs::component::time_name;
use bkfs_store::{
    base::id::DomainId,
    crypto,
    format::keys::{FullKey, KeyFile},
};
use clap::Args;
use serde_json::json;

use crate::{
    args::{RepoArgs, parse_client_label},
    context::{Context, host_name},
    enrol,
    failure::Failure,
    output,
    place::Place,
    session::Session,
};

/// Arguments of `key recovery`.
#[derive(Debug, Args)]
pub struct RecoveryArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Split the key into N sheets, so that any K of them restore it, for example 3/5
    #[arg(long, value_name = "K/N", value_parser = parse_shares)]
    shares: Option<Shares>,
}

/// Arguments of `key export-push` and `key export-full`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Name the client like this on the roster [default: the file's name]
    #[arg(long, value_name = "NAME", value_parser = parse_client_label)]
    label: Option<String>,
    /// The file to write; it must not exist yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Arguments of `key export-push`.
#[derive(Debug, Args)]
pub struct ExportPushArgs {
    #[command(flatten)]
    export: ExportArgs,
    /// Let the clients of this group rely on each other's data before it was checked; `owner` is the group of the
    /// machines that were enrolled with the passphrase [default: a group of its own]
    #[arg(long, value_name = "NAME", value_parser = parse_client_label)]
    group: Option<String>,
}

/// Writes the push key of a new client.
pub fn push(context: &Context, args: &ExportPushArgs) -> Result<()> {
    let domain = |full: &FullKey| match &args.group {
        Some(name) => full.domain(name),
        None => DomainId(crypto::random()),
    };
    export(context, &args.export, false, &domain)
}

/// Writes the full key, with a new client.
pub fn full(context: &Context, args: &ExportArgs) -> Result<()> {
    export(context, args, true, &|_| DomainId::OWNER)
}

fn export(context: &Context, args: &ExportArgs, with_full: bool, domain: &dyn Fn(&FullKey) -> DomainId) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    session.warn_of_rollback();
    let full = session.full_key(context, "exporting a key")?;
    // Created before the roster changes: otherwise the roster could keep a client whose key nobody has.
    let mut file = create(&args.file)?;
    let from_file = || {
        let stem = output::name(args.file.file_stem()?.as_encoded_bytes());
        parse_client_label(&stem).ok()
    };
    let label = args.label.clone().or_else(from_file).unwrap_or_else(host_name);
    let url = Some(session.place.to_string());
    let written = enrol::add_client(session.access.as_ref(), &full, &label, url, domain(&full)).and_then(|push| {
        let client = push.client_id();
        let key = if with_full { KeyFile::Full { full, push } } else { KeyFile::Push(push) };
        file.write_all(&key.encode())
            .and_then(|()| file.sync_all())
            .with_context(|| args.file.display().to_string())?;
        Ok(client)
    });
    let client = written.inspect_err(|_| drop(fs::remove_file(&args.file)))?;
    if context.json {
        output::json(&json!({ "client": client.to_string(), "label": label, "file": args.file, "full": with_full }))?;
    } else if !context.quiet {
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
pub fn create(path: &Path) -> Result<fs::File> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => Ok(file),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Failure::new(format!("{} already exists", path.display()), "give the name of a new file").into())
        }
        Err(e) => Err(e).with_context(|| format!("creating {}", path.display())),
    }
}

/// How a key is split into sheets.
#[derive(Debug, Clone, Copy)]
struct Shares {
    needed: u8,
    count: u8,
}

/// Reads `K/N`.
fn parse_shares(text: &str) -> Result<Shares, String> {
    let parts = text.split_once('/').map(|(needed, count)| (needed.trim().parse(), count.trim().parse()));
    match parts {
        Some((Ok(needed), Ok(count))) if 2 <= needed && needed <= count && count <= 16 => Ok(Shares { needed, count }),
        _ => Err("give how many sheets restore the key, and how many there are, like 3/5; from 2/2 to 16/16".into()),
    }
}

/// Prints the recovery sheet, or the sheets.
pub fn recovery(context: &Context, args: &RecoveryArgs) -> Result<()> {
    let session = Session::open(context, &args.repo)?;
    session.warn_of_rollback();
    let full = session.full_key(context, "printing the recovery sheet")?;
    let now = session.opened.now;
    let sheets = match args.shares {
        Some(Shares { needed, count }) => full.recovery_shares(needed, count)?,
        None => vec![full.recovery_text()],
    };
    if context.json {
        let texts: Vec<&str> = sheets.iter().map(|sheet| sheet.trim_end()).collect();
        let mut report = json!({
            "repository": full.repo.to_string(),
            "place": session.place.to_string(),
            "log_len": now.log_len,
            "log_head": now.log_head.to_string(),
        });
        match args.shares {
            Some(shares) => (report["shares"], report["needed"]) = (json!(texts), json!(shares.needed)),
            None => report["recovery"] = json!(texts[0]),
        }
        return output::json(&report);
    }
    let texts = sheets.iter().enumerate().map(|(at, sheet)| {
        let (number, what) = match args.shares {
            Some(shares) => (format!(" {} of {}", at + 1, shares.count), what_shares_do(shares)),
            None => (String::new(), WHAT_THE_SHEET_DOES.to_owned()),
        };
        whole_sheet(&full, &session, &number, &what, sheet)
    });
    output::line(texts.collect::<Vec<_>>().join("\n\n"))
}

/// Returns the recovery sheet of a repository.
pub fn sheet(session: &Session, full: &FullKey) -> String {
    whole_sheet(full, session, "", WHAT_THE_SHEET_DOES, &full.recovery_text())
}

/// Reading a sheet skips comments and empty lines, so the whole sheet can be typed in as it is.
fn whole_sheet(full: &FullKey, session: &Session, number: &str, what: &str, lines: &str) -> String {
    let (time, now, place) = (time_name(output::now()), session.opened.now, &session.place);
    format!(
        "# bkfs recovery sheet{number}, {time}\n# repository {}\n# at {place}\n# log: {} entries, head {}\n#\n\
         {what}#\n{}#\n\
         # Spaces, dashes, line numbers and upper or lower case do not matter. A mistyped line is named.\n\n{}",
        full.repo,
        now.log_len,
        now.log_head,
        bad_day(place),
        lines.trim_end(),
    )
}

const WHAT_THE_SHEET_DOES: &str = "\
# Anyone who has the six numbered lines can read everything. To restore on any machine, without
# a passphrase: install bkfs, type the six lines into a file `sheet`, and run
";

/// Says how to use the sheets of a split key.
fn what_shares_do(Shares { needed, count }: Shares) -> String {
    format!(
        "# Anyone who has {needed} of the {count} sheets of this set can read everything. Keep each in\n\
         # another place. To restore on any machine, without a passphrase: install bkfs, type {needed} of\n\
         # the sheets into one file `sheet`, one below the other, seven numbered lines each, and run\n"
    )
}

/// Returns the commands that restore with nothing but the sheet.
fn bad_day(place: &Place) -> String {
    let read = |place: &str| {
        format!(
            "#   BKFS_KEY_FILE=sheet bkfs snapshots -r {place}\n\
             #   BKFS_KEY_FILE=sheet bkfs restore -r {place} SNAPSHOT ./restored\n"
        )
    };
    match place {
        Place::Path(path) => read(&path.display().to_string()),
        Place::Url(url) => format!(
            "#   bkfs join TOKEN\n{}#\n\
             # TOKEN is an invitation. The operator of the server makes it, there:\n#\n\
             #   bkfs server invite --data DIR {} --can read\n#\n\
             # (`--can all` to push again, too.) Nothing but this sheet and the invitation is needed.\n",
            read(&url.to_string()),
            url.account
        ),
    }
}
