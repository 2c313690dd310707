//! What each repository holds, looked at once a minute at most: it opens each repository, and closes those that no
//! client uses.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bkfs_store::{
    Result,
    base::time::Time,
    repository::{
        Usage,
        scrub::{ScrubReport, last_scrub_in},
    },
};

use crate::{
    server::{layout, metrics::text::Exposition, state::ServerState},
    url::Name,
};

/// How old a survey may be.
const AGE_MAX: Duration = Duration::from_secs(60);
/// The most targets of a repository that have a series of their own: those with the newest pushes. Clients choose
/// targets.
const TARGETS_MAX: usize = 100;

/// What was found.
#[derive(Default)]
pub(super) struct Survey {
    at: Option<Instant>,
    repositories: Vec<Found>,
    quotas: BTreeMap<Name, u64>,
    disk: Option<(u64, u64)>,
}

/// What was found in a repository.
struct Found {
    account: Name,
    name: Name,
    /// None if the repository could not be read.
    held: Option<Held>,
    scrub: Option<ScrubReport>,
}

struct Held {
    bytes: u64,
    snapshots: u64,
    /// When the last push of each client's targets was stored. Both ids are opaque.
    pushes: Vec<(String, String, Time)>,
}

impl Survey {
    /// Returns this survey, made again if it is too old.
    pub fn refreshed(&mut self, state: &ServerState) -> &Self {
        if self.at.is_none_or(|at| at.elapsed() > AGE_MAX) {
            *self = Self::make(state);
        }
        self
    }

    fn make(state: &ServerState) -> Self {
        let repositories = layout::repositories(&state.data).unwrap_or_default();
        let quotas = repositories.iter().map(|(account, _)| account);
        let quotas = state.registry.ask(|accounts| {
            let quota = |account: &Name| accounts.account(account).ok()?.limits.bytes;
            quotas.filter_map(|account| Some((account.clone(), quota(account)?))).collect()
        });
        let look = |(account, name): (Name, Name)| {
            let held = look(state, &account, &name);
            if let Err(error) = &held {
                tracing::debug!(%account, repository = %name, %error, "cannot look at a repository for the metrics");
            }
            let scrub = last_scrub_in(&layout::folder(&state.data, &account, &name)).ok().flatten();
            Found { account, name, held: held.ok(), scrub }
        };
        let repositories = repositories.into_iter().map(look).collect();
        let disk = rustix::fs::statvfs(&state.data).ok();
        let disk = disk.map(|disk| (disk.f_frsize * disk.f_bavail, disk.f_frsize * disk.f_blocks));
        Self { at: Some(Instant::now()), repositories, quotas, disk }
    }

    /// Writes what was found.
    pub fn render(&self, out: &mut Exposition) {
        if let Some((free, size)) = self.disk {
            out.gauge("bkfs_disk_free_bytes", "Free space for the server's data.").add(&[], free);
            out.gauge("bkfs_disk_size_bytes", "Size of the file system of the server's data.").add(&[], size);
        }
        let mut quotas = out.gauge("bkfs_quota_bytes", "How much an account may store, if that is limited.");
        self.quotas.iter().for_each(|(account, bytes)| quotas.add(&[("account", account.as_str())], bytes));
        let mut each = |name, help, value: &dyn Fn(&Found) -> Option<i128>| {
            let mut family = out.gauge(name, help);
            for found in &self.repositories {
                if let Some(value) = value(found) {
                    family.add(&found.labels(), value);
                }
            }
        };
        let held = |found: &Found, value: fn(&Held) -> i128| found.held.as_ref().map(value);
        let scrub = |found: &Found, value: fn(&ScrubReport) -> i128| found.scrub.as_ref().map(value);
        each("bkfs_repository_up", "Whether the repository can be read.", &|found| Some(found.held.is_some().into()));
        each("bkfs_stored_bytes", "Bytes that the repository takes.", &|found| held(found, |held| held.bytes.into()));
        each("bkfs_snapshots", "Snapshots in the repository, without forgotten ones.", &|found| {
            held(found, |held| held.snapshots.into())
        });
        each("bkfs_last_push_timestamp_seconds", "When the last push to the repository was stored.", &|found| {
            found.held.as_ref()?.pushes.iter().map(|(.., time)| time.secs.into()).max()
        });
        each("bkfs_scrub_timestamp_seconds", "When the last whole scrub of the repository ended.", &|found| {
            found.scrub.as_ref()?.ended.map(|time| time.secs.into())
        });
        each("bkfs_scrub_problems", "What the last scrub found that could not be mended.", &|found| {
            scrub(found, |report| report.problems_total.into())
        });
        each("bkfs_scrub_mended_packs", "Packs that the last scrub mended.", &|found| {
            scrub(found, |report| report.packs_mended.into())
        });
        let help = "When the last push of a client's target was stored. Client and target are opaque ids.";
        let mut targets = out.gauge("bkfs_target_last_push_timestamp_seconds", help);
        for found in &self.repositories {
            for (client, target, time) in found.held.iter().flat_map(|held| &held.pushes).take(TARGETS_MAX) {
                let [account, repository] = found.labels();
                targets.add(&[account, repository, ("client", client), ("target", target)], time.secs);
            }
        }
    }
}

impl Found {
    fn labels(&self) -> [(&str, &str); 2] {
        [("account", self.account.as_str()), ("repository", self.name.as_str())]
    }
}

fn look(state: &ServerState, account: &Name, name: &Name) -> Result<Held> {
    let repository = state.background_repository(account, name)?;
    let commits = repository.operator().commits()?;
    let snapshots = commits.iter().filter(|commit| commit.fate.is_none()).count() as u64;
    let mut last = BTreeMap::new();
    for commit in commits {
        last.insert((commit.client, commit.target), commit.received);
    }
    let mut pushes: Vec<_> =
        last.into_iter().map(|((client, target), time)| (client.short(), target.short(), time)).collect();
    pushes.sort_by_key(|(.., time)| std::cmp::Reverse(*time));
    let bytes = Usage::of_folder(&layout::folder(&state.data, account, name))?.bytes;
    Ok(Held { bytes, snapshots, pushes })
}
