//! Files that are on disk while a job works on them. Each is locked by its process: what a process leaves behind that is
//! killed, nobody holds, and the next one that starts deletes it.

use std::{
    fs::File,
    io,
    ops::Deref,
    path::Path,
    time::{Duration, SystemTime},
};

use tempfile::TempPath;

const PREFIX: &str = "lote-import-";

/// Younger files may be about to be locked.
const GRACE: Duration = Duration::from_secs(60);

/// An empty file in the spool at first, deleted when it is dropped.
pub struct Spooled {
    path: TempPath,
    /// Holds the lock.
    _file: File,
}

impl Spooled {
    /// # Errors
    /// The folder takes no file.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let (file, path) = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder)?.into_parts();
        file.lock()?;
        Ok(Self { path, _file: file })
    }
}

impl Deref for Spooled {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.path
    }
}

impl AsRef<Path> for Spooled {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

/// Deletes what processes that were killed left in the folder. Gives how many files. Blocks.
///
/// # Errors
/// The folder can't be read.
pub fn sweep(folder: &Path, now: SystemTime) -> io::Result<u64> {
    let mut swept = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // What is gone by now, or is somebody else's, is none of our business.
        if let Ok(true) = sweep_one(&entry.path(), now) {
            swept += 1;
        }
    }
    Ok(swept)
}

fn sweep_one(path: &Path, now: SystemTime) -> io::Result<bool> {
    let file = File::open(path)?;
    let modified = file.metadata()?.modified()?;
    let is_old = now.duration_since(modified).is_ok_and(|age| age >= GRACE);
    if !is_old || file.try_lock().is_err() {
        return Ok(false);
    }
    std::fs::remove_file(path)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_holds_is_swept_once_it_is_old() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let held = Spooled::new(folder.path())?;
        let (left, other) = (folder.path().join("lote-import-x1"), folder.path().join("otro"));
        for path in [&left, &other] {
            std::fs::write(path, b"PK")?;
        }
        let now = SystemTime::now();
        assert_eq!(sweep(folder.path(), now)?, 0, "it may be about to be locked");
        assert_eq!(sweep(folder.path(), now + 2 * GRACE)?, 1);
        assert!(held.exists() && other.exists() && !left.exists());
        drop(held);
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 1, "a file is gone with who held it");
        Ok(())
    }
}
