//! The real program with its own configuration, cache and passphrase, its servers and its mounts. When a value is
//! dropped, its processes end and its mounts are unmounted, even if the test failed.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use super::json_doc;

/// How long the slowest start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A person who uses the program.
pub struct Person {
    /// A folder for the test's files. It is removed at the end.
    pub dir: tempfile::TempDir,
    /// The value for `-r`.
    pub repo: String,
}

impl Person {
    /// Returns a person who has nothing yet. The repository will be a folder of theirs.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let repo = dir.path().join("repo").to_str().expect("a readable path").to_owned();
        Self { dir, repo }
    }

    /// Returns a person with an empty repository in a folder.
    pub fn with_repo() -> Self {
        let person = Self::new();
        person.run(["init"]);
        person
    }

    /// Returns a path in the person's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns a copy of the program in the person's folder, for users who cannot enter the folder of the original.
    ///
    /// Another process writes the copy: a program that another thread starts meanwhile would inherit this process's
    /// open file, and nobody can run a program that is open for writing ("Text file busy").
    pub fn copied_program(&self) -> PathBuf {
        let copy = self.path("bkfs");
        if !copy.exists() {
            assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_bkfs")).arg(&copy).status().unwrap().success());
        }
        copy
    }

    /// Returns the name of this machine, as snapshots record it.
    pub fn host(&self) -> String {
        rustix::system::uname().nodename().to_string_lossy().into_owned()
    }

    /// Returns the command that runs the program.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bkfs"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("BKFS_") {
                command.env_remove(name);
            }
        }
        command
            .env("BKFS_REPOSITORY", &self.repo)
            .env("BKFS_PASSWORD", "correct horse battery staple")
            .env("BKFS_CONFIG_DIR", self.path("config"))
            .env("BKFS_CACHE_DIR", self.path("cache"))
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the program until it ends.
    pub fn output<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        let args: Vec<A> = args.into_iter().collect();
        let output = self.command().args(&args).output().expect("the program runs");
        json_doc::check(&args, &output);
        output
    }

    /// Runs the program, asserts that it succeeds, and returns what it printed.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let args: Vec<A> = args.into_iter().collect();
        let output = self.output(&args);
        let line: Vec<_> = args.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        assert!(
            output.status.success(),
            "bkfs {} ended with {}:\n{}{}",
            line.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Pushes the contents of a folder: the root of the snapshot is that folder.
    pub fn push(&self, folder: &Path) {
        self.run([OsStr::new("push"), OsStr::new("-C"), folder.as_os_str(), OsStr::new(".")]);
    }

    /// Returns the id of the newest snapshot, of whatever series.
    pub fn newest(&self) -> String {
        let list: serde_json::Value = serde_json::from_str(&self.run(["snapshots", "--json"])).expect("JSON");
        let newest = list.as_array().and_then(|list| list.last()).expect("a snapshot");
        newest["id"].as_str().expect("an id").to_owned()
    }

    /// Mounts the repository.
    pub fn mount(&self, extra: &[&str]) -> Mount {
        let point = self.path("mount");
        std::fs::create_dir_all(&point).expect("a mountpoint");
        let child = self.command().arg("mount").args(extra).arg(&point).spawn().expect("the program runs");
        let mut mount = Mount { child, point };
        let outside = std::fs::metadata(self.dir.path()).expect("the test's folder");
        let begin = Instant::now();
        loop {
            use std::os::unix::fs::MetadataExt;
            if std::fs::metadata(&mount.point).is_ok_and(|inside| inside.dev() != outside.dev()) {
                return mount;
            }
            if let Ok(Some(status)) = mount.child.try_wait() {
                panic!("the mount ended with {status}");
            }
            assert!(begin.elapsed() < PATIENCE, "the mount is not ready");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Returns why nothing can be mounted here, or `None` if mounts work.
pub fn cannot_mount() -> Option<String> {
    if let Err(error) = std::fs::File::options().read(true).write(true).open("/dev/fuse") {
        return Some(format!("/dev/fuse: {error}"));
    }
    let helper = Command::new("fusermount3").arg("--version").output().is_ok_and(|out| out.status.success());
    (!helper && !rustix::process::geteuid().is_root()).then(|| "fusermount3 is not installed".into())
}

/// A running mount.
pub struct Mount {
    child: Child,
    /// The mountpoint.
    pub point: PathBuf,
}

impl Mount {
    /// Returns the root of the newest snapshot.
    pub fn latest(&self) -> PathBuf {
        self.point.join("latest")
    }

    /// Waits until the mount's process has ended.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().expect("the mount's process")
    }

    /// Returns the id of the mount's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmount = |args: &[&str]| {
            let (program, args) = args.split_first().expect("a command");
            let output = Command::new(program).args(args).arg(&self.point).stderr(Stdio::null()).status();
            output.is_ok_and(|status| status.success())
        };
        let _ = unmount(&["fusermount3", "-u"])
            || unmount(&["umount"])
            || unmount(&["fusermount3", "-u", "-z"])
            || unmount(&["umount", "-l"]);
        end(&mut self.child);
    }
}

/// A running server.
pub struct Server {
    child: Child,
    data: PathBuf,
    log: PathBuf,
    /// The address at which it listens.
    pub address: String,
}

impl Server {
    /// Creates and starts a server with its data in `data`, on a free loopback port.
    pub fn start(person: &Person, data: &Path) -> Self {
        Self::start_protecting(person, data, "14d")
    }

    /// Does the same, with the given floor.
    pub fn start_protecting(person: &Person, data: &Path, protect: &str) -> Self {
        // The address must be known before the server listens, because tokens contain it.
        let free = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a free port");
        let address = free.to_string();
        let text = data.to_str().expect("a readable path");
        person.run(["server", "init", "--data", text, "--address", &address, "--protect", protect]);
        Self::run(person, data, &address)
    }

    /// Starts a server whose data exists.
    pub fn run(person: &Person, data: &Path, address: &str) -> Self {
        Self::run_with(person, data, address, &[])
    }

    /// Does the same, with more arguments.
    pub fn run_with(person: &Person, data: &Path, address: &str, extra: &[&str]) -> Self {
        let mut command = person.command();
        command.args(["server", "run", "--listen", address, "--data"]).arg(data).args(extra);
        // A server has no passphrase.
        command.env_remove("BKFS_PASSWORD");
        // All servers that run on a folder append to one log. The disk that holds the folder may be full.
        let log = person.path(data.file_name().and_then(OsStr::to_str).expect("a name")).with_extension("log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a file for its log");
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().expect("the program runs");
        let stdout = child.stdout.take().expect("its output");
        let server = Self { child, data: data.to_owned(), log, address: address.to_owned() };
        let mut lines = BufReader::new(stdout).lines();
        let ready = lines.find_map(|line| line.ok().filter(|line| line.starts_with("listening on ")));
        assert!(ready.is_some(), "the server reports that it listens: {}", server.log());
        // Read whatever else it prints, so that the pipe never fills.
        std::thread::spawn(move || lines.for_each(drop));
        server
    }

    /// Returns what the server has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).expect("its log")
    }

    /// Returns the folder of the server's data.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Returns the id of the server's process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns a token for an account.
    pub fn invite(&self, person: &Person, account: &str, can: &str) -> String {
        let data = self.data.to_str().expect("a readable path");
        person.run(["server", "invite", "--data", data, account, "--can", can]).trim().to_owned()
    }

    /// Returns a person with an empty repository on this server.
    pub fn person(&self, account: &str) -> Person {
        let mut person = Person::new();
        let token = self.invite(&person, account, "all");
        person.repo = person.run(["join", &token]).trim().to_owned();
        person.run(["init"]);
        person
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        end(&mut self.child);
    }
}

/// Waits for a program that was asked to end, and kills it if it does not end.
fn end(child: &mut Child) {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        if let Ok(Some(_)) = child.try_wait() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}
