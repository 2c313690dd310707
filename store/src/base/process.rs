//! Which process made something, and whether that process still runs.
//!
//! A process is known by the machine's boot, the namespace in which its id counts, the id, and when the process began:
//! an id is used again. Of a process of another machine, of an earlier boot or of another namespace nothing can be
//! known from here. No clock is needed for this.

use std::fs;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The boot of its machine. Empty if unknown.
    pub boot: String,
    /// The namespace in which its id counts. Empty if unknown.
    pub namespace: String,
    /// Its id.
    pub pid: u32,
    /// When it began, in the kernel's ticks. Empty if unknown.
    pub began: String,
}

/// What is known of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Runs,
    /// It has ended.
    Ended,
    /// It may run elsewhere.
    Unknown,
}

impl Process {
    /// This process.
    pub fn current() -> Self {
        let pid = std::process::id();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            boot: boot.trim().to_owned(),
            namespace: namespace.to_string_lossy().into_owned(),
            pid,
            began: began(pid).unwrap_or_default(),
        }
    }

    /// Whether it still runs.
    pub fn state(&self) -> State {
        let here = Self::current();
        let is_known = [&here.boot, &here.namespace, &here.began].iter().all(|text| !text.is_empty());
        if !is_known || (&self.boot, &self.namespace) != (&here.boot, &here.namespace) {
            return State::Unknown;
        }
        match began(self.pid) {
            Some(began) if began == self.began => State::Runs,
            _ => State::Ended,
        }
    }

    /// The process as a word of digits and dashes, for names of files. It has a hash of the boot and the namespace.
    pub fn word(&self) -> String {
        format!("{}-{}-{}", self.place(), self.pid, self.began)
    }

    /// What is known of the process of a word, which may be followed by a dash and more.
    pub fn state_of_word(word: &str) -> State {
        let here = Self::current();
        let mut parts = word.split('-');
        let (place, pid) = (parts.next(), parts.next().and_then(|pid| pid.parse().ok()));
        match (pid, parts.next()) {
            (Some(pid), Some(began)) if place == Some(&here.place()) => {
                Self { pid, began: began.to_owned(), ..here }.state()
            }
            _ => State::Unknown,
        }
    }

    fn place(&self) -> String {
        blake3::hash(format!("{}\n{}", self.boot, self.namespace).as_bytes()).to_hex()[..16].to_owned()
    }
}

/// Returns when a process started, in the kernel's clock ticks, or `None` if it does not exist.
fn began(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in brackets, may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_word() {
        let this = Process::current();
        assert_eq!(Process::state_of_word(&format!("{}-7-abc", this.word())), State::Runs);
        // The same id with another beginning, and an id that no process has.
        for ended in
            [Process { began: format!("{}0", this.began), ..this.clone() }, Process { pid: 4_194_303, ..this.clone() }]
        {
            assert_eq!((ended.state(), Process::state_of_word(&ended.word())), (State::Ended, State::Ended));
        }
        // An earlier boot or another machine, and a container.
        for other in [Process { boot: "x".into(), ..this.clone() }, Process { namespace: "x".into(), ..this.clone() }] {
            assert_eq!((other.state(), Process::state_of_word(&other.word())), (State::Unknown, State::Unknown));
        }
        for none in ["", "1-0-0", "-", &this.place(), &format!("{}-x-1", this.place())] {
            assert_eq!(Process::state_of_word(none), State::Unknown, "{none}");
        }
    }
}
