//! The encoding of a text file, and the file as UTF-8 with `\n` at the end of each line.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    rc::Rc,
};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::FileError;

const BUFFER: usize = 64 * 1024;
/// Bytes that are looked at for UTF-16 without a byte order mark.
const SAMPLE: usize = 4096;

/// How a file's bytes are read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Text {
    /// All of them in one encoding.
    In(&'static Encoding),
    /// In UTF-8, and the bytes that are none as windows-1252: somebody pasted a line of another file. One such
    /// byte must not cost the other rows their accents.
    Utf8WithStrays,
}

/// What a look over the whole file says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Survey {
    pub text: Text,
    /// Line ends: an upper bound of the records.
    pub lines: u64,
}

/// Decides the encoding: byte order mark, else UTF-16 by its zero bytes, else UTF-8 if a line of it is beyond
/// what ASCII has, else windows-1252. Reads the file once, in constant memory, and leaves it at its start.
pub(super) fn survey(file: &mut File) -> Result<Survey, FileError> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = fill(file, &mut buffer)?;
    let marked = Encoding::for_bom(&buffer[..filled]).map(|(encoding, _)| encoding);
    let wide = marked.or_else(|| utf16_by_zeros(&buffer[..filled.min(SAMPLE)]));
    let mut utf8 = UTF_8.new_decoder_without_bom_handling();
    let mut text = String::with_capacity(BUFFER * 3);
    let mut is_utf8 = true;
    let mut lines = 0;
    let mut tally = Tally::default();
    while filled > 0 {
        let chunk = &buffer[..filled];
        lines += memchr::memchr_iter(b'\n', chunk).count() as u64;
        if is_utf8 {
            text.clear();
            is_utf8 = !malformed(&mut utf8, chunk, &mut text, false);
            if !is_utf8 {
                // Only now does it matter what each line is in.
                tally = Tally::of_start(file)?;
            }
        } else {
            tally.feed(chunk);
        }
        filled = fill(file, &mut buffer)?;
    }
    text.clear();
    if is_utf8 && malformed(&mut utf8, &[], &mut text, true) {
        is_utf8 = false;
        tally = Tally::of_start(file)?;
    }
    file.seek(SeekFrom::Start(0))?;
    let text = match wide {
        Some(encoding) if encoding != UTF_8 => Text::In(encoding),
        _ if is_utf8 => Text::In(UTF_8),
        Some(_) => Text::Utf8WithStrays,
        None if tally.ends_with_utf8() => Text::Utf8WithStrays,
        None => Text::In(WINDOWS_1252),
    };
    Ok(Survey { text, lines })
}

/// Looks for a line that is UTF-8 and not ASCII: windows-1252 has none, but by a chance of letters that no
/// language has side by side.
#[derive(Debug, Default)]
struct Tally {
    /// Whether there was one.
    utf8_line: bool,
    line: Line,
    /// Bytes of a character that the next piece continues.
    open: Vec<u8>,
}

/// What the line so far holds beyond ASCII.
#[derive(Debug, Default)]
struct Line {
    utf8: bool,
    stray: bool,
}

impl Tally {
    /// Of what was read of the file so far.
    fn of_start(file: &mut File) -> io::Result<Self> {
        let end = file.stream_position()?;
        file.seek(SeekFrom::Start(0))?;
        let mut tally = Self::default();
        let mut start = file.by_ref().take(end);
        let mut buffer = vec![0; BUFFER];
        loop {
            match start.read(&mut buffer)? {
                0 => return Ok(tally),
                read => tally.feed(&buffer[..read]),
            }
        }
    }

    fn feed(&mut self, bytes: &[u8]) {
        if self.utf8_line {
            return;
        }
        let mut all = std::mem::take(&mut self.open);
        all.extend_from_slice(bytes);
        let whole = all.len() - open_character(&all);
        self.open = all.split_off(whole);
        for line in all.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            if !line.is_ascii() {
                for chunk in line.utf8_chunks() {
                    self.line.utf8 |= !chunk.valid().is_ascii();
                    self.line.stray |= !chunk.invalid().is_empty();
                }
            }
            if line.ends_with(b"\n") || line.ends_with(b"\r") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.utf8_line |= line.utf8 && !line.stray;
    }

    fn ends_with_utf8(mut self) -> bool {
        self.line.stray |= !self.open.is_empty();
        self.end_line();
        self.utf8_line
    }
}

/// How many bytes at the end begin a character that more bytes may complete.
fn open_character(bytes: &[u8]) -> usize {
    for length in 1..=3.min(bytes.len()) {
        let end = &bytes[bytes.len() - length..];
        if end[0] >= 0xc0 {
            return match str::from_utf8(end) {
                Err(error) if error.error_len().is_none() => length,
                _ => 0,
            };
        }
    }
    0
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
    /// None where bytes are taken one by one.
    decoder: Option<Decoder>,
    strays: Strays,
    /// Bytes that were decoded before `output`.
    decoded: u64,
    input: Vec<u8>,
    /// Bytes of `input` that are not decoded yet.
    pending: (usize, usize),
    input_ended: bool,
    /// Bytes of a character that what is read next may complete; none where there is a decoder.
    open: Vec<u8>,
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

/// Where bytes were that are not UTF-8, as places in what was decoded.
#[derive(Clone, Debug, Default)]
pub(super) struct Strays(Rc<RefCell<VecDeque<u64>>>);

impl Strays {
    /// Whether there were any before a place; forgets them.
    pub fn take_before(&self, place: u64) -> bool {
        let mut places = self.0.borrow_mut();
        let before = places.partition_point(|stray| *stray < place);
        places.drain(..before).next().is_some()
    }
}

impl Utf8Lines {
    pub fn new(file: File, text: Text, budget: Budget) -> Self {
        let decoder = match text {
            Text::In(encoding) => Some(encoding.new_decoder_with_bom_removal()),
            Text::Utf8WithStrays => None,
        };
        Self {
            file,
            decoder,
            strays: Strays::default(),
            decoded: 0,
            input: vec![0; BUFFER],
            pending: (0, 0),
            input_ended: false,
            open: Vec::new(),
            output: Vec::with_capacity(BUFFER),
            at: 0,
            after_cr: false,
            ends_with_newline: true,
            done: false,
            budget,
        }
    }

    /// Where bytes are that are not UTF-8, as they are met.
    pub fn strays(&self) -> Strays {
        self.strays.clone()
    }

    /// Decodes until there is output or the end.
    fn refill(&mut self) -> io::Result<()> {
        self.decoded += self.output.len() as u64;
        self.output.clear();
        self.at = 0;
        while self.output.is_empty() && !self.done {
            if self.pending.0 == self.pending.1 && !self.input_ended {
                let read = self.file.read(&mut self.input)?;
                self.pending = (0, read);
                self.input_ended = read == 0;
            }
            let is_complete = self.decode();
            self.normalise_line_ends();
            if let Some(last) = self.output.last() {
                self.ends_with_newline = *last == b'\n';
            }
            if self.input_ended && is_complete {
                self.done = true;
                if !self.ends_with_newline {
                    self.output.push(b'\n');
                }
            }
        }
        Ok(())
    }

    /// Decodes what is pending; gives whether all of it is.
    fn decode(&mut self) -> bool {
        let source = &self.input[self.pending.0..self.pending.1];
        if let Some(decoder) = &mut self.decoder {
            self.output.resize(BUFFER, 0);
            let (result, read, written, _) =
                decoder.decode_to_utf8(source, &mut self.output, self.input_ended);
            self.pending.0 += read;
            self.output.truncate(written);
            return result == CoderResult::InputEmpty;
        }
        let mut source = [self.open.as_slice(), source].concat();
        self.open.clear();
        self.pending.0 = self.pending.1;
        if !self.input_ended {
            self.open = source.split_off(source.len() - open_character(&source));
        }
        let mut at_start = self.decoded == 0;
        let mut strays = self.strays.0.borrow_mut();
        for chunk in source.utf8_chunks() {
            let valid = chunk.valid();
            let valid =
                if std::mem::take(&mut at_start) { valid.trim_start_matches('\u{feff}') } else { valid };
            self.output.extend_from_slice(valid.as_bytes());
            if !chunk.invalid().is_empty() {
                strays.push_back(self.decoded + self.output.len() as u64);
                let (text, _) = WINDOWS_1252.decode_without_bom_handling(chunk.invalid());
                self.output.extend_from_slice(text.as_bytes());
            }
        }
        true
    }

    /// `\r\n` and `\r` become `\n`, in place.
    fn normalise_line_ends(&mut self) {
        if !self.after_cr && memchr::memchr(b'\r', &self.output).is_none() {
            return;
        }
        let mut after_cr = self.after_cr;
        let mut strays = self.strays.0.borrow_mut();
        // Those before were moved already.
        let mut stray = strays.partition_point(|stray| *stray < self.decoded);
        let (mut at, mut removed) = (self.decoded, 0);
        self.output.retain_mut(|byte| {
            let keep = !(after_cr && *byte == b'\n');
            if strays.get(stray) == Some(&at) {
                strays[stray] -= removed;
                stray += 1;
            }
            at += 1;
            removed += u64::from(!keep);
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
