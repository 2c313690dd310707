//! `bkfs cat`: prints a file from a snapshot.

use std::io::{IsTerminal, Write};

use anyhow::Result;
use bkfs_store::format::tree::NodeKind;
use clap::Args;

use crate::{
    args::RepoArgs,
    catalog::Catalog,
    completion,
    context::Context,
    failure::{Exit, Failure},
    output,
    selector::{Filters, Selector, value_parser},
    session::Session,
};

/// Bytes to read at a time: enough for the reader to request many frames at once.
const READ_BYTES: usize = 4 << 20;

/// Arguments of `cat`.
#[derive(Debug, Args)]
#[command(
    about = "Print a file from a snapshot",
    long_about = "Print a file from a snapshot to standard output.\n\n\
        If a chunk is missing or damaged, print the file up to that point and end with an error.",
    after_help = "Examples:\n  bkfs cat latest:etc/fstab\n  bkfs cat 2026-11-20T090000Z:home/me/photo.jpg > photo.jpg"
)]
pub struct CatArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// The snapshot, and the path of the file in it
    #[arg(value_name = "SNAPSHOT:PATH", value_parser = value_parser(), add = completion::selector())]
    selector: Selector,
    #[command(flatten)]
    filters: Filters,
}

/// Runs `bkfs cat`.
pub fn run(context: &Context, args: CatArgs) -> Result<Exit> {
    let Some(path) = args.selector.path.as_ref().filter(|path| !path.is_empty()) else {
        let hint = "use SNAPSHOT:PATH; `bkfs ls SNAPSHOT` lists the files";
        return Err(Failure::new("no file given", hint).into());
    };
    let session = Session::open(context, &args.repo)?;
    let catalog = Catalog::open_to_show(context, &session, "reading files", &args.selector, &args.filters)?;
    let (_, node) = catalog.find(&args.selector, &args.filters)?;
    if node.kind != NodeKind::File {
        let hint = match node.kind {
            NodeKind::Directory => "use `bkfs ls` to list it, or `bkfs restore` to copy it",
            _ => "`bkfs ls -l` shows what it is",
        };
        return Err(Failure::new(format!("{} is not a regular file", output::name(path)), hint).into());
    }
    let file = catalog.reader.file(&node);
    let mut out = std::io::stdout().lock();
    let is_terminal = out.is_terminal();
    let mut offset = 0;
    while offset < file.len() {
        let bytes = file.read_at(offset, READ_BYTES)?;
        if bytes.is_empty() {
            break;
        }
        if is_terminal && offset == 0 && bytes[..bytes.len().min(1024)].contains(&0) {
            let hint = "redirect the output to a file: bkfs cat ... > FILE";
            let message = format!("refusing to print {} to a terminal: it is binary", output::name(path));
            return Err(Failure::new(message, hint).into());
        }
        out.write_all(&bytes)?;
        offset += bytes.len() as u64;
    }
    out.flush()?;
    Ok(Exit::Success)
}
