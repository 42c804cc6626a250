//! The numbering plan as the regulator (IFT) publishes it, `pnn_*.csv`: the only source that says whether a
//! number is a mobile one. Portability changes the operator of a number, never its type.

use std::collections::HashMap;
use std::io::Read;

use csv::{ByteRecord, ReaderBuilder};
use thiserror::Error;

use super::phone::Phone;

/// Numbers of one type and operator, each after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first number, ten digits.
    pub first: u64,
    /// The last number, ten digits.
    pub last: u64,
    /// MODALIDAD is CPP or MPP (caller or called party pays); FIJO is a fixed line.
    pub is_mobile: bool,
    /// The operator that the numbers were assigned to, RAZON_SOCIAL.
    pub operator: String,
}

/// Ranges in their order, none touching another; equal neighbours are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumberingPlan {
    ranges: Vec<Range>,
}

/// What is wrong with a file. Lines count from 1, the header's.
#[derive(Debug, Error)]
pub enum PlanError {
    /// It can't be read, or is no CSV.
    #[error("el archivo no se puede leer como CSV: {0}")]
    Csv(#[from] csv::Error),
    /// The header lacks a column.
    #[error("falta la columna {0} en el encabezado")]
    MissingColumn(&'static str),
    /// A value isn't what its column holds.
    #[error("línea {line}: {column} es {value:?}, se esperaba {expected}")]
    Value {
        /// Where.
        line: u64,
        /// Which column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What should.
        expected: &'static str,
    },
    /// A range ends before it begins.
    #[error("línea {line}: el rango termina en {last}, antes de su inicio {first}")]
    Backwards {
        /// Where.
        line: u64,
        /// Its first number.
        first: u64,
        /// Its last number.
        last: u64,
    },
    /// Two ranges of different type or operator hold the same numbers.
    #[error(
        "los rangos {first}-{last} y {other_first}-{other_last} se traslapan con distinto tipo u operador"
    )]
    Overlap {
        /// The first number of the earlier range.
        first: u64,
        /// Its last number.
        last: u64,
        /// The first number of the later range.
        other_first: u64,
        /// Its last number.
        other_last: u64,
    },
    /// It holds no range.
    #[error("el archivo no contiene rangos")]
    Empty,
}

const FIRST: &str = "NUMERACION_INICIAL";
const LAST: &str = "NUMERACION_FINAL";
const TYPE: &str = "MODALIDAD";
const OPERATOR: &str = "RAZON_SOCIAL";

const TEN_DIGITS: std::ops::RangeInclusive<u64> = 1_000_000_000..=9_999_999_999;

impl NumberingPlan {
    /// Reads a `pnn_*.csv`: comma-separated, UTF-8 or windows-1252, its columns found by name in any order.
    ///
    /// # Errors
    /// What is wrong, with the line and the value.
    pub fn read(file: impl Read) -> Result<Self, PlanError> {
        // Rows may end with a comma that the header lacks.
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(file);
        let columns = Columns::of(reader.byte_headers()?)?;
        // 178,000 rows name some hundred operators.
        let mut decoded: HashMap<Vec<u8>, String> = HashMap::new();
        let mut ranges = Vec::new();
        let mut record = ByteRecord::new();
        while reader.read_byte_record(&mut record)? {
            let line = record.position().map_or(0, csv::Position::line);
            let operator = record.get(columns.operator).unwrap_or_default();
            let operator = match decoded.get(operator) {
                Some(known) => known.clone(),
                None => {
                    decoded.entry(operator.to_vec()).or_insert(decode(operator).trim().to_owned()).clone()
                }
            };
            ranges.push(columns.range(&record, line, operator)?);
        }
        if ranges.is_empty() {
            return Err(PlanError::Empty);
        }
        Self::from_ranges(ranges)
    }

    /// A plan of ranges in any order; equal neighbours become one.
    ///
    /// # Errors
    /// Two of different type or operator overlap.
    pub fn from_ranges(mut ranges: Vec<Range>) -> Result<Self, PlanError> {
        ranges.sort_unstable_by_key(|range| (range.first, range.last));
        let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
        for range in ranges {
            if let Some(last) = merged.last_mut() {
                let equal = last.is_mobile == range.is_mobile && last.operator == range.operator;
                if equal && range.first <= last.last + 1 {
                    last.last = last.last.max(range.last);
                    continue;
                }
                if range.first <= last.last {
                    return Err(PlanError::Overlap {
                        first: last.first,
                        last: last.last,
                        other_first: range.first,
                        other_last: range.last,
                    });
                }
            }
            merged.push(range);
        }
        merged.shrink_to_fit();
        Ok(Self { ranges: merged })
    }

    /// The range of a number; `None` where the plan doesn't have it.
    pub fn lookup(&self, phone: Phone) -> Option<&Range> {
        let number = phone.number();
        let after = self.ranges.partition_point(|range| range.first <= number);
        self.ranges[..after].last().filter(|range| number <= range.last)
    }

    /// All ranges in their order: the rows to store, from which [`NumberingPlan::from_ranges`] makes it again.
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// All numbers of ten digits in their order, as the ranges and what lies between them.
    pub fn spans(&self) -> impl Iterator<Item = Span<'_>> {
        let before =
            std::iter::once(TEN_DIGITS.start() - 1).chain(self.ranges.iter().map(|range| range.last));
        let after = self.ranges.iter().map(Some).chain(std::iter::once(None));
        before.zip(after).flat_map(|(before, range)| {
            let until = range.map_or(*TEN_DIGITS.end(), |range| range.first - 1);
            let between = Span { first: before + 1, last: until, range: None };
            let span = range.map(|range| Span { first: range.first, last: range.last, range: Some(range) });
            [Some(between).filter(|span| span.first <= span.last), span].into_iter().flatten()
        })
    }
}

/// Numbers one after the other that are of one range, or of none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span<'a> {
    /// The first number, ten digits.
    pub first: u64,
    /// The last number, ten digits.
    pub last: u64,
    /// None where the plan has none of these numbers.
    pub range: Option<&'a Range>,
}

/// The places of the columns that count.
struct Columns {
    first: usize,
    last: usize,
    kind: usize,
    operator: usize,
}

impl Columns {
    fn of(header: &ByteRecord) -> Result<Self, PlanError> {
        let names: Vec<String> = header.iter().map(plain).collect();
        let place = |column: &'static str| {
            let wanted = plain(column.as_bytes());
            names.iter().position(|name| *name == wanted).ok_or(PlanError::MissingColumn(column))
        };
        Ok(Self { first: place(FIRST)?, last: place(LAST)?, kind: place(TYPE)?, operator: place(OPERATOR)? })
    }

    fn range(&self, record: &ByteRecord, line: u64, operator: String) -> Result<Range, PlanError> {
        let text = |column: usize| decode(record.get(column).unwrap_or_default()).trim().to_owned();
        let number = |column: usize, name: &'static str| {
            let value = text(column);
            let number = value.parse().ok().filter(|number| TEN_DIGITS.contains(number));
            number.ok_or(PlanError::Value {
                line,
                column: name,
                value,
                expected: "un número de diez dígitos",
            })
        };
        let first = number(self.first, FIRST)?;
        let last = number(self.last, LAST)?;
        if last < first {
            return Err(PlanError::Backwards { line, first, last });
        }
        let is_mobile = match text(self.kind) {
            kind if kind.eq_ignore_ascii_case("CPP") || kind.eq_ignore_ascii_case("MPP") => true,
            kind if kind.eq_ignore_ascii_case("FIJO") => false,
            value => {
                return Err(PlanError::Value { line, column: TYPE, value, expected: "CPP, MPP o FIJO" });
            }
        };
        Ok(Range { first, last, is_mobile, operator })
    }
}

/// A column's name: letters in upper case, accents and all between letters aside.
fn plain(name: &[u8]) -> String {
    let letters = decode(name).to_uppercase().replace('Ó', "O");
    letters.chars().filter(char::is_ascii_alphabetic).collect()
}

/// Text of a file that is UTF-8 or windows-1252: as UTF-8 where it is that.
fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => encoding_rs::WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::normalise;
    use super::*;

    const HEADER: &str =
        "ZONA,NUMERACION_INICIAL,NUMERACION_FINAL,OCUPACION,MODALIDAD,RAZON_SOCIAL,FECHA_ASIGNACION\n";

    fn read(rows: &str) -> Result<NumberingPlan, PlanError> {
        NumberingPlan::read(format!("{HEADER}{rows}").as_bytes())
    }

    fn kind(plan: &NumberingPlan, national: &str) -> Option<(bool, String)> {
        let phone = normalise(national.as_bytes()).expect("a number").phone;
        plan.lookup(phone).map(|range| (range.is_mobile, range.operator.clone()))
    }

    #[test]
    fn a_number_has_the_type_and_operator_of_its_range() {
        let plan = read(concat!(
            "612,6121005000,6121009999,5000,CPP,\"RADIOMOVIL DIPSA, S.A. DE C.V.\",01/02/2003\n",
            "612,6121000000,6121004999,5000,CPP,\"RADIOMOVIL DIPSA, S.A. DE C.V.\",01/02/2003,\n",
            "612,6121020000,6121029999,10000,MPP,AT&T,\n",
            "612,6121010000,6121019999,10000,FIJO,TELMEX,01/02/2003\n",
        ))
        .expect("a plan");
        let mobile = (true, "RADIOMOVIL DIPSA, S.A. DE C.V.".to_owned());
        // Neighbours that are equal are one.
        assert_eq!(plan.ranges().len(), 3);
        assert_eq!(kind(&plan, "6121004768"), Some(mobile.clone()));
        assert_eq!(kind(&plan, "6121000001"), Some(mobile.clone()));
        assert_eq!(kind(&plan, "6121009999"), Some(mobile));
        assert_eq!(kind(&plan, "6121010000"), Some((false, "TELMEX".to_owned())));
        assert_eq!(kind(&plan, "6121029999"), Some((true, "AT&T".to_owned())));
        assert_eq!(kind(&plan, "6121030000"), None);
        assert_eq!(kind(&plan, "6120999999"), None);
        assert_eq!(kind(&NumberingPlan::default(), "6121004768"), None);
        assert_eq!(NumberingPlan::from_ranges(plan.ranges().to_vec()).expect("the same"), plan);
    }

    #[test]
    fn columns_in_any_order_and_encoding() {
        let utf8 = "\u{feff}Razón Social,Modalidad,numeración_final,NUMERACIÓN INICIAL\nPEÑA,fijo,6121009999, 6121000000 \n";
        let (latin, _, _) = encoding_rs::WINDOWS_1252.encode(&utf8['\u{feff}'.len_utf8()..]);
        for file in [utf8.as_bytes(), &*latin, utf8.replace('\n', "\r\n").as_bytes()] {
            let plan = NumberingPlan::read(file).expect("a plan");
            assert_eq!(kind(&plan, "6121004768"), Some((false, "PEÑA".to_owned())));
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_value() {
        let good = "612,6121000000,6121004999,5000,CPP,TELCEL,01/02/2003\n";
        for (rows, message) in [
            (
                "612,612100000,6121004999,1,CPP,X,\n",
                "línea 2: NUMERACION_INICIAL es \"612100000\", se esperaba un número de diez dígitos",
            ),
            (
                "612,6121000000,hasta,1,CPP,X,\n",
                "línea 2: NUMERACION_FINAL es \"hasta\", se esperaba un número de diez dígitos",
            ),
            (
                "612,6121000000,6120000000,1,CPP,X,\n",
                "línea 2: el rango termina en 6120000000, antes de su inicio 6121000000",
            ),
            (
                "612,6121000000,6121004999,1,MOVIL,X,\n",
                "línea 2: MODALIDAD es \"MOVIL\", se esperaba CPP, MPP o FIJO",
            ),
            ("612,6121000000,6121004999\n", "línea 2: MODALIDAD es \"\", se esperaba CPP, MPP o FIJO"),
            ("", "el archivo no contiene rangos"),
        ] {
            assert_eq!(read(rows).expect_err(rows).to_string(), message);
        }
        let second = read(&format!("{good}612,x,6121004999,1,CPP,X,\n")).expect_err("line 3");
        assert!(second.to_string().starts_with("línea 3: "), "{second}");
        let overlap =
            read(&format!("{good}612,6121004999,6121005999,1,CPP,OTRA,\n")).expect_err("two operators");
        assert!(
            matches!(overlap, PlanError::Overlap { first: 6_121_000_000, other_first: 6_121_004_999, .. }),
            "{overlap}"
        );
        assert_eq!(read(&format!("{good}{good}")).expect("repeated").ranges().len(), 1);
        let header = NumberingPlan::read(&b"ZONA,MODALIDAD\n"[..]).expect_err("no columns");
        assert_eq!(header.to_string(), "falta la columna NUMERACION_INICIAL en el encabezado");
    }
}
