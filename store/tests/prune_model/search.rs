//! The model as stateright takes it: what can happen next, and what must always and what must sometimes be so.

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::{
    state::{CLIENTS, COPIES, Copied, Open, PACKS, SNAPSHOTS, Set, State},
    world::World,
};

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Open(usize),
    Has(usize, u8),
    Put(usize, u8),
    Advance(usize),
    AdvanceUnanswered(usize),
    YesArrives(usize),
    Commit(usize),
    CommitArrives(usize),
    ClientCrashes(usize),
    LeaseEnds(usize, usize),
    StoreCrashes,
    Expire(usize),
    /// The prune, and the chunks that its filter holds by chance.
    Mark(usize, Set),
    Condemn(usize),
    Walk(usize),
    Remark(usize),
    /// The prune and the pack.
    Sweep(usize, u8),
    Abort,
    Bury(u8),
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self)]
    }

    fn actions(&self, _: &State, steps: &mut Vec<Step>) {
        for c in (0..CLIENTS).filter(|c| self.pushes[*c] > 0) {
            steps.extend([Step::Open(c), Step::Advance(c), Step::AdvanceUnanswered(c)]);
            steps.extend([Step::YesArrives(c), Step::Commit(c), Step::CommitArrives(c), Step::ClientCrashes(c)]);
            steps.extend((0..self.leases).map(|lease| Step::LeaseEnds(c, lease)));
            for chunk in 0..2 {
                steps.extend([Step::Has(c, chunk), Step::Put(c, chunk)]);
            }
        }
        for p in 0..self.prunes {
            steps.push(Step::Mark(p, Set::default()));
            if !self.false_positives.is_empty() {
                steps.push(Step::Mark(p, self.false_positives));
            }
            steps.extend([Step::Condemn(p), Step::Walk(p), Step::Remark(p)]);
            steps.extend((0..PACKS).map(|pack| Step::Sweep(p, pack)));
        }
        steps.extend((0..SNAPSHOTS).map(Step::Expire));
        steps.extend((0..COPIES as u8).map(Step::Bury));
        steps.extend([Step::Abort, Step::StoreCrashes]);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = match step {
            Step::Open(c) => state.open(self, c),
            Step::Has(c, chunk) => state.has(self, c, chunk),
            Step::Put(c, chunk) => state.put(self, c, chunk),
            Step::Advance(c) => state.advance(self, c, true),
            Step::AdvanceUnanswered(c) => state.advance(self, c, false),
            Step::YesArrives(c) => state.yes_arrives(self, c),
            Step::Commit(c) => state.send_commit(self, c),
            Step::CommitArrives(c) => state.commit(self, c),
            Step::ClientCrashes(c) => state.client_crashes(c),
            Step::LeaseEnds(c, lease) => state.lease_ends(c, lease),
            Step::StoreCrashes => state.store_crashes(),
            Step::Expire(i) => state.snapshots[i].and_then(|_| state.expire(i)),
            Step::Mark(p, by_chance) => state.mark(self, p, by_chance),
            Step::Condemn(p) => state.condemn(self, p),
            Step::Walk(p) => state.walk(self, p),
            Step::Remark(p) => state.remark(self, p),
            Step::Sweep(p, pack) => state.sweep(self, p, pack),
            Step::Abort => state.abort(),
            Step::Bury(copy) => state.bury(copy),
        };
        next.map(|next| next.settled(self)).filter(|next| next != state)
    }

    fn properties(&self) -> Vec<Property<World>> {
        let mut properties = vec![Property::always(KEPT, kept)];
        if self.broken.is_some() {
            return properties;
        }
        properties.extend([
            Property::always("(a) and not in the grave only", not_buried),
            Property::always("(b) no lease older than the prune commits after the re-mark", |_, s: &State| {
                !s.late_commit
            }),
            Property::always("(c) what a lease relies on is stored, or was condemned after its generation", relied),
            Property::always("(d) the condemned set only shrinks, and nothing else is swept", shrinks),
        ]);
        // A search in which nothing happens finds nothing: these must be met with.
        properties.extend([
            Property::sometimes("all prunes condemn", |w: &World, s: &State| s.generation as usize == w.prunes),
            Property::sometimes("a prune waits for a lease", |_, s: &State| {
                s.open.is_some_and(|open| s.leases().any(|lease| lease.generation < open.generation))
            }),
            Property::sometimes("a pack is swept while a session goes on", |_, s: &State| {
                s.copies.contains(&Copied::Grave) && (0..CLIENTS).any(|c| s.session(c).is_some())
            }),
            Property::sometimes("a condemned pack is put again while its prune is open", |_, s: &State| {
                let revived = |open: Open| open.fixed.but(open.set).both(s.copies_in(Copied::Live));
                s.open.is_some_and(|open| !open.remarked && !revived(open).is_empty())
            }),
            Property::sometimes("a snapshot is committed whose first copies are gone", |_, s: &State| {
                let newest = s.snapshots.iter().flatten().max_by_key(|snapshot| snapshot.at);
                s.copies[0] == Copied::Gone && newest.is_some_and(|s| s.at > 0 && !s.expired && s.reach.has(0))
            }),
        ]);
        properties
    }
}

/// The property that a broken world must violate: data is lost.
pub const KEPT: &str = "(a) what an unexpired snapshot reaches has a copy that is not gone";

fn kept(world: &World, state: &State) -> bool {
    let gone = state.copies_in(Copied::Gone);
    state.reached().within(state.chunks_of(world, Set::all(COPIES).but(gone)))
}

fn not_buried(world: &World, state: &State) -> bool {
    let stored = state.copies_in(Copied::Live).and(state.copies_in(Copied::Condemned));
    state.reached().within(state.chunks_of(world, stored))
}

fn relied(world: &World, state: &State) -> bool {
    let live = state.chunks_in(world, Copied::Live);
    (0..CLIENTS).all(|c| {
        let Some((session, lease)) = state.session(c) else { return true };
        if session.generation != lease.generation {
            return true;
        }
        let condemned = state.open.map_or(Set::default(), |open| state.chunks_of(world, open.set));
        let younger = state.open.is_some_and(|open| open.generation > session.generation);
        // What its base reaches may be condemned until the re-mark, if the base was committed after the mark.
        let rescued = state.open.is_some_and(|open| !open.remarked);
        let base = lease.base.and_then(|b| state.snapshots[b as usize]).map_or(Set::default(), |s| s.reach);
        let allowed = if younger { condemned } else { Set::default() };
        let allowed = if rescued { allowed.and(base.both(condemned)) } else { allowed };
        session.relied.within(live.and(allowed))
    })
}

fn shrinks(_: &World, state: &State) -> bool {
    let set = state.open.map_or(Set::default(), |open| open.set);
    let fixed = state.open.map_or(Set::default(), |open| open.fixed);
    !state.swept_outside && set.within(fixed) && set == state.copies_in(Copied::Condemned)
}

/// What a search came to.
#[derive(Debug)]
pub struct Found {
    /// How many different states were looked at.
    pub states: usize,
    /// How many steps lead to the farthest of them.
    pub depth: usize,
    /// The shortest way to a violation, if there is one, and what is violated.
    pub violation: Option<(&'static str, Vec<Step>)>,
    /// What should have been met with and was not.
    pub unmet: Vec<&'static str>,
}

/// Looks at every state of a world that at most `depth` steps lead to, nearest first, until something is violated.
pub fn search(world: World, depth: usize) -> Found {
    let checker = world.checker().target_max_depth(depth).finish_when(HasDiscoveries::AnyFailures);
    let checker = checker.spawn_bfs().join();
    let mut found = checker.discoveries();
    let mut result =
        Found { states: checker.unique_state_count(), depth: checker.max_depth(), violation: None, unmet: Vec::new() };
    for property in world.properties() {
        match (property.expectation, found.remove(property.name)) {
            (Expectation::Sometimes, None) => result.unmet.push(property.name),
            (Expectation::Always, Some(path)) => result.violation = Some((property.name, path.into_actions())),
            _ => {}
        }
    }
    result
}
