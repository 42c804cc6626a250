//! Room on disks that others write to as well.

use std::{io, path::Path};

/// What stays free; of a small disk, a tenth.
const RESERVE_BYTES: u64 = 256 << 20;

/// Refuses `bytes` more on the disk of a folder unless 256 MiB stay free, or a tenth of a disk that is smaller than 2.5 GiB.
/// Blocks.
///
/// # Errors
/// [`io::ErrorKind::StorageFull`] if there is no such room; the disk can't be asked.
pub fn ensure_room(folder: &Path, bytes: u64) -> io::Result<()> {
    let disk = rustix::fs::statvfs(folder)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let reserve = RESERVE_BYTES.min(disk.f_blocks.saturating_mul(disk.f_frsize) / 10);
    let needed = bytes.saturating_add(reserve);
    if free < needed {
        let said = format!("{} has {} MB free, {} MB are needed", folder.display(), free >> 20, needed >> 20);
        return Err(io::Error::new(io::ErrorKind::StorageFull, said));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_told_before_it_is_written() {
        let refused = ensure_room(&std::env::temp_dir(), u64::MAX).map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::StorageFull));
    }
}
