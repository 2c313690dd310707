//! The small worlds that are searched, and the ways in which the protocol can be broken.

use super::state::{CLIENTS, COPIES, Set};

/// One way to break the protocol. Each of them loses data, and the search must show how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// `open` does not tell what was lost since the client was last there.
    NoDeltaAtOpen,
    /// A commit is accepted whatever generation it names.
    CommitWithoutGeneration,
    /// Condemn does not look for snapshots that were committed since the mark.
    NoLookForCommits,
    /// Condemn does not compare the generation: two prunes that overlap both condemn.
    NoCompareAndSwap,
    /// A sweep takes everything that is outside the filters at that moment, not the fixed set.
    SweepOutsideFilter,
    /// A put of a pack that is condemned or in the grave is answered with "already have it", and changes nothing.
    AlreadyHaveIt,
    /// A put that makes a pack live again is not logged: the store forgets it when it crashes.
    RevivalNotLogged,
    /// A sweep removes a pack that has live frames without copying them first.
    RepackWithoutCopy,
    /// Of two sessions with one known-set, the one that knows less adds to what the other has corrected.
    SharedSetUnguarded,
    /// A client whose commit succeeded records as seen all that was logged in the meantime, with losses that it has not
    /// recorded.
    SeenMovesOn,
    /// A cached tree is reused as long as its own id is not lost, whatever was lost below it.
    TreesById,
    /// A key holder says that it has put the live chunks of a frame elsewhere, but has not.
    MovedWithoutCopy,
    /// What a key holder has moved is not looked at again if snapshots that need more of the frame were committed in
    /// the meantime.
    MovedForEver,
    /// A push whose commit was refused looks only at ids that it has asked about, not at the trees that it took from
    /// its cache.
    ReopenTrustsTheCache,
}

/// All packs.
const ALL: [Set; 1] = [Set(0b11111)];
/// All packs, or one of the first two.
const ONE_OR_ALL: [Set; 3] = [Set(0b11111), Set(0b00001), Set(0b00010)];

/// What exists in a world, and how long it goes on.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// How it is broken, if it is.
    pub broken: Option<Broken>,
    /// The pack of each frame copy.
    pub pack_of: [u8; COPIES],
    /// The chunk of each frame copy; the frames of these worlds hold one each.
    pub chunk_of: [u8; COPIES],
    /// The copies that are live at the beginning.
    pub live: Set,
    /// Which chunks the snapshots of the beginning reach.
    pub snapshots: [Set; 2],
    /// What each client pushes.
    pub content: [Set; CLIENTS],
    /// How often each client pushes, at most.
    pub pushes: [u8; CLIENTS],
    /// The copy that a client makes of a chunk when it puts it: `puts[client][chunk]`.
    pub puts: [[u8; 2]; CLIENTS],
    /// What each known-set holds at the beginning.
    pub known: [Set; CLIENTS],
    /// Which known-set each client has.
    pub set_of: [usize; CLIENTS],
    /// Whether commits may be under way for a while, and outlive their sessions.
    pub late: bool,
    /// Whether replies may be lost: the store has done something without the client knowing, and is asked again.
    pub lossy: bool,
    /// Whether chunk 0 is a tree page above chunk 1, so that a client that reuses it does not look at chunk 1.
    pub tree: bool,
    /// The chunks for which filters may be wrong: a filter may hold their ids although nothing reaches them.
    pub false_positives: Set,
    /// The copies into which a sweep copies the live frames of pack 0. Empty if it does not repack.
    pub repack: Set,
    /// The copy of a chunk that a key holder makes when it rewrites the frame of copies 0 and 1: `moves[chunk]`. None
    /// if no key holder does.
    pub moves: Option<[u8; 2]>,
    /// Whether a pack that is put is pinned until its session commits.
    pub pins: bool,
    /// The sets of packs from which a prune takes one: not all that is dead is worth removing.
    pub choices: &'static [Set],
    /// How many prunes there are.
    pub prunes: usize,
}

impl World {
    /// One chunk, two clients that push it, one of which knows that it is stored, and two prunes.
    pub fn two_clients() -> World {
        World {
            broken: None,
            pack_of: [0, 1, 2, 0, 0, 0],
            chunk_of: [0; COPIES],
            live: Set(0b001),
            snapshots: [Set(0b1), Set(0)],
            content: [Set(0b1); CLIENTS],
            pushes: [1, 1],
            puts: [[1, 0], [2, 0]],
            known: [Set(0b1), Set(0)],
            set_of: [0, 1],
            late: false,
            lossy: false,
            tree: false,
            false_positives: Set(0),
            repack: Set(0),
            moves: None,
            pins: true,
            choices: &ALL,
            prunes: 2,
        }
    }

    /// The same, but the clients are two sessions of one machine with one known-set.
    pub fn one_machine() -> World {
        World { set_of: [0, 0], ..World::two_clients() }
    }

    /// One client, whose sessions leave commits behind when they die.
    pub fn leftovers() -> World {
        World { pushes: [2, 0], late: true, ..World::two_clients() }
    }

    /// Two targets of one machine, with one known-set and different contents.
    pub fn two_targets() -> World {
        World {
            pack_of: [0, 1, 2, 3, 0, 0],
            chunk_of: [0, 1, 0, 1, 0, 0],
            live: Set(0b0011),
            snapshots: [Set(0b01), Set(0b10)],
            content: [Set(0b01), Set(0b10)],
            puts: [[2, 0], [0, 3]],
            known: [Set(0b11), Set(0)],
            set_of: [0, 0],
            ..World::two_clients()
        }
    }

    /// One chunk with two copies. A prune may take one or both.
    pub fn two_copies() -> World {
        World {
            live: Set(0b011),
            puts: [[2, 0], [3, 0]],
            pack_of: [0, 1, 2, 3, 0, 0],
            choices: &ONE_OR_ALL,
            ..World::two_clients()
        }
    }

    /// A tree page above a chunk, and a client that pushes them twice, the second time from its cache.
    pub fn tree() -> World {
        World {
            broken: None,
            pack_of: [0, 1, 2, 3, 0, 0],
            chunk_of: [0, 1, 0, 1, 0, 0],
            live: Set(0b0011),
            snapshots: [Set(0b11), Set(0)],
            content: [Set(0b11), Set(0)],
            pushes: [2, 0],
            puts: [[2, 3], [0, 0]],
            known: [Set(0b11), Set(0)],
            set_of: [0, 1],
            late: false,
            lossy: false,
            tree: true,
            false_positives: Set(0b01),
            repack: Set(0),
            moves: None,
            pins: true,
            choices: &ALL,
            prunes: 2,
        }
    }

    /// A pack with two frames. One of them dies, so the other is copied out of the pack.
    pub fn repack() -> World {
        World {
            broken: None,
            pack_of: [0, 0, 1, 2, 3, 4],
            chunk_of: [0, 1, 0, 1, 0, 1],
            live: Set(0b000011),
            snapshots: [Set(0b01), Set(0b10)],
            content: [Set(0b11), Set(0)],
            pushes: [1, 0],
            puts: [[4, 5], [0, 0]],
            known: [Set(0b11), Set(0)],
            set_of: [0, 1],
            late: false,
            lossy: false,
            tree: false,
            false_positives: Set(0),
            repack: Set(0b001100),
            moves: None,
            pins: true,
            choices: &ALL,
            prunes: 2,
        }
    }

    /// One frame with two chunks. One of them dies, so a key holder rewrites the other. A client pushes either.
    pub fn mixed(content: Set) -> World {
        World {
            pack_of: [0, 0, 1, 2, 3, 4],
            repack: Set(0),
            moves: Some([2, 3]),
            content: [content, Set(0)],
            snapshots: [Set(0b01), Set(0b10)],
            ..World::repack()
        }
    }

    /// The same with this many pushes for each client, and this many prunes.
    pub fn with(self, pushes: [u8; CLIENTS], prunes: usize) -> World {
        World { pushes, prunes, ..self }
    }

    /// The same, broken.
    pub fn but(self, broken: Broken) -> World {
        World { broken: Some(broken), ..self }
    }

    /// Whether it is broken in this way.
    pub fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    /// The copies of a pack.
    pub fn copies_of(&self, pack: u8) -> Set {
        Set::all(COPIES).filter(|copy| self.pack_of[copy as usize] == pack && self.exists(copy))
    }

    /// Whether a place in the arrays stands for a copy that can exist.
    fn exists(&self, copy: u8) -> bool {
        let put = self
            .puts
            .iter()
            .enumerate()
            .any(|(c, of)| self.pushes[c] > 0 && self.content[c].iter().any(|chunk| of[chunk as usize] == copy));
        let moved = self.moves.is_some_and(|moves| moves.contains(&copy));
        put || self.live.has(copy) || self.repack.has(copy) || moved
    }
}
