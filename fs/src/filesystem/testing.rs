//! Mounts for tests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Mounts below a folder of a test. All is unmounted when dropped.
pub struct Mounts {
    dir: tempfile::TempDir,
    places: Vec<PathBuf>,
}

impl Mounts {
    /// Nothing is mounted yet.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), places: Vec::new() }
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Mounts at a folder of this name, which is created. Prints why if that is not possible.
    pub fn mount(&mut self, args: &[&str], name: &str) -> Option<PathBuf> {
        let place = self.path(name);
        fs::create_dir_all(&place).unwrap();
        self.mount_at(args, &place).then_some(place)
    }

    /// Mounts at a place.
    pub fn mount_at(&mut self, args: &[&str], place: &Path) -> bool {
        let is_mounted = run(Command::new("mount").args(args).arg(place));
        if is_mounted {
            self.places.push(place.to_owned());
        }
        is_mounted
    }

    /// Unmounts what was mounted last.
    pub fn unmount_last(&mut self) {
        assert!(run(Command::new("umount").arg(self.places.pop().unwrap())));
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for place in self.places.iter().rev() {
            let _ = Command::new("umount").arg("-l").arg(place).status();
        }
    }
}

/// Runs a program that may be missing or not allowed. Prints why if it fails.
pub fn run(command: &mut Command) -> bool {
    let reason = match command.output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    println!("skipped: {}: {reason}", command.get_program().display());
    false
}
