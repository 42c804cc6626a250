//! A file of parts of which some are cleared for reading and some not yet: who reads waits.
//!
//! A workbook's strings can be parsed while its sheet is still being guarded, without a parser ever getting bytes that
//! no guard has passed.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt as _,
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A file, and which places of it are not cleared.
pub(super) struct Gate {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that its readers have read, but for guards.
    read: AtomicU64,
}

struct State {
    /// Places of parts, by their index; none once the part is cleared.
    closed: Vec<Option<Range<u64>>>,
    /// Nothing will be cleared any more.
    refused: bool,
}

impl Gate {
    /// `parts`: where each part begins and ends in the file. Places outside of all parts are open.
    pub fn new(file: File, parts: impl IntoIterator<Item = Range<u64>>) -> Self {
        let closed = parts.into_iter().map(Some).collect();
        let state = Mutex::new(State { closed, refused: false });
        Self { file, state, changed: Condvar::new(), read: AtomicU64::new(0) }
    }

    /// How many bytes its readers have read, but for guards; those of a place that is read again count again.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The size of the file, bytes.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// A part may be read now.
    pub fn clear(&self, part: usize) {
        if let Some(place) = self.state().closed.get_mut(part) {
            *place = None;
        }
        self.changed.notify_all();
    }

    /// Who waits gets an error.
    pub fn refuse(&self) {
        self.state().refused = true;
        self.changed.notify_all();
    }

    /// A reader of what is cleared.
    pub fn reader(&self) -> Gated<'_> {
        Gated { places: Places { file: &self.file, at: 0 }, gate: Some(self) }
    }

    /// A reader of everything, for who guards.
    pub fn guard(&self) -> Gated<'_> {
        Gated { places: Places { file: &self.file, at: 0 }, gate: None }
    }

    /// Waits until the byte at a place may be read; gives where the next closed place begins.
    fn open_until(&self, at: u64) -> io::Result<u64> {
        let mut state = self.state();
        loop {
            let mut closed = state.closed.iter().flatten();
            if !closed.clone().any(|part| part.contains(&at)) {
                let next = closed.by_ref().map(|part| part.start).filter(|start| *start > at).min();
                return Ok(next.unwrap_or(u64::MAX));
            }
            if state.refused {
                return Err(io::Error::other("the part was refused"));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads at places of its own, whatever others read of the file meanwhile.
pub(super) struct Gated<'a> {
    places: Places<'a>,
    gate: Option<&'a Gate>,
}

struct Places<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Gated<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Places { file, at } = &mut self.places;
        let room = match self.gate {
            Some(gate) => usize::try_from(gate.open_until(*at)? - *at).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let length = buffer.len().min(room);
        let read = file.read_at(&mut buffer[..length], *at)?;
        *at += read as u64;
        if let Some(gate) = self.gate {
            gate.read.fetch_add(read as u64, Ordering::Relaxed);
        }
        Ok(read)
    }
}

impl Seek for Gated<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let Places { file, at } = &mut self.places;
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(by) => (file.metadata()?.len(), by),
            SeekFrom::Current(by) => (*at, by),
        };
        *at = from.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(*at)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, sync::mpsc, thread, time::Duration};

    use super::*;

    fn file() -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"0123456789").expect("write");
        file
    }

    #[test]
    fn a_closed_part_is_read_once_it_is_cleared() {
        let gate = Gate::new(file(), [2..5, 7..9]);
        let (sender, read) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut reader, sender) = (gate.reader(), sender);
                let mut buffer = [0; 10];
                while let Ok(length @ 1..) = reader.read(&mut buffer) {
                    sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).expect("a listener");
                }
            });
            let nothing = || read.recv_timeout(Duration::from_millis(20)).is_err();
            // Up to where it is closed, and no further.
            assert_eq!(read.recv().as_deref(), Ok("01"));
            assert!(nothing());
            gate.clear(0);
            assert_eq!(read.recv().as_deref(), Ok("23456"));
            assert!(nothing());
            gate.clear(1);
            assert_eq!(read.recv().as_deref(), Ok("789"));
        });
    }

    #[test]
    fn what_is_refused_is_not_read() {
        let gate = Gate::new(file(), [2..5, 7..9]);
        gate.clear(1);
        gate.refuse();
        let mut reader = gate.reader();
        let mut text = String::new();
        assert!(reader.read_to_string(&mut text).is_err());
        assert_eq!(text, "01");
        // The guard reads on, and what is open is open.
        let mut all = String::new();
        gate.guard().read_to_string(&mut all).expect("all");
        assert_eq!(all, "0123456789");
        reader.seek(SeekFrom::Start(6)).expect("seek");
        reader.read_to_string(&mut text).expect("open");
        assert_eq!(text, "016789");
    }
}
