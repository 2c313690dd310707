//! The audit log: who did what, as lines of JSON in a file.
//!
//! It has an entry for each request that changes something or opens a repository, for each that was refused, and one
//! for each repository that a connection used, with the bytes in both directions. A client pays for nothing that it is
//! refused, so those entries are bounded as notices are. What succeeds can be repeated at no cost, and is bounded for
//! each client and kind of act. So a client can neither push the entries of others out of the log nor hide an act.
//!
//! Entries are written when the request has ended, and not synced: an entry can be lost in a power cut, and never holds
//! up a request. The server's signed log has what must not be lost.

use std::{
    fs::{self, File},
    io::{Read as _, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use bkfs_store::{Error, Result, base::id::Hash};
use parking_lot::Mutex;
use rustix::fs::OFlags;
use serde::Serialize;

use super::{
    notices::{Acts, Limiter, one_line},
    options::AuditOptions,
};

/// Writes the audit log.
pub(super) struct Audit {
    file: Mutex<Option<AuditFile>>,
    clients: Limiter,
    strangers: Limiter,
    changes: Acts,
    looks: Acts,
    /// Bounds what the server's own log says about failures to write this one.
    failures: Limiter,
}

struct AuditFile {
    options: AuditOptions,
    file: File,
    len: u64,
}

/// An entry. Names are safe by their types; text that comes from an error is escaped.
#[derive(Debug, Serialize)]
pub(super) struct Entry<'a> {
    pub account: &'a str,
    pub repository: &'a str,
    #[serde(serialize_with = "as_text")]
    pub client: Hash,
    pub address: SocketAddr,
    pub action: &'a str,
    /// Its number among the calls, or another one.
    #[serde(skip)]
    pub kind: u8,
    pub outcome: &'a str,
    /// Whether something was changed. What only looks is counted by itself.
    #[serde(skip)]
    pub is_change: bool,
    /// Whether the client has joined an account.
    #[serde(skip)]
    pub is_client: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
    pub seconds: f64,
}

/// An entry with its time, as it is written.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    #[serde(flatten)]
    entry: &'a Entry<'a>,
    /// How many entries of the same kind were left out before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<u64>,
}

fn as_text<S: serde::Serializer>(client: &Hash, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(client)
}

impl Audit {
    /// Opens the file, if there is to be one.
    pub fn open(options: Option<&AuditOptions>) -> Result<Self> {
        let file = Mutex::new(options.map(AuditFile::open).transpose()?);
        let [clients, strangers, failures]: [Limiter; 3] = Default::default();
        Ok(Self { file, clients, strangers, changes: Acts::default(), looks: Acts::default(), failures })
    }

    /// Opens the file again, by the same name or another: something else may have renamed it.
    pub fn reopen(&self, options: Option<&AuditOptions>) -> Result<()> {
        let file = options.map(AuditFile::open).transpose()?;
        *self.file.lock() = file;
        Ok(())
    }

    /// Writes an entry.
    pub fn record(&self, entry: &Entry<'_>) {
        let mut file = self.file.lock();
        let Some(file) = file.as_mut() else { return };
        let now = Instant::now();
        let passed = match (entry.error.is_some(), entry.is_client) {
            (false, _) if entry.is_change => self.changes.pass(entry.client, entry.kind, now),
            (false, _) => self.looks.pass(entry.client, entry.kind, now),
            (true, true) => self.clients.pass(now),
            (true, false) => self.strangers.pass(now),
        };
        let Some(suppressed) = passed else { return };
        let suppressed = (suppressed > 0).then_some(suppressed);
        let line = Line { time: jiff::Timestamp::now().to_string(), entry, suppressed };
        let written = serde_json::to_vec(&line).map_err(std::io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            file.write(&line)
        });
        if let Err(error) = written
            && let Some(suppressed) = self.failures.pass(Instant::now())
        {
            let path = file.options.path.display();
            tracing::error!(error = one_line(&error), suppressed, "the audit log {path} cannot be written");
        }
    }
}

impl AuditFile {
    fn open(options: &AuditOptions) -> Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = &options.path;
        Self::check(path)?;
        // Without waiting, if it is a pipe that nobody reads.
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = File::options().create(true).append(true).mode(0o640).custom_flags(flags).open(path);
        let file = file.map_err(|e| Error::io(path, e))?;
        let found = file.metadata().map_err(|e| Error::io(path, e))?;
        if !found.is_file() {
            let text = format!("{} is not a file: the audit log must be one (audit-log)", path.display());
            return Err(Error::Invalid(text));
        }
        Ok(Self { options: options.clone(), file, len: found.len() })
    }

    /// Fails if the path names a file that is something else, such as the server's own log beside it.
    fn check(path: &Path) -> Result<()> {
        let mut first = [0];
        match fs::metadata(path) {
            Ok(found) if found.is_file() && found.len() > 0 => {}
            _ => return Ok(()),
        }
        File::open(path).and_then(|mut file| file.read_exact(&mut first)).map_err(|e| Error::io(path, e))?;
        match first == *b"{" {
            true => Ok(()),
            false => Err(Error::Invalid(format!(
                "{} is not an audit log: it does not begin with an entry. Name another file (audit-log)",
                path.display()
            ))),
        }
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        if self.len > 0 && self.len + line.len() as u64 > self.options.bytes_max {
            self.rotate()?;
        }
        // One call, so that a crash leaves no half of a line unless the disk is full.
        self.file.write_all(line)?;
        self.len += line.len() as u64;
        Ok(())
    }

    /// Renames `audit.log` to `audit.log.1`, that one to `audit.log.2` and so on, and begins a new file.
    fn rotate(&mut self) -> std::io::Result<()> {
        let path = &self.options.path;
        // Only those that there are: `kept` may be any number.
        let last = (1..=self.options.kept).find(|number| !numbered(path, *number).exists());
        for number in (1..=last.unwrap_or(self.options.kept)).rev() {
            let from = if number == 1 { path.clone() } else { numbered(path, number - 1) };
            match fs::rename(from, numbered(path, number)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.options.kept == 0 {
            fs::remove_file(path)?;
        }
        *self = Self::open(&self.options).map_err(std::io::Error::other)?;
        Ok(())
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(error: Option<String>) -> Entry<'static> {
        Entry {
            account: "alice",
            repository: "default",
            client: Hash([1; 32]),
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            action: "open",
            kind: 2,
            is_change: false,
            outcome: "ok",
            is_client: true,
            error,
            snapshot: None,
            requests: None,
            received_bytes: None,
            sent_bytes: None,
            seconds: 0.5,
        }
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn entries_are_rotated_by_size_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::open(Some(&AuditOptions { path: path.clone(), bytes_max: 1000, kept: 2 })).unwrap();
        for _ in 0..100 {
            audit.record(&entry(None));
        }
        let files: Vec<_> = [path.clone(), numbered(&path, 1), numbered(&path, 2)].iter().map(|p| lines(p)).collect();
        assert!(files.iter().all(|lines| !lines.is_empty()), "{files:?}");
        assert!(files[1].len() == files[2].len() && !numbered(&path, 3).exists());
        assert!(fs::metadata(numbered(&path, 1)).unwrap().len() <= 1000);
        assert_eq!(files[1][0]["account"], "alice");
    }

    #[test]
    fn refusals_cannot_rotate_the_trail_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::open(Some(&AuditOptions { path: path.clone(), bytes_max: 1 << 20, kept: 1 })).unwrap();
        for _ in 0..1000 {
            audit.record(&entry(Some("no".into())));
        }
        audit.record(&entry(None));
        assert_eq!(lines(&path).len(), 21);
    }

    #[test]
    fn acts_that_a_client_repeats_cannot_rotate_the_trail_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let audit = Audit::open(Some(&AuditOptions { path: path.clone(), bytes_max: 1 << 24, kept: 1 })).unwrap();
        for _ in 0..20_000 {
            audit.record(&entry(None));
        }
        // Neither does that hide what changes something, nor acts of another kind or of another client.
        audit.record(&Entry { is_change: true, action: "forget", ..entry(None) });
        audit.record(&Entry { kind: 3, action: "commit", ..entry(None) });
        audit.record(&Entry { client: Hash([2; 32]), ..entry(None) });
        let lines = lines(&path);
        // One more for each second that this took.
        assert!((1001..5000).contains(&lines.len()), "{}", lines.len());
        let newest: Vec<_> = lines[lines.len() - 3..].iter().map(|line| line["action"].as_str().unwrap()).collect();
        assert_eq!(newest, ["forget", "commit", "open"]);
    }

    #[test]
    fn no_other_file_becomes_the_audit_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let options = AuditOptions { path: path.clone(), bytes_max: 1, kept: u32::MAX };
        fs::write(&path, b"bkfslog").unwrap();
        let error = Audit::open(Some(&options)).err().unwrap().to_string();
        assert!(error.contains("is not an audit log"), "{error}");
        fs::remove_file(&path).unwrap();
        let audit = Audit::open(Some(&options)).unwrap();
        // However many files are kept, only those are renamed that there are.
        (0..3).for_each(|_| audit.record(&entry(None)));
        audit.reopen(Some(&options)).unwrap();
        assert!(numbered(&path, 2).exists() && !numbered(&path, 3).exists());
    }

    #[test]
    fn a_pipe_is_no_audit_log_and_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let options = AuditOptions { path, bytes_max: 1000, kept: 2 };
        assert!(Audit::open(Some(&options)).is_err(), "nobody reads it");
        let _reader = File::options().read(true).write(true).open(&options.path).unwrap();
        let refused = Audit::open(Some(&options)).err().unwrap().to_string();
        assert!(refused.contains("is not a file"), "{refused}");
    }

    #[test]
    fn a_file_that_was_renamed_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let options = AuditOptions { path: path.clone(), bytes_max: 1 << 20, kept: 1 };
        let audit = Audit::open(Some(&options)).unwrap();
        audit.record(&entry(None));
        fs::rename(&path, folder.path().join("old")).unwrap();
        audit.reopen(Some(&options)).unwrap();
        audit.record(&entry(None));
        assert_eq!((lines(&path).len(), lines(&folder.path().join("old")).len()), (1, 1));
    }
}
