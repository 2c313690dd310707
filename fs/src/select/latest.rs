//! Which snapshot `latest` stands for.

use bkfs_store::base::id::ClientId;

use super::{Candidate, Coverage, SnapshotFilter, coverage, newest_of_each_series};

/// Where a command runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Here<'a> {
    /// The client that this machine is, if it is one.
    pub client: Option<ClientId>,
    /// The name of this machine.
    pub host: &'a str,
    /// The working folder, as an absolute path, if it may decide. It does so only for a person at a terminal: in a
    /// script, the same command must mean the same everywhere.
    pub working_folder: Option<&'a [u8]>,
}

/// A path that the snapshot should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedPath<'a> {
    /// Relative to the snapshot's root, without a slash at its ends.
    pub path: &'a [u8],
    /// Whether it was written with a slash at its beginning. Then sources that are absolute paths are preferred,
    /// because a source that is relative to a base folder only happens to have the same name.
    pub is_absolute: bool,
}

/// Why `latest` stands for no snapshot. The lists are indexes of candidates, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoLatest {
    /// No snapshot passes the filter.
    NoSnapshot,
    /// The sources of no candidate hold the path.
    NotHeld {
        /// The candidates.
        candidates: Vec<usize>,
        /// Candidates of other clients that hold it, but were not named.
        elsewhere: Vec<usize>,
    },
    /// Any of these would do: the newest snapshots of several series, or of several clients.
    Several {
        /// The newest snapshot of each series.
        candidates: Vec<usize>,
    },
}

/// Returns the index of the snapshot that `latest` stands for.
///
/// The candidates are the newest snapshot of each series, among the snapshots that pass the filter. Unless the filter
/// names a host or a client, they are those of this client; if there are none, those of clients that give their machine
/// this machine's name; if there are none, all.
///
/// With a path, it is the newest candidate whose sources hold the path; if none holds all of it, the only one that
/// holds a part. Without a path, or with the path of the root, it is the only candidate, or else the newest whose
/// sources hold the working folder. A client chooses the names of its host, targets and sources as it likes. So if
/// candidates of several clients would do, none of them is taken.
pub fn latest(
    snapshots: &[Candidate<'_>],
    filter: &SnapshotFilter,
    path: Option<WantedPath<'_>>,
    here: Here<'_>,
) -> Result<usize, NoLatest> {
    let passes = |(_, candidate): &(usize, Candidate<'_>)| filter.matches(candidate.client, candidate.snapshot);
    let all = newest_of_each_series(snapshots.iter().copied().enumerate().filter(passes));
    let is_of_client = |index: &usize| here.client == Some(snapshots[*index].client);
    let is_of_host = |index: &usize| here.host == snapshots[*index].snapshot.host;
    let (candidates, elsewhere): (Vec<usize>, Vec<usize>) = match filter.names_machine() {
        true => (all, Vec::new()),
        false if all.iter().any(is_of_client) => all.into_iter().partition(is_of_client),
        false if all.iter().any(is_of_host) => all.into_iter().partition(is_of_host),
        false => (all, Vec::new()),
    };
    let is_own = |index: &usize| is_of_client(index) || is_of_host(index);
    if candidates.is_empty() {
        return Err(NoLatest::NoSnapshot);
    }
    if let Some(wanted) = path.filter(|wanted| !wanted.path.is_empty()) {
        return holding(snapshots, &candidates, wanted).map_err(|unclear| match unclear.is_empty() {
            false => NoLatest::Several { candidates: unclear },
            true => {
                let holds = |index: &usize| coverage(snapshots[*index].snapshot, wanted.path, false) == Coverage::Whole;
                NoLatest::NotHeld { candidates, elsewhere: elsewhere.into_iter().filter(holds).collect() }
            }
        });
    }
    if let [only] = candidates[..] {
        return Ok(only);
    }
    let working_folder = here.working_folder.and_then(|folder| folder.strip_prefix(b"/"));
    let held = working_folder.and_then(|folder| {
        let holds = |index: &&usize| coverage(snapshots[**index].snapshot, folder, true) == Coverage::Whole;
        let held = candidates.iter().filter(|index| is_own(index)).filter(holds).copied().collect::<Vec<_>>();
        held.last().copied().filter(|_| is_of_one_client(snapshots, &held))
    });
    held.ok_or(NoLatest::Several { candidates })
}

/// Whether these snapshots are of one client.
fn is_of_one_client(snapshots: &[Candidate<'_>], indexes: &[usize]) -> bool {
    indexes.windows(2).all(|two| snapshots[two[0]].client == snapshots[two[1]].client)
}

/// Returns the newest candidate that holds the path. If it is not clear which, returns the candidates that hold the
/// path, or a part of it.
fn holding(snapshots: &[Candidate<'_>], candidates: &[usize], wanted: WantedPath<'_>) -> Result<usize, Vec<usize>> {
    let of = |coverage_wanted: Coverage, only_absolute: bool| {
        let fits = move |i: &&usize| coverage(snapshots[**i].snapshot, wanted.path, only_absolute) == coverage_wanted;
        candidates.iter().filter(fits).copied().collect::<Vec<_>>()
    };
    let kinds: &[bool] = if wanted.is_absolute { &[true, false] } else { &[false] };
    let mut in_part = Vec::new();
    for only_absolute in kinds {
        let whole = of(Coverage::Whole, *only_absolute);
        if let Some(newest) = whole.last() {
            return if is_of_one_client(snapshots, &whole) { Ok(*newest) } else { Err(whole) };
        }
        in_part = of(Coverage::Part, *only_absolute);
        if let [only] = in_part[..] {
            return Ok(only);
        }
    }
    Err(in_part)
}
