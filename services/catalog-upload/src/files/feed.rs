//! The reading side of a file: a thread that parses, a bounded channel, and the reader that takes from it.
//!
//! A thread, because calamine's cell reader borrows its workbook, and because parsing then runs beside the
//! database work of the batch before. The channel holds few rows, so memory stays constant.

use std::{
    collections::VecDeque,
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use super::{
    FileError,
    header::{Header, HeaderRow, plain},
    marks::MarkSample,
};
use crate::domain::{Column, RawRow};

/// Rows in one message, and bytes of their texts: what comes first.
const CHUNK: usize = 256;
const CHUNK_BYTES: usize = 1024 * 1024;
/// Messages in flight.
const CHUNKS: usize = 4;

/// Bytes of texts after which a batch is full, however few its rows: a workbook names one long text a million times, and
/// each cell is one of its own here.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Other sheets that are named to the sender.
const OMITTED: usize = 50;

/// What is known once the header is found.
#[derive(Default)]
pub(super) struct Opened {
    hint: Option<u64>,
    sheet: Option<String>,
    ignored: Vec<String>,
    absent: Vec<Column>,
    header: Option<HeaderRow>,
}

impl Opened {
    pub fn new(hint: Option<u64>, sheet: Option<String>, kept: Option<HeaderRow>, header: &Header) -> Self {
        Self { hint, sheet, ignored: header.ignored.clone(), absent: header.absent(), header: kept }
    }
}

enum Event {
    Opened(Opened),
    Rows(Vec<RawRow>),
    End { rows: u64, omitted: Vec<String> },
}

type Message = Result<Event, FileError>;

/// The rows of a file, in the order of the file.
pub struct Reader {
    receiver: Receiver<Message>,
    pending: VecDeque<RawRow>,
    first_row: Arc<AtomicU32>,
    opened: Opened,
    omitted: Vec<String>,
    ended: bool,
}

impl Reader {
    /// Runs `read` in a thread and waits until it has the header and the first row. It ends once `is_wanted` says that
    /// nobody waits for what it reads.
    pub(super) fn start(
        is_wanted: impl Fn() -> bool + Send + 'static,
        read: impl FnOnce(&mut Feed) -> Result<(), FileError> + Send + 'static,
    ) -> Result<Self, FileError> {
        let (sender, receiver) = sync_channel(CHUNKS);
        let first_row = Arc::new(AtomicU32::new(0));
        let mut feed = Feed {
            sender: sender.clone(),
            sample: MarkSample::default(),
            chunk: Vec::new(),
            chunk_bytes: 0,
            first_row: Arc::clone(&first_row),
            rows: 0,
            last: 0,
            omitted: Vec::new(),
            is_wanted: Box::new(is_wanted),
            closed: false,
        };
        thread::Builder::new().name("file-reader".to_owned()).spawn(move || {
            // A parser that panics on some bytes nobody thought of costs that file, not the worker.
            let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| {
                read(&mut feed)?;
                feed.finish()
            }));
            let error = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(_) => FileError::corrupt("contenido inesperado"),
            };
            // The reader may have gone: then nobody wants to know.
            let _ = sender.send(Err(error));
        })?;
        let mut reader = Self {
            receiver,
            pending: VecDeque::new(),
            first_row,
            opened: Opened::default(),
            omitted: Vec::new(),
            ended: false,
        };
        while reader.pending.is_empty() && !reader.ended {
            reader.receive()?;
        }
        Ok(reader)
    }

    /// The next rows, at most `max_rows` and fewer where their texts are long, none at the end. Rows without any value are
    /// left out. Blocks.
    ///
    /// # Errors
    /// What the parser met; nothing can be read after that.
    pub fn next_batch(&mut self, max_rows: usize) -> Result<Option<Vec<RawRow>>, FileError> {
        let mut batch = Vec::with_capacity(max_rows.min(4 * CHUNK));
        let mut bytes = 0;
        while batch.len() < max_rows && bytes < BATCH_BYTES && self.has_more()? {
            let Some(row) = self.pending.pop_front() else { break };
            bytes += row.text_bytes();
            batch.push(row);
        }
        Ok(if batch.is_empty() { None } else { Some(batch) })
    }

    /// Whether there is a row to come. Blocks until that is known.
    ///
    /// # Errors
    /// As [`Self::next_batch`].
    pub fn has_more(&mut self) -> Result<bool, FileError> {
        let first_row = self.first_row.load(Ordering::Relaxed);
        loop {
            while self.pending.front().is_some_and(|row| row.number < first_row) {
                self.pending.pop_front();
            }
            if self.ended || !self.pending.is_empty() {
                return Ok(!self.pending.is_empty());
            }
            self.receive()?;
        }
    }

    /// Leaves out the rows before this row number. Can't go back.
    pub fn skip_to(&mut self, row_number: u32) {
        self.first_row.fetch_max(row_number, Ordering::Relaxed);
    }

    /// How many rows of data there are, skipped ones too: a guess from the file at first, exact once
    /// [`Self::next_batch`] has given none.
    pub fn total_hint(&self) -> Option<u64> {
        self.opened.hint
    }

    /// The name of the sheet that is read; none for a CSV file.
    pub fn sheet(&self) -> Option<&str> {
        self.opened.sheet.as_deref()
    }

    /// The names of other sheets that have products, which are not read; known once there is no row to come.
    pub fn omitted_sheets(&self) -> &[String] {
        &self.omitted
    }

    /// The headers of columns that the template doesn't have and that are not read: the first 50, each cut at
    /// 64 characters, without control characters.
    pub fn ignored_columns(&self) -> &[String] {
        &self.opened.ignored
    }

    /// The columns of the template that the file lacks.
    pub fn absent_columns(&self) -> &[Column] {
        &self.opened.absent
    }

    /// The header as the file has it; only where everything is kept.
    pub fn header(&self) -> Option<&HeaderRow> {
        self.opened.header.as_ref()
    }

    fn receive(&mut self) -> Result<(), FileError> {
        match self.receiver.recv() {
            Ok(Ok(Event::Opened(opened))) => self.opened = opened,
            Ok(Ok(Event::Rows(rows))) => self.pending.extend(rows),
            Ok(Ok(Event::End { rows, omitted })) => {
                (self.opened.hint, self.omitted, self.ended) = (Some(rows), omitted, true);
            }
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(FileError::corrupt("la lectura se interrumpió")),
        }
        Ok(())
    }
}

/// Where a parser puts its rows.
pub(super) struct Feed {
    sender: SyncSender<Message>,
    sample: MarkSample,
    chunk: Vec<RawRow>,
    chunk_bytes: usize,
    first_row: Arc<AtomicU32>,
    rows: u64,
    last: u32,
    omitted: Vec<String>,
    is_wanted: Box<dyn Fn() -> bool + Send>,
    closed: bool,
}

impl Feed {
    /// Whether anybody still waits for what is read: to be asked wherever nothing is pushed for long.
    ///
    /// # Errors
    /// Nobody does. Nobody hears of it, either.
    pub fn go_on(&self) -> Result<(), FileError> {
        if self.closed || !(self.is_wanted)() {
            return Err(FileError::Io(io::Error::new(io::ErrorKind::Interrupted, "nobody reads any more")));
        }
        Ok(())
    }

    /// Whether there was a row with values.
    pub fn has_rows(&self) -> bool {
        self.rows > 0
    }

    /// Names a sheet that has products too and is not read. Gives whether it names more.
    pub fn omit(&mut self, sheet: &str) -> bool {
        self.omitted.push(plain(sheet));
        self.omitted.len() < OMITTED
    }

    /// The header is found; rows follow, or another header with rows.
    pub fn opened(&mut self, opened: Opened) {
        self.send(Ok(Event::Opened(opened)));
    }

    /// Adds a row; one without values is left out. Gives whether anybody still reads.
    ///
    /// # Errors
    /// Row numbers that don't rise: checkpoints rely on them. As [`Self::go_on`].
    pub fn push(&mut self, row: RawRow) -> Result<bool, FileError> {
        self.go_on()?;
        if row.is_empty() {
            return Ok(!self.closed);
        }
        if row.number <= self.last {
            return Err(FileError::corrupt(format!("la fila {} está fuera de orden", row.number)));
        }
        self.last = row.number;
        self.rows += 1;
        let bytes = row.text_bytes();
        // Rows that are skipped count too: what a number means can't depend on where reading begins.
        self.sample.look(&row, bytes);
        if row.number >= self.first_row.load(Ordering::Relaxed) {
            self.chunk.push(row);
            self.chunk_bytes += bytes;
        }
        if self.sample.is_complete() && (self.chunk.len() >= CHUNK || self.chunk_bytes >= CHUNK_BYTES) {
            self.flush();
        }
        Ok(!self.closed)
    }

    fn flush(&mut self) {
        if !self.chunk.is_empty() {
            self.sample.mark(&mut self.chunk);
            self.chunk_bytes = 0;
            let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK));
            self.send(Ok(Event::Rows(chunk)));
        }
    }

    fn finish(&mut self) -> Result<(), FileError> {
        if self.rows == 0 {
            return Err(FileError::HeaderOnly);
        }
        self.flush();
        let omitted = std::mem::take(&mut self.omitted);
        self.send(Ok(Event::End { rows: self.rows, omitted }));
        Ok(())
    }

    fn send(&mut self, message: Message) {
        self.closed |= self.sender.send(message).is_err();
    }
}
