//! The rows of `numeros`, made in batches.

use std::io::Write as _;

use super::dice::Dice;
use super::layout::{Kind, Layout};
use super::numbers::{self, Number, Numbers};
use super::people::{self, People};
use super::{Dirt, Truth};

/// Columns of `numeros` without its id, in their order.
pub(super) const COLUMNS: usize = 15;

/// What a column of a row holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    /// A word of the program.
    Word(&'static str),
    /// A part of [`Batch::bytes`], as TEXT, whatever bytes it has.
    Text {
        start: u32,
        length: u32,
    },
    /// The same as a BLOB.
    Blob {
        start: u32,
        length: u32,
    },
}

/// Rows one after the other.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) rows: Vec<[Cell; COLUMNS]>,
    /// The counts that depend on single rows.
    pub(super) truth: Truth,
    /// What the file says of itself.
    pub(super) counts: Counts,
}

/// Sums that the file's own tables of statistics hold.
#[derive(Default)]
pub(super) struct Counts {
    /// Rows with a city.
    pub(super) with_city: u64,
    /// Rows by [`Number::lada_index`].
    pub(super) by_lada: Vec<u64>,
}

impl Batch {
    /// Appends what `write` writes, as text.
    fn text(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Cell {
        let start = self.bytes.len();
        write(&mut self.bytes);
        // A batch has some hundred bytes a row.
        Cell::Text { start: start as u32, length: (self.bytes.len() - start) as u32 }
    }
}

/// Makes rows.
pub(super) struct Rows {
    layout: Layout,
    numbers: Numbers,
    people: People,
    dirt: Dirt,
    seed: u64,
}

/// Which fields of a row are filled.
#[derive(Clone, Copy)]
struct Filled {
    name: bool,
    address: bool,
    neighbourhood: bool,
    place: bool,
}

impl Rows {
    pub(super) fn new(layout: Layout, numbers: Numbers, dirt: Dirt, seed: u64) -> Self {
        Self { layout, numbers, people: People::new(), dirt, seed }
    }

    /// The rows from `first` on, counted from 0, to before `end`.
    pub(super) fn batch(&self, first: u64, end: u64) -> Batch {
        let mut batch = Batch::default();
        batch.counts.by_lada = vec![0; self.numbers.ladas().len()];
        for row in first..end {
            let cells = match self.layout.kind(row) {
                Kind::Clean { contact } => self.single(contact, false, &mut batch),
                Kind::Legacy { contact } => self.single(contact, true, &mut batch),
                Kind::Twin { contact, first, clean } => self.twin(contact, first, clean, &mut batch),
                Kind::Reject { reject, number } => {
                    let mut dice = Dice::of(self.seed, u64::MAX - row);
                    let numero = batch.text(|out| self.numbers.rejected(reject, number, out));
                    let filled = Filled { name: true, address: true, neighbourhood: true, place: false };
                    let valid = dice.below(2) as i64;
                    self.row(&mut dice, &mut batch, numero, None, filled, valid)
                }
            };
            batch.rows.push(cells);
        }
        batch
    }

    /// The only row of a contact.
    fn single(&self, contact: u64, legacy: bool, batch: &mut Batch) -> [Cell; COLUMNS] {
        let mut dice = Dice::of(self.seed, contact);
        let number = self.numbers.of(contact);
        let spelling = legacy.then(|| dice.below(numbers::SPELLINGS));
        let numero = batch.text(|out| write_number(number.national, spelling, out));
        let filled = Filled {
            name: !dice.chance(self.dirt.unnamed),
            address: dice.below(20) != 0,
            neighbourhood: dice.below(20) != 0,
            place: !dice.chance(self.dirt.without_place),
        };
        let flagged = dice.chance(self.dirt.flagged);
        let damaged = dice.chance(self.dirt.damaged);
        let blob = dice.chance(self.dirt.blobs);
        let mut row = self.row(&mut dice, batch, numero, Some(&number), filled, i64::from(!flagged));
        let [_, _, name, _, address, ..] = &mut row;
        let field = if filled.name { name } else { address };
        if damaged {
            *field = damage(&mut dice, batch, *field);
        } else if blob && let Cell::Text { start, length } = *field {
            *field = Cell::Blob { start, length };
        }
        batch.truth.unnamed += u64::from(!filled.name);
        batch.truth.flagged += u64::from(flagged);
        batch.truth.damaged += u64::from(damaged);
        batch.truth.missing_lada += u64::from(number.place.is_none());
        row
    }

    /// One of two rows of a contact; together they have every field.
    fn twin(&self, contact: u64, first: bool, clean: bool, batch: &mut Batch) -> [Cell; COLUMNS] {
        let mut dice = Dice::of(self.seed, contact);
        let number = self.numbers.of(contact);
        let (one, other) = numbers::two_spellings(&mut dice);
        let spelling = match (first, clean) {
            (true, true) => None,
            (true, false) => Some(one),
            (false, _) => Some(other),
        };
        let numero = batch.text(|out| write_number(number.national, spelling, out));
        let (mine, shared) = (dice.below(16), dice.below(16));
        let fields = if first { mine | shared } else { !mine | shared };
        let filled = Filled {
            name: fields & 1 != 0,
            address: fields & 2 != 0,
            neighbourhood: fields & 4 != 0,
            place: fields & 8 != 0,
        };
        batch.truth.missing_lada += u64::from(first && number.place.is_none());
        self.row(&mut dice, batch, numero, Some(&number), filled, 1)
    }

    /// A row. The same dice give both twins the same person.
    fn row(
        &self,
        dice: &mut Dice,
        batch: &mut Batch,
        numero: Cell,
        number: Option<&Number>,
        filled: Filled,
        valid: i64,
    ) -> [Cell; COLUMNS] {
        let name = self.name(dice, batch, filled.name);
        let address = batch.text(|out| people::address(dice, out));
        let neighbourhood = batch.text(|out| people::neighbourhood(dice, out));
        let place = number.and_then(|number| number.place);
        let municipality = place.map_or(Cell::Null, |place| Cell::Word(dice.pick(place.municipalities)));
        let from_csv = if dice.below(2) == 0 { municipality } else { Cell::Word("MEXICO") };
        let only = |condition: bool, cell: Cell| if condition { cell } else { Cell::Null };
        batch.counts.with_city += u64::from(filled.place && place.is_some());
        if let Some(number) = number {
            batch.counts.by_lada[number.lada_index] += 1;
        }
        [
            numero,
            numero,
            name,
            Cell::Null,
            only(filled.address, address),
            only(filled.neighbourhood, neighbourhood),
            only(filled.place, from_csv),
            Cell::Null,
            Cell::Null,
            only(filled.place, place.map_or(Cell::Null, |place| Cell::Word(place.state))),
            only(filled.place, municipality),
            number.map_or(Cell::Null, |number| Cell::Word(number.lada)),
            only(filled.place, place.map_or(Cell::Null, |place| Cell::Word(place.city))),
            Cell::Integer(valid),
            self.date(dice, batch),
        ]
    }

    fn name(&self, dice: &mut Dice, batch: &mut Batch, filled: bool) -> Cell {
        let untidy = dice.chance(self.dirt.untidy);
        let name = batch.text(|out| {
            if untidy {
                out.extend_from_slice(b"  ");
            }
            self.people.name(dice, out);
            if untidy {
                out.extend_from_slice(b" \t");
            }
        });
        match dice.below(3) {
            _ if filled => name,
            0 => Cell::Null,
            1 => Cell::Word(""),
            _ => Cell::Word("   "),
        }
    }

    /// A moment of March 2022, mostly as SQLite's CURRENT_TIMESTAMP writes it.
    fn date(&self, dice: &mut Dice, batch: &mut Batch) -> Cell {
        let (day, second) = (dice.below(31), dice.below(86_400));
        let (hour, minute, second_of_minute) = (second / 3600, second / 60 % 60, second % 60);
        let day_of_month = day + 1;
        let form = if dice.chance(self.dirt.odd_dates) { dice.below(4) } else { 4 };
        match form {
            0 => Cell::Null,
            // Seconds from 1970-01-01 to 2022-03-01.
            1 => Cell::Integer((1_646_092_800 + day * 86_400 + second) as i64),
            // The Julian day of 2022-03-01 at midnight.
            2 => Cell::Real(2_459_639.5 + day as f64 + second as f64 / 86_400.0),
            3 => batch.text(|out| {
                let written =
                    write!(out, "2022-03-{day_of_month:02}T{hour:02}:{minute:02}:{second_of_minute:02}.250Z");
                debug_assert!(written.is_ok(), "a vector takes everything");
            }),
            _ => batch.text(|out| {
                let mut text = *b"2022-03-00 00:00:00";
                let pairs = [(8, day_of_month), (11, hour), (14, minute), (17, second_of_minute)];
                for (place, value) in pairs {
                    // Below a hundred: two digits.
                    text[place] += (value / 10) as u8;
                    text[place + 1] += (value % 10) as u8;
                }
                out.extend_from_slice(&text);
            }),
        }
    }
}

fn write_number(national: u64, spelling: Option<u64>, out: &mut Vec<u8>) {
    match spelling {
        None => out.extend_from_slice(national.to_string().as_bytes()),
        Some(spelling) => numbers::spell(national, spelling, out),
    }
}

/// The same text with a NUL byte, or a byte that isn't UTF-8, at its end or after its first byte.
fn damage(dice: &mut Dice, batch: &mut Batch, cell: Cell) -> Cell {
    let copied = match cell {
        Cell::Text { start, length } => batch.bytes[start as usize..(start + length) as usize].to_vec(),
        _ => b"SIN NOMBRE".to_vec(),
    };
    let place = if dice.below(2) == 0 { 1 } else { copied.len() };
    let damage = dice.pick(&[0, 0xff, 0xd1]);
    batch.text(|out| {
        out.extend_from_slice(&copied[..place]);
        out.push(damage);
        out.extend_from_slice(&copied[place..]);
    })
}
