//! Packs whose bytes are arriving.
//!
//! The bytes go into a file, `uploads/<account>/<client>-<pack>` in the server's folder. So a pack that arrives
//! slowly takes no memory. One that was interrupted, by a lost connection or by a restart of the server, continues
//! where it stopped. Nothing is fsynced and nothing that was acknowledged depends on these files: the id of a pack
//! is the hash of its bytes, and a pack that continues from a damaged file is asked for once more, from its
//! beginning.
//!
//! Files are bounded for each account, and are removed some time after they last grew.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use bkfs_store::{
    Error, Result,
    base::id::{Hash, PackId},
};
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::RecvStream;
use tokio::sync::{OwnedMutexGuard, watch};

use super::{
    blocking::blocking,
    limits::{KEEP_UPLOAD, UPLOAD_BUFFER, UPLOAD_FILES_MAX, UPLOADS},
    pace::{Halt, Pace},
    shares::Shares,
};
use crate::{stream::StreamError, url::Name};

/// The packs that are being uploaded, and those whose upload was interrupted.
pub(super) struct Uploads {
    folder: PathBuf,
    /// How many there may be at a time.
    pub shares: Shares,
    active: Arc<Mutex<HashMap<PathBuf, Arc<Active>>>>,
}

/// A file of a pack that is being uploaded.
#[derive(Default)]
struct Active {
    /// Held by the upload that writes the file.
    writing: Arc<tokio::sync::Mutex<()>>,
    /// The number of the newest upload of the pack. Older ones end: the client has connected again.
    newest: watch::Sender<u64>,
}

/// A pack that is being uploaded.
pub(super) struct Upload {
    path: PathBuf,
    /// Bytes of the file.
    pub len: usize,
    /// What has arrived and is not in the file.
    buffer: Vec<u8>,
    number: u64,
    active: Arc<Active>,
    writing: Option<OwnedMutexGuard<()>>,
    all: Arc<Mutex<HashMap<PathBuf, Arc<Active>>>>,
}

impl Uploads {
    pub fn new(data: &Path) -> Self {
        Self { folder: data.join("uploads"), shares: Shares::new(UPLOADS), active: Arc::default() }
    }

    /// Begins to receive a pack of `len` bytes, or continues. If the same client is uploading the pack already, over a
    /// connection that it has lost, that upload ends first.
    pub async fn begin(&self, account: &Name, client: Hash, pack: PackId, len: usize) -> Result<Upload> {
        let folder = self.folder.join(account.as_str());
        let path = folder.join(format!("{client}-{pack}"));
        let active = self.active.lock().entry(path.clone()).or_default().clone();
        let mut number = 0;
        active.newest.send_modify(|newest| {
            *newest += 1;
            number = *newest;
        });
        let (buffer, all) = (Vec::new(), self.active.clone());
        let mut upload = Upload { path, len: 0, buffer, number, active, writing: None, all };
        upload.writing = Some(upload.active.writing.clone().lock_owned().await);
        let (path, all) = (upload.path.clone(), self.active.clone());
        upload.len = blocking(move || {
            make_room(&folder, &all)?;
            let file = open(&path, true)?;
            let found = file.metadata().map_err(|e| Error::io(&path, e))?.len();
            if found > len as u64 {
                file.set_len(0).map_err(|e| Error::io(&path, e))?;
                return Ok(0);
            }
            Ok(found as usize)
        })
        .await?;
        Ok(upload)
    }

    /// Removes what was interrupted long ago.
    pub fn clean(&self) -> Result<()> {
        for folder in entries(&self.folder)? {
            for path in entries(&folder)? {
                let is_old = modified(&path).elapsed().is_ok_and(|age| age > KEEP_UPLOAD);
                // The lock is held, so that no upload begins meanwhile.
                let active = self.active.lock();
                if is_old && !active.contains_key(&path) {
                    remove(&path)?;
                }
            }
            // It stays if it is not empty.
            let _ = fs::remove_dir(&folder);
        }
        Ok(())
    }
}

impl Upload {
    /// Receives the rest of the pack into the file. However this ends, what has arrived is kept, unless it cannot be
    /// written: a full disk must not stay full because of it.
    pub async fn receive(
        &mut self,
        stream: &mut RecvStream,
        len: usize,
        pace: &mut Pace<'_>,
    ) -> std::result::Result<Result<()>, Halt> {
        let (number, mut newest) = (self.number, self.active.newest.subscribe());
        // A packet holds little more than a kilobyte. To take them one at a time would cost as much as to copy them.
        let mut chunks = [const { Bytes::new() }; 64];
        loop {
            let read = tokio::select! {
                read = pace.wait(stream.read_chunks(&mut chunks)) => read??,
                _ = newest.wait_for(|newest| *newest != number) => {
                    return Err(StreamError("the client uploads the pack on another stream".into()).into());
                }
            };
            let Some(count) = read else { break };
            for chunk in chunks.iter_mut().take(count).map(std::mem::take) {
                pace.moved(chunk.len());
                self.buffer.extend_from_slice(&chunk);
            }
            if self.len + self.buffer.len() > len {
                self.buffer.clear();
                return Err(StreamError(format!("more than the expected {len} bytes arrived")).into());
            }
            if self.buffer.len() >= UPLOAD_BUFFER {
                if let Err(error) = self.write().await {
                    return Ok(Err(error));
                }
                pace.restart();
            }
        }
        if let Err(error) = self.write().await {
            return Ok(Err(error));
        }
        match self.len == len {
            true => Ok(Ok(())),
            false => Err(StreamError("the stream ended early".into()).into()),
        }
    }

    /// Writes the buffer to the file.
    async fn write(&mut self) -> Result<()> {
        let (path, bytes) = (self.path.clone(), std::mem::take(&mut self.buffer));
        self.len += bytes.len();
        // The buffer comes back empty.
        self.buffer = blocking(move || append(&path, bytes).inspect_err(|_| _ = fs::remove_file(&path))).await?;
        Ok(())
    }

    /// Reads the whole pack. Blocks.
    pub fn read(&self) -> Result<Bytes> {
        let read = || {
            let mut bytes = Vec::with_capacity(self.len);
            File::open(&self.path)?.take(self.len as u64).read_to_end(&mut bytes)?;
            Ok(bytes.into())
        };
        read().map_err(|e: io::Error| Error::io(&self.path, e))
    }

    /// Removes the file. Blocks.
    pub fn remove(&self) -> Result<()> {
        remove(&self.path)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // An upload that was interrupted. The buffer is small, and is not fsynced.
        if !self.buffer.is_empty()
            && let Err(error) = append(&self.path, std::mem::take(&mut self.buffer))
        {
            tracing::debug!(%error, "a part of an interrupted upload is lost");
        }
        self.writing = None;
        let mut all = self.all.lock();
        // The map and this upload have it. Another upload of the same pack may be waiting for the file.
        if Arc::strong_count(&self.active) == 2 {
            all.remove(&self.path);
        }
    }
}

/// Appends bytes to a file. Returns their buffer, empty.
fn append(path: &Path, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    open(path, false)?.write_all(&bytes).map_err(|e| Error::io(path, e))?;
    bytes.clear();
    Ok(bytes)
}

fn open(path: &Path, create: bool) -> Result<File> {
    OpenOptions::new().append(true).create(create).mode(0o600).open(path).map_err(|e| Error::io(path, e))
}

/// Makes the folder of an account's uploads, and room in it for one more: the oldest files go first.
fn make_room(folder: &Path, active: &Mutex<HashMap<PathBuf, Arc<Active>>>) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| Error::io(folder, e))?;
    let active = active.lock();
    let mut files = entries(folder)?;
    if files.len() < UPLOAD_FILES_MAX {
        return Ok(());
    }
    files.retain(|path| !active.contains_key(path));
    files.sort_by_key(|path| modified(path));
    files.first().map_or(Ok(()), |oldest| remove(oldest))
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path, error)),
        _ => Ok(()),
    }
}

/// The paths of a folder's entries; none if there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|e| Error::io(folder, e))?,
    };
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(|e| Error::io(folder, e))).collect()
}
