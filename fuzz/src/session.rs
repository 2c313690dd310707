//! A sequence of requests against a real store in memory.
//!
//! The input is a program. Its steps are those of everybody who uses a repository: two clients of the owner and one of
//! another trust domain follow the protocol; a thief with the push key of a client in a third domain sends what it
//! likes; the owner forgets, prunes, checks and repairs; the store's operator looks after the store, whose clock goes
//! wrong. Between any two requests of an honest client, others can make theirs.
//!
//! **What must hold**, whatever the thief does:
//!
//! - Nothing panics.
//! - A snapshot that was acknowledged to an honest client is listed until it is forgotten, is in the trash after that
//!   until it may expire, and reads back bit for bit.
//! - The log never shrinks, and its records never change.
//! - An honest push succeeds, unless a prune holds commits back at that moment.
//! - The owner can always check and repair. A prune is blocked by the thief's snapshots at most, and only until the
//!   owner has forgotten these as broken.
//!
//! [`World`] is the state and the order of steps; its submodules are the actors.

mod honest;
mod keeper;
mod memory;
mod model;
mod owner;
mod thief;

use std::{
    path::Path,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
};

use bkfs_store::{
    access::{InitRequest, Lease, Manage, Read},
    base::{
        id::{DomainId, PackId},
        time::Time,
    },
    format::{
        config::{Config, verify_config},
        keys::FullKey,
        pack::{Pack, PackTable},
        roster::Roster,
    },
    owner::reader::Reader,
    repository::Repository,
};
use bytes::Bytes;

use self::{memory::Shared, model::Entry, thief::Thief};
use crate::{
    Input,
    client::{Client, roster_entry},
    support,
};

/// The most steps of one input.
const STEPS_MAX: usize = 64;
/// How deep requests of others can interrupt one another.
const DEPTH_MAX: usize = 3;
/// The domain of each honest client.
const DOMAINS: [DomainId; 3] = [DomainId::OWNER, DomainId::OWNER, DomainId([1; 16])];
/// The thief's number among the clients, and its domain.
const THIEF: (u64, DomainId) = (3, DomainId([2; 16]));
const FLOORS: [u64; 4] = [0, 0, 3600, 30 * 86_400];
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

static CLOCK: AtomicI64 = AtomicI64::new(0);

/// The time that the store's clock shows.
pub fn clock() -> Time {
    Time { secs: CLOCK.load(SeqCst), nanos: 0 }
}

/// Runs a program.
pub fn run(program: &[u8]) {
    let mut world = World::new(Input(program));
    while !world.input.0.is_empty() {
        world.step();
    }
    world.verify();
    if world.ends_anew {
        // Packs and log alone are enough.
        world.open(true);
        world.verify();
    }
}

/// What the repository begins with.
fn init_request() -> &'static InitRequest {
    static REQUEST: LazyLock<InitRequest> = LazyLock::new(|| {
        let mut clients: Vec<_> = (0..).zip(DOMAINS).map(|(number, domain)| roster_entry(number, domain)).collect();
        clients.push(roster_entry(THIEF.0, THIEF.1));
        let full = support::full_key();
        let roster = full.sign_roster(&Roster { repo: full.repo, number: 1, clients });
        InitRequest { config: support::config(), roster, slots: vec![] }
    });
    &REQUEST
}

/// The repository, everybody who uses it, and what is known of it.
struct World<'a> {
    input: Input<'a>,
    steps: usize,
    depth: usize,
    /// Where indexes, and the owner's caches, are.
    folder: tempfile::TempDir,
    shared: Shared,
    indexes: usize,
    repo: Option<Arc<Repository>>,
    floor: u64,
    has_parity: bool,
    ends_anew: bool,
    full: FullKey,
    config: Config,
    /// None while they push.
    clients: [Option<Client>; DOMAINS.len()],
    thief: Thief,
    /// The leases that honest clients got.
    leases: Vec<Lease>,
    /// The snapshots of honest clients.
    entries: Vec<Entry>,
    log: Vec<Vec<u8>>,
    /// The sum of all that the clock went ahead.
    ahead: i64,
}

impl<'a> World<'a> {
    fn new(mut input: Input<'a>) -> Self {
        CLOCK.store(1_800_000_000, SeqCst);
        let options = input.u8();
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let full = support::full_key();
        let mut world = Self {
            input,
            steps: 0,
            depth: 0,
            folder: folder.expect("a folder for indexes"),
            shared: Shared::default(),
            indexes: 0,
            repo: None,
            floor: FLOORS[usize::from(options & 3)],
            has_parity: options & 4 > 0,
            ends_anew: options & 8 > 0,
            config: verify_config(&init_request().config).expect("a right configuration"),
            clients: [0, 1, 2].map(|number| Some(honest::client(number))),
            thief: Thief::new(),
            leases: vec![],
            entries: vec![],
            log: vec![],
            ahead: 0,
            full,
        };
        world.open(true);
        world.repo().init(init_request()).expect("a new repository");
        world
    }

    /// Opens the repository again, as another process does, perhaps with an index that is made anew.
    fn open(&mut self, anew: bool) {
        self.repo = None;
        self.indexes += usize::from(anew);
        let index = self.folder.path().join(format!("index{}", self.indexes));
        let repo = Repository::with_backend(Box::new(self.shared.clone()), &index).expect("it opens");
        let repo = repo.with_floor(self.floor).with_clock(clock);
        self.repo = Some(Arc::new(if self.has_parity { repo } else { repo.with_parity(None) }));
    }

    fn repo(&self) -> Arc<Repository> {
        self.repo.clone().expect("it is open")
    }

    /// A reader of the owner, with empty caches.
    fn reader(&self) -> Arc<Reader> {
        Reader::new(self.repo(), self.full.clone(), &self.config, 1 << 20)
    }

    /// Takes the program's next step.
    fn step(&mut self) {
        if self.steps == STEPS_MAX {
            self.input = Input(&[]);
            return;
        }
        self.steps += 1;
        match self.input.u8() % 20 {
            0..4 => self.push(),
            4 => self.call_raw(),
            5..8 => self.put_forged(),
            8 => self.put_stolen(),
            9 => self.commit_forged(),
            10 => self.ask_as_others(),
            11 => self.forget(),
            12 => self.unforget(),
            13 => self.prune(),
            14 => self.prune_cut_short(),
            15 => self.check(),
            16 => self.repair(),
            17 => self.set_clock(),
            18 => {
                let anew = !self.input.u8().is_multiple_of(2);
                self.open(anew);
            }
            _ => self.keep(),
        }
    }

    /// The pack that a byte of the program chooses, if there is any.
    fn choose_pack(&mut self) -> Option<(PackId, Bytes, PackTable)> {
        use bkfs_store::access::Maintain;
        let (repo, at) = (self.repo(), usize::from(self.input.u8()));
        let mut packs = repo.packs(None, 4096).expect("packs are listed");
        // Their ids are random.
        packs.sort_by_key(|info| (info.len, info.id));
        let id = packs.get(at % packs.len().max(1))?.id;
        let bytes = repo.read_pack(id).ok()?;
        let table = Pack::parse(&bytes).ok()?.table;
        Some((id, bytes, table))
    }
}
