//! Adding and ending clients: a new roster, signed by the full key.

use anyhow::Result;
use bkfs_store::{
    Error,
    access::{Access, OpenRequest},
    crypto::VerifyingKey,
    id::ClientId,
    keys::{FullKey, PushKey},
    roster::{Roster, RosterView},
};

use crate::output;

/// How often a roster is tried when others change it at the same time.
const ATTEMPTS: usize = 5;

/// Puts a new client on the roster and returns its push key.
pub fn add_client(
    access: &dyn Access,
    full: &FullKey,
    label: &str,
    url: Option<String>,
    trusted: bool,
) -> Result<PushKey> {
    let (push, entry) = full.new_client(label, url, trusted, output::now());
    update_roster(access, full, |view| Ok(view.with_client(entry.clone())))?;
    Ok(push)
}

/// Ends a client: what it writes from now on does not count.
pub fn revoke_client(access: &dyn Access, full: &FullKey, client: ClientId) -> Result<()> {
    update_roster(access, full, |view| {
        view.without_client(client, output::now())
            .ok_or_else(|| Error::Invalid(format!("client {client} is not on the roster")))
    })
}

/// The roster now.
pub fn current(access: &dyn Access, full: &FullKey) -> Result<RosterView> {
    let opened = access.open(&OpenRequest::default())?;
    Ok(RosterView::new(&opened.roster, admin(full), full.repo)?)
}

/// Signs and stores what follows the roster; begins anew if another machine was faster.
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

fn admin(full: &FullKey) -> VerifyingKey {
    full.admin.verifying_key()
}
