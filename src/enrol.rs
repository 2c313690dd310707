//! Adding and revoking clients. Each change is a new roster, signed with the full key.

use anyhow::Result;
use bkfs_store::{
    Error,
    access::{Access, OpenRequest},
    base::id::{ClientId, DomainId},
    format::{
        keys::{FullKey, PushKey},
        roster::{Roster, RosterView},
    },
};

use crate::output;

/// How many times to try a change while others change the roster at the same time.
const ATTEMPTS: usize = 5;

/// Adds a new client to the roster and returns its push key.
pub fn add_client(
    access: &dyn Access,
    full: &FullKey,
    label: &str,
    url: Option<String>,
    domain: DomainId,
) -> Result<PushKey> {
    let (push, entry) = full.new_client(label, url, domain, output::now());
    update_roster(access, full, |view| Ok(view.with_client(entry.clone())))?;
    Ok(push)
}

/// Revokes a client: what it writes from now on does not count.
pub fn revoke_client(access: &dyn Access, full: &FullKey, client: ClientId) -> Result<()> {
    update_roster(access, full, |view| {
        view.without_client(client, output::now())
            .ok_or_else(|| Error::Invalid(format!("client {client} is not on the roster")))
    })
}

/// Returns the current roster.
fn current(access: &dyn Access, full: &FullKey) -> Result<RosterView> {
    let opened = access.open(&OpenRequest::default())?;
    Ok(RosterView::new(&opened.roster, full.admin.verifying_key(), full.repo)?)
}

/// Signs and stores the roster that `next` returns. Starts again if another machine changed the roster first.
fn update_roster(
    access: &dyn Access,
    full: &FullKey,
    next: impl Fn(&RosterView) -> bkfs_store::Result<Roster>,
) -> Result<()> {
    let mut view = current(access, full)?;
    for attempt in 1.. {
        let Err(error) = access.put_roster(&full.sign_roster(&next(&view)?)) else { break };
        let now = current(access, full)?;
        if now.newest().number == view.newest().number || attempt == ATTEMPTS {
            return Err(error.into());
        }
        view = now;
    }
    Ok(())
}
