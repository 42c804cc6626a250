//! A file whose people are a campaign's audience, read as every list of people is. All of its columns are kept, for texts.

use std::{path::Path, sync::Arc};

use tabular::CopyText;

use super::{
    csv::{CITY, Csv, FULL_NAME, IS_VALID, Place, STATE, Values},
    raw::Raw,
};
use crate::domain::{
    LadaInfo, NumberingPlan, Phone, Reason, State,
    audience_file::{Shape, columns},
    ladas, normalise,
    source::Mapping,
    template::clean,
};

/// Letters of one value.
const LONGEST_VALUE: usize = 500;
/// Letters of a row's values together.
const LONGEST_VALUES: usize = 4_000;
/// Rows that are read before anybody looks how many bytes there are.
const PIECE: usize = 250;
/// A batch of more bytes has no more rows: a row may have 16,000, and the worker has several batches at once.
const ENOUGH: usize = 4 << 20;
/// Letters of a refused value that are kept.
const KEPT: usize = 64;

/// The code of a row whose values are too long, and what is wrong with it, for people.
pub const TOO_LONG: (&str, &str) =
    ("values_too_long", "Un valor pasa de 500 letras, o los de la fila juntos de 4000: acórtelos");

/// The columns of `audience_rows`, as [`AudienceList::read`] writes them.
pub const ROW_COLUMNS: &str =
    "file, id, phone_e164, full_name, state_code, lada, city, is_valid, is_mobile, vals";
/// The same of `audience_rejects`.
pub const REJECT_COLUMNS: &str = "file, id, value, reason";

/// An opened file.
#[derive(Clone, Debug)]
pub struct AudienceList {
    csv: Csv,
    /// The columns that texts may name, with their places in the file.
    columns: Vec<(usize, String)>,
    plan: Arc<NumberingPlan>,
}

/// Some rows, ready for COPY. `rows = accepted + rejected`.
#[derive(Debug, Default)]
pub struct Batch {
    pub rows: i64,
    pub accepted: i64,
    pub rejected: i64,
    /// By column, as [`Shape::longest`].
    pub longest: Vec<usize>,
    pub people: CopyText,
    pub rejects: CopyText,
    /// Where the next batch begins; none at the end.
    pub next: Option<Place>,
}

/// A row that holds.
struct Person {
    phone: Phone,
    name: Option<String>,
    state: Option<State>,
    city: Option<String>,
    is_valid: bool,
    values: Vec<String>,
}

impl AudienceList {
    /// Reads the first line of a file, and finds the columns.
    ///
    /// # Errors
    /// As [`Csv::open`]; columns that texts could not name. For its user, in Spanish.
    pub fn open(path: &Path, mapping: &Mapping, plan: Arc<NumberingPlan>) -> anyhow::Result<Self> {
        let csv = Csv::open(path, None, mapping)?;
        let columns = columns(csv.names())?;
        Ok(Self { csv, columns, plan })
    }

    /// Where the first row is.
    pub fn first_place(&self) -> Place {
        self.csv.first_place()
    }

    /// What its rows hold, of which the longest values are these.
    pub fn shape(&self, longest: Vec<usize>) -> Shape {
        let columns = self.columns.iter().map(|(_, name)| name.clone()).collect();
        Shape { columns, longest, has_names: self.csv.has(FULL_NAME) }
    }

    /// Reads at most `most` rows from a place, fewer where they are wide, for the file of this number.
    ///
    /// # Errors
    /// As [`Csv::read_values`].
    pub fn read(&self, file: i32, from: &Place, most: usize) -> anyhow::Result<Batch> {
        let mut batch = Batch { longest: vec![0; self.columns.len()], ..Batch::default() };
        let (mut next, mut left) = (Some(from.clone()), most);
        while let Some(place) = next.take_if(|_| left > 0 && batch.people.size() < ENOUGH) {
            let rows = left.min(PIECE);
            left -= rows;
            next = self.csv.read_values(&place, rows, &mut |values| {
                self.add(&mut batch, file, values);
                true
            })?;
        }
        batch.next = next;
        Ok(batch)
    }

    /// Adds a row to a batch.
    fn add(&self, batch: &mut Batch, file: i32, values: &Values<'_>) {
        batch.rows += 1;
        match self.person(values) {
            Ok(person) => {
                batch.accepted += 1;
                for (longest, value) in batch.longest.iter_mut().zip(&person.values) {
                    *longest = (*longest).max(value.encode_utf16().count());
                }
                self.write(&mut batch.people, file, values.row, &person);
            }
            Err((value, code)) => {
                batch.rejected += 1;
                let out = batch.rejects.value(file).value(values.row);
                out.text(Some(&value)).text(Some(code)).end(&CopyText::default());
            }
        }
    }

    /// The person of a row; else what stood where the phone should, or what was too long, and the reason's code.
    fn person(&self, values: &Values<'_>) -> Result<Person, (String, &'static str)> {
        let spelled = match values.get(0) {
            Raw::Text(bytes) => bytes,
            _ => &[],
        };
        let kept = |text: &str| -> String {
            text.chars().take(KEPT).map(|letter| if letter == '\0' { '\u{fffd}' } else { letter }).collect()
        };
        let found = if values.has_surplus { Err(Reason::TooManyValues) } else { normalise(spelled) };
        let phone = found.map_err(|reason| (kept(&String::from_utf8_lossy(spelled)), reason.code()))?.phone;
        let text = |raw: Raw<'_>| clean(&String::from_utf8_lossy(&raw.bytes()));
        let some = |raw: Raw<'_>| Some(text(raw)).filter(|text| !text.is_empty());
        let own: Vec<String> = self.columns.iter().map(|(place, _)| text(values.column(*place))).collect();
        let mut letters = 0;
        for value in &own {
            let long = value.chars().count();
            letters += long;
            if long > LONGEST_VALUE || letters > LONGEST_VALUES {
                return Err((kept(value), TOO_LONG.0));
            }
        }
        // A column of that name may hold another state than one of the country: then the LADA says where.
        let state = some(values.get(STATE)).and_then(|text| State::parse(&text));
        let of_lada = ladas::of(phone.lada());
        // No city of another state than the row names.
        let same_state =
            |info: &&LadaInfo| state.is_none() || info.state.map(State::code) == state.map(State::code);
        let guessed = || of_lada.filter(same_state).and_then(|info| info.city).map(str::to_owned);
        Ok(Person {
            phone,
            name: some(values.get(FULL_NAME)),
            state: state.or(of_lada.and_then(|info| info.state)),
            city: some(values.get(CITY)).or_else(guessed),
            is_valid: !values.get(IS_VALID).is_false(),
            values: own,
        })
    }

    fn write(&self, out: &mut CopyText, file: i32, row: u64, person: &Person) {
        let lada = person.phone.lada();
        let planned = self.plan.lookup(person.phone).map(|range| range.is_mobile);
        out.value(file)
            .value(row)
            .text(Some(&person.phone.to_string()))
            .text(person.name.as_deref())
            .text(person.state.map(State::code))
            .text(Some(lada.as_str()))
            .text(person.city.as_deref())
            .value(person.is_valid)
            .optional(planned)
            .text(Some(&array(&person.values)))
            .end(&CopyText::default());
    }
}

/// Texts as PostgreSQL reads an array of them.
/// <https://www.postgresql.org/docs/15/arrays.html#ARRAYS-IO>
fn array(values: &[String]) -> String {
    let mut text = String::from("{");
    for (place, value) in values.iter().enumerate() {
        if place > 0 {
            text.push(',');
        }
        text.push('"');
        for letter in value.chars() {
            if matches!(letter, '"' | '\\') {
                text.push('\\');
            }
            text.push(letter);
        }
        text.push('"');
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_keeps_quotes_and_backslashes_and_has_no_nulls() {
        let values = ["a\"b", "c\\d", "", "NULL", "x, {y}"].map(str::to_owned);
        assert_eq!(array(&values), r#"{"a\"b","c\\d","","NULL","x, {y}"}"#);
        assert_eq!(array(&[]), "{}");
    }

    #[test]
    fn every_row_is_a_person_or_a_reject() -> anyhow::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let long = "x".repeat(501);
        let text = format!(
            "Celular;Saldo;Fecha límite\n6121004768;1,250;3 de mayo\n123;1;\n5512345679;{long};\n044 612 100 4769;;\n\
             6121004770;1;2;3\n"
        );
        std::fs::write(file.path(), text)?;
        let plan = Arc::new(NumberingPlan::default());
        let list = AudienceList::open(file.path(), &Mapping::default(), plan)?;
        let (mut rows, mut codes, mut place) = ((0, 0, 0), String::new(), Some(list.first_place()));
        // Row by row: each begins where the one before ended.
        while let Some(from) = place {
            let batch = list.read(7, &from, 1)?;
            rows = (rows.0 + batch.rows, rows.1 + batch.accepted, rows.2 + batch.rejected);
            codes.push_str(&String::from_utf8(batch.rejects.into_bytes())?);
            place = batch.next;
        }
        assert_eq!(rows, (5, 2, 3));
        let codes: Vec<_> = codes.lines().filter_map(|line| line.rsplit('\t').next()).collect();
        assert_eq!(codes, ["phone_too_short", "values_too_long", "too_many_values"]);
        let whole = list.read(7, &list.first_place(), 100)?;
        let shape = list.shape(whole.longest);
        assert_eq!(shape.columns, ["celular", "saldo", "fecha_limite"]);
        assert_eq!(shape.longest, [16, 5, 9]);
        Ok(())
    }

    #[test]
    fn a_batch_of_wide_rows_has_fewer_of_them() -> anyhow::Result<()> {
        const ROWS: i64 = 1_200;
        let file = tempfile::NamedTempFile::new()?;
        let wide = vec!["語".repeat(LONGEST_VALUE); 7].join(",");
        let rows: String = (0..ROWS).map(|row| format!("612100{row:04},{wide}\n")).collect();
        std::fs::write(file.path(), format!("celular,uno,dos,tres,cuatro,cinco,seis,siete\n{rows}"))?;
        let plan = Arc::new(NumberingPlan::default());
        let list = AudienceList::open(file.path(), &Mapping::default(), plan)?;
        let (mut rows, mut accepted, mut place) = (0, 0, Some(list.first_place()));
        while let Some(from) = place {
            let batch = list.read(7, &from, 5_000)?;
            (rows, accepted) = (rows + batch.rows, accepted + batch.accepted);
            assert!(batch.people.size() < 2 * ENOUGH, "{} bytes at once", batch.people.size());
            place = batch.next;
        }
        assert_eq!((rows, accepted), (ROWS, ROWS));
        Ok(())
    }
}
