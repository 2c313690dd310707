//! The model as stateright takes it: what can happen next, what must always be true, and what must be true at some
//! time.

use stateright::{Checker, Expectation, HasDiscoveries, Model, Property};

use super::{
    state::{CLIENTS, COPIES, Copied, Open, PACKS, SNAPSHOTS, Set, State},
    world::World,
};

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Open(usize),
    Reopen(usize),
    Has(usize, u8),
    Put(usize, u8),
    Learn(usize),
    /// A put whose reply is lost.
    PutUnheard(usize, u8),
    Commit(usize),
    CommitArrives(usize),
    /// A commit whose reply is lost.
    CommitUnheard(usize),
    ClientCrashes(usize),
    StoreCrashes,
    Expire(usize),
    /// The prune, and the chunks that its filters hold by chance.
    Mark(usize, Set),
    MarkMore(usize),
    Rewrite(usize),
    SayMoved(usize),
    /// The prune, and the packs that are worth pruning.
    Plan(usize, Set),
    Condemn(usize),
    Sweep(u8),
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
            steps.extend([Step::Open(c), Step::Reopen(c), Step::Commit(c), Step::CommitArrives(c)]);
            steps.extend([Step::ClientCrashes(c), Step::Learn(c)]);
            for chunk in 0..2 {
                steps.extend([Step::Has(c, chunk), Step::Put(c, chunk)]);
                steps.extend(self.lossy.then_some(Step::PutUnheard(c, chunk)));
            }
            steps.extend(self.lossy.then_some(Step::CommitUnheard(c)));
        }
        for p in 0..self.prunes {
            steps.push(Step::Mark(p, Set::default()));
            if !self.false_positives.is_empty() {
                steps.push(Step::Mark(p, self.false_positives));
            }
            steps.extend([Step::MarkMore(p), Step::Condemn(p), Step::Rewrite(p), Step::SayMoved(p)]);
            steps.extend(self.choices.iter().map(|packs| Step::Plan(p, *packs)));
        }
        steps.extend((0..PACKS).map(Step::Sweep));
        steps.extend((0..SNAPSHOTS).map(Step::Expire));
        steps.extend((0..COPIES as u8).map(Step::Bury));
        steps.extend([Step::Abort, Step::StoreCrashes]);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = match step {
            Step::Open(c) => state.open(self, c),
            Step::Reopen(c) => state.reopen(self, c),
            Step::Has(c, chunk) => state.has(self, c, chunk),
            Step::Put(c, chunk) => state.put(self, c, chunk),
            Step::PutUnheard(c, chunk) => state.put_unheard(self, c, chunk),
            Step::CommitUnheard(c) => state.commit_unheard(self, c),
            Step::Learn(c) => state.learn(self, c),
            Step::Commit(c) => state.send_commit(self, c),
            Step::CommitArrives(c) => state.commit(self, c),
            Step::ClientCrashes(c) => state.client_crashes(c),
            Step::StoreCrashes => state.store_crashes(),
            Step::Expire(i) => state.snapshots[i].and_then(|_| state.expire(i)),
            Step::Mark(p, by_chance) => state.mark(p, by_chance),
            Step::MarkMore(p) => state.mark_more(self, p),
            Step::Rewrite(p) => state.rewrite(self, p),
            Step::SayMoved(p) => state.say_moved(self, p),
            Step::Plan(p, packs) => state.plan(self, p, packs),
            Step::Condemn(p) => state.condemn(self, p),
            Step::Sweep(pack) => state.sweep(self, pack),
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
            Property::always("(a) and it has a copy that is live", live),
            Property::always("(b) what a commit of the current generation relies on is live", committable),
            Property::always("(c) what a session relies on is live, or the session will hear of the loss", relied),
            Property::always("(d) the condemned set only shrinks, and nothing else is swept", shrinks),
        ]);
        // A search in which nothing happens finds nothing. Each of these must happen at some time.
        properties.extend([
            Property::sometimes("all prunes condemn", |w: &World, s: &State| s.generation as usize == w.prunes),
            Property::sometimes("a session has all that it needs, but is too old to commit", |w: &World, s: &State| {
                let is_old = |c: usize| {
                    s.clients[c].session.is_some_and(|e| e.relied == w.content[c] && e.generation < s.generation)
                };
                (0..CLIENTS).any(is_old)
            }),
            Property::sometimes("a snapshot is committed that a mark has not seen", |_, s: &State| {
                let open = s.pruners.iter().filter(|pruner| !pruner.done).filter_map(|pruner| pruner.mark);
                let mut open = open.filter(|mark| mark.generation == s.generation);
                open.any(|mark| s.snapshots.iter().flatten().any(|snapshot| snapshot.at > mark.log_len))
            }),
            Property::sometimes("a pack is swept while a session goes on", |_, s: &State| {
                s.copies.contains(&Copied::Grave) && s.clients.iter().any(|client| client.session.is_some())
            }),
            Property::sometimes("a condemned pack is put again while its prune is open", |_, s: &State| {
                let revived = |open: Open| open.fixed.but(open.set).both(s.copies_in(Copied::Live));
                s.open.is_some_and(|open| !revived(open).is_empty())
            }),
            Property::sometimes(
                "a snapshot is committed that needs a chunk whose first copy is gone",
                |w: &World, s: &State| {
                    let newest = s.snapshots.iter().flatten().max_by_key(|snapshot| snapshot.at);
                    let first = |chunk: u8| w.chunk_of.iter().position(|of| *of == chunk);
                    let is_gone = |chunk: u8| first(chunk).is_some_and(|copy| s.copies[copy] == Copied::Gone);
                    newest.is_some_and(|s| s.at > 0 && !s.expired && s.reach.iter().any(is_gone))
                },
            ),
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

fn live(world: &World, state: &State) -> bool {
    state.reached().within(state.chunks_in(world, Copied::Live))
}

fn committable(world: &World, state: &State) -> bool {
    let live = state.chunks_in(world, Copied::Live);
    let mut sent = state.clients.iter().filter_map(|client| client.sent);
    sent.all(|sent| sent.generation != state.generation || sent.reach.within(live))
}

fn relied(world: &World, state: &State) -> bool {
    let live = state.chunks_in(world, Copied::Live);
    state.clients.iter().filter_map(|client| client.session).all(|session| {
        let told = match session.generation == state.generation {
            true => Set::default(),
            false => state.lost_since(session.seen),
        };
        session.relied.within(live.and(told))
    })
}

fn shrinks(_: &World, state: &State) -> bool {
    let set = state.open.map_or(Set::default(), |open| open.set);
    let fixed = state.open.map_or(Set::default(), |open| open.fixed);
    !state.swept_outside && set.within(fixed) && set == state.copies_in(Copied::Condemned)
}

/// The result of a search.
#[derive(Debug)]
pub struct Found {
    /// How many different states were looked at.
    pub states: usize,
    /// How many steps lead to the farthest of them.
    pub depth: usize,
    /// If a property is violated: the property, and the shortest way to the violation.
    pub violation: Option<(&'static str, Vec<Step>)>,
    /// What should have happened and did not.
    pub unmet: Vec<&'static str>,
}

/// Looks at every state of a world that at most `depth` steps lead to, nearest first, until a property is violated.
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
