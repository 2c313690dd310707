//! Many clients of one server at once, on loopback: half of them push changed files, the other half mount the newest
//! snapshot, compare it with its source, and unmount. All are the real program, each with its own configuration.
//!
//! ```text
//! cargo bench --bench fleet -- --clients 200 --accounts 20 --seconds 300
//! ```
//!
//! Prints how much each kind did, how evenly the accounts shared the server, and how much memory the server took. Ends
//! with an error if any command failed or any byte differed; how fast something was decides nothing.

#![allow(clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use bkfs_store::crypto::random;
use common::program::{Person, Server, cannot_mount};

/// How many files a client has, and how many of them change between pushes.
const FILES: usize = 20;
const CHANGED: usize = 3;
/// Bytes of each.
const FILE_LEN: usize = 64 << 10;

/// What is asked for on the command line.
struct Wanted {
    clients: usize,
    accounts: usize,
    seconds: u64,
}

impl Wanted {
    fn parse() -> Self {
        let args: Vec<String> = std::env::args().collect();
        let number = |name: &str, otherwise: u64| {
            let value = args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
            value.map_or(otherwise, |value| value.parse().expect("a number"))
        };
        Self {
            clients: number("--clients", 20) as usize,
            accounts: number("--accounts", 4) as usize,
            seconds: number("--seconds", 20),
        }
    }
}

/// A client of an account.
struct Client {
    person: Person,
    account: usize,
    key: PathBuf,
    mounts: bool,
}

/// What one client did.
#[derive(Default)]
struct Done {
    pushes: Vec<Duration>,
    mounts: Vec<Duration>,
    errors: Vec<String>,
}

impl Client {
    fn source(&self) -> PathBuf {
        self.person.path("source")
    }

    /// A target that no other client has.
    fn target(&self) -> &str {
        let folder = self.person.dir.path().file_name().and_then(|name| name.to_str());
        folder.expect("a name that can be read")
    }

    fn command(&self) -> Command {
        let mut command = self.person.command();
        command.env_remove("BKFS_PASSWORD").env("BKFS_KEY_FILE", &self.key);
        command
    }

    fn write(&self, number: usize) {
        let bytes: Vec<u8> = (0..FILE_LEN / 32).flat_map(|_| random::<32>()).collect();
        fs::write(self.source().join(format!("file {number}")), bytes).unwrap();
    }

    fn push(&self) -> Result<(), String> {
        let target = ["push", "--target", self.target(), "-C"];
        let output = self.command().args(target).arg(self.source()).arg(".").output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(format!("push: {}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// Mounts the newest snapshot of this client, and compares all files.
    fn mount(&self) -> Result<(), String> {
        let point = self.person.path("mount");
        fs::create_dir_all(&point).unwrap();
        let filter = ["mount", "--background", "--target", self.target()];
        let output = self.command().args(filter).arg(&point).output().unwrap();
        if !output.status.success() {
            return Err(format!("mount: {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
        }
        let result = same(&self.source(), &point.join("latest"));
        // A program that another thread starts at this moment holds this process's open files until it is executed.
        let unmount = || Command::new("fusermount3").arg("-u").arg(&point).output().unwrap().status.success();
        let begin = Instant::now();
        while !unmount() {
            if begin.elapsed() > Duration::from_secs(10) {
                return Err(format!("{} cannot be unmounted", point.display()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        result
    }

    fn work(&self, until: Instant) -> Done {
        let mut done = Done::default();
        let mut round = 0;
        while Instant::now() < until && done.errors.is_empty() {
            let begin = Instant::now();
            let result = if self.mounts {
                self.mount()
            } else {
                (0..CHANGED).for_each(|n| self.write((round * CHANGED + n) % FILES));
                self.push()
            };
            match result {
                Ok(()) if self.mounts => done.mounts.push(begin.elapsed()),
                Ok(()) => done.pushes.push(begin.elapsed()),
                Err(error) => done.errors.push(error),
            }
            round += 1;
        }
        done
    }
}

fn same(source: &Path, copy: &Path) -> Result<(), String> {
    for number in 0..FILES {
        let name = format!("file {number}");
        let read = |folder: &Path| fs::read(folder.join(&name)).map_err(|e| format!("{}: {e}", folder.display()));
        if read(source)? != read(copy)? {
            return Err(format!("{} differs", copy.join(&name).display()));
        }
    }
    Ok(())
}

/// Makes the clients of one account.
fn join(server: &Server, account: usize, count: usize) -> Vec<Client> {
    let name = format!("account{account}");
    let first = server.person(&name);
    let mut clients = Vec::new();
    for number in 0..count {
        let mut person = Person::new();
        person.repo = person.run(["join", &server.invite(&person, &name, "all")]).trim().to_owned();
        // Keys of their own, as machines have them, that need no passphrase: its cost would be the client's.
        let key = person.path("full.key");
        first.run([Path::new("key"), Path::new("export-full"), &key]);
        let client = Client { person, account, key, mounts: number % 2 == 1 };
        fs::create_dir(client.source()).unwrap();
        (0..FILES).for_each(|number| client.write(number));
        client.push().unwrap();
        clients.push(client);
    }
    clients
}

fn main() {
    let wanted = Wanted::parse();
    if let Some(reason) = cannot_mount() {
        return println!("skipped: {reason}");
    }
    let operator = Person::new();
    let server = Server::start(&operator, &operator.path("data"));
    let begin = Instant::now();
    let each = wanted.clients / wanted.accounts;
    let clients: Vec<Client> = (0..wanted.accounts).flat_map(|account| join(&server, account, each)).collect();
    println!("{} clients of {} accounts joined in {:.0?}", clients.len(), wanted.accounts, begin.elapsed());
    println!("the server's memory: {}", memory(&server));
    let until = Instant::now() + Duration::from_secs(wanted.seconds);
    let all = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for client in &clients {
            let all = &all;
            scope.spawn(move || {
                let done = client.work(until);
                all.lock().unwrap().push((client.account, done));
            });
        }
    });
    report(&server, &wanted, all.into_inner().unwrap());
}

fn report(server: &Server, wanted: &Wanted, all: Vec<(usize, Done)>) {
    let mut shares = vec![0; wanted.accounts];
    let (mut pushes, mut mounts, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for (account, done) in all {
        shares[account] += done.pushes.len() + done.mounts.len();
        pushes.extend(done.pushes);
        mounts.extend(done.mounts);
        errors.extend(done.errors);
    }
    print("pushes", &mut pushes);
    print("mounts, compared", &mut mounts);
    let (least, sum) = (shares.iter().min().unwrap(), shares.iter().sum::<usize>());
    let fair = sum as f64 / wanted.accounts as f64;
    println!("the account that did least: {least} rounds, {:.2} of its fair share", *least as f64 / fair);
    println!("the server's memory: {}", memory(server));
    println!("errors: {}", errors.len());
    errors.iter().take(10).for_each(|error| println!("  {error}"));
    assert!(errors.is_empty());
}

fn print(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times.get(times.len() * part / 100).copied().unwrap_or_default();
    println!("{what}: {}, median {:.2?}, 95 of 100 within {:.2?}", times.len(), at(50), at(95));
}

/// What the kernel says of the server's memory.
fn memory(server: &Server) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let lines = status.lines().filter(|line| ["VmHWM", "VmRSS", "Threads"].iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
}
