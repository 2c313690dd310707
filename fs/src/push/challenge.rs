//! Challenging the store: does it hold what it says it has?
//!
//! A store that answers "yes" to every question would end each push early, with nothing stored. So before a push
//! commits, the store shows random bytes of the frames of a few chunks: of those that the push did not send because
//! they are stored, and of those that it sent. What a proof is worth, [`bkfs_store::format::pack::PackProof`] says. If
//! a store lacks a share p of what is relied on, n challenges reveal that with the probability 1 - (1 - p)^n: 5% with
//! 64 challenges in 96% of all pushes. `docs/design/0028-challenges.md` has the reasons and the cost.

use bkfs_store::{
    Error, Result,
    access::{Challenge, Lease, Proofs, Push},
    base::id::ChunkId,
    format::{
        keys::PushKey,
        pack::{Proven, ProvenPack},
        roster::Signers,
    },
};

use super::{
    assemble::Assembled,
    context::PushContext,
    dedup::Dedup,
    sample::{RandomNumbers, SAMPLE, Sample},
    scan::Scanned,
    session::PushSession,
};

/// How many of the chunks that a push has sent it challenges at least.
const SENT: usize = 16;
/// How often chunks are challenged that the store has, and does not show: they may have moved to another pack.
const TRIES: usize = 3;

/// What a chunk is to the push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It was not sent, because it is stored.
    Stored,
    /// The push has sent it.
    Sent,
}

/// The challenges of one round through the source.
pub struct Challenges<'a> {
    /// None if the push challenges nothing.
    challenger: Option<Challenger<'a>>,
    relied_on: usize,
}

impl<'a> Challenges<'a> {
    /// No challenge has been made yet.
    pub fn new(context: &'a PushContext<'_>, session: &PushSession) -> Self {
        let is_wanted = context.options.challenges && !context.options.dry_run;
        let challenger = is_wanted.then(|| Challenger::new(context, session));
        Self { challenger, relied_on: 0 }
    }

    /// Challenges some of what the push did not send. Returns the chunks that the store does not have, by its own word.
    pub fn relied_on(&mut self, dedup: &Dedup, assembled: &Assembled, scanned: &mut Scanned) -> Result<Vec<ChunkId>> {
        let Some(challenger) = &self.challenger else { return Ok(Vec::new()) };
        let mut reused = Sample::default();
        assembled.relied_on.iter().for_each(|id| reused.offer(*id));
        let mut ids = Sample::merge(vec![reused, dedup.take_relied_on(), std::mem::take(&mut scanned.relied_on)]);
        ids.sort_unstable();
        ids.dedup();
        self.relied_on = ids.len();
        challenger.challenge(&ids, Origin::Stored)
    }

    /// Takes some of the chunks that the push has sent. They are challenged when all of them are stored.
    pub fn sent(&self, dedup: &Dedup) -> Vec<ChunkId> {
        let sample = dedup.take_acknowledged();
        let count = if self.challenger.is_some() { SENT.max(SAMPLE - self.relied_on) } else { 0 };
        Sample::merge(vec![sample]).into_iter().take(count).collect()
    }
}

/// Challenges some of what a push has sent.
pub fn challenge_sent(context: &PushContext<'_>, session: &PushSession, ids: &[ChunkId]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    match Challenger::new(context, session).challenge(ids, Origin::Sent)?.first() {
        Some(id) => {
            Err(Error::NotShown { id: *id, reason: "it has acknowledged the chunk, and does not have it".into() })
        }
        None => Ok(()),
    }
}

/// Challenges a store.
struct Challenger<'a> {
    access: &'a dyn Push,
    key: &'a PushKey,
    /// Whether a prune or a repair may have copied frames into packs that no client has signed.
    may_be_copied: bool,
}

impl<'a> Challenger<'a> {
    fn new(context: &'a PushContext<'_>, session: &PushSession) -> Self {
        let may_be_copied = session.opened().lease.generation > Lease::FIRST_GENERATION;
        Self { access: context.access.as_ref(), key: context.key, may_be_copied }
    }

    /// Challenges the store to show chunks. Returns those that it does not have, by its own word. Fails with
    /// [`Error::NotShown`] if it has one, by its own word, and does not show it.
    fn challenge(&self, ids: &[ChunkId], origin: Origin) -> Result<Vec<ChunkId>> {
        let mut random = RandomNumbers::default();
        let mut left: Vec<_> = ids.iter().map(|id| Challenge { id: *id, at: random.next() }).collect();
        let mut missing = Vec::new();
        for _ in 0..TRIES {
            let mut absent = Vec::new();
            while !left.is_empty() {
                let proofs = self.access.prove(Some(self.key.client_id()), &left)?;
                let done = proofs.places.len();
                if done == 0 || done > left.len() {
                    let reason = format!("{} chunks were asked for, and {done} answered", left.len());
                    return Err(Error::NotShown { id: left[0].id, reason });
                }
                let rest = left.split_off(done);
                absent.extend(self.verify(&left, &proofs, origin)?);
                left = rest;
            }
            if absent.is_empty() {
                return Ok(missing);
            }
            // A prune may have moved them in the meantime, or damage was found.
            let ids: Vec<_> = absent.iter().map(|challenge| challenge.id).collect();
            let stored = self.access.has(Some(self.key.client_id()), &ids)?;
            let is_stored = |place: usize| stored.get(place).copied().unwrap_or(false);
            missing.extend(ids.iter().enumerate().filter(|(place, _)| !is_stored(*place)).map(|(_, id)| *id));
            left = absent.into_iter().enumerate().filter(|(place, _)| is_stored(*place)).map(|(_, c)| c).collect();
        }
        match left.first() {
            Some(challenge) => {
                Err(Error::NotShown { id: challenge.id, reason: "it answers that there is no such chunk".into() })
            }
            None => Ok(missing),
        }
    }

    /// Verifies what is shown of packs. The admin's endorsements say which keys are those of clients: a client that may
    /// only push has no roster, and another one's may be older than the pack.
    fn open<'p>(&self, proofs: &'p Proofs) -> Result<Vec<ProvenPack<'p>>> {
        let Proofs { packs, endorsements, .. } = proofs;
        if endorsements.len() > packs.len() {
            return Err(Error::Invalid(format!("{} endorsements for {} packs", endorsements.len(), packs.len())));
        }
        let signers = Signers::of_endorsements(endorsements, self.key.repo, &self.key.admin_public)?;
        packs.iter().map(|pack| pack.open(&signers)).collect()
    }

    /// Verifies proofs. Returns the challenges without one.
    fn verify(&self, asked: &[Challenge], proofs: &Proofs, origin: Origin) -> Result<Vec<Challenge>> {
        let packs = self.open(proofs).map_err(|error| match asked.first() {
            Some(challenge) => Error::NotShown { id: challenge.id, reason: error.to_string() },
            None => error,
        })?;
        let mut absent = Vec::new();
        for (challenge, place) in asked.iter().zip(&proofs.places) {
            let Some(place) = place else {
                absent.push(*challenge);
                continue;
            };
            let not_shown = |reason: &str| Error::NotShown { id: challenge.id, reason: reason.to_owned() };
            let pack = packs.get(place.pack as usize).ok_or_else(|| not_shown("the pack is missing from the reply"))?;
            if !pack.proves(&Proven { id: challenge.id, number: place.number, at: challenge.at }) {
                return Err(not_shown("other bytes were shown than those that were asked for"));
            }
            if !pack.is_signed && (origin == Origin::Sent || !self.may_be_copied) {
                return Err(not_shown("no client has signed the pack that was shown"));
            }
        }
        Ok(absent)
    }
}
