//! What `bkfs prune` prints: what is free on the disk now, what the trash and the grave keep and until when, and what
//! is unused and kept, and why.

use anyhow::Result;
use bkfs_store::{access::Space, owner::prune::PruneReport};
use serde::Serialize;

use crate::{
    context::Context,
    output::{self, count, size, time_json, time_local},
};

/// What a prune did, for programs.
#[derive(Serialize)]
pub struct PruneJson {
    dry_run: bool,
    snapshots_expired: u64,
    packs: u64,
    bytes: u64,
    packs_dropped: u64,
    packs_repacked: u64,
    bytes_copied: u64,
    /// On the disk, parity included; negative if more was written than removed.
    bytes_freed: i64,
    bytes_to_grave: u64,
    bytes_unused: u64,
    bytes_mixed: u64,
    bytes_pinned: u64,
    pinned_until: Option<String>,
    packs_left: u64,
    bytes_left: u64,
    frames_reframed: u64,
    bytes_reframed: u64,
    bytes_reframed_written: u64,
    packs_damaged: u64,
    tree_pages: u64,
    tree_pages_fetched: u64,
    bytes_sent: u64,
    on_disk: SpaceJson,
}

/// The disk space of the repository after the prune.
#[derive(Serialize)]
struct SpaceJson {
    bytes: u64,
    packs: u64,
    bytes_packs: u64,
    bytes_parity: u64,
    packs_grave: u64,
    bytes_grave: u64,
    grave_until: Option<String>,
    snapshots_trash: u64,
    trash_until: Option<String>,
}

/// What becomes of the space of what a prune takes.
#[derive(Clone, Copy)]
struct Effect {
    /// Bytes that are free on the disk at once, parity included.
    freed: i64,
    /// Bytes that go to the grave, and are free later.
    to_grave: u64,
}

impl Effect {
    fn of(report: &PruneReport, dry_run: bool) -> Self {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let stats = &report.stats;
        let going = stats.freed_bytes.saturating_add(stats.left_bytes);
        match dry_run {
            false => Self {
                freed: signed(report.before.bytes()).saturating_sub(signed(report.after.bytes())),
                to_grave: report.swept.grave_bytes,
            },
            // A rewritten pack goes to the grave whole, and what is live in it is there twice until it leaves.
            true if report.before.protect_secs > 0 => {
                Self { freed: -signed(stats.copied_bytes), to_grave: going.saturating_add(stats.copied_bytes) }
            }
            true => Self { freed: signed(going.saturating_add(stats.freed_parity_bytes)), to_grave: 0 },
        }
    }
}

/// Prints what a prune did, or on a dry run what it would do.
pub fn print(context: &Context, dry_run: bool, report: &PruneReport) -> Result<()> {
    let effect = Effect::of(report, dry_run);
    if context.json {
        return output::json_pretty(&json(dry_run, report));
    }
    if report.swept.damaged > 0 {
        output::note(format!("{} left unchanged", count(report.swept.damaged, "damaged pack")));
    }
    if context.quiet {
        return Ok(());
    }
    let mut lines = Vec::new();
    if report.expired > 0 {
        let verb = if dry_run { "would delete" } else { "deleted" };
        lines.push(format!("{verb} {} from the trash", count(report.expired, "snapshot")));
    }
    if report.stats.left_packs > 0 {
        let (left, bytes) = (count(report.stats.left_packs, "pack"), size(report.stats.left_bytes));
        lines.push(format!("an earlier prune was interrupted: the next one first removes the rest, {bytes} in {left}"));
    }
    lines.push(effect_text(report, dry_run, effect));
    lines.extend(space_lines(&report.after, dry_run));
    lines.extend(kept_line(report));
    output::line(lines.join("\n"))
}

fn effect_text(report: &PruneReport, dry_run: bool, effect: Effect) -> String {
    let (stats, mut text) = (&report.stats, String::new());
    if effect.to_grave > 0 {
        let verb = if dry_run { "would move" } else { "moved" };
        text += &format!("{verb} {} to the grave, ", size(effect.to_grave));
    }
    let (bytes, is_freed) = (size(effect.freed.unsigned_abs()), effect.freed >= 0);
    text += &match (dry_run, is_freed) {
        (true, true) => format!("would free {bytes}"),
        (false, true) => format!("freed {bytes}"),
        (true, false) => format!("and write {bytes} until that is free"),
        (false, false) => format!("and wrote {bytes} more than was freed"),
    };
    if stats.dropped + stats.repacked > 0 {
        let (dropped, repacked) = (count(stats.dropped, "pack"), count(stats.repacked, "pack"));
        text += &format!(": {dropped} dropped, {repacked} rewritten ({})", size(stats.copied_bytes));
    }
    if report.reframed_read_bytes > 0 {
        let read = size(report.reframed_read_bytes);
        text += &match dry_run {
            true => format!("; {read} to be fetched and sent again"),
            false => format!("; {read} fetched and sent again as {}", size(report.reframed_written_bytes)),
        };
    }
    text
}

/// What is on the disk, in the grave and in the trash.
fn space_lines(space: &Space, dry_run: bool) -> Vec<String> {
    let when = if dry_run { "now on disk" } else { "on disk" };
    let mut parts = vec![format!("{} in {}", size(space.pack_bytes), count(space.packs, "pack"))];
    if space.parity_bytes > 0 {
        parts.push(format!("{} of parity", size(space.parity_bytes)));
    }
    if space.grave_packs > 0 {
        let until =
            space.grave_until.map_or_else(String::new, |until| format!(", the last until {}", time_local(until)));
        let packs = count(space.grave_packs, "pack");
        parts.push(format!("{} in the grave ({packs}{until}, the server's --protect age)", size(space.grave_bytes)));
    }
    let mut lines = vec![format!("{when}: {}: {}", size(space.bytes()), parts.join(", "))];
    if space.trash_snapshots > 0 {
        let until = match space.trash_until {
            Some(until) => format!("the last until {}", time_local(until)),
            None => "until the next prune".to_owned(),
        };
        lines.push(format!("in the trash, with their data: {}, {until}", count(space.trash_snapshots, "snapshot")));
    }
    lines
}

/// What is unused and kept, and why.
fn kept_line(report: &PruneReport) -> Option<String> {
    let stats = &report.stats;
    let mut parts = Vec::new();
    if stats.unused_bytes > 0 {
        parts.push(format!("{} within --max-unused and --max-repack-size", size(stats.unused_bytes)));
    }
    if stats.mixed_bytes > 0 {
        parts.push(format!("about {} in frames that also hold needed data", size(stats.mixed_bytes)));
    }
    if stats.pinned_bytes > 0 {
        let until =
            stats.pinned_until.map_or_else(String::new, |until| format!(", at most until {}", time_local(until)));
        parts.push(format!("{} for pushes that have not ended{until}", size(stats.pinned_bytes)));
    }
    (!parts.is_empty()).then(|| format!("unused and kept: {}", parts.join("; ")))
}

/// Returns what a prune did, for programs.
pub fn json(dry_run: bool, report: &PruneReport) -> PruneJson {
    let effect = Effect::of(report, dry_run);
    let (stats, space) = (&report.stats, &report.after);
    PruneJson {
        dry_run,
        snapshots_expired: report.expired,
        packs: stats.packs,
        bytes: stats.bytes,
        packs_dropped: stats.dropped,
        packs_repacked: stats.repacked,
        bytes_copied: stats.copied_bytes,
        bytes_freed: effect.freed,
        bytes_to_grave: effect.to_grave,
        bytes_unused: stats.unused_bytes,
        bytes_mixed: stats.mixed_bytes,
        bytes_pinned: stats.pinned_bytes,
        pinned_until: stats.pinned_until.map(time_json),
        packs_left: stats.left_packs,
        bytes_left: stats.left_bytes,
        frames_reframed: report.reframed,
        bytes_reframed: report.reframed_read_bytes,
        bytes_reframed_written: report.reframed_written_bytes,
        packs_damaged: report.swept.damaged,
        tree_pages: report.pages,
        tree_pages_fetched: report.pages_fetched,
        bytes_sent: report.sent_bytes,
        on_disk: SpaceJson {
            bytes: space.bytes(),
            packs: space.packs,
            bytes_packs: space.pack_bytes,
            bytes_parity: space.parity_bytes,
            packs_grave: space.grave_packs,
            bytes_grave: space.grave_bytes,
            grave_until: space.grave_until.map(time_json),
            snapshots_trash: space.trash_snapshots,
            trash_until: space.trash_until.map(time_json),
        },
    }
}
