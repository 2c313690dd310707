//! A server and the machines of one account, and the commands that they run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    manifest::{Manifest, differences, manifest},
    model::{Journal, Model, Random},
};
use crate::{
    common::program::{Mount, Person, Server, cannot_mount},
    network::kill,
    text,
};

/// How long any command may take on a busy machine. No command waits for a prune.
const PATIENCE: Duration = Duration::from_secs(120);
/// How many machines push.
pub const MACHINES: usize = 3;

/// What happens in a run.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// The server's floor.
    pub protect: &'static str,
    /// Kill the server and clients.
    pub kills: bool,
    /// Damage packs.
    pub damage: bool,
}

/// A server and its users. Fields are dropped in order: first what runs, then what it uses.
pub struct Site {
    /// A mount that is open all the time, if mounts work here.
    pub mount: Option<Mount>,
    server: Mutex<Option<Server>>,
    pub machines: Vec<Person>,
    operator: Person,
    pub scenario: Scenario,
    seed: u64,
    address: String,
    /// Counts up when the server is killed, and again when it is back. It is odd while the server is away.
    pub outages: AtomicU64,
    pub model: Mutex<Model>,
    pub journal: Journal,
    pub failed: AtomicBool,
}

/// The result of a command.
pub struct CommandResult {
    pub output: Output,
    /// Whether the command may fail: the server was away while it ran, or it was killed itself.
    pub is_excused: bool,
}

impl CommandResult {
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.output.stdout).unwrap_or_default()
    }

    pub fn printed(&self) -> String {
        format!("{:?}: {}{}", self.code(), text(&self.output.stdout), text(&self.output.stderr))
    }
}

impl Site {
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let operator = Person::new();
        let server = Server::start_protecting(&operator, &operator.path("server"), scenario.protect);
        let address = server.address.clone();
        let first = server.person("alice");
        let mut machines: Vec<Person> = (1..MACHINES)
            .map(|_| {
                let mut machine = Person::new();
                machine.repo = machine.run(["join", &server.invite(&operator, "alice", "all")]).trim().to_owned();
                machine
            })
            .collect();
        machines.insert(0, first);
        for machine in &machines {
            // A full key in a file, because passphrases cost time.
            machine.run(["key", "export-full", machine.path("full.key").to_str().unwrap()]);
        }
        let mount = cannot_mount().is_none().then(|| machines[0].mount(&[]));
        Self {
            scenario,
            seed,
            operator,
            address,
            server: Mutex::new(Some(server)),
            outages: AtomicU64::new(0),
            machines,
            mount,
            model: Mutex::default(),
            journal: Journal::default(),
            failed: AtomicBool::new(false),
        }
    }

    pub fn random(&self, actor: u64) -> Random {
        Random(self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ actor.wrapping_mul(0xd134_2543_de82_ef95))
    }

    pub fn command(&self, machine: usize) -> Command {
        let machine = &self.machines[machine];
        let mut command = machine.command();
        command.env("BKFS_KEY_FILE", machine.path("full.key"));
        command
    }

    /// Runs a command until it ends, or kills it after a while.
    pub fn run(&self, machine: usize, args: &[&str], kill_after: Option<Duration>) -> Result<CommandResult, String> {
        let before = self.outages.load(SeqCst);
        let mut command = self.command(machine);
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(after) = kill_after {
            std::thread::sleep(after);
            let _ = child.kill();
        }
        // The output is short and fits into the pipe.
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > PATIENCE {
                let _ = child.kill();
                let output = child.wait_with_output().unwrap();
                return Err(format!("bkfs {} does not end: {}", args.join(" "), text(&output.stderr)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        let after = self.outages.load(SeqCst);
        let is_excused = before != after || before % 2 == 1 || kill_after.is_some();
        let ran = CommandResult { output, is_excused };
        if ran.printed().contains("panicked") {
            return Err(format!("bkfs {}: {}", args.join(" "), ran.printed()));
        }
        Ok(ran)
    }

    /// Returns the folder of the repository on the server.
    pub fn folder(&self) -> PathBuf {
        self.operator.path("server/accounts/alice/main")
    }

    pub fn scrub(&self) -> Output {
        let data = self.operator.path("server");
        self.operator.output(["server", "scrub", "--data", data.to_str().unwrap(), "--json"])
    }

    /// Kills the server and starts it again, sometimes without its index.
    pub fn kill_server(&self, without_index: bool) {
        let mut held = self.server.lock().unwrap();
        self.outages.fetch_add(1, SeqCst);
        if let Some(server) = held.take() {
            kill(&server);
        }
        if without_index {
            let _ = fs::remove_dir_all(self.folder().join("index"));
        }
        *held = Some(Server::run(&self.operator, &self.operator.path("server"), &self.address));
        self.outages.fetch_add(1, SeqCst);
    }

    /// Restores a snapshot and compares it with the model.
    pub fn verify(&self, machine: usize, id: &str, expected: &Manifest, name: &str) -> Result<(), String> {
        let out = self.machines[machine].path(name);
        let _ = fs::remove_dir_all(&out);
        let ran = self.run(machine, &["restore", id, out.to_str().unwrap()], None)?;
        if ran.code() != Some(0) {
            return if ran.is_excused { Ok(()) } else { Err(format!("restoring {id}: {}", ran.printed())) };
        }
        compare(&out, expected).map_err(|problem| format!("restored {id}: {problem}"))
    }

    /// Verifies everything at the end of a run.
    pub fn end(&self) -> Result<(), String> {
        let scrubbed = self.scrub();
        if !scrubbed.status.success() {
            return Err(format!("in the end, a scrub finds {}", text(&scrubbed.stdout)));
        }
        for args in [&["check", "--read-data"][..], &["prune", "--yes", "--max-unused", "0"], &["check", "--read-data"]]
        {
            let ran = self.run(0, args, None)?;
            if ran.code() != Some(0) {
                return Err(format!("in the end, {}: {}", args[0], ran.printed()));
            }
        }
        let listed = self.run(1, &["snapshots", "--json"], None)?.json();
        let rows = listed.as_array().ok_or("in the end, snapshots are not listed")?;
        for (tag, must, expected) in self.model.lock().unwrap().all() {
            let has =
                |row: &&Value| row["tags"].as_array().is_some_and(|tags| tags.iter().any(|t| t.as_str() == Some(&tag)));
            match rows.iter().find(has) {
                Some(row) => self.verify(1, row["id"].as_str().unwrap(), &expected, "end")?,
                None if must => return Err(format!("in the end, snapshot {tag} is gone")),
                None => {}
            }
        }
        Ok(())
    }
}

/// Compares a tree with what it should be.
pub fn compare(root: &Path, expected: &Manifest) -> Result<(), String> {
    let found = manifest(root).map_err(|error| error.to_string())?;
    match differences(expected, &found) {
        none if none.is_empty() => Ok(()),
        some => Err(some.join("; ")),
    }
}
