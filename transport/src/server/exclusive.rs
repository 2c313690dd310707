//! One server for a folder: two would not see what the other one does.
//!
//! The server that runs holds a lock on the file `running`. The file says which process that is, for the message of a
//! second one. The kernel releases the lock when the process ends, however it ends, so a file that is left behind means
//! nothing. Commands of the operator do not take the lock.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    net::SocketAddr,
    path::Path,
};

use bkfs_store::{
    Error, Result,
    base::medium::{Locked, attempt_lock},
};

const FILE: &str = "running";
/// The most bytes of the file that are read.
const NOTE_MAX: u64 = 200;

/// The lock of a running server.
pub(super) struct Exclusive {
    file: File,
}

impl Exclusive {
    /// Takes the lock. Fails if another server has it.
    pub fn take(data: &Path) -> Result<Self> {
        let path = data.join(FILE);
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = open.map_err(|e| Error::io(&path, e))?;
        match attempt_lock(&file).map_err(|e| Error::io(&path, e))? {
            Locked::Here => {
                // What the last server wrote is not true any more.
                file.set_len(0).map_err(|e| Error::io(&path, e))?;
            }
            Locked::Elsewhere => {
                let mut note = String::new();
                // It is only for the message.
                let _ = (&file).take(NOTE_MAX).read_to_string(&mut note);
                let who = if note.is_empty() {
                    "it is just starting".to_owned()
                } else {
                    note.trim().escape_debug().to_string()
                };
                let text = format!("another server runs on {} already: {who}; stop that one first", data.display());
                return Err(Error::Invalid(text));
            }
            Locked::Impossible => {
                tracing::warn!("this file system has no locks: a second server on the folder goes unnoticed");
            }
        }
        Ok(Self { file })
    }

    /// Says which process holds the lock, and where it listens.
    pub fn announce(&self, address: SocketAddr) {
        let mut file = &self.file;
        let note = format!("process {}, listening on {address}\n", std::process::id());
        let written = file.rewind().and_then(|()| file.write_all(note.as_bytes()));
        if let Err(error) = written {
            tracing::debug!(%error, "cannot say who runs on the folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_told_about_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let first = Exclusive::take(folder.path()).unwrap();
        let error = |folder: &Path| Exclusive::take(folder).map(drop).unwrap_err().to_string();
        assert!(error(folder.path()).contains("just starting"));
        first.announce(([127, 0, 0, 1], 7443).into());
        let text = error(folder.path());
        assert!(text.contains(&format!("process {}, listening on 127.0.0.1:7443", std::process::id())), "{text}");
        drop(first);
        // What a server left behind that was killed does not count.
        std::fs::write(folder.path().join(FILE), "process 1, listening on nothing, and more\n").unwrap();
        let again = Exclusive::take(folder.path()).unwrap();
        assert!(error(folder.path()).contains("just starting"));
        drop(again);
    }
}
