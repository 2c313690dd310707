//! From a call to its reply: checks what the client may do, finds the repository and calls it.
//!
//! A client that never joined an account may only join. Any other call gets the same error, whether or not the account
//! exists. Everything here blocks.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bkfs_store::{
    Error, Result,
    access::{
        InitRequest, Lease, Maintain, Manage, PruneReply, PruneRequest, Push, Read, Receipt, RepairRequest, Room,
        SealedFrame, Swept,
    },
    base::id::{ChunkId, Hash, PackId, SnapshotId},
    format::{
        pack::{Footer, PackUpload},
        snapshot::{snapshot_id, verify_stored},
    },
    repository::{Repository, log_bytes, prune::Caller as PruneCaller, stores_snapshot},
};
use bytes::Bytes;

use super::{
    authorization::{self, Requirement},
    layout,
    ledger::Reservation,
    limits::REPOSITORIES_PER_ACCOUNT,
    notices::{Origin, if_any},
    quota::{Amount, INIT_FILES},
    state::ServerState,
};
use crate::{
    message::{self, Call, FrameHead, LogBytes, Reply, number},
    permission::Permissions,
    url::Name,
};

/// How many ids are looked up before the server looks whether the client is still there.
const SLICE: usize = 4096;
/// Up to this length, a repository's log grows whatever its account stores.
const LOG_FREE: u64 = 64 << 20;
const ELSEWHERE: &str = "this call is answered elsewhere";

/// A client, and the repository that it names in a request.
#[derive(Clone)]
pub(super) struct Caller {
    pub state: Arc<ServerState>,
    /// The fingerprint of the client's certificate.
    pub client: Hash,
    /// Where the client connects from.
    pub address: SocketAddr,
    pub account: Name,
    pub repository: Name,
    /// Whether the client is gone, and so nobody needs the answer.
    pub is_gone: Arc<AtomicBool>,
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
    /// Lets a new client join.
    pub fn join(&self, call: Call) -> Result<Reply> {
        let Call::Join(secret) = call else { return Err(Error::Invalid(ELSEWHERE.into())) };
        let (account, can) = self.state.registry.join(&secret, self.client)?;
        let Self { client, address, .. } = self;
        if let Some(suppressed) = self.state.notices.acted(*client, number::JOIN).map(if_any) {
            let (id, fingerprint) = (client.short(), client);
            tracing::info!(%account, client = id, %fingerprint, %address, %can, suppressed, "a client joined");
        }
        Ok(Reply::Joined(can))
    }

    /// Answers a call to which the client has the right ([`Caller::expect_right`]). `connection` answers those that
    /// wait for something: for the bytes of a pack, or for the log.
    pub fn answer(&self, call: Call) -> Result<FullReply> {
        if let Call::Init(request) = &call {
            self.expect_right(number::INIT)?;
            return self.init(request).map(FullReply::from);
        }
        let may_append = may_append(&call);
        let repository = self.admit_with(call.number(), &authorization::further_requirements(&call))?;
        let reply = self.answer_with(&repository, call);
        if may_append {
            self.state.waits.notify(&self.account, &self.repository);
        }
        reply
    }

    /// Makes a repository.
    fn init(&self, request: &InitRequest) -> Result<Reply> {
        let Self { state, account, repository, .. } = self;
        let names = layout::names(&layout::account_folder(&state.data, account))?;
        if names.len() >= REPOSITORIES_PER_ACCOUNT && !names.contains(repository) {
            let text = format!("account {account} has {} repositories, and a server keeps no more", names.len());
            return Err(Error::Invalid(text));
        }
        let len = request.config.len() + request.roster.len();
        let slots = request.slots.iter().map(|slot| slot.bytes.len()).sum::<usize>();
        let files = INIT_FILES + 2 * request.slots.len() as u64;
        let new = Amount { repositories: 1, files, ..Amount::copies(len + slots) };
        let reservation = state.ledger.reserve(&**state, account, new)?;
        let made = state.repository(account, repository)?.init(request);
        match made {
            Ok(()) => {
                reservation.settle();
                self.report(number::INIT, "a repository was made");
            }
            Err(_) => state.discard(account, repository),
        }
        made.map(|()| Reply::Done)
    }

    fn answer_with(&self, repository: &Repository, call: Call) -> Result<FullReply> {
        let reply = match call {
            Call::Open(request, proof) => {
                let opened = self.open(repository, &request, proof)?;
                self.state.pushes.opened(self.client, opened.lease);
                Reply::Opened(Box::new(opened))
            }
            Call::Has(client, ids) => {
                self.check_asker(client)?;
                Reply::Has(message::to_bits(&self.in_slices(&ids, |ids| repository.has(client, ids))?))
            }
            Call::Prove(client, challenges) => {
                self.check_asker(client)?;
                Reply::Proofs(repository.prove(client, &challenges)?)
            }
            Call::Places(ids) => Reply::Places(self.in_slices(&ids, |ids| repository.places(ids))?),
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
                let receipt = self.commit(repository, lease, &snapshot)?;
                self.report_push(lease, receipt.snapshot);
                Reply::Committed(receipt)
            }
            Call::Prune(PruneRequest::Begin { ends_pushes: true, .. }) => {
                let operation = format!("end pushes in account {} (the operator can)", self.account);
                return Err(Error::NoPermission { operation });
            }
            Call::Prune(request) => {
                let is_gone = || self.is_gone.load(Relaxed);
                let caller = PruneCaller::new(&is_gone);
                let reply = match &request {
                    PruneRequest::Sweep => self.sweep(repository, caller)?,
                    request => repository.prune_for(request, caller)?,
                };
                self.state.ledger.changed(&self.account);
                self.report_prune(&request, &reply);
                Reply::Pruned(reply)
            }
            Call::Snapshots(from, limit) => Reply::Snapshots(repository.snapshots(from, limit)?),
            Call::Forget(request) => {
                let len = request.tombstones.iter().map(|tombstone| tombstone.0.len()).sum();
                let reply = self.recording(len, || repository.forget(&request))?;
                let (forgotten, expired) = (reply.forgotten, reply.expired.len());
                if forgotten > 0 || expired > 0 {
                    let what = format!("snapshots: {forgotten} forgotten, {expired} gone for good");
                    self.report(number::FORGET, &what);
                }
                Reply::Forgotten(reply)
            }
            Call::Unforget(snapshots) => {
                self.recording(snapshots.len() * SnapshotId::LEN, || repository.unforget(&snapshots))?;
                self.report(number::UNFORGET, &format!("snapshots: {} brought back from the trash", snapshots.len()));
                Reply::Done
            }
            Call::Log(from, limit) => Reply::Log(repository.log(from, limit)?.into_iter().map(LogBytes).collect()),
            Call::PutRoster(signed) => {
                self.recording(signed.len(), || repository.put_roster(&signed))?;
                self.report(number::PUT_ROSTER, "the roster was changed");
                self.close_ended(repository)?;
                Reply::Done
            }
            Call::RevokeHolders(client) => {
                let revoked = self.revoke_holders(repository, client)?;
                if !revoked.is_empty() {
                    self.state.close_lost();
                }
                for holder in &revoked {
                    self.report(number::REVOKE_HOLDERS, &format!("client {} was revoked", holder.short()));
                }
                Reply::Revoked(revoked)
            }
            Call::PutSealKeys(signed) => {
                self.recording(signed.len(), || repository.put_seal_keys(&signed))?;
                self.report(number::PUT_SEAL_KEYS, "the seal key was rotated");
                Reply::Done
            }
            Call::PutSlot(slot) => {
                let new = Amount::copies(slot.bytes.len());
                let reservation = self.state.ledger.reserve(&*self.state, &self.account, new)?;
                repository.put_slot(&slot)?;
                reservation.settle();
                self.report(number::PUT_SLOT, &format!("passphrase slot {} was added", slot.id.short()));
                Reply::Done
            }
            Call::RemoveSlot(id) => {
                repository.remove_slot(id)?;
                self.report(number::REMOVE_SLOT, &format!("passphrase slot {} was removed", id.short()));
                Reply::Done
            }
            Call::Judge(verdict) => {
                self.recording(verdict.len(), || repository.judge(&verdict))?;
                self.report(number::JUDGE, "a verdict on packs was recorded");
                Reply::Done
            }
            Call::Mend(id) => Reply::Mended(repository.mend(id)?),
            Call::Repair(request) => {
                let reply = repository.repair(&request)?;
                self.state.ledger.changed(&self.account);
                if matches!(request, RepairRequest::Drop { .. }) {
                    self.report(number::REPAIR, "damaged packs were dropped");
                }
                Reply::Repaired(reply)
            }
            Call::Packs(after, limit) => Reply::Packs(repository.packs(after, limit)?),
            Call::Join(_) | Call::Init(_) | Call::PutPack(..) | Call::WaitLog(..) => {
                return Err(Error::Invalid(ELSEWHERE.into()));
            }
        };
        Ok(reply.into())
    }

    /// Appends something of this length to the log. An account that is full must be able to forget, to prune, and to
    /// end clients. So twice the quota bounds that, and only if the log is longer than those of honest clients.
    fn recording<T>(&self, len: usize, append: impl FnOnce() -> Result<T>) -> Result<T> {
        let Self { state, account, repository, .. } = self;
        let new = Amount { files: 0, ..Amount::copies(len) };
        let reservation = match state.ledger.overdraw(&**state, account, new) {
            Ok(reservation) => Some(reservation),
            Err(_) if log_bytes(&layout::folder(&state.data, account, repository))? < LOG_FREE => None,
            Err(error) => return Err(error),
        };
        let appended = append()?;
        reservation.into_iter().for_each(Reservation::settle);
        state.ledger.changed(account);
        Ok(appended)
    }

    /// Sweeps some of what is condemned. What that copies must fit into twice the quota, or be less than what the packs
    /// have more than the grave, which keeps what it was copied from.
    fn sweep(&self, repository: &Repository, caller: PruneCaller<'_>) -> Result<PruneReply> {
        let Self { state, account, .. } = self;
        let room = state.ledger.room_for_overdraft(&**state, account)?;
        let left = room.as_ref().map_or(u64::MAX, Room::left);
        // A copy's parity takes no more than the copy.
        let copies_max = left / 2;
        // Nothing is reserved: pushes would find no room while a prune runs that makes some.
        let reservation = state.ledger.overdraw(&**state, account, Amount::default())?;
        let caller = caller.copying_at_most(copies_max);
        let reply = repository.prune_for(&PruneRequest::Sweep, caller).map_err(|error| match (error, &room) {
            (Error::OverQuota { reason }, Some(Room { used, .. })) => Error::OverQuota {
                reason: format!(
                    "account {account} stores {used} bytes, twice its quota or nearly so, and the grave keeps as much \
                     as is in use; {reason}. Prune again when the grave has let go of something, or let the \
                     operator empty it (`bkfs server reclaim`) or raise the quota"
                ),
            },
            (error, _) => error,
        })?;
        if let PruneReply::Swept(Swept { written_bytes, .. }) = &reply {
            let parity = repository.parity()?.map_or(0, |parity| parity.file_len(*written_bytes, 0));
            reservation.settle_as(Amount { bytes: written_bytes + parity, ..Amount::default() });
        }
        Ok(reply)
    }

    /// Looks ids up, some at a time. Ends if the client is gone.
    fn in_slices<T>(&self, ids: &[ChunkId], look_up: impl Fn(&[ChunkId]) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let mut found = Vec::with_capacity(ids.len());
        for ids in ids.chunks(SLICE) {
            if self.is_gone.load(Relaxed) {
                return Err(Error::Interrupted);
            }
            found.extend(look_up(ids)?);
        }
        Ok(found)
    }

    /// Decides about a pack before its bytes come. Returns the room that is reserved for it; or `None` if the
    /// repository has the pack already and now keeps it for the session: then the pack counts once for the quota.
    pub fn admit_pack(&self, pack: PackId, len: u64, lease: Lease) -> Result<Option<Reservation>> {
        let repository = self.admit(number::PUT_PACK)?;
        if repository.keep_pack(lease, pack, len)? {
            return Ok(None);
        }
        let parity = repository.parity()?;
        self.state.ledger.reserve(&*self.state, &self.account, Amount::pack(len, 0, parity)).map(Some)
    }

    /// Stores a pack for which room is reserved. The client must still be allowed to push: it may have lost that right
    /// while the bytes came.
    pub fn put_pack(&self, lease: Lease, upload: &PackUpload, mut reservation: Reservation) -> Result<()> {
        let repository = self.admit(number::PUT_PACK)?;
        // The parity file has a copy of the pack's table, whose length was not known before.
        let table_len = Footer::parse(&upload.bytes).map_err(Error::in_input)?.table_len as u64;
        if repository.parity()?.is_some() {
            reservation.grow(&*self.state, Amount { bytes: table_len, ..Amount::default() })?;
        }
        repository.put_pack(lease, upload)?;
        reservation.settle();
        Ok(())
    }

    /// Commits a snapshot. One that is stored takes no more room: the client may repeat itself, because a reply was
    /// lost.
    fn commit(&self, repository: &Repository, lease: Lease, snapshot: &[u8]) -> Result<Receipt> {
        let Self { state, account, repository: name, client, .. } = self;
        let is_stored = stores_snapshot(&layout::folder(&state.data, account, name), snapshot_id(snapshot));
        let new = if is_stored { Amount::default() } else { Amount { snapshots: 1, ..Amount::copies(snapshot.len()) } };
        let reservation = state.ledger.reserve(&**state, account, new)?;
        let receipt = repository.commit_as(lease, snapshot, Some(*client))?;
        reservation.settle();
        let signed_by = repository.roster().and_then(|roster| verify_stored(snapshot, &roster, receipt.received));
        if let Ok(stored) = signed_by {
            self.note_sender(stored.client)?;
        }
        Ok(receipt)
    }

    /// Checks that the client may make the call with this number. Nothing of the call itself is needed. Looks first
    /// whether the operator has recorded, in another process, that a client joined or was revoked.
    pub fn expect_right(&self, call: u8) -> Result<()> {
        self.state.registry.follow()?;
        self.permits(call)
    }

    /// Checks the same with what is known already.
    pub fn permits(&self, call: u8) -> Result<()> {
        self.expect(&[authorization::requirement(call)])
    }

    fn expect(&self, requirements: &[Requirement]) -> Result<()> {
        let account = &self.account;
        let Some(permissions) = self.permissions() else {
            return Err(Error::NoPermission { operation: format!("use account {account}") });
        };
        match requirements.iter().find(|required| !permissions.intersects(required.any_of)) {
            Some(unmet) => Err(Error::NoPermission { operation: format!("{} in {self}", unmet.operation) }),
            None => Ok(()),
        }
    }

    /// Checks that the client may make the call with this number, and finds the repository, which must exist.
    pub fn admit(&self, call: u8) -> Result<Arc<Repository>> {
        self.admit_with(call, &[])
    }

    fn admit_with(&self, call: u8, further: &[Requirement]) -> Result<Arc<Repository>> {
        self.expect_right(call)?;
        self.expect(further)?;
        let Self { state, account, repository, .. } = self;
        if !state.exists(account, repository)? {
            return Err(Error::NoRepository { place: String::new() });
        }
        let opened = state.repository(account, repository)?;
        // A client that opens may show another key, and is checked after that.
        if call != number::OPEN {
            self.check_standing(&opened, self.permissions().unwrap_or_default())?;
        }
        Ok(opened)
    }

    /// Says where the request comes from.
    pub fn origin(&self) -> Origin<'_> {
        let Self { client, address, account, repository, .. } = self;
        Origin { client: *client, address: *address, account, repository }
    }

    /// Tells the operator that the client has changed the repository.
    fn report(&self, call: u8, what: &str) {
        let Self { client, account, repository, address, .. } = self;
        if let Some(suppressed) = self.state.notices.acted(*client, call).map(if_any) {
            tracing::info!(%account, %repository, client = client.short(), %address, suppressed, "{what}");
        }
    }

    /// Tells the operator about a push that has ended. The time runs from the opening of the session. It is not known
    /// if the server was restarted since.
    fn report_push(&self, lease: Lease, snapshot: SnapshotId) {
        let Self { client, account, repository, address, .. } = self;
        let Some(suppressed) = self.state.notices.acted(*client, number::COMMIT).map(if_any) else { return };
        let (client, snapshot, tally) = (client.short(), snapshot.short(), self.state.pushes.committed(*client, lease));
        let (packs, bytes) = tally.map_or((0, 0), |tally| (tally.packs, tally.bytes));
        let seconds = tally.map(|tally| format!("{:.1}", tally.since.elapsed().as_secs_f64()));
        let seconds = seconds.as_deref().unwrap_or("unknown");
        let what = "a push was stored";
        tracing::info!(%account, %repository, client, %address, snapshot, packs, bytes, seconds, suppressed, "{what}");
    }

    /// Tells the operator what a step of a prune has changed.
    fn report_prune(&self, request: &PruneRequest, reply: &PruneReply) {
        match (request, reply) {
            (PruneRequest::Condemn { dry_run: false, .. }, PruneReply::Condemned(stats)) => self.report(
                number::PRUNE,
                &format!(
                    "a prune drops {} packs and rewrites {}, and will free {} bytes",
                    stats.dropped, stats.repacked, stats.freed_bytes
                ),
            ),
            (_, PruneReply::Swept(Swept { packs, bytes, written_bytes, left, .. })) if *packs > 0 => {
                let freed = bytes.saturating_sub(*written_bytes);
                self.report(
                    number::PRUNE,
                    &format!("a prune removed {packs} packs and freed {freed} bytes; {left} packs are left"),
                );
            }
            _ => {}
        }
    }

    pub(super) fn permissions(&self) -> Option<Permissions> {
        self.state.registry.permissions(self.client, &self.account, &self.repository)
    }
}

/// Names the repository in errors and in the log.
impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "account {}, repository {}", self.account, self.repository)
    }
}

/// Whether a call may append to the log, for those who wait for that.
fn may_append(call: &Call) -> bool {
    matches!(
        call,
        Call::Commit(..)
            | Call::PutRoster(_)
            | Call::PutSealKeys(_)
            | Call::Forget(_)
            | Call::Unforget(_)
            | Call::Prune(_)
            | Call::Repair(_)
            | Call::Mend(_)
            | Call::Judge(_)
    )
}
