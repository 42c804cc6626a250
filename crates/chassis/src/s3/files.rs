//! The files on disk that uploads may have at once. Where all are taken, one whose client sends next to nothing is given up for
//! an upload that waits.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{sleep, timeout},
};

use super::UploadError;

/// A client that sends less is slow, in bytes a second. Poor lines send more.
const LEAST_RATE: u32 = 16 << 10;

/// How many files there may be at once, and how long uploads wait.
pub(super) struct Files {
    free: Semaphore,
    line: Mutex<Line>,
    joined: Notify,
    /// How long an upload waits for a file.
    patience: Duration,
    /// How far a client may fall behind [`LEAST_RATE`], or be silent, before it is slow.
    grace: Duration,
}

/// Who waits for a file.
struct Line {
    waiting: usize,
    /// How many of them have found one that is given up for them.
    promised: usize,
}

impl Files {
    pub(super) const fn new(amount: usize, patience: Duration, grace: Duration) -> Self {
        Self {
            free: Semaphore::const_new(amount),
            line: Mutex::new(Line { waiting: 0, promised: 0 }),
            joined: Notify::const_new(),
            patience,
            grace,
        }
    }

    /// A place for a file.
    ///
    /// # Errors
    /// [`UploadError::Busy`]: nobody gave one back in time.
    pub(super) async fn take(&'static self) -> Result<Place, UploadError> {
        if let Ok(permit) = self.free.try_acquire() {
            return Ok(Place { files: self, _permit: permit });
        }
        let _waiting = Waiting::join(self);
        match timeout(self.patience, self.free.acquire()).await {
            Ok(Ok(permit)) => Ok(Place { files: self, _permit: permit }),
            // They are never closed.
            Ok(Err(_)) | Err(_) => Err(UploadError::Busy),
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Two counts: a panic elsewhere can't have left them half changed.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One who waits, until it is dropped.
struct Waiting(&'static Files);

impl Waiting {
    fn join(files: &'static Files) -> Self {
        files.line().waiting += 1;
        files.joined.notify_one();
        Self(files)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut line = self.0.line();
        line.waiting -= 1;
        // Whether it has the file that was promised, or another one: promises beyond those who wait would leave a later one
        // without.
        line.promised = line.promised.saturating_sub(1);
    }
}

/// A place for a file, until it is dropped.
pub(super) struct Place {
    files: &'static Files,
    _permit: SemaphorePermit<'static>,
}

impl Place {
    /// Ends where this place is to be given up: its client has been slow, and somebody waits to whom no other place is promised.
    pub(super) async fn wanted(&self, pace: &Pace) {
        if !pace.ahead.is_zero() {
            sleep(pace.ahead).await;
        }
        while !self.promise() {
            // Keeps one call that nobody heard: who joins from here on is not missed.
            self.files.joined.notified().await;
        }
    }

    /// Whether it is promised to somebody who waits.
    fn promise(&self) -> bool {
        let mut line = self.files.line();
        if line.waiting <= line.promised {
            return false;
        }
        line.promised += 1;
        if line.waiting > line.promised {
            // Calls of several may have been kept as one.
            self.files.joined.notify_one();
        }
        true
    }
}

/// How fast a client sends.
pub(super) struct Pace {
    /// For how long it may be silent before it is slow.
    ahead: Duration,
    grace: Duration,
}

impl Pace {
    pub(super) fn new(files: &Files) -> Self {
        Self { ahead: files.grace, grace: files.grace }
    }

    /// It was waited for so long.
    pub(super) fn waited(&mut self, pause: Duration) {
        self.ahead = self.ahead.saturating_sub(pause);
    }

    /// So many bytes came.
    pub(super) fn came(&mut self, bytes: usize) {
        let earned = Duration::from_secs_f64(bytes as f64 / f64::from(LEAST_RATE));
        self.ahead = (self.ahead + earned).min(self.grace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_client_is_slow_once_it_has_fallen_behind_for_long() {
        static FILES: Files = Files::new(1, LONG, Duration::from_secs(10));
        // So many bytes each pause, for ten minutes.
        let is_slow = |bytes: usize, pause: u64| {
            let mut pace = Pace::new(&FILES);
            (0..600 / pause).any(|_| {
                pace.waited(Duration::from_secs(pause));
                let is_slow = pace.ahead.is_zero();
                pace.came(bytes);
                is_slow
            })
        };
        assert!(!is_slow(20_000, 1), "a poor line");
        assert!(!is_slow(64 << 10, 3), "the same in pieces");
        assert!(is_slow(1_024, 1), "as little as the gateway lets pass");
        assert!(is_slow(100 << 20, 11), "what came before makes up for no such silence");
    }

    #[tokio::test]
    async fn a_slow_one_gives_way_to_each_that_waits_and_no_more() -> anyhow::Result<()> {
        static FILES: Files = Files::new(3, LONG, Duration::ZERO);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(FILES.take().await?);
        }
        let pace = Pace::new(&FILES);
        let mut slow: Vec<_> = held.iter().map(|place| Box::pin(place.wanted(&pace))).collect();
        for place in &mut slow {
            assert!(futures::poll!(place).is_pending(), "nobody waits");
        }
        let mut late = [Box::pin(FILES.take()), Box::pin(FILES.take())];
        for late in &mut late {
            assert!(futures::poll!(late).is_pending());
        }
        let mut gave_way = Vec::new();
        for (place, slow) in slow.iter_mut().enumerate() {
            if futures::poll!(slow).is_ready() {
                gave_way.push(place);
            }
        }
        assert_eq!(gave_way, [0, 1], "those that have been slow for longest");
        drop(slow);
        held.drain(..2);
        let [first, second] = late;
        let taken = (first.await?, second.await?);

        // One who is promised a place and leaves takes nobody else's.
        let mut leaving = Box::pin(FILES.take());
        assert!(futures::poll!(&mut leaving).is_pending());
        let mut slow = Box::pin(held[0].wanted(&pace));
        assert!(futures::poll!(&mut slow).is_ready());
        drop(leaving);
        let mut after = Box::pin(FILES.take());
        assert!(futures::poll!(&mut after).is_pending());
        let mut other = Box::pin(taken.0.wanted(&pace));
        assert!(futures::poll!(&mut other).is_ready());
        Ok(())
    }

    #[tokio::test]
    async fn who_finds_no_slow_one_is_refused() -> anyhow::Result<()> {
        static FILES: Files = Files::new(1, Duration::from_millis(20), LONG);
        let place = FILES.take().await?;
        let pace = Pace::new(&FILES);
        tokio::select! {
            () = place.wanted(&pace) => anyhow::bail!("a client that is fast gave way"),
            late = FILES.take() => assert!(matches!(late, Err(UploadError::Busy))),
        }
        drop(place);
        FILES.take().await?;
        Ok(())
    }
}
