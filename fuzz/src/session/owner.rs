//! The owner, who holds the full key.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use bkfs_store::{
    Error, Result,
    access::{Access, ForgetReply, ForgetRequest, Manage, Open, OpenRequest, PruneRequest, SignedTombstone, Unused},
    base::id::SnapshotId,
    format::tombstone::Tombstone,
    owner::{
        check::{CheckOptions, CheckProgress, ReadData, check},
        prune::{PruneOptions, PruneProgress, PruneReport, Pruner},
        reader::Reader,
        repair::{RepairOptions, repair_packs},
    },
};

use super::World;
use crate::{client, model::State, support::fuse::Fuse};

impl World<'_> {
    /// Forgets one of the snapshots, or only empties the trash.
    pub(super) fn forget(&mut self) {
        let (how, at) = (self.input.u8(), usize::from(self.input.u8()));
        let (now, empty_trash) = (how & 1 > 0, how & 2 > 0);
        let Some(at) = (how & 4 == 0 && !self.entries.is_empty()).then(|| at % self.entries.len()) else {
            self.ask_to_forget(vec![], now, empty_trash, false).expect("the trash is emptied");
            return self.note_expiry();
        };
        let reply = self.ask_to_forget(vec![self.entries[at].id], now, empty_trash, false);
        let ahead = self.ahead;
        let is_protected = self.is_protected(self.entries[at].committed);
        let entry = &mut self.entries[at];
        match (reply, entry.state) {
            (Ok(reply), State::Counts | State::Unknown | State::Forgotten) if now => {
                // What is in the trash already stays there.
                let is_gone = reply.expired.contains(&entry.id);
                assert!(!is_gone || !is_protected, "the floor protects snapshot {}", entry.id);
                match (is_gone, entry.state) {
                    (true, _) => entry.state = State::Gone,
                    (false, State::Counts) => panic!("snapshot {} did not expire", entry.id),
                    _ => {}
                }
            }
            (Ok(_), State::Counts) => {
                (entry.state, entry.forgotten, entry.may_expire) = (State::Forgotten, ahead, false)
            }
            (Ok(_), _) => {}
            (Err(Error::Protected { .. }), _) if now => {}
            (Err(Error::SnapshotNotFound(_)), State::Unknown | State::Gone) => {}
            (Err(Error::SnapshotNotFound(_)), State::Forgotten) if entry.may_expire => entry.state = State::Gone,
            (Err(error), state) => panic!("snapshot {} ({state:?}) cannot be forgotten: {error:?}", entry.id),
        }
        if empty_trash {
            self.note_expiry();
        }
    }

    fn ask_to_forget(
        &self,
        ids: Vec<SnapshotId>,
        now: bool,
        empty_trash: bool,
        is_broken: bool,
    ) -> Result<ForgetReply> {
        let (repo, full) = (self.repo(), &self.full);
        let log_len = repo.open(&OpenRequest::default())?.now.log_len;
        let sign = |snapshot| SignedTombstone(Tombstone { repo: full.repo, snapshot, log_len, is_broken }.sign(full));
        repo.forget(&ForgetRequest { tombstones: ids.into_iter().map(sign).collect(), now, empty_trash })
    }

    /// Brings one of the snapshots back.
    pub(super) fn unforget(&mut self) {
        let at = usize::from(self.input.u8());
        if self.entries.is_empty() {
            return;
        }
        let (repo, at) = (self.repo(), at % self.entries.len());
        let is_protected = self.is_protected(self.entries[at].forgotten);
        let entry = &mut self.entries[at];
        match (repo.unforget(&[entry.id]), entry.state) {
            (Ok(()), State::Gone) => panic!("snapshot {} was gone", entry.id),
            (Ok(()), State::Forgotten) => entry.state = State::Counts,
            (Ok(()), _) => {}
            (Err(Error::SnapshotNotFound(_)), State::Gone | State::Unknown) => {}
            (Err(Error::SnapshotNotFound(_)), State::Forgotten) if entry.may_expire && !is_protected => {
                entry.state = State::Gone;
            }
            (Err(error), state) => panic!("snapshot {} ({state:?}) cannot come back: {error:?}", entry.id),
        }
    }

    /// Prunes to the end, and forgets what blocks it.
    pub(super) fn prune(&mut self) {
        let (how, repo) = (self.input.u8(), self.repo());
        let mut report = self.prune_through(repo.clone(), how).expect("a prune ends");
        if !report.blocking.is_empty() && how & 16 > 0 {
            let ids: Vec<SnapshotId> = report.blocking.iter().map(|blocking| blocking.id).collect();
            self.ask_to_forget(ids, false, false, true).expect("what is broken is forgotten");
            report = self.prune_through(repo, how).expect("a prune ends");
            assert!(report.blocking.is_empty(), "this still blocks: {:?}", report.blocking);
        }
        self.verify();
    }

    /// Begins a prune that does not end.
    pub(super) fn prune_cut_short(&mut self) {
        let (how, left) = (self.input.u8(), AtomicU64::new(self.input.u8().into()));
        let allows = move |_: &PruneRequest| left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        match self.prune_through(Arc::new(Fuse::new(self.repo(), allows)), how) {
            Ok(_) | Err(Error::Interrupted) => {}
            Err(error) => panic!("a prune fails: {error:?}"),
        }
        self.verify();
    }

    fn prune_through(&mut self, access: Arc<dyn Access>, how: u8) -> Result<PruneReport> {
        let reader = Reader::new(access.clone(), self.full.clone(), &self.config, 1 << 20);
        let mut options = PruneOptions {
            is_confirmed: how & 1 == 0,
            empty_trash: how & 2 > 0,
            ends_pushes: how & 32 > 0,
            reframe_bytes: if how & 8 > 0 { 1 << 20 } else { 0 },
            ..PruneOptions::default()
        };
        if how & 4 > 0 {
            options.limits.unused = Unused::Bytes(0);
        }
        if options.empty_trash {
            self.note_expiry();
        }
        let pruner =
            Pruner { reader: &reader, access: &*access, push_key: Some(client::key(0)), cache: self.folder.path() };
        let report = pruner.run(&options, &PruneProgress::default())?;
        for blocking in &report.blocking {
            let is_honest = self.entries.iter().any(|entry| entry.id == blocking.id);
            assert!(!is_honest, "an honest client's snapshot blocks a prune: {blocking:?}");
        }
        Ok(report)
    }

    /// Checks. What is wrong with packs is recorded in verdicts.
    pub(super) fn check(&mut self) {
        let (how, repo, reader) = (self.input.u8(), self.repo(), self.reader());
        let read_data = if how & 1 > 0 { ReadData::All } else { ReadData::None };
        let opened = repo.open(&OpenRequest::default()).expect("it opens");
        let options = CheckOptions { read_data, threads: 1 };
        check(&reader, &*repo, &opened, &options, &CheckProgress::default()).expect("a check ends");
    }

    /// Repairs.
    pub(super) fn repair(&mut self) {
        let (how, repo, reader) = (self.input.u8(), self.repo(), self.reader());
        let opened = repo.open(&OpenRequest::default()).expect("it opens");
        let options = RepairOptions { read_data: how & 1 > 0, dry_run: how & 2 > 0, threads: 1 };
        let report = repair_packs(&reader, &*repo, &opened, &options, &CheckProgress::default());
        let report = report.expect("a repair ends");
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        for entry in &self.entries {
            assert!(!report.snapshots.contains(&entry.id), "snapshot {} needs what is lost", entry.id);
        }
    }
}
