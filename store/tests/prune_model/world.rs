//! The small worlds that are searched, and the ways in which a protocol can be broken.

use super::state::{CLIENTS, COPIES, Set};

/// One way to break the protocol. Each of them loses data, and the search must show how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// `open` does not tell what was lost since the client was there.
    NoDeltaAtOpen,
    /// A commit is taken whatever generation it names.
    CommitWithoutGeneration,
    /// Condemn does not look for snapshots that were committed since the mark.
    NoLookForCommits,
    /// Condemn does not compare the generation: of two prunes that overlap both condemn.
    NoCompareAndSwap,
    /// Not the fixed set is swept but all that is outside the filters when the sweep comes.
    SweepOutsideFilter,
    /// A put of a condemned or buried pack is answered with "already have it", and changes nothing.
    AlreadyHaveIt,
    /// A pack that a put made live again is not logged: the store forgets it when it crashes.
    RevivalNotLogged,
    /// A sweep removes a pack that has live frames without having copied them.
    RepackWithoutCopy,
    /// Of two sessions with one known-set, the one that knows less adds to what the other has corrected.
    SharedSetUnguarded,
    /// A client whose commit went through takes all that was logged meanwhile for seen, with what it has not noted as lost.
    SeenMovesOn,
    /// A cached tree is reused as long as its own id is not lost, whatever was lost below it.
    TreesById,
    /// A key holder says that it has put what is live of a frame elsewhere, and has not.
    MovedWithoutCopy,
    /// What a key holder has moved is not looked at again when snapshots were committed meanwhile that need more of it.
    MovedForEver,
    /// A push whose commit was refused looks only at ids that it has looked at, not at the trees that it took from its cache.
    ReopenTrustsTheCache,
}

/// All packs.
const ALL: [Set; 1] = [Set(0b11111)];
/// All packs, or one of the first two.
const ONE_OR_ALL: [Set; 3] = [Set(0b11111), Set(0b00001), Set(0b00010)];

/// What exists in a world, and how long it goes on.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// Whether it is broken, and how.
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
    /// Whether answers may be lost: the store has done what the client does not know of, and is asked again.
    pub lossy: bool,
    /// Whether chunk 0 is a tree page above chunk 1, so that who reuses it does not look at chunk 1.
    pub tree: bool,
    /// Which of the live chunks' filter answers may be wrong: ids that a filter may hold though nothing reaches them.
    pub false_positives: Set,
    /// Into which copies a sweep copies the live frames of pack 0; none if it does not repack.
    pub repack: Set,
    /// Which copy of a chunk a key holder makes when it writes the frame of copies 0 and 1 again: `moves[chunk]`. None if it does not.
    pub moves: Option<[u8; 2]>,
    /// Whether packs that were put are pinned until their session commits.
    pub pins: bool,
    /// The sets of packs of which a prune takes one: not all that is dead is worth taking away.
    pub choices: &'static [Set],
    /// How many prunes there are.
    pub prunes: usize,
}

impl World {
    /// One chunk, two clients that push it, one that knows it and one that does not, and two prunes.
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

    /// The same, but that the clients are two sessions of one machine with one known-set.
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

    /// One chunk with two copies, of which a prune may take one or both.
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

    /// A pack with two frames of which one dies, so that the other is copied out of it.
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

    /// One frame with two chunks of which one dies, so that a key holder writes the other again; a client pushes either.
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

    /// The same with that many pushes of each client, and that many prunes.
    pub fn with(self, pushes: [u8; CLIENTS], prunes: usize) -> World {
        World { pushes, prunes, ..self }
    }

    /// The same, broken.
    pub fn but(self, broken: Broken) -> World {
        World { broken: Some(broken), ..self }
    }

    /// Whether it is broken so.
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
