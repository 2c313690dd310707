//! The program on a pseudo-terminal of its own, as script(1) makes it.

use std::{
    io::{Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::program::Person;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the program on a terminal, and types `keys` when it asks a question. Returns its exit code and what it printed;
/// or `None` if script(1) is missing.
pub fn run(person: &Person, args: &[&str], keys: &str) -> Option<(i32, String)> {
    let mut command = person.command();
    command.args(args);
    let mut terminal = Terminal::start(&command)?;
    terminal.answer(keys);
    let (code, shown) = terminal.end();
    Some((code, shown.replace('\r', "")))
}

/// A program that runs on a terminal.
pub struct Terminal {
    child: Child,
    shown: Arc<Mutex<String>>,
    /// How much of what is shown was expected already.
    seen: usize,
}

impl Terminal {
    /// Runs a command on a terminal, with the environment of `command`. Returns `None` if script(1) is not installed.
    pub fn start(command: &Command) -> Option<Self> {
        let quote = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().expect("readable").replace('\'', r"'\''"));
        let words: Vec<String> = [command.get_program()].into_iter().chain(command.get_args()).map(quote).collect();
        // The status is that of the command; without a file nothing is kept.
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--flush", "--command", &words.join(" "), "/dev/null"]);
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut output = child.stdout.take().expect("its output");
        let shown = Arc::new(Mutex::new(String::new()));
        let all = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = output.read(&mut buffer) {
                all.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
        });
        Some(Self { child, shown, seen: 0 })
    }

    /// Waits until a text is shown, behind those that were waited for before.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let begin = Instant::now();
        loop {
            let shown = self.shown.lock().expect("no panic").clone();
            if let Some(at) = shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{text:?} is not shown: {shown}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types `keys` when a question is asked, unless the program ends before.
    fn answer(&mut self, keys: &str) {
        loop {
            if self.shown.lock().expect("no panic").contains("[y/N]") {
                return self.press(keys);
            }
            if self.child.try_wait().expect("it runs").is_some() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Types a text, and Enter.
    pub fn enter(&mut self, text: &str) {
        self.press(&format!("{text}\n"));
    }

    /// Types a text.
    pub fn press(&mut self, text: &str) {
        // Between the prompt and the change of the terminal's mode, a person would not have typed yet.
        std::thread::sleep(Duration::from_millis(100));
        let keys = self.child.stdin.as_mut().expect("its input");
        keys.write_all(text.as_bytes()).and_then(|()| keys.flush()).expect("it reads");
    }

    /// Waits for the end. Returns the exit code as a shell shows it, and everything that was shown.
    pub fn end(mut self) -> (i32, String) {
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it runs") {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "it does not end: {}", self.shown.lock().expect("no panic"));
            std::thread::sleep(Duration::from_millis(10));
        };
        std::thread::sleep(Duration::from_millis(50));
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        (code.unwrap_or(-1), self.shown.lock().expect("no panic").clone())
    }
}
