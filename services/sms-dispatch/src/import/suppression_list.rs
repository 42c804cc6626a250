//! A list of phones that must not be written to, read as every list of people is.

use std::path::Path;

use chrono::{DateTime, Utc};

use super::{
    clean,
    csv::{Csv, Field, PHONE, Place, Values},
    raw::Raw,
};
use crate::domain::{
    Phone, Reason, normalise,
    source::Mapping,
    suppression::{Cause, parse_effect},
};

const FIELDS: [Field; 3] = [
    PHONE,
    ("reason", &["reason", "motivo"]),
    ("effective_at", &["effective_at", "vigencia", "fecha", "fecha_vigencia"]),
];

/// Letters of a refused value that are told.
const TOLD: usize = 64;

/// A row that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub phone: Phone,
    pub cause: Cause,
    pub effective_at: DateTime<Utc>,
}

/// A row that doesn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of the file, from 1.
    pub line: u64,
    pub value: String,
    pub code: &'static str,
    /// For a person.
    pub message: &'static str,
}

/// An opened list.
#[derive(Clone, Debug)]
pub struct List {
    csv: Csv,
    cause: Cause,
    effective_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
}

impl List {
    /// Opens a list whose rows have this cause and date unless they name others.
    ///
    /// # Errors
    /// As [`Csv::open_list`]: for its user, in Spanish.
    pub fn open(
        path: &Path,
        mapping: &Mapping,
        cause: Cause,
        effective_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        let csv = Csv::open_list(path, &FIELDS, true, None, mapping)?;
        Ok(Self { csv, cause, effective_at, now })
    }

    /// Where the first row is.
    pub fn first_place(&self) -> Place {
        self.csv.first_place()
    }

    /// Reads at most `most` rows from a place; gives where the next one is, none at the end.
    ///
    /// # Errors
    /// As [`Csv::read_values`].
    pub fn read(
        &self,
        from: &Place,
        most: usize,
        each: &mut impl FnMut(Result<Listed, Refused>),
    ) -> anyhow::Result<Option<Place>> {
        self.csv.read_values(from, most, &mut |values| {
            each(self.row(values));
            true
        })
    }

    fn row(&self, values: &Values<'_>) -> Result<Listed, Refused> {
        let text = |field: usize| clean::text(values.get(field), &mut 0).map(|text| text.into_owned());
        let refused = |value: String, code, message| Refused {
            line: values.line,
            value: value.chars().take(TOLD).collect(),
            code,
            message,
        };
        let spelled = match values.get(0) {
            Raw::Text(bytes) => bytes,
            _ => &[],
        };
        let normalised = if values.has_surplus { Err(Reason::TooManyValues) } else { normalise(spelled) };
        let phone = normalised.map_err(|reason| {
            refused(String::from_utf8_lossy(spelled).into_owned(), reason.code(), reason.message())
        })?;
        let cause = match text(1) {
            None => self.cause,
            Some(name) => Cause::parse(&name).ok_or_else(|| {
                refused(name, "reason_unknown", "Motivo desconocido: se espera opt_out, repep, reus o manual")
            })?,
        };
        let effective_at = match text(2) {
            None => self.effective_at.unwrap_or_else(|| cause.default_effect(self.now)),
            Some(day) => parse_effect(&day).ok_or_else(|| {
                refused(day, "date_invalid", "Fecha inválida: se espera AAAA-MM-DD o DD/MM/AAAA")
            })?,
        };
        Ok(Listed { phone: phone.phone, cause, effective_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        parse_effect("2026-01-31").expect("a day")
    }

    fn read(content: &[u8], cause: Cause) -> anyhow::Result<Vec<Result<Listed, Refused>>> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), content)?;
        let list = List::open(file.path(), &Mapping::default(), cause, None, now())?;
        let (mut rows, mut place) = (Vec::new(), Some(list.first_place()));
        // Row by row: each begins where the one before ended.
        while let Some(from) = place {
            place = list.read(&from, 1, &mut |row| rows.push(row))?;
        }
        Ok(rows)
    }

    fn phones(rows: &[Result<Listed, Refused>]) -> Vec<String> {
        rows.iter().flatten().map(|listed| listed.phone.to_string()).collect()
    }

    #[test]
    fn a_bare_list_of_phones_has_the_cause_it_was_given() {
        let rows = read(b"\xef\xbb\xbf6121004768\n\n044 612 100 4769\r\n", Cause::Repep).expect("a list");
        assert_eq!(phones(&rows), ["+526121004768", "+526121004769"]);
        assert_eq!(rows.len(), 2, "an empty line is none");
        let repep = rows[0].as_ref().expect("a row");
        assert_eq!(
            (repep.cause, repep.effective_at),
            (Cause::Repep, parse_effect("2026-03-02").expect("a day"))
        );
        let reus = read(b"6121004768\n", Cause::Reus).expect("a list");
        let reus = reus[0].as_ref().expect("a row");
        assert_eq!((reus.cause, reus.effective_at), (Cause::Reus, now()));
        // Its phones may stand in any column.
        let rows = read(b"ANA;6121004768\nBERTA;6121004769\n", Cause::Manual).expect("a list");
        assert_eq!(phones(&rows), ["+526121004768", "+526121004769"]);
    }

    #[test]
    fn a_first_line_without_a_phone_names_columns_known_or_not() {
        for (unknown, told) in [
            ("folio,num_cel,motivo\n5500000901,5500000138,opt_out\n", "[\"folio\", \"num_cel\", \"motivo\"]"),
            ("id;movil del cliente\n5500000901;5500000138\n", "[\"id\", \"movil del cliente\"]"),
            ("\"folio\"\n5500000901\n", "[\"folio\"]"),
            ("5500000901,5500000138,opt_out\n", "2 teléfonos"),
        ] {
            let error = read(unknown.as_bytes(), Cause::OptOut).expect_err(unknown);
            assert!(error.to_string().contains(told), "{unknown}: {error}");
        }
    }

    #[test]
    fn columns_are_found_by_name_and_wrong_rows_told_by_line() {
        let list = "\u{feff}Motivo;Vigencia;Teléfono\nrepep;15/02/2026;\"6121004768\"\n;;6121004769\n\
                    spam;;6121004768\n;ayer;6121004768\n;;abc\n;;\n";
        let rows = read(list.as_bytes(), Cause::Manual).expect("a list");
        let first = rows[0].as_ref().expect("a row");
        assert_eq!(
            (first.cause, first.effective_at),
            (Cause::Repep, parse_effect("2026-02-15").expect("a day"))
        );
        assert_eq!(rows[1].as_ref().map(|row| (row.cause, row.effective_at)), Ok((Cause::Manual, now())));
        let told: Vec<_> =
            rows.iter().filter_map(|row| row.as_ref().err()).map(|row| (row.line, row.code)).collect();
        assert_eq!(
            told,
            [(4, "reason_unknown"), (5, "date_invalid"), (6, "phone_letters"), (7, "phone_empty")]
        );
    }
}
