//! The encoding of a text file, and the file as UTF-8 with `\n` at the end of each line.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    rc::Rc,
};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::FileError;

const BUFFER: usize = 64 * 1024;
/// Bytes that are looked at for UTF-16 without a byte order mark.
const SAMPLE: usize = 4096;

/// What a look over the whole file says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Survey {
    pub encoding: &'static Encoding,
    /// Line ends: an upper bound of the records.
    pub lines: u64,
}

/// Decides the encoding: byte order mark, else UTF-16 by its zero bytes, else UTF-8 if all of it is, else
/// windows-1252. Reads the file once, in constant memory, and leaves it at its start.
pub(super) fn survey(file: &mut File) -> Result<Survey, FileError> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = fill(file, &mut buffer)?;
    let marked = Encoding::for_bom(&buffer[..filled]).map(|(encoding, _)| encoding);
    let wide = marked.or_else(|| utf16_by_zeros(&buffer[..filled.min(SAMPLE)]));
    let mut utf8 = UTF_8.new_decoder_without_bom_handling();
    let mut text = String::with_capacity(BUFFER * 3);
    let mut is_utf8 = true;
    let mut lines = 0;
    while filled > 0 {
        let chunk = &buffer[..filled];
        lines += memchr::memchr_iter(b'\n', chunk).count() as u64;
        if is_utf8 {
            text.clear();
            is_utf8 = !malformed(&mut utf8, chunk, &mut text, false);
        }
        filled = fill(file, &mut buffer)?;
    }
    text.clear();
    is_utf8 = is_utf8 && !malformed(&mut utf8, &[], &mut text, true);
    file.seek(SeekFrom::Start(0))?;
    let encoding = match wide {
        Some(encoding) if encoding == UTF_8 && !is_utf8 => {
            return Err(FileError::corrupt("dice ser UTF-8 y no lo es"));
        }
        Some(encoding) => encoding,
        None if is_utf8 => UTF_8,
        None => WINDOWS_1252,
    };
    Ok(Survey { encoding, lines })
}

fn malformed(decoder: &mut Decoder, bytes: &[u8], text: &mut String, last: bool) -> bool {
    let (result, _) = decoder.decode_to_string_without_replacement(bytes, text, last);
    matches!(result, encoding_rs::DecoderResult::Malformed(..))
}

/// Text in Latin letters has a zero in every second byte of its UTF-16, and none in other encodings.
fn utf16_by_zeros(sample: &[u8]) -> Option<&'static Encoding> {
    let pairs = sample.len() / 2;
    let zeros = |offset: usize| sample.chunks_exact(2).filter(|pair| pair[offset] == 0).count();
    let (high_first, low_first) = (zeros(0), zeros(1));
    if pairs >= 4 && low_first > pairs / 2 && high_first < pairs / 10 + 1 {
        Some(UTF_16LE)
    } else if pairs >= 4 && high_first > pairs / 2 && low_first < pairs / 10 + 1 {
        Some(UTF_16BE)
    } else {
        None
    }
}

fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// A file as UTF-8, each line end as `\n`, the last line ended too. It hands out at most a budget of bytes
/// between two calls of [`Budget::renew`]: who reads records renews it at each, so no record outgrows it.
pub(super) struct Utf8Lines {
    file: File,
    decoder: Decoder,
    input: Vec<u8>,
    /// Bytes of `input` that are not decoded yet.
    pending: (usize, usize),
    input_ended: bool,
    output: Vec<u8>,
    at: usize,
    after_cr: bool,
    ends_with_newline: bool,
    done: bool,
    budget: Budget,
}

/// Bytes that may still be handed out.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    left: Rc<Cell<usize>>,
    max: usize,
}

impl Budget {
    pub fn new(max: usize) -> Self {
        Self { left: Rc::new(Cell::new(max)), max }
    }

    /// Makes it whole again.
    pub fn renew(&self) {
        self.left.set(self.max);
    }

    /// Whether the last record used it up.
    pub fn exhausted(&self) -> bool {
        self.left.get() == 0
    }

    fn take(&self, bytes: usize) {
        self.left.set(self.left.get().saturating_sub(bytes));
    }
}

impl Utf8Lines {
    pub fn new(file: File, encoding: &'static Encoding, budget: Budget) -> Self {
        Self {
            file,
            decoder: encoding.new_decoder_with_bom_removal(),
            input: vec![0; BUFFER],
            pending: (0, 0),
            input_ended: false,
            output: Vec::with_capacity(BUFFER),
            at: 0,
            after_cr: false,
            ends_with_newline: true,
            done: false,
            budget,
        }
    }

    /// Decodes until there is output or the end.
    fn refill(&mut self) -> io::Result<()> {
        self.output.clear();
        self.at = 0;
        while self.output.is_empty() && !self.done {
            if self.pending.0 == self.pending.1 && !self.input_ended {
                let read = self.file.read(&mut self.input)?;
                self.pending = (0, read);
                self.input_ended = read == 0;
            }
            self.output.resize(BUFFER, 0);
            let source = &self.input[self.pending.0..self.pending.1];
            let (result, read, written, _) =
                self.decoder.decode_to_utf8(source, &mut self.output, self.input_ended);
            self.pending.0 += read;
            self.output.truncate(written);
            self.normalise_line_ends();
            if let Some(last) = self.output.last() {
                self.ends_with_newline = *last == b'\n';
            }
            if self.input_ended && result == CoderResult::InputEmpty {
                self.done = true;
                if !self.ends_with_newline {
                    self.output.push(b'\n');
                }
            }
        }
        Ok(())
    }

    /// `\r\n` and `\r` become `\n`, in place.
    fn normalise_line_ends(&mut self) {
        if !self.after_cr && memchr::memchr(b'\r', &self.output).is_none() {
            return;
        }
        let mut after_cr = self.after_cr;
        self.output.retain_mut(|byte| {
            let keep = !(after_cr && *byte == b'\n');
            after_cr = *byte == b'\r';
            if after_cr {
                *byte = b'\n';
            }
            keep
        });
        self.after_cr = after_cr;
    }
}

impl Read for Utf8Lines {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        if self.budget.exhausted() {
            return Err(io::Error::other("a record exceeds its budget"));
        }
        if self.at == self.output.len() {
            self.refill()?;
        }
        let bytes = target.len().min(self.output.len() - self.at);
        target[..bytes].copy_from_slice(&self.output[self.at..self.at + bytes]);
        self.at += bytes;
        self.budget.take(bytes);
        Ok(bytes)
    }
}
