//! The state of a world at one moment: small sets of numbers, so that millions of states can be looked at.

use super::world::World;

/// Places for frame copies.
pub const COPIES: usize = 6;
/// Packs.
pub const PACKS: u8 = 5;
/// Clients.
pub const CLIENTS: usize = 2;
/// Places for snapshots.
pub const SNAPSHOTS: usize = 5;
/// Places for prunes.
pub const PRUNES: usize = 3;
/// A set of small numbers: chunks, copies, packs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Set(pub u8);

impl Set {
    pub fn all(n: usize) -> Set {
        Set(((1_u16 << n) - 1) as u8)
    }

    pub fn of(n: u8) -> Set {
        Set(1 << n)
    }

    pub fn has(self, n: u8) -> bool {
        self.0 & 1 << n != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn and(self, other: Set) -> Set {
        Set(self.0 | other.0)
    }

    pub fn but(self, other: Set) -> Set {
        Set(self.0 & !other.0)
    }

    pub fn both(self, other: Set) -> Set {
        Set(self.0 & other.0)
    }

    pub fn within(self, other: Set) -> bool {
        self.but(other).is_empty()
    }

    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..8).filter(move |n| self.has(*n))
    }

    pub fn filter(self, keep: impl Fn(u8) -> bool) -> Set {
        self.iter().filter(|n| keep(*n)).fold(Set::default(), |set, n| set.and(Set::of(n)))
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The state of a frame copy. One that was never put is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Copied {
    #[default]
    Gone,
    Live,
    Condemned,
    Grave,
}

/// A snapshot in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Snap {
    pub reach: Set,
    /// The place of its commit in the log.
    pub at: u8,
    pub expired: bool,
}

/// A commit that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sent {
    pub generation: u8,
    pub reach: Set,
    /// Whether the session that sent it lives to see the reply.
    pub awaited: bool,
}

/// A client's session. All of it is at the client: the store knows of no sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    pub generation: u8,
    /// The length of the log when it went through its source. It is told what was lost since then.
    pub seen: u8,
    /// The chunks that it relies on.
    pub relied: Set,
    /// Whether it relies on them because its file cache holds a whole tree, without having looked at each chunk.
    pub by_cache: bool,
}

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Client {
    /// Whether its file cache holds the tree of what it pushes, and no loss has been reported since.
    pub cached: bool,
    pub session: Option<Session>,
    /// A commit that it sent, which arrives at some time or never.
    pub sent: Option<Sent>,
    pub pushes: u8,
}

/// A known-set. It is on a client's disk, so it outlives crashes, and two sessions may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Known {
    /// The chunks that are believed to be stored.
    pub ids: Set,
    /// The place in the log up to which this has been corrected.
    pub seen: u8,
}

/// A prune, as far as its pruner has got. What it has sent may arrive at any time, more than once, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pruner {
    pub mark: Option<Mark>,
    /// What it says it has moved out of the frame of copies 0 and 1.
    pub moved: Option<Set>,
    pub plan: Option<Plan>,
    /// It has condemned.
    pub done: bool,
}

/// What is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Mark {
    /// The generation when it began.
    pub generation: u8,
    /// All commits before this place in the log are marked.
    pub log_len: u8,
    /// The chunks that the filters hold.
    pub filter: Set,
    /// The copies that were there when it began. Later ones stay.
    pub candidates: Set,
}

/// What is going to be condemned, worked out before the lock is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Plan {
    pub set: Set,
    /// The chunks that have no other live copy.
    pub lost: Set,
}

/// The prune that is open in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Open {
    /// The copies that are still condemned.
    pub set: Set,
    /// The copies that were condemned at first.
    pub fixed: Set,
    pub filter: Set,
}

/// Everything at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub copies: [Copied; COPIES],
    /// Length of the log. Only commits and condemnations are counted.
    pub log: u8,
    pub generation: u8,
    /// The length of the log when each chunk last lost its last live copy.
    pub lost_at: [u8; 2],
    pub snapshots: [Option<Snap>; SNAPSHOTS],
    /// The packs that each client has stored since its last commit.
    pub pins: [Set; CLIENTS],
    pub clients: [Client; CLIENTS],
    pub known: [Known; CLIENTS],
    pub pruners: [Pruner; PRUNES],
    pub open: Option<Open>,
    /// Copies that a put made live without logging it (in a broken world).
    pub unlogged: Set,
    /// A copy was swept that was not in the fixed set, or the set grew.
    pub swept_outside: bool,
}

impl State {
    /// The initial state.
    pub fn new(world: &World) -> State {
        let client = |c: usize| Client { cached: world.tree, session: None, sent: None, pushes: world.pushes[c] };
        let snap = |reach: Set| (!reach.is_empty()).then_some(Snap { reach, at: 0, expired: false });
        let mut copies = [Copied::Gone; COPIES];
        world.live.iter().for_each(|copy| copies[copy as usize] = Copied::Live);
        State {
            copies,
            log: 0,
            generation: 0,
            lost_at: [0; 2],
            snapshots: [snap(world.snapshots[0]), snap(world.snapshots[1]), None, None, None],
            pins: [Set::default(); CLIENTS],
            clients: std::array::from_fn(client),
            known: world.known.map(|ids| Known { ids, seen: 0 }),
            pruners: [Pruner::default(); PRUNES],
            open: None,
            unlogged: Set::default(),
            swept_outside: false,
        }
    }

    /// The copies in a state.
    pub fn copies_in(&self, state: Copied) -> Set {
        Set::all(COPIES).filter(|copy| self.copies[copy as usize] == state)
    }

    /// The chunks that have a copy in a state.
    pub fn chunks_in(&self, world: &World, state: Copied) -> Set {
        self.chunks_of(world, self.copies_in(state))
    }

    /// The chunks of copies.
    pub fn chunks_of(&self, world: &World, copies: Set) -> Set {
        copies.iter().fold(Set::default(), |set, copy| set.and(Set::of(world.chunk_of[copy as usize])))
    }

    /// The chunks that unexpired snapshots reach.
    pub fn reached(&self) -> Set {
        let snapshots = self.snapshots.iter().flatten().filter(|s| !s.expired);
        snapshots.fold(Set::default(), |set, s| set.and(s.reach))
    }
}
