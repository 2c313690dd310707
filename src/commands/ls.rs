//! `bkfs ls`: lists a folder in a snapshot.

use std::io::Write;

use anyhow::Result;
use bkfs_store::{
    format::tree::{Node, NodeKind},
    owner::reader::Reader,
};
use clap::Args;
use serde::Serialize;

use crate::{
    args::RepoArgs,
    catalog::Catalog,
    completion,
    context::Context,
    failure::Exit,
    output,
    selector::{Filters, Selector, value_parser},
    session::Session,
};

/// Entries to fetch at a time.
const BATCH: usize = 1024;

/// Arguments of `ls`.
#[derive(Debug, Args)]
#[command(
    about = "List a folder in a snapshot",
    long_about = "List a folder in a snapshot, or the snapshot's root if no path is given.\n\n\
        Names of folders end with a slash. With -l, each line looks like one of `ls -l`; a + after the mode means that \
        the entry has extended attributes.",
    after_help = "SNAPSHOT is an id or a prefix of one, latest, or a time: '2026-11-20 09:00:00' and 2026-11-20 are \
        local, 2026-11-20T090000Z is in UTC.\n\n\
        Examples:\n  bkfs ls latest\n  bkfs ls -l latest:/home/me --host alpha\n  bkfs ls -R 3f0c11aa:etc"
)]
pub struct LsArgs {
    #[command(flatten)]
    repo: RepoArgs,
    /// Show mode, owner, size and time
    #[arg(short, long)]
    long: bool,
    /// List everything below, too
    #[arg(short = 'R', long)]
    recursive: bool,
    /// The snapshot, and the path of a folder or file in it
    #[arg(value_name = "SNAPSHOT[:PATH]", value_parser = value_parser(), add = completion::selector())]
    selector: Selector,
    #[command(flatten)]
    filters: Filters,
}

/// An entry as JSON, on a line of its own.
#[derive(Serialize)]
struct EntryJson<'a> {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    user: Option<&'a str>,
    group: Option<&'a str>,
    size: u64,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// Runs `bkfs ls`.
pub fn run(context: &Context, args: LsArgs) -> Result<Exit> {
    let session = Session::open(context, &args.repo)?;
    let catalog = Catalog::open_to_show(context, &session, "listing files", &args.selector, &args.filters)?;
    let (_, node) = catalog.find(&args.selector, &args.filters)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut show = |path: &[u8], node: &Node| write_entry(&mut out, context, args.long, path, node);
    match node.is_dir() {
        true => list(&catalog.reader, &node, &mut Vec::new(), args.recursive, &mut show)?,
        false => show(&node.name, &node)?,
    }
    out.flush()?;
    Ok(Exit::Success)
}

/// Shows the entries of a folder. With `recursive`, shows everything below, depth first.
fn list(
    reader: &Reader,
    folder: &Node,
    path: &mut Vec<u8>,
    recursive: bool,
    show: &mut dyn FnMut(&[u8], &Node) -> Result<()>,
) -> Result<()> {
    // For each folder on the way down: its next entry, and the length of its path. A loop with a stack instead of
    // recursion, because trees can be very deep.
    let Some(subtree) = &folder.subtree else { return Ok(()) };
    let mut stack = vec![(*subtree, 0u64, path.len())];
    while let Some((subtree, next, length)) = stack.pop() {
        path.truncate(length);
        let nodes = reader.dir(&subtree).read_from(next, if recursive { 1 } else { BATCH })?;
        if nodes.is_empty() {
            continue;
        }
        stack.push((subtree, next + nodes.len() as u64, length));
        for node in &nodes {
            path.truncate(length);
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&node.name);
            show(path, node)?;
            if let (true, Some(below)) = (recursive, &node.subtree) {
                stack.push((*below, 0, path.len()));
            }
        }
    }
    Ok(())
}

fn write_entry(out: &mut impl Write, context: &Context, long: bool, path: &[u8], node: &Node) -> Result<()> {
    if context.json {
        out.write_all(output::printable_json(serde_json::to_string(&row(path, node))?).as_bytes())?;
    } else {
        if long {
            write!(
                out,
                "{}  {:<8} {:<8} {:>11}  {}  ",
                mode_text(node),
                owner(node.user.as_deref(), node.uid),
                owner(node.group.as_deref(), node.gid),
                size_text(node),
                output::time_local(node.mtime),
            )?;
        }
        out.write_all(&output::name_for_stdout(path))?;
        if node.is_dir() {
            out.write_all(b"/")?;
        }
        if let (true, Some(target)) = (long, &node.target) {
            out.write_all(b" -> ")?;
            out.write_all(&output::name_for_stdout(target))?;
        }
    }
    out.write_all(b"\n")?;
    Ok(())
}

fn row<'a>(path: &[u8], node: &'a Node) -> EntryJson<'a> {
    // A path that is not UTF-8 is given twice: readable, and as its bytes.
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    EntryJson {
        path: String::from_utf8_lossy(path).into_owned(),
        path_bytes: std::str::from_utf8(path).is_err().then(|| hex(path)),
        kind: kind(node),
        mode: format!("{:04o}", node.mode),
        uid: node.uid,
        gid: node.gid,
        user: node.user.as_deref(),
        group: node.group.as_deref(),
        size: node.size,
        mtime: output::time_json(node.mtime),
        target: node.target.as_deref().map(|t| String::from_utf8_lossy(t).into_owned()),
    }
}

fn kind(node: &Node) -> &'static str {
    match node.kind {
        NodeKind::File => "file",
        NodeKind::Directory => "directory",
        NodeKind::Symlink => "symlink",
        NodeKind::Fifo => "fifo",
        NodeKind::Socket => "socket",
        NodeKind::CharDevice => "char-device",
        NodeKind::BlockDevice => "block-device",
    }
}

fn owner(name: Option<&str>, id: u32) -> String {
    name.map_or_else(|| id.to_string(), |name| output::name(name.as_bytes()))
}

fn size_text(node: &Node) -> String {
    match (&node.device, node.kind) {
        (Some(device), _) => format!("{}, {}", device.major, device.minor),
        (None, NodeKind::File) => node.size.to_string(),
        _ => "-".to_owned(),
    }
}

/// Formats the mode as `ls -l` does: `drwxr-sr-x`.
fn mode_text(node: &Node) -> String {
    let kind = match node.kind {
        NodeKind::File => '-',
        NodeKind::Directory => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
        NodeKind::CharDevice => 'c',
        NodeKind::BlockDevice => 'b',
    };
    let bit = |mask: u32, c: char| if node.mode & mask != 0 { c } else { '-' };
    let execute = |mask: u32, special: u32, set: char| match (node.mode & mask != 0, node.mode & special != 0) {
        (true, true) => set,
        (false, true) => set.to_ascii_uppercase(),
        (true, false) => 'x',
        (false, false) => '-',
    };
    let xattrs = if node.xattrs().is_empty() { ' ' } else { '+' };
    [
        kind,
        bit(0o400, 'r'),
        bit(0o200, 'w'),
        execute(0o100, 0o4000, 's'),
        bit(0o040, 'r'),
        bit(0o020, 'w'),
        execute(0o010, 0o2000, 's'),
        bit(0o004, 'r'),
        bit(0o002, 'w'),
        execute(0o001, 0o1000, 't'),
        xattrs,
    ]
    .iter()
    .collect()
}
