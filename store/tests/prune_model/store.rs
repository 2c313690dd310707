//! What each message does to the state, and when it is refused. Each function is one transaction: durable as a whole,
//! or not done at all. `None` means that the message is refused or that there is nothing to do.

use super::{
    state::{CLIENTS, Copied, Mark, Open, Plan, Pruner, Sent, Session, Set, Snap, State},
    world::{Broken, World},
};

/// Copies 0 and 1, which share a frame if a key holder can rewrite it.
const MIXED: Set = Set(0b11);

impl State {
    /// What was lost since a place in the log, including what has come back since.
    pub fn lost_since(&self, seen: u8) -> Set {
        Set::all(2).filter(|chunk| self.lost_at[chunk as usize] > seen)
    }

    /// Opens, and goes through the source: the session relies on what the cache or the known-set holds.
    pub fn open(self, world: &World, c: usize) -> Option<State> {
        if self.clients[c].session.is_some() || self.clients[c].pushes == 0 {
            return None;
        }
        let lost = match world.is(Broken::NoDeltaAtOpen) {
            true => Set::default(),
            false => self.lost_since(self.known[world.set_of[c]].seen),
        };
        Some(self.collect(world, c, lost))
    }

    /// Records what was reported as lost, and goes through the source.
    fn collect(mut self, world: &World, c: usize, lost: Set) -> State {
        let known = &mut self.known[world.set_of[c]];
        known.ids = known.ids.but(lost);
        known.seen = self.log;
        if !lost.is_empty() {
            // A client cannot look below the trees of a cache. A loss ends all of them, for every client that shares
            // the cache.
            let ends = !world.is(Broken::TreesById) || lost.has(0);
            for other in (0..CLIENTS).filter(|other| world.set_of[*other] == world.set_of[c]) {
                self.clients[other].cached &= !ends;
            }
        }
        let by_cache = self.clients[c].cached;
        let relied = if by_cache { world.content[c] } else { world.content[c].both(self.known[world.set_of[c]].ids) };
        self.clients[c].session = Some(Session { generation: self.generation, seen: self.log, relied, by_cache });
        self
    }

    /// Opens again, because the commit was refused or the connection broke. If nothing that the session relies on was
    /// lost since it went through its source, it continues with the new generation.
    pub fn reopen(mut self, world: &World, c: usize) -> Option<State> {
        let session = self.clients[c].session.filter(|s| s.generation != self.generation)?;
        let lost = self.lost_since(session.seen);
        let by_cache = session.by_cache && !lost.is_empty() && !world.is(Broken::ReopenTrustsTheCache);
        let seen_by_id = if session.by_cache { Set::default() } else { session.relied };
        if by_cache || !seen_by_id.both(lost).is_empty() {
            return Some(self.collect(world, c, lost));
        }
        self.clients[c].session = Some(Session { generation: self.generation, ..session });
        Some(self)
    }

    /// A session relies on a chunk from now on.
    fn rely(&mut self, c: usize, session: Session, chunk: u8) {
        let relied = session.relied.and(Set::of(chunk));
        self.clients[c].session = Some(Session { relied, ..session });
    }

    /// What a session has asked about or put enters the known-set at some time, unless another session has been told
    /// more than this one.
    pub fn learn(mut self, world: &World, c: usize) -> Option<State> {
        let session = self.clients[c].session.filter(|session| !session.by_cache)?;
        let known = &mut self.known[world.set_of[c]];
        if session.seen < known.seen && !world.is(Broken::SharedSetUnguarded) {
            return None;
        }
        known.ids = known.ids.and(session.relied);
        Some(self)
    }

    /// `has`: yes for a chunk with a live copy. (A no changes nothing. A session does nothing until its replies are
    /// there.)
    pub fn has(mut self, world: &World, c: usize, chunk: u8) -> Option<State> {
        let session = self.clients[c].session?;
        let wanted = world.content[c].but(session.relied).has(chunk);
        if !wanted || !self.chunks_in(world, Copied::Live).has(chunk) {
            return None;
        }
        self.rely(c, session, chunk);
        Some(self)
    }

    /// `put`: the pack is live from now on, whatever it was before. If it was not live, it is pinned.
    pub fn put(mut self, world: &World, c: usize, chunk: u8) -> Option<State> {
        let session = self.clients[c].session?;
        if !world.content[c].but(session.relied).has(chunk) {
            return None;
        }
        self.rely(c, session, chunk);
        let copy = world.puts[c][chunk as usize];
        let old = self.copies[copy as usize];
        if old == Copied::Live || matches!(old, Copied::Condemned | Copied::Grave) && world.is(Broken::AlreadyHaveIt) {
            return Some(self);
        }
        self.pins[c] = self.pins[c].and(Set::of(world.pack_of[copy as usize]));
        self.copies[copy as usize] = Copied::Live;
        if old == Copied::Condemned {
            match self.open.as_mut().filter(|_| world.is(Broken::RevivalNotLogged)) {
                Some(open) => {
                    open.set = open.set.but(Set::of(copy));
                    self.unlogged = self.unlogged.and(Set::of(copy));
                }
                None => self.uncondemn(Set::of(copy)),
            }
        }
        Some(self)
    }

    /// The same, but the client does not receive the reply, and continues without relying on the chunk.
    pub fn put_unheard(self, world: &World, c: usize, chunk: u8) -> Option<State> {
        let session = self.clients[c].session;
        let mut next = self.put(world, c, chunk)?;
        next.clients[c].session = session;
        Some(next)
    }

    /// A commit that succeeds without the client receiving the reply: the session continues, and may commit again. (A
    /// real client finds its snapshot when it asks; here there is one more.)
    pub fn commit_unheard(self, world: &World, c: usize) -> Option<State> {
        let session = self.clients[c].session.filter(|s| s.relied == world.content[c])?;
        let sent = Sent { generation: session.generation, reach: session.relied, awaited: false };
        let (pushes, before) = (self.clients[c].pushes, self.snapshots);
        let mut next = self;
        next.clients[c].sent = Some(sent);
        let mut next = next.commit(world, c)?;
        if next.snapshots == before {
            return None;
        }
        next.clients[c].session = Some(session);
        next.clients[c].pushes = pushes;
        Some(next)
    }

    /// The client sends its commit.
    pub fn send_commit(mut self, world: &World, c: usize) -> Option<State> {
        let session = self.clients[c].session.filter(|s| s.relied == world.content[c])?;
        let sent = Sent { generation: session.generation, reach: session.relied, awaited: true };
        self.clients[c].sent = Some(sent);
        if world.late { Some(self) } else { self.commit(world, c) }
    }

    /// `commit`: refused unless it names the current generation.
    pub fn commit(mut self, world: &World, c: usize) -> Option<State> {
        let sent = self.clients[c].sent.take()?;
        if sent.generation != self.generation && !world.is(Broken::CommitWithoutGeneration) {
            return Some(self);
        }
        let place = self.snapshots.iter().position(Option::is_none)?;
        self.log += 1;
        self.snapshots[place] = Some(Snap { reach: sent.reach, at: self.log, expired: false });
        self.pins[c] = Set::default();
        let known = &mut self.known[world.set_of[c]];
        let client = &mut self.clients[c];
        client.pushes = client.pushes.saturating_sub(1);
        if let Some(session) = client.session.filter(|_| sent.awaited) {
            client.session = None;
            let is_sure = session.seen >= known.seen;
            client.cached |= world.tree && is_sure;
            // If anything else was logged in the meantime, it may have been a loss that only this session was told of.
            if is_sure && (self.log == session.seen + 1 || world.is(Broken::SeenMovesOn)) {
                known.seen = self.log;
            }
        }
        Some(self)
    }

    /// The client dies. What it has sent may still arrive.
    pub fn client_crashes(mut self, c: usize) -> Option<State> {
        self.clients[c].session.take()?;
        if let Some(sent) = &mut self.clients[c].sent {
            sent.awaited = false;
        }
        Some(self)
    }

    /// The store dies and comes back, perhaps without its index. Marks and pins are not kept, and what was not logged
    /// never happened.
    pub fn store_crashes(mut self) -> Option<State> {
        self.pins = [Set::default(); CLIENTS];
        for pruner in self.pruners.iter_mut().filter(|pruner| !pruner.done) {
            *pruner = Pruner::default();
        }
        for copy in self.unlogged.iter() {
            if let Some(open) = self.open.as_mut().filter(|open| open.fixed.has(copy)) {
                open.set = open.set.and(Set::of(copy));
                self.copies[copy as usize] = Copied::Condemned;
            }
        }
        self.unlogged = Set::default();
        Some(self)
    }

    /// A snapshot expires, for good.
    pub fn expire(mut self, i: usize) -> Option<State> {
        let snapshot = self.snapshots[i].as_mut().filter(|s| !s.expired)?;
        snapshot.expired = true;
        Some(self)
    }

    /// A pruner begins. It marks what unexpired snapshots reach, and perhaps more that the filters hold by chance. A
    /// pruner that was overtaken may begin again.
    pub fn mark(mut self, p: usize, by_chance: Set) -> Option<State> {
        // All pruners are alike, so the first one begins.
        let fresh = |pruner: &Pruner| !pruner.done && pruner.mark.is_none_or(|m| m.generation != self.generation);
        if self.open.is_some() || self.pruners.iter().position(fresh) != Some(p) {
            return None;
        }
        let (filter, candidates) = (self.reached().and(by_chance), self.copies_in(Copied::Live));
        let mark = Mark { generation: self.generation, log_len: self.log, filter, candidates };
        self.pruners[p] = Pruner { mark: Some(mark), ..Pruner::default() };
        Some(self)
    }

    fn is_grown(&self, mark: &Mark) -> bool {
        self.snapshots.iter().flatten().any(|snapshot| snapshot.at > mark.log_len)
    }

    /// The pruner is told that snapshots were committed in the meantime, and marks those, too.
    pub fn mark_more(mut self, world: &World, p: usize) -> Option<State> {
        let mut mark = self.pruners[p].mark.filter(|mark| !self.pruners[p].done && self.is_grown(mark))?;
        let new = self.snapshots.iter().flatten().filter(|s| s.at > mark.log_len && !s.expired);
        let filter = new.fold(mark.filter, |filter, snapshot| filter.and(snapshot.reach));
        // A chunk that turns out to be live in a frame that has moved was not moved with it.
        let is_new = !filter.within(mark.filter) && !world.is(Broken::MovedForEver);
        (mark.filter, mark.log_len) = (filter, self.log);
        let moved = self.pruners[p].moved.filter(|_| !is_new);
        self.pruners[p] = Pruner { mark: Some(mark), moved, ..Pruner::default() };
        Some(self)
    }

    /// A key holder puts the live chunks of the frame of copies 0 and 1 into packs of its own.
    pub fn rewrite(mut self, world: &World, p: usize) -> Option<State> {
        let (mark, moves) = self.pruners[p].mark.filter(|_| !self.pruners[p].done).zip(world.moves)?;
        if !MIXED.within(mark.candidates.both(self.copies_in(Copied::Live))) {
            return None;
        }
        for copy in mark.filter.iter().map(|chunk| moves[chunk as usize] as usize) {
            if self.copies[copy] == Copied::Gone {
                self.copies[copy] = Copied::Live;
            }
        }
        Some(self)
    }

    /// The key holder says that it has done so. When the store condemns, it does not believe this of copies that are
    /// not there, or that were there before the mark.
    pub fn say_moved(mut self, world: &World, p: usize) -> Option<State> {
        let mark = self.pruners[p].mark.filter(|_| !self.pruners[p].done && world.moves.is_some())?;
        (self.pruners[p].moved, self.pruners[p].plan) = (Some(mark.filter), None);
        (!mark.filter.is_empty()).then_some(self)
    }

    /// Whether nothing in a copy's frame is live by the mark, except what was moved out of it.
    fn is_dead_frame(&self, world: &World, p: usize, mark: &Mark, copy: u8) -> bool {
        let Some(moves) = world.moves.filter(|_| MIXED.has(copy)) else {
            return !mark.filter.has(world.chunk_of[copy as usize]);
        };
        match self.pruners[p].moved {
            None => mark.filter.is_empty(),
            Some(moved) => moved.iter().map(|chunk| moves[chunk as usize]).all(|copy| {
                let is_there = self.copies[copy as usize] == Copied::Live && !mark.candidates.has(copy);
                is_there || world.is(Broken::MovedWithoutCopy)
            }),
        }
    }

    /// `condemn`, before the lock: the store chooses packs, and finds what is lost with them.
    pub fn plan(mut self, world: &World, p: usize, packs: Set) -> Option<State> {
        let mark = self.pruners[p].mark.filter(|_| !self.pruners[p].done && self.pruners[p].plan.is_none())?;
        let pins = self.pins.iter().fold(Set::default(), |all, pins| all.and(*pins));
        let set = self.copies_in(Copied::Live).both(mark.candidates).filter(|copy| {
            let pack = world.pack_of[copy as usize];
            packs.has(pack) && !(world.pins && pins.has(pack)) && self.is_dead_frame(world, p, &mark, copy)
        });
        let elsewhere = self.copies_in(Copied::Live).but(set);
        let lost = self.chunks_of(world, set).but(self.chunks_of(world, elsewhere));
        self.pruners[p].plan = Some(Plan { set, lost });
        (!set.is_empty()).then_some(self)
    }

    /// `condemn`, under the lock: only if no generation has begun since the mark, and no unmarked snapshot was
    /// committed.
    pub fn condemn(mut self, world: &World, p: usize) -> Option<State> {
        let (mark, plan) = self.pruners[p].mark.zip(self.pruners[p].plan)?;
        if mark.generation != self.generation && !world.is(Broken::NoCompareAndSwap) {
            return None;
        }
        if self.is_grown(&mark) && !world.is(Broken::NoLookForCommits) {
            return None;
        }
        self = self.abort().unwrap_or(self);
        let set = plan.set.both(self.copies_in(Copied::Live));
        if set.is_empty() {
            return None;
        }
        self.log += 1;
        self.generation += 1;
        set.iter().for_each(|copy| self.copies[copy as usize] = Copied::Condemned);
        plan.lost.iter().for_each(|chunk| self.lost_at[chunk as usize] = self.log);
        self.open = Some(Open { set, fixed: set, filter: mark.filter });
        self.pruners[p].done = true;
        self.unlogged = Set::default();
        Some(self)
    }

    /// `sweep` of one pack: what is still condemned in it goes to the grave, after the pack's live frames have been
    /// copied.
    pub fn sweep(mut self, world: &World, pack: u8) -> Option<State> {
        let open = self.open?;
        let copies = world.copies_of(pack);
        let mut dead = open.set.both(copies);
        if world.is(Broken::SweepOutsideFilter) {
            dead = copies.filter(|copy| {
                let stored = matches!(self.copies[copy as usize], Copied::Live | Copied::Condemned);
                stored && !open.filter.has(world.chunk_of[copy as usize])
            });
        }
        if dead.is_empty() {
            return None;
        }
        self.swept_outside |= !dead.within(open.fixed);
        let moved = copies.but(dead).filter(|copy| self.copies[copy as usize] == Copied::Live);
        if !moved.is_empty() && !world.is(Broken::RepackWithoutCopy) {
            let chunks = self.chunks_of(world, moved);
            let fresh = world.repack.filter(|copy| chunks.has(world.chunk_of[copy as usize]));
            fresh.iter().for_each(|copy| self.copies[copy as usize] = Copied::Live);
        }
        dead.and(moved).iter().for_each(|copy| self.copies[copy as usize] = Copied::Grave);
        self.uncondemn(dead);
        Some(self)
    }

    /// `abort`: what is condemned becomes live again, and the prune is closed.
    pub fn abort(mut self) -> Option<State> {
        let open = self.open.take()?;
        open.set.iter().for_each(|copy| self.copies[copy as usize] = Copied::Live);
        Some(self)
    }

    /// A copy's time in the grave is over.
    pub fn bury(mut self, copy: u8) -> Option<State> {
        let state = &mut self.copies[copy as usize];
        if *state != Copied::Grave {
            return None;
        }
        *state = Copied::Gone;
        Some(self)
    }

    /// Takes copies out of the set. An empty set closes the prune.
    fn uncondemn(&mut self, copies: Set) {
        if let Some(open) = &mut self.open {
            open.set = open.set.but(copies);
            if open.set.is_empty() {
                self.open = None;
            }
        }
    }

    /// Makes states equal that nothing can tell apart later, so that there are fewer to look at.
    pub fn settled(mut self, world: &World) -> State {
        // What a client knows makes no difference if the client does not come again.
        let done = |c: usize| self.clients[c].pushes == 0 && self.clients[c].session.is_none();
        let done: [bool; CLIENTS] = std::array::from_fn(done);
        for c in 0..CLIENTS {
            if (0..CLIENTS).all(|other| world.set_of[other] != c || done[other]) {
                self.known[c] = super::state::Known::default();
            }
            if done[c] {
                self.clients[c].cached = false;
            }
        }
        // Generations do not come back, so everything that belongs to an old one is refused for ever.
        let generation = self.generation;
        if !world.is(Broken::NoCompareAndSwap) {
            for pruner in &mut self.pruners {
                if pruner.mark.is_some_and(|mark| mark.generation != generation) {
                    *pruner = Pruner { done: pruner.done, ..Pruner::default() };
                }
            }
        }
        if !world.is(Broken::CommitWithoutGeneration) {
            for client in &mut self.clients {
                client.sent = client.sent.filter(|sent| sent.generation == generation);
            }
        }
        self
    }
}
