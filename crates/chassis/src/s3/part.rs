//! A part of an upload while it comes in. What a client sends is gathered on disk, for it may take an hour: a part has a place in
//! memory only while S3 takes it, which has an end whatever the client does.

use std::{
    fs::File,
    future, io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{
    UploadError,
    files::{Files, Pace, Place},
};
use crate::disk;

/// The size of a part. S3 demands at least 5 MiB and at most 10,000 parts, which makes 80 GB.
pub(super) const PART: usize = 8 << 20;

/// What an upload has in memory before it goes to disk, in one write.
const BUFFER: usize = 256 << 10;

/// Parts from disk that a process has in memory at once, each while S3 takes it: 64 MiB.
static PLACES: Semaphore = Semaphore::const_new(8);

/// Uploads that have a file at once: 2 GiB on disk, and 64 MiB of buffers. One beyond them is not read on.
static FILES: Files = Files::new(256, PATIENCE, GRACE);

/// How long an upload waits for a place. Shorter than anybody before this process waits for it to read on.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client may send nothing before it gives way to an upload that waits, which is still there then.
const GRACE: Duration = Duration::from_secs(10);

/// Where a part is until it is sent.
#[derive(Clone, Copy, Debug)]
pub enum Gather<'a> {
    /// In memory: for streams of our own making, of which a process has few at once and none is slow.
    InMemory,
    /// In a file of this folder, which is created if need be: for what clients send.
    OnDisk(&'a Path),
}

/// What has come of a part: on disk if it is more than a buffer, and in memory.
pub(super) struct Part<'a> {
    gather: Gather<'a>,
    files: &'static Files,
    pace: Pace,
    spooled: Option<Spooled>,
    /// Behind what is spooled.
    memory: BytesMut,
}

/// The beginning of a part, on disk.
struct Spooled {
    /// Has no name: it is gone with this process, however that ends. Kept from part to part.
    file: File,
    /// How much of it is this part's.
    bytes: usize,
    folder: PathBuf,
    place: Place,
}

impl<'a> Part<'a> {
    pub(super) fn new(gather: Gather<'a>) -> Self {
        Self::in_one_of(&FILES, gather)
    }

    fn in_one_of(files: &'static Files, gather: Gather<'a>) -> Self {
        Self { gather, files, pace: Pace::new(files), spooled: None, memory: BytesMut::new() }
    }

    /// Waits for what the client sends next.
    ///
    /// # Errors
    /// [`UploadError::GaveWay`]: the client is slow, and another upload waits for the file that this one has.
    pub(super) async fn next<T>(&mut self, sent: impl Future<Output = T>) -> Result<T, UploadError> {
        let asked = Instant::now();
        let sent = tokio::select! {
            biased;
            sent = sent => sent,
            () = self.wanted() => return Err(UploadError::GaveWay),
        };
        self.pace.waited(asked.elapsed());
        Ok(sent)
    }

    async fn wanted(&self) {
        match &self.spooled {
            Some(spooled) => spooled.place.wanted(&self.pace).await,
            None => future::pending().await,
        }
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        self.spooled.as_ref().map_or(0, |spooled| spooled.bytes) + self.memory.len()
    }

    /// Adds to it. The caller sees to it that it does not grow beyond [`PART`].
    ///
    /// # Errors
    /// [`UploadError::Busy`] and [`UploadError::Disk`]. The part is lost then.
    pub(super) async fn push(&mut self, mut chunk: &[u8]) -> Result<(), UploadError> {
        self.pace.came(chunk.len());
        match self.gather {
            Gather::InMemory => {
                if self.memory.len() + chunk.len() > BUFFER {
                    // Once, and not by doubling.
                    self.memory.reserve(PART.saturating_sub(self.memory.len()));
                }
            }
            Gather::OnDisk(folder) => {
                self.memory.reserve(BUFFER - self.memory.len());
                while self.memory.len() + chunk.len() > BUFFER {
                    let (fits, rest) = chunk.split_at(BUFFER - self.memory.len());
                    self.memory.extend_from_slice(fits);
                    self.spill(folder).await?;
                    chunk = rest;
                }
            }
        }
        self.memory.extend_from_slice(chunk);
        Ok(())
    }

    /// Appends to the file what is in memory.
    async fn spill(&mut self, folder: &Path) -> Result<(), UploadError> {
        let mut spooled = match self.spooled.take() {
            Some(spooled) => spooled,
            None => Spooled::begin(self.files, folder).await?,
        };
        let mut memory = std::mem::take(&mut self.memory);
        let (spooled, memory) = blocking(move || {
            disk::ensure_room(&spooled.folder, memory.len() as u64)?;
            spooled.file.write_all_at(&memory, spooled.bytes as u64)?;
            spooled.bytes += memory.len();
            memory.clear();
            Ok((spooled, memory))
        })
        .await?;
        self.spooled = Some(spooled);
        self.memory = memory;
        Ok(())
    }

    /// All of it, which leaves an empty part. What comes with it is to be held until S3 has it.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) async fn take(&mut self) -> Result<(Bytes, Option<SemaphorePermit<'static>>), UploadError> {
        let Some(mut spooled) = self.spooled.take_if(|spooled| spooled.bytes > 0) else {
            return Ok((std::mem::take(&mut self.memory).freeze(), None));
        };
        let place = match timeout(PATIENCE, PLACES.acquire()).await {
            Ok(Ok(place)) => place,
            // They are never closed.
            Ok(Err(_)) | Err(_) => return Err(UploadError::Busy),
        };
        let mut memory = std::mem::take(&mut self.memory);
        let (spooled, memory, body) = blocking(move || {
            let mut body = vec![0u8; spooled.bytes + memory.len()];
            let (front, back) = body.split_at_mut(spooled.bytes);
            spooled.file.read_exact_at(front, 0)?;
            back.copy_from_slice(&memory);
            spooled.bytes = 0;
            memory.clear();
            Ok((spooled, memory, body))
        })
        .await?;
        self.spooled = Some(spooled);
        self.memory = memory;
        Ok((Bytes::from(body), Some(place)))
    }
}

impl Spooled {
    async fn begin(files: &'static Files, folder: &Path) -> Result<Self, UploadError> {
        let place = files.take().await?;
        let folder = folder.to_owned();
        blocking(move || {
            std::fs::create_dir_all(&folder)?;
            Ok(Self { file: tempfile::tempfile_in(&folder)?, bytes: 0, folder, place })
        })
        .await
    }
}

/// Work on the disk, which may be slow.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, UploadError> {
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(UploadError::Disk),
        Err(panic) => Err(UploadError::Disk(panic.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Content that differs from place to place.
    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| ((i >> 12) ^ i) as u8).collect()
    }

    #[tokio::test]
    async fn of_a_part_that_a_client_sends_a_buffer_is_in_memory_until_it_is_whole() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut part = Part::new(Gather::OnDisk(folder.path()));
        // The second finds the file of the first; the last needs none.
        for bytes in [PART, BUFFER + 1, BUFFER] {
            let sent = content(bytes);
            let mut pushed = 0;
            for chunk in sent.chunks(700_001) {
                part.push(chunk).await?;
                pushed += chunk.len();
                assert_eq!(part.len(), pushed);
                assert!(part.memory.capacity() <= BUFFER, "{} of {pushed}", part.memory.capacity());
            }
            let (body, place) = part.take().await?;
            assert!(body == sent, "{bytes} bytes came back changed");
            assert_eq!(place.is_some(), bytes > BUFFER, "{bytes}");
            assert_eq!(part.len(), 0);
            assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "the file has no name");
        }
        Ok(())
    }

    #[tokio::test]
    async fn a_part_of_our_own_needs_neither_disk_nor_place() -> anyhow::Result<()> {
        let mut part = Part::new(Gather::InMemory);
        let sent = content(PART);
        for chunk in sent.chunks(700_001) {
            part.push(chunk).await?;
        }
        let (body, place) = part.take().await?;
        assert!(body == sent && place.is_none());
        Ok(())
    }

    #[tokio::test]
    async fn a_disk_that_takes_nothing_is_told_and_needed_by_no_small_file() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let mut part = Part::new(Gather::OnDisk(file.path()));
        part.push(&content(BUFFER)).await?;
        let refused = part.push(b"more").await;
        assert!(matches!(refused, Err(UploadError::Disk(_))), "{refused:?}");
        Ok(())
    }

    #[tokio::test]
    async fn where_all_files_are_taken_a_client_that_says_nothing_gives_way() -> anyhow::Result<()> {
        static ONE: Files = Files::new(1, Duration::from_secs(60), Duration::from_millis(50));
        let folder = tempfile::tempdir()?;
        let part = || Part::in_one_of(&ONE, Gather::OnDisk(folder.path()));
        let sent = content(2 * BUFFER);
        let (mut small, mut silent, mut late) = (part(), part(), part());
        small.push(&sent[..BUFFER]).await?;
        silent.push(&sent).await?;
        let gives_way = async {
            let next = silent.next(future::pending::<()>()).await;
            drop(silent);
            next
        };
        let (gave_way, came) = tokio::join!(gives_way, late.push(&sent));
        assert!(matches!(gave_way, Err(UploadError::GaveWay)), "{gave_way:?}");
        came?;
        let (body, _) = late.take().await?;
        assert!(body == sent);
        // Whoever has no file is in nobody's way.
        let waiting = async { part().push(&sent).await };
        tokio::select! {
            next = small.next(future::pending::<()>()) => anyhow::bail!("it gave way: {next:?}"),
            next = late.next(future::pending::<()>()) => assert!(matches!(next, Err(UploadError::GaveWay))),
            came = waiting => anyhow::bail!("the file was there twice: {came:?}"),
        }
        Ok(())
    }
}
