//! Rows as PostgreSQL's binary COPY has them: no escapes to write, none to read, and times as numbers.
//! <https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.4>

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{
    clean,
    raw::{Raw, RawRow},
};
use crate::domain::{
    ladas::{self, LadaInfo},
    numbering_plan::NumberingPlan,
    phone::{self, Phone},
    reason::Reason,
    set_aside::SetAside,
    states::State,
};

/// The columns of a row of `contacts`, as [`Encoder`] writes them.
pub const CONTACT_COLUMNS: &str = "phone_e164, phone_original, full_name, address, neighborhood, municipality, state_code, \
    lada, city, is_valid, is_mobile, operator, source_id, migrated_at, import, status, consent, state_guessed, city_guessed";
/// The columns of `import_staged`.
pub const STAGED_COLUMNS: &str = "phone_e164, phone_original, full_name, address, neighborhood, municipality, state_code, \
    lada, city, is_valid, is_mobile, operator, source_id, migrated_at, import";
/// The columns of `contact_rejects`.
pub const REJECT_COLUMNS: &str = "import, source_id, value, reason";

const CONTACT_FIELDS: i16 = 19;
const STAGED_FIELDS: i16 = 15;
const REJECT_FIELDS: i16 = 4;

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// What of a bad row's phone is kept, in bytes.
const MAX_VALUE_BYTES: usize = 100;

/// What the rows of one import have in common.
#[derive(Clone, Debug)]
pub struct Common {
    /// The import's number.
    pub import: i32,
    pub consent: String,
    /// Whether every row may share its phone with another: in sources that don't keep phones apart, and where
    /// contacts of earlier imports are.
    pub stage_all: bool,
    /// Phones of which more is known than a load can copy: their rows are staged too.
    pub set_aside: SetAside,
}

/// How many rows went where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rows: i64,
    pub loaded: i64,
    pub staged: i64,
    pub rejected: i64,
    pub repaired: u64,
}

/// Where a row went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// To the contacts: no other row has its phone.
    Loaded,
    /// To those that are merged by phone.
    Staged(Phone),
    Rejected(Reason),
}

/// Turns rows into COPY data, three streams of it.
pub struct Encoder<'a> {
    common: &'a Common,
    plan: &'a NumberingPlan,
    contacts: BytesMut,
    staged: BytesMut,
    rejects: BytesMut,
    pub counts: Counts,
}

impl<'a> Encoder<'a> {
    pub fn new(common: &'a Common, plan: &'a NumberingPlan) -> Self {
        let begun = || BytesMut::from(HEADER);
        Self { common, plan, contacts: begun(), staged: begun(), rejects: begun(), counts: Counts::default() }
    }

    /// Adds a row to the stream it belongs to.
    pub fn push(&mut self, row: &RawRow<'_>) -> Pushed {
        self.counts.rows += 1;
        let spelled = row.phone.bytes();
        let normalised =
            if row.has_surplus { Err(Reason::TooManyValues) } else { phone::normalise(&spelled) };
        match normalised {
            // A blob is no text, and SQLite lets it stand beside the same text.
            Ok(found) => {
                let sure = !found.changed
                    && matches!(row.phone, Raw::Text(_))
                    && !self.common.stage_all
                    && !self.common.set_aside.may_hold(found.phone);
                self.contact(row, found.phone, sure);
                if sure { Pushed::Loaded } else { Pushed::Staged(found.phone) }
            }
            Err(reason) => {
                self.counts.rejected += 1;
                let value = String::from_utf8_lossy(&spelled).replace('\0', "\u{fffd}");
                let value = &value[..value.floor_char_boundary(MAX_VALUE_BYTES)];
                let out = &mut self.rejects;
                out.put_i16(REJECT_FIELDS);
                put_i32(out, self.common.import);
                put_i64(out, row.source_id);
                put_text(out, Some(value));
                put_text(out, Some(reason.code()));
                Pushed::Rejected(reason)
            }
        }
    }

    fn contact(&mut self, row: &RawRow<'_>, phone: Phone, sure: bool) {
        let repaired = &mut self.counts.repaired;
        let lada = phone.lada();
        let state = clean::text(row.state_code, repaired);
        let city = clean::text(row.city, repaired);
        // As the source has it, where that is no state we know: it is not ours to correct.
        let state = state.as_deref().map(|text| State::parse(text).map_or(text, |state| state.code()));
        let city = city.as_deref();
        // What the LADA suggests fills a gap, and says that it is a guess. A staged row has gaps until it is merged: another
        // row may know.
        let of_lada = if sure { ladas::of(lada) } else { None };
        let guessed_state = of_lada.filter(|_| state.is_none()).and_then(|info| info.state).map(State::code);
        // No city of another state than the row names.
        let same_state =
            |info: &&LadaInfo| state.is_none_or(|state| info.state.map(State::code) == Some(state));
        let guessed_city = of_lada.filter(|_| city.is_none()).filter(same_state).and_then(|info| info.city);
        let is_valid = !row.is_valid.is_false();
        let planned = self.plan.lookup(phone);

        let out = if sure { &mut self.contacts } else { &mut self.staged };
        out.put_i16(if sure { CONTACT_FIELDS } else { STAGED_FIELDS });
        put_bytes(out, &phone.e164());
        put_text(out, clean::text(row.phone_original, repaired).as_deref());
        put_text(out, clean::text(row.full_name, repaired).as_deref());
        put_text(out, clean::text(row.address, repaired).as_deref());
        put_text(out, clean::text(row.neighborhood, repaired).as_deref());
        put_text(out, clean::text(row.municipality, repaired).as_deref());
        put_text(out, state.or(guessed_state));
        put_text(out, Some(lada.as_str()));
        put_text(out, city.or(guessed_city));
        put_bool(out, Some(is_valid));
        put_bool(out, planned.map(|range| range.is_mobile));
        put_text(out, planned.map(|range| range.operator.as_str()));
        put_i64(out, row.source_id);
        match clean::time(row.migrated_at, repaired) {
            Some(time) => put_i64(out, time),
            None => out.put_i32(-1),
        }
        put_i32(out, self.common.import);
        if sure {
            put_text(out, Some(if is_valid { "ACTIVE" } else { "INVALID" }));
            put_text(out, Some(&self.common.consent));
            put_bool(out, guessed_state.map(|_| true));
            put_bool(out, guessed_city.map(|_| true));
            self.counts.loaded += 1;
        } else {
            self.counts.staged += 1;
        }
    }

    /// How much of the contacts' stream waits to be taken, in bytes.
    pub fn waiting(&self) -> usize {
        self.contacts.len()
    }

    /// Takes what there is of the contacts' stream.
    pub fn take(&mut self) -> Bytes {
        self.contacts.split().freeze()
    }

    /// Throws away what was encoded, and keeps the counts.
    pub fn forget(&mut self) {
        for stream in [&mut self.contacts, &mut self.staged, &mut self.rejects] {
            stream.clear();
        }
    }

    /// Ends the streams: what is left of the contacts, all of the staged rows, all of the rejects.
    pub fn finish(mut self) -> (Bytes, Bytes, Bytes, Counts) {
        for stream in [&mut self.contacts, &mut self.staged, &mut self.rejects] {
            stream.put_i16(-1);
        }
        (self.contacts.freeze(), self.staged.freeze(), self.rejects.freeze(), self.counts)
    }
}

/// A field's length in bytes: texts are cut far below its limit.
fn length(bytes: &[u8]) -> i32 {
    i32::try_from(bytes.len()).unwrap_or(i32::MAX)
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_i32(length(bytes));
    out.put_slice(bytes);
}

fn put_text(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_bytes(out, text.as_bytes()),
        None => out.put_i32(-1),
    }
}

fn put_bool(out: &mut BytesMut, value: Option<bool>) {
    match value {
        Some(value) => put_bytes(out, &[u8::from(value)]),
        None => out.put_i32(-1),
    }
}

fn put_i32(out: &mut BytesMut, value: i32) {
    out.put_i32(4);
    out.put_i32(value);
}

fn put_i64(out: &mut BytesMut, value: i64) {
    out.put_i32(8);
    out.put_i64(value);
}
