//! The store's side: what each message does to the state, and when it is refused. Each function is one transaction, durable as
//! a whole or not done at all; `None` means refused, or nothing to do.

use super::{
    state::{CLIENTS, Condemn, Copied, Known, LEASES, Lease, Open, Pruner, Sent, Session, Set, Snap, State, Yes},
    world::{Broken, World},
};

impl State {
    /// What a client at `seen` has to be told: ids that lost their last live copy since then, and have none again.
    fn lost_since(&self, world: &World, seen: u8) -> Set {
        let lost = Set::all(2).filter(|chunk| self.lost_at[chunk as usize] > seen);
        lost.but(self.chunks_in(world, Copied::Live))
    }

    /// `open`: a lease at the present generation, and what was lost. A base is pinned if it is not expired.
    pub fn open(mut self, world: &World, c: usize) -> Option<State> {
        let client = self.clients[c];
        if client.session.is_some() || client.pushes == 0 {
            return None;
        }
        let holds = |s: Snap| !s.expired || world.is(Broken::ExpiredBase);
        let base = client.base.filter(|b| self.snapshots[*b as usize].is_some_and(holds));
        let known = self.known[world.set_of[c]];
        let lost = match world.is(Broken::NoDeltaAtOpen) {
            true => Set::default(),
            false => self.lost_since(world, known.seen),
        };
        let known = Known { ids: known.ids.but(lost), seen: self.log };
        self.known[world.set_of[c]] = known;
        let free = self.leases[c][..world.leases].iter().position(Option::is_none).unwrap_or(0);
        self = self.lease_ends(c, free).unwrap_or(self);
        let (generation, told) = (self.generation, self.told(world));
        self.leases[c][free] = Some(Lease { generation, told, pins: Set::default(), base });
        // With its base pinned, a client reuses whole trees; without, it goes by what it knows of each chunk.
        let mut relied = world.content[c].both(known.ids);
        if base.is_some() || world.is(Broken::TreesById) && relied.has(0) {
            relied = world.content[c];
        }
        let (lease, seen, by_base) = (free as u8, known.seen, base.is_some());
        self.clients[c].session = Some(Session { lease, generation, seen, yes: None, relied, by_base });
        Some(self)
    }

    /// What a store that remembers what it has told (a broken one) puts down; the others have nothing to put down.
    fn told(&self, world: &World) -> u8 {
        if world.is(Broken::DeltaFromTheStoresMemory) { self.log } else { 0 }
    }

    /// A session and its lease, if the store still has that.
    pub fn session(&self, c: usize) -> Option<(Session, Lease)> {
        let session = self.clients[c].session?;
        Some((session, self.leases[c][session.lease as usize]?))
    }

    /// A session relies on a chunk from now on. It enters the known-set too, if nobody has been told more than this session.
    fn rely(&mut self, world: &World, c: usize, session: Session, chunk: u8) {
        let known = &mut self.known[world.set_of[c]];
        if session.seen >= known.seen || world.is(Broken::SharedSetUnguarded) {
            known.ids = known.ids.and(Set::of(chunk));
        }
        let relied = session.relied.and(Set::of(chunk));
        self.clients[c].session = Some(Session { relied, ..session });
    }

    /// `has`: yes for a chunk with a live copy. (A no changes nothing.) The answer goes under way.
    pub fn has(mut self, world: &World, c: usize, chunk: u8) -> Option<State> {
        let (session, _) = self.session(c)?;
        let wanted = world.content[c].but(session.relied).has(chunk);
        if !wanted || session.yes.is_some() || !self.chunks_in(world, Copied::Live).has(chunk) {
            return None;
        }
        let yes = Some(Yes { chunk, generation: self.generation });
        self.clients[c].session = Some(Session { yes, ..session });
        Some(self)
    }

    /// A yes arrives. One from before the generation that the client has advanced to is worth nothing.
    pub fn yes_arrives(mut self, world: &World, c: usize) -> Option<State> {
        let mut session = self.clients[c].session?;
        let yes = session.yes.take()?;
        self.clients[c].session = Some(session);
        if yes.generation >= session.generation || world.is(Broken::StaleYes) {
            self.rely(world, c, session, yes.chunk);
        }
        Some(self)
    }

    /// `put`: the pack is live from now on, whatever it was, and pinned by the lease.
    pub fn put(mut self, world: &World, c: usize, chunk: u8) -> Option<State> {
        let (session, mut lease) = self.session(c)?;
        if !world.content[c].but(session.relied).has(chunk) {
            return None;
        }
        let copy = world.puts[c][chunk as usize];
        lease.pins = lease.pins.and(Set::of(world.pack_of[copy as usize]));
        self.leases[c][session.lease as usize] = Some(lease);
        self.rely(world, c, session, chunk);
        let old = self.copies[copy as usize];
        if matches!(old, Copied::Condemned | Copied::Grave) && world.is(Broken::AlreadyHaveIt) {
            return Some(self);
        }
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

    /// `advance`: the lease is stamped anew, and the client told what was lost since the place that it names. The answer may be
    /// lost on its way: then the client knows of nothing.
    pub fn advance(mut self, world: &World, c: usize, answered: bool) -> Option<State> {
        let (session, lease) = self.session(c)?;
        let generation = self.generation;
        if session.generation == generation {
            return None;
        }
        let since = match world.is(Broken::DeltaFromTheStoresMemory) {
            true => lease.told,
            false => session.seen,
        };
        let lost = self.lost_since(world, since);
        let told = self.told(world);
        self.leases[c][session.lease as usize] = Some(Lease { generation, told, ..lease });
        if !answered {
            return Some(self);
        }
        let known = &mut self.known[world.set_of[c]];
        *known = Known { ids: known.ids.but(lost), seen: self.log };
        // Below a tree that it took over as a whole, a client sees nothing.
        let blind = session.by_base && world.tree && !lost.has(0);
        let relied = if blind { session.relied } else { session.relied.but(lost) };
        self.clients[c].session = Some(Session { generation, seen: self.log, relied, by_base: blind, ..session });
        Some(self)
    }

    /// The client sends its commit.
    pub fn send_commit(mut self, world: &World, c: usize) -> Option<State> {
        let session = self.clients[c].session.filter(|s| s.relied == world.content[c])?;
        let Session { lease, generation, relied: reach, .. } = session;
        self.clients[c].sent = Some(Sent { lease, generation, reach });
        if world.late { Some(self) } else { self.commit(world, c) }
    }

    /// `commit`: refused without the lease, or if the client has not advanced to what the lease is stamped with.
    pub fn commit(mut self, world: &World, c: usize) -> Option<State> {
        let sent = self.clients[c].sent.take()?;
        let lease = self.leases[c][sent.lease as usize];
        let fits = |l: &Lease| l.generation == sent.generation || world.is(Broken::CommitWithoutGeneration);
        let Some(lease) = lease.filter(fits) else { return Some(self) };
        let place = self.snapshots.iter().position(Option::is_none)?;
        self.late_commit |= self.open.is_some_and(|open| open.waited && lease.generation < open.generation);
        self.log += 1;
        self.snapshots[place] = Some(Snap { reach: sent.reach, at: self.log, expired: false });
        self.leases[c][sent.lease as usize] = None;
        let client = &mut self.clients[c];
        client.pushes = client.pushes.saturating_sub(1);
        if client.session.is_some_and(|s| s.lease == sent.lease) {
            // It lives to see the answer.
            client.session = None;
            client.base = world.tree.then_some(place as u8);
        }
        Some(self)
    }

    /// The client dies, or gives up a session that was refused.
    pub fn client_crashes(mut self, c: usize) -> Option<State> {
        self.clients[c].session.take()?;
        Some(self)
    }

    /// A lease ends because its client was not heard of for too long; its pins end with it. The client learns of it when it is
    /// refused. (A commit under way that names the lease will be refused, whenever it comes, so it is dropped here.)
    pub fn lease_ends(mut self, c: usize, lease: usize) -> Option<State> {
        self.leases[c][lease].take()?;
        self.clients[c].sent = self.clients[c].sent.filter(|sent| sent.lease != lease as u8);
        Some(self)
    }

    /// The store dies and comes back: leases are not kept, and what was not logged never was.
    pub fn store_crashes(mut self) -> Option<State> {
        for c in 0..CLIENTS {
            for lease in 0..LEASES {
                self = self.lease_ends(c, lease).unwrap_or(self);
            }
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

    /// A pruner marks: what unexpired snapshots and pinned bases reach, and perhaps some more that the filter holds by chance.
    pub fn mark(mut self, world: &World, p: usize, by_chance: Set) -> Option<State> {
        // Pruners are all alike, so the first one begins.
        if self.pruners.iter().position(|pruner| pruner.condemn.is_none()) != Some(p) {
            return None;
        }
        let bases = self.leases().filter_map(|lease| lease.base);
        let based =
            bases.fold(Set::default(), |set, b| set.and(self.snapshots[b as usize].map_or(Set(0), |s| s.reach)));
        let based = if world.is(Broken::BaseNotPinned) { Set::default() } else { based };
        let filter = self.reached().and(based).and(by_chance);
        self.pruners[p].condemn = Some(Condemn { generation: self.generation, log_len: self.log, filter });
        Some(self)
    }

    /// `condemn`: one prune at a time, and only if no generation began since its mark. Pinned packs are left out.
    pub fn condemn(mut self, world: &World, p: usize) -> Option<State> {
        let mark = self.pruners[p].condemn?;
        if self.open.is_some() || mark.generation != self.generation && !world.is(Broken::NoCompareAndSwap) {
            return None;
        }
        let pins = self.leases().fold(Set::default(), |set, lease| set.and(lease.pins));
        let set = self.copies_in(Copied::Live).filter(|copy| {
            let (pack, chunk) = (world.pack_of[copy as usize], world.chunk_of[copy as usize]);
            !(world.pins && pins.has(pack) || mark.filter.has(chunk))
        });
        if set.is_empty() {
            return None;
        }
        self.log += 1;
        self.generation += 1;
        set.iter().for_each(|copy| self.copies[copy as usize] = Copied::Condemned);
        let lost = self.chunks_of(world, set).but(self.chunks_in(world, Copied::Live));
        lost.iter().for_each(|chunk| self.lost_at[chunk as usize] = self.log);
        let generation = self.generation;
        let (waited, remarked) = (false, world.is(Broken::NoRemark));
        self.open = Some(Open { prune: p as u8, generation, mark, set, fixed: set, waited, remarked });
        self.unlogged = Set::default();
        Some(self)
    }

    /// The pruner asks whether the wait is over, reads the log, and walks what was committed since the mark.
    pub fn walk(mut self, world: &World, p: usize) -> Option<State> {
        let generation = self.open.filter(|open| open.prune == p as u8)?.generation;
        if self.leases().any(|lease| lease.generation < generation) && !world.is(Broken::NoWait) {
            return None;
        }
        let open = self.open.as_mut()?;
        open.waited = true;
        let since = self.snapshots.iter().flatten().filter(|s| s.at > open.mark.log_len);
        let since = since.filter(|s| !(s.expired && world.is(Broken::RemarkPassesOverExpired)));
        self.pruners[p].remark = Some(since.fold(Set::default(), |set, s| set.and(s.reach)));
        Some(self)
    }

    /// `remark`: what was reached since the mark is live again.
    pub fn remark(mut self, world: &World, p: usize) -> Option<State> {
        let reached = self.pruners[p].remark?;
        let open = self.open.as_mut().filter(|open| open.prune == p as u8 || world.is(Broken::NoFence))?;
        open.remarked = true;
        let saved = open.set.filter(|copy| reached.has(world.chunk_of[copy as usize]));
        saved.iter().for_each(|copy| self.copies[copy as usize] = Copied::Live);
        self.uncondemn(saved);
        Some(self)
    }

    /// `sweep` of one pack: what is still condemned of it goes to the grave; live frames of it are copied first.
    pub fn sweep(mut self, world: &World, p: usize, pack: u8) -> Option<State> {
        let sent = self.pruners[p].remark.is_some() || world.is(Broken::NoRemark);
        let fenced = |open: &Open| open.prune == p as u8 || world.is(Broken::NoFence);
        let open = self.open.filter(|open| sent && open.remarked && fenced(open))?;
        let copies = world.copies_of(pack);
        let mut dead = open.set.both(copies);
        if world.is(Broken::SweepOutsideFilter) {
            let kept = open.mark.filter.and(self.pruners[p].remark.unwrap_or_default());
            dead = copies.filter(|copy| {
                let stored = matches!(self.copies[copy as usize], Copied::Live | Copied::Condemned);
                stored && !kept.has(world.chunk_of[copy as usize])
            });
        }
        if dead.is_empty() {
            return None;
        }
        self.swept_outside |= !dead.within(open.fixed);
        let moved = copies.but(dead).filter(|copy| self.copies[copy as usize] == Copied::Live);
        if !moved.is_empty() {
            let chunks = self.chunks_of(world, moved);
            let fresh = world.repack.filter(|copy| chunks.has(world.chunk_of[copy as usize]));
            if !world.is(Broken::RepackWithoutCopy) {
                fresh.iter().for_each(|copy| self.copies[copy as usize] = Copied::Live);
            }
        }
        dead.and(moved).iter().for_each(|copy| self.copies[copy as usize] = Copied::Grave);
        self.uncondemn(dead);
        Some(self)
    }

    /// `abort`: what is condemned is live again, and the prune is closed.
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

    /// Takes copies out of the set; an empty set closes the prune.
    fn uncondemn(&mut self, copies: Set) {
        if let Some(open) = &mut self.open {
            open.set = open.set.but(copies);
            if open.set.is_empty() {
                self.open = None;
            }
        }
    }

    /// Makes states alike between which nothing that follows can tell: fewer to look at.
    pub fn settled(mut self, world: &World) -> State {
        // What a client that will not come again knows makes no difference.
        let done = |c: usize| self.clients[c].pushes == 0 && self.clients[c].session.is_none();
        let done: [bool; CLIENTS] = std::array::from_fn(done);
        for c in 0..CLIENTS {
            if (0..CLIENTS).all(|other| world.set_of[other] != c || done[other]) {
                self.known[c] = Known::default();
            }
            if done[c] {
                self.clients[c].base = None;
            }
        }
        // Generations do not come back, so what belongs to an old one is refused for ever.
        if !world.is(Broken::NoFence) && !world.is(Broken::NoCompareAndSwap) {
            for (p, pruner) in self.pruners.iter_mut().enumerate() {
                let open = self.open.is_some_and(|open| open.prune == p as u8);
                if !open && pruner.condemn.is_some_and(|mark| mark.generation != self.generation) {
                    *pruner = Pruner { condemn: Some(Condemn::default()), remark: None };
                }
            }
        }
        self
    }
}
