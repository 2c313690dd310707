//! The output of `bkfs forget`: tables for a person, JSON for a program.

use std::collections::BTreeMap;

use anyhow::Result;
use bkfs_store::{
    base::id::SnapshotId,
    format::snapshot::PathBytes,
    owner::{
        prune::{BlockingSnapshot, BrokenPart},
        reader::SnapshotInfo,
        retention::{Decision, GroupPlan, Plan, Reason, SnapshotRow},
    },
};
use serde::Serialize;

use super::{
    args::ForgetArgs,
    execute::Outcome,
    policy::{self, forgotten},
};
use crate::{
    context::Context,
    output::{self, Table},
};

#[derive(Serialize)]
struct ForgetJson<'a> {
    dry_run: bool,
    groups: Vec<GroupJson<'a>>,
    /// The snapshots that were named, if no policy chose.
    named: Vec<SnapshotJson<'a>>,
    /// The snapshots that cannot be read.
    broken: Vec<BrokenJson>,
    trashed: Vec<String>,
    gone: Vec<String>,
    noted: Vec<String>,
    protected: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct BrokenJson {
    id: String,
    client: String,
    received: String,
    problem: String,
    lost_at: Option<String>,
}

#[derive(Serialize)]
struct GroupJson<'a> {
    client: Option<String>,
    host: Option<&'a str>,
    target: Option<&'a str>,
    paths: Option<Vec<String>>,
    held: bool,
    holds: Vec<String>,
    keep: Vec<SnapshotJson<'a>>,
    forget: Vec<SnapshotJson<'a>>,
}

#[derive(Serialize)]
struct SnapshotJson<'a> {
    id: String,
    received: String,
    host: &'a str,
    target: &'a str,
    tags: &'a [String],
    reasons: Vec<String>,
}

/// Prints what a policy did, or what it would do if there is no outcome.
pub fn policy(context: &Context, args: &ForgetArgs, plan: &Plan, outcome: Option<&Outcome>) -> Result<()> {
    if context.json {
        return json(plan.groups.iter().map(|group| group_report(group, args.confirm)).collect(), vec![], outcome);
    }
    let show_all = args.dry_run || context.verbose > 0;
    if show_all && !context.quiet {
        for group in &plan.groups {
            table(group, args)?;
        }
    }
    for group in plan.groups.iter().filter(|group| !group.holds.is_empty()) {
        for hold in &group.holds {
            output::note(format!("{}: {hold}", output::name(group.group.to_string().as_bytes())));
        }
    }
    let held_count = plan.groups.iter().filter(|group| !group.holds.is_empty()).count();
    if held_count > 0 && !args.confirm {
        let groups = output::count(held_count as u64, "group");
        output::note(format!("nothing is forgotten in {groups}: if all is well there, run this again with --confirm"));
    }
    if plan.groups.is_empty() && !context.quiet {
        output::note("there are no snapshots to choose from");
        return Ok(());
    }
    let forget = forgotten(plan, args.confirm).count();
    let all: usize = plan.groups.iter().map(|group| group.decisions.len()).sum();
    match outcome {
        None if context.quiet => Ok(()),
        None => output::line(format!(
            "would forget {} and keep {}, in {}",
            output::count(forget as u64, "snapshot"),
            all - forget,
            output::count(plan.groups.len() as u64, "group")
        )),
        Some(outcome) => summary(context, outcome, Some(all - forget)),
    }
}

/// Prints what was done to the named snapshots, or what would be done if there is no outcome.
pub fn named(context: &Context, args: &ForgetArgs, infos: &[&SnapshotInfo], outcome: Option<&Outcome>) -> Result<()> {
    let rows: Vec<SnapshotRow> = infos.iter().map(|info| policy::row(info)).collect();
    if context.json {
        return json(vec![], rows.iter().map(|r| row(r, &[])).collect(), outcome);
    }
    match outcome {
        Some(outcome) => summary(context, outcome, None),
        None if context.quiet => Ok(()),
        None => {
            let mut table = Table::new(&["ID", "RECEIVED", "HOST", "TARGET"], &[]);
            for row in &rows {
                let (host, target) = (output::name(row.host.as_bytes()), output::name(row.target.as_bytes()));
                table.row([row.id.short(), output::time_local(row.received), host, target]);
            }
            table.print()?;
            let verb = if args.now { "delete" } else { "forget" };
            output::line(format!("would {verb} {}", output::count(args.snapshots.len() as u64, "snapshot")))
        }
    }
}

/// Prints what was done to snapshots that cannot be read, or what would be done if there is no outcome.
pub fn broken(context: &Context, broken: &[BlockingSnapshot], outcome: Option<&Outcome>) -> Result<()> {
    if context.json {
        return output::json_pretty(&ForgetJson { broken: broken.iter().map(broken_row).collect(), ..told(outcome) });
    }
    match outcome {
        _ if broken.is_empty() && !context.quiet => {
            output::line("all snapshots can be read, as far as a prune needs it")
        }
        Some(outcome) => summary(context, outcome, None),
        None if context.quiet => Ok(()),
        None => output::line(format!("would forget {} as broken", output::count(broken.len() as u64, "snapshot"))),
    }
}

fn broken_row(snapshot: &BlockingSnapshot) -> BrokenJson {
    let lost_at = match &snapshot.problem {
        BrokenPart::Page { lost_at, .. } => *lost_at,
        BrokenPart::Record(_) => None,
    };
    BrokenJson {
        id: snapshot.id.to_string(),
        client: snapshot.client.to_string(),
        received: output::time_json(snapshot.received),
        problem: snapshot.problem.to_string(),
        lost_at: lost_at.map(output::time_json),
    }
}

/// Prints what was deleted from the trash.
pub fn emptied(context: &Context, gone: Vec<SnapshotId>) -> Result<()> {
    let outcome = Outcome { gone, ..Outcome::default() };
    match context.json {
        true => json(vec![], vec![], Some(&outcome)),
        false if context.shows_summary() || !context.quiet && !outcome.gone.is_empty() => {
            list(&outcome.gone, "gone for good")?;
            output::line(format!("{} gone for good", output::count(outcome.gone.len() as u64, "snapshot")))
        }
        false => Ok(()),
    }
}

fn json(groups: Vec<GroupJson<'_>>, named: Vec<SnapshotJson<'_>>, outcome: Option<&Outcome>) -> Result<()> {
    output::json_pretty(&ForgetJson { groups, named, ..told(outcome) })
}

/// An outcome as JSON.
fn told<'a>(outcome: Option<&Outcome>) -> ForgetJson<'a> {
    let ids = |pick: fn(&Outcome) -> &Vec<SnapshotId>| {
        outcome.map(|outcome| pick(outcome).iter().map(SnapshotId::to_string).collect()).unwrap_or_default()
    };
    let protected = outcome.into_iter().flat_map(|outcome| &outcome.protected);
    ForgetJson {
        dry_run: outcome.is_none(),
        groups: Vec::new(),
        named: Vec::new(),
        broken: Vec::new(),
        trashed: ids(|outcome| &outcome.trashed),
        gone: ids(|outcome| &outcome.gone),
        noted: ids(|outcome| &outcome.noted),
        protected: protected.map(|(id, until)| (id.to_string(), output::time_json(*until))).collect(),
    }
}

fn group_report(plan: &GroupPlan, confirmed: bool) -> GroupJson<'_> {
    let path = |PathBytes(path): &PathBytes| String::from_utf8_lossy(path).into_owned();
    let (keep, forget): (Vec<&Decision>, Vec<&Decision>) = plan.decisions.iter().partition(|d| d.keeps());
    GroupJson {
        client: plan.group.client.map(|client| client.to_string()),
        host: plan.group.host.as_deref(),
        target: plan.group.target.as_deref(),
        paths: plan.group.paths.as_ref().map(|paths| paths.iter().map(path).collect()),
        held: !confirmed && !plan.holds.is_empty(),
        holds: plan.holds.iter().map(ToString::to_string).collect(),
        keep: keep.into_iter().map(|d| row(&d.snapshot, &d.reasons)).collect(),
        forget: forget.into_iter().map(|d| row(&d.snapshot, &d.reasons)).collect(),
    }
}

fn row<'a>(row: &'a SnapshotRow, reasons: &[Reason]) -> SnapshotJson<'a> {
    SnapshotJson {
        id: row.id.to_string(),
        received: output::time_json(row.received),
        host: &row.host,
        target: &row.target,
        tags: &row.tags,
        reasons: reasons.iter().map(ToString::to_string).collect(),
    }
}

fn table(plan: &GroupPlan, args: &ForgetArgs) -> Result<()> {
    let held = if plan.holds.is_empty() || args.confirm { "" } else { " (held)" };
    output::line(format!("{}{held}", output::name(plan.group.to_string().as_bytes())))?;
    let mut table = Table::new(&["", "ID", "RECEIVED", "TAGS", "KEPT AS"], &[]);
    for Decision { snapshot, reasons } in &plan.decisions {
        let what = match reasons.is_empty() {
            false => "keep",
            true if held.is_empty() => "forget",
            true => "held",
        };
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        table.row([
            what.to_owned(),
            snapshot.id.short(),
            output::time_local(snapshot.received),
            output::name(snapshot.tags.join(",").as_bytes()),
            output::name(reasons.join(", ").as_bytes()),
        ]);
    }
    table.print()?;
    output::line("")
}

/// Prints a line for each snapshot.
fn list(ids: &[SnapshotId], what: &str) -> Result<()> {
    ids.iter().try_for_each(|id| output::line(format!("{} {what}", id.short())))
}

fn summary(context: &Context, outcome: &Outcome, kept: Option<usize>) -> Result<()> {
    // A person who asked to delete snapshots for good must learn that they are not deleted, even in cron.
    if let Some(until) = outcome.protected.values().max() {
        let protected = output::count(outcome.protected.len() as u64, "snapshot");
        output::note(format!(
            "{protected} went to the trash only: the server protects the youngest until {}",
            output::time_local(*until)
        ));
    }
    // What went is said everywhere, in a log as well. If nothing did, cron sends no mail.
    let went = [(&outcome.gone, "gone for good"), (&outcome.trashed, "moved to the trash")];
    let is_idle = outcome.noted.is_empty() && went.iter().all(|(ids, _)| ids.is_empty());
    if context.quiet || is_idle && !context.shows_summary() {
        return Ok(());
    }
    for (ids, what) in went {
        list(ids, what)?;
    }
    let count = |ids: &[SnapshotId]| output::count(ids.len() as u64, "snapshot");
    let mut parts = Vec::new();
    if !outcome.gone.is_empty() {
        parts.push(format!("{} gone for good", count(&outcome.gone)));
    }
    if !outcome.noted.is_empty() {
        parts.push(format!("took note that the operator had removed {}", count(&outcome.noted)));
    }
    if !outcome.trashed.is_empty() || parts.is_empty() {
        parts.push(format!("{} moved to the trash (`bkfs unforget` brings them back)", count(&outcome.trashed)));
    }
    parts.extend(kept.map(|kept| format!("{kept} kept")));
    output::line(parts.join(", "))
}
