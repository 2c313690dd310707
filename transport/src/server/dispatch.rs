//! From a call to its reply: checks what the client may do, finds the repository and calls it.
//!
//! A client that never joined an account may only join. Any other call gets the same error, whether or not the account
//! exists. Everything here blocks.

use std::{sync::Arc, time::Duration};

use bkfs_store::{
    Error, Result,
    access::{Lease, Maintain, Manage, Open, Push, Read, SealedFrame},
    base::id::{Hash, PackId},
    repository::Repository,
};
use bytes::Bytes;

use super::{authorization, state::ServerState};
use crate::{
    message::{self, Call, FrameHead, LogBytes, Reply},
    permission::Permissions,
    url::Name,
};

/// A wait for the log ends after this time, and the client asks again.
const WAIT_MS_MAX: u32 = 10_000;

/// A client, and the repository that it names in a request.
#[derive(Clone)]
pub(super) struct Caller {
    pub state: Arc<ServerState>,
    /// The fingerprint of the client's certificate.
    pub client: Hash,
    pub account: Name,
    pub repository: Name,
}

/// A reply, and the bulk bytes that follow it.
pub(super) struct FullReply {
    pub reply: Reply,
    pub bulk: Vec<Bytes>,
}

impl From<Reply> for FullReply {
    fn from(reply: Reply) -> Self {
        Self { reply, bulk: Vec::new() }
    }
}

impl Caller {
    /// Answers a call. `connection` answers `PutPack` instead, because the bytes of the pack follow it on the stream.
    pub fn answer(&self, call: Call) -> Result<FullReply> {
        if let Call::Join(secret) = &call {
            self.state.registry.join(secret, self.client)?;
            return Ok(Reply::Done.into());
        }
        let repository = self.admit(&call)?;
        let reply = match call {
            Call::Init(request) => repository.init(&request).map(|()| Reply::Done)?,
            Call::Open(request) => {
                let mut opened = repository.open(&request)?;
                if !self.permissions().unwrap_or_default().intersects(Permissions::READ) {
                    // A client that may not read gets no slots, whose passphrases it could guess at, and no snapshots.
                    opened.slots.clear();
                    opened.snapshots.clear();
                }
                Reply::Opened(Box::new(opened))
            }
            Call::Has(ids) => Reply::Has(message::to_bits(&repository.has(&ids)?)),
            Call::Places(ids) => Reply::Places(repository.places(&ids)?),
            Call::Read(request) => {
                let read = repository.read(&request)?;
                let head = |f: &SealedFrame| FrameHead { pack: f.pack, frame: f.frame, len: f.bytes.len() as u32 };
                let heads = read.frames.iter().map(head).collect();
                let bulk = read.frames.into_iter().map(|frame| frame.bytes).collect();
                return Ok(FullReply { reply: Reply::Frames(heads, read.done as u32, read.missing), bulk });
            }
            Call::ReadPack(id) => {
                let bytes = repository.read_pack(id)?;
                return Ok(FullReply { reply: Reply::Pack(bytes.len() as u64), bulk: vec![bytes] });
            }
            Call::Wraps(keys) => Reply::Wraps(repository.wraps(&keys)?),
            Call::Commit(lease, snapshot) => {
                Reply::Committed(repository.commit_as(lease, &snapshot, Some(self.client))?)
            }
            Call::Prune(request) => Reply::Pruned(repository.prune(&request)?),
            Call::Snapshots(from, limit) => Reply::Snapshots(repository.snapshots(from, limit)?),
            Call::Forget(request) => Reply::Forgotten(repository.forget(&request)?),
            Call::Unforget(snapshots) => repository.unforget(&snapshots).map(|()| Reply::Done)?,
            Call::Log(from, limit) => Reply::Log(repository.log(from, limit)?.into_iter().map(LogBytes).collect()),
            Call::WaitLog(len, ms) => {
                let timeout = Duration::from_millis(ms.min(WAIT_MS_MAX).into());
                Reply::LogLen(repository.wait_log(len, timeout)?)
            }
            Call::PutRoster(signed) => repository.put_roster(&signed).map(|()| Reply::Done)?,
            Call::PutSlot(slot) => repository.put_slot(&slot).map(|()| Reply::Done)?,
            Call::RemoveSlot(id) => repository.remove_slot(id).map(|()| Reply::Done)?,
            Call::Mend(id) => Reply::Mended(repository.mend(id)?),
            Call::Repair(request) => Reply::Repaired(repository.repair(&request)?),
            Call::Packs(after, limit) => Reply::Packs(repository.packs(after, limit)?),
            Call::Join(_) | Call::PutPack(..) => return Err(Error::Invalid("this call is answered elsewhere".into())),
        };
        Ok(reply.into())
    }

    /// Decides about a pack before its bytes come. Returns the repository that will store it; or `None` if the
    /// repository has the pack already and now keeps it for the session: then the pack counts once for the quota.
    pub fn admit_pack(&self, pack: PackId, len: u64, lease: Lease) -> Result<Option<Arc<Repository>>> {
        let repository = self.admit(&Call::PutPack(pack, len, lease))?;
        if repository.keep_pack(lease, pack, len)? {
            return Ok(None);
        }
        let Self { state, account, .. } = self;
        if let Some(quota) = state.registry.quota(account)
            && state.account_bytes(account)? + len > quota
        {
            return Err(Error::Invalid(format!("account {account}: its quota of {quota} bytes is used up")));
        }
        Ok(Some(repository))
    }

    /// Checks that the client may make this call, and finds the repository.
    fn admit(&self, call: &Call) -> Result<Arc<Repository>> {
        let Self { state, account, repository, .. } = self;
        let permissions = self.permissions().or_else(|| {
            // Another process may have recorded that the client joined.
            state.registry.refresh().ok()?;
            self.permissions()
        });
        let Some(permissions) = permissions else {
            return Err(Error::NoPermission { operation: format!("use account {account}") });
        };
        let requirements = authorization::requirements(call);
        if let Some(unmet) = requirements.iter().find(|required| !permissions.intersects(required.any_of)) {
            return Err(Error::NoPermission { operation: format!("{} in account {account}", unmet.operation) });
        }
        if !matches!(call, Call::Init(_)) && !state.exists(account, repository)? {
            return Err(Error::NoRepository { place: String::new() });
        }
        state.repository(account, repository)
    }

    fn permissions(&self) -> Option<Permissions> {
        self.state.registry.permissions(self.client, &self.account)
    }
}

/// Names the repository in errors and in the log.
impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "account {}, repository {}", self.account, self.repository)
    }
}
