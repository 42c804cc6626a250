//! Which phones a file has, however many: four bytes each on the disk, and a bit for each of a part's numbers in memory.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, ErrorKind, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::domain::phone::Phone;

/// Numbers of a part: those that share their first two digits. Their bits are 12.5 MB.
const PART: u64 = 100_000_000;

/// Parts: of ten digits.
pub const PARTS: usize = 100;

/// Phones in the order in which they are read, by part, in files without a name.
pub struct PhoneSet {
    dir: PathBuf,
    files: Mutex<Vec<Option<BufWriter<File>>>>,
}

impl PhoneSet {
    /// An empty one, whose files will be in `dir`.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), files: Mutex::new((0..PARTS).map(|_| None).collect()) }
    }

    /// Adds phones.
    ///
    /// # Errors
    /// The disk.
    pub fn add(&self, phones: &[Phone]) -> io::Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        for phone in phones {
            let (part, rest) = (phone.number() / PART, phone.number() % PART);
            let place = usize::try_from(part).ok().and_then(|part| files.get_mut(part));
            let file = place.ok_or_else(|| io::Error::other("a phone of more than ten digits"))?;
            let file = match file {
                Some(file) => file,
                none => none.insert(BufWriter::new(tempfile::tempfile_in(&self.dir)?)),
            };
            // Below 10^8: it fits.
            file.write_all(&(rest as u32).to_le_bytes())?;
        }
        Ok(())
    }

    /// Takes the phones of a part out: its file is gone afterwards.
    ///
    /// # Errors
    /// The disk.
    pub fn take(&self, part: usize) -> io::Result<Part> {
        let file =
            self.files.lock().unwrap_or_else(PoisonError::into_inner).get_mut(part).and_then(Option::take);
        let mut found = Part { first: part as u64 * PART, bits: Vec::new(), word: 0 };
        let Some(file) = file else { return Ok(found) };
        let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        found.bits.resize((PART / 64) as usize + 1, 0);
        let mut file = BufReader::with_capacity(1 << 20, file);
        let mut bytes = [0; 4];
        loop {
            match file.read_exact(&mut bytes) {
                Ok(()) => {
                    let rest = u32::from_le_bytes(bytes);
                    found.bits[rest as usize / 64] |= 1 << (rest % 64);
                }
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(found),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Phones that share their first two digits, each once.
pub struct Part {
    first: u64,
    bits: Vec<u64>,
    /// Where the next of them may be.
    word: usize,
}

impl Part {
    /// The next phones in their order, at most so many; none at the end.
    pub fn next(&mut self, most: usize) -> Vec<Phone> {
        let mut phones = Vec::new();
        while phones.len() < most
            && let Some(bits) = self.bits.get_mut(self.word)
        {
            if *bits == 0 {
                self.word += 1;
                continue;
            }
            let rest = self.word as u64 * 64 + u64::from(bits.trailing_zeros());
            *bits &= *bits - 1;
            phones.push(Phone::of_number(self.first + rest));
        }
        phones
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phone_comes_once_and_in_order_however_often_it_was_added() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let set = PhoneSet::new(dir.path());
        let numbers =
            [6_121_004_768, 5_500_000_000, 5_599_999_999, 5_512_345_678, 9_999_999_999, 2_000_000_000];
        let phones = numbers.map(Phone::of_number);
        for _ in 0..3 {
            set.add(&phones)?;
        }
        let mut found = Vec::new();
        for part in 0..PARTS {
            let mut part = set.take(part)?;
            loop {
                let some = part.next(2);
                if some.is_empty() {
                    break;
                }
                assert!(some.len() <= 2);
                found.extend(some.into_iter().map(Phone::number));
            }
        }
        let mut should = numbers;
        should.sort_unstable();
        assert_eq!(found, should);
        assert!(set.take(55)?.next(10).is_empty(), "it was taken");
        assert_eq!(std::fs::read_dir(dir.path())?.count(), 0, "the files have no names");
        Ok(())
    }
}
