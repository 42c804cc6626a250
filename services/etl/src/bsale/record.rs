//! A record as Bsale sends it: fields with the type that it happens to have that day. Numbers are read from their
//! text, never through a float.

use std::borrow::Cow;

use rust_decimal::Decimal;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::fields::{Checked, Fields};
use crate::domain::money;

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// A key, a date or an amount that is missing or of another type: the source has changed, and the stream stops.
    #[error("{0}")]
    Drift(String),
    /// This record alone: it goes to quarantine.
    #[error("{0}")]
    Record(String),
}

/// A JSON object, whose fields are taken one by one. What nobody takes is `extra`.
#[derive(Debug)]
pub struct Record<'a> {
    what: &'static str,
    fields: Fields<'a>,
}

/// A list in an object, in one go: those of documents are most of what a page is.
#[derive(Deserialize)]
struct List<'a> {
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    count: Option<&'a RawValue>,
}

/// A sub-list that came with its record, and how many there are in all: Bsale cuts expanded lists at 25.
#[derive(Debug)]
pub struct Expanded<'a> {
    what: &'static str,
    items: Vec<&'a RawValue>,
    count: u64,
}

impl<'a> Expanded<'a> {
    /// Its records, where all of them came. None: it was cut, or says another number, and is asked for by itself.
    ///
    /// # Errors
    /// Drift.
    pub fn whole(&self) -> Result<Option<Vec<Record<'a>>>, Bad> {
        if self.items.len() as u64 != self.count {
            return Ok(None);
        }
        self.items.iter().map(|raw| Record::read(self.what, raw)).collect::<Result<_, _>>().map(Some)
    }
}

impl<'a> Record<'a> {
    /// Reads an object. `what` is its name in errors, as `document`.
    ///
    /// # Errors
    /// It is no object.
    pub fn read(what: &'static str, raw: &'a RawValue) -> Result<Self, Bad> {
        let fields = serde_json::from_str(raw.get())
            .map_err(|_| Bad::Drift(format!("{what} is {:.60}, expected an object", raw.get())))?;
        Ok(Self { what, fields })
    }

    fn take(&mut self, name: &str) -> Option<&'a str> {
        self.fields.take(name).map(RawValue::get).filter(|text| *text != "null")
    }

    fn wrong(&self, name: &str, text: &str, expected: &str) -> String {
        format!("{}.{name} is {text:.80}, expected {expected}", self.what)
    }

    fn missing(&self, name: &str) -> Bad {
        Bad::Drift(format!("{}.{name} is missing", self.what))
    }

    /// A whole number, written as a number or as a string, that must be there.
    ///
    /// # Errors
    /// Drift.
    pub fn id(&mut self, name: &str) -> Result<i64, Bad> {
        let text = self.take(name).ok_or_else(|| self.missing(name))?;
        self.whole_number(name, text)
    }

    fn whole_number(&self, name: &str, text: &str) -> Result<i64, Bad> {
        unquoted(text)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Bad::Drift(self.wrong(name, text, "a whole number")))
    }

    /// The same, where it may be absent or empty.
    ///
    /// # Errors
    /// Drift.
    pub fn optional_id(&mut self, name: &str) -> Result<Option<i64>, Bad> {
        match self.take(name) {
            None | Some("\"\"") => Ok(None),
            Some(text) => self.whole_number(name, text).map(Some),
        }
    }

    /// A flag, 0 or 1; absent is 0.
    ///
    /// # Errors
    /// A record of its own kind.
    pub fn flag(&mut self, name: &str) -> Result<bool, Bad> {
        match self.take(name) {
            None | Some("0" | "\"0\"" | "false") => Ok(false),
            Some("1" | "\"1\"" | "true") => Ok(true),
            Some(other) => Err(Bad::Record(self.wrong(name, other, "0 or 1"))),
        }
    }

    /// A text of at most so many characters; absent, null and empty are none. NULs, which PostgreSQL does not hold,
    /// become U+FFFD.
    ///
    /// # Errors
    /// It is too long, or no text.
    pub fn text(&mut self, name: &str, most: usize) -> Result<Option<String>, Bad> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let value = match unquoted(text) {
            Some(value) => value,
            None => return Err(Bad::Record(self.wrong(name, text, "a text"))),
        };
        let value = value.trim().replace('\0', "\u{fffd}");
        if value.chars().count() > most {
            return Err(Bad::Record(format!("{}.{name} has more than {most} characters", self.what)));
        }
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    /// An amount that must be there.
    ///
    /// # Errors
    /// Drift where it is missing or no number; a bad record where the tables can't hold it.
    pub fn amount(&mut self, name: &str) -> Result<Decimal, Bad> {
        self.optional_amount(name)?.ok_or_else(|| self.missing(name))
    }

    /// The same, where it may be absent.
    ///
    /// # Errors
    /// As [`Record::amount`].
    pub fn optional_amount(&mut self, name: &str) -> Result<Option<Decimal>, Bad> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let value = unquoted(text).unwrap_or(Cow::Borrowed(text));
        match money::parse(&value) {
            Ok(amount) => Ok(Some(amount)),
            Err(error @ money::BadAmount::TooLarge(_)) => {
                Err(Bad::Record(format!("{}.{name}: {error}", self.what)))
            }
            Err(_) => Err(Bad::Drift(self.wrong(name, text, "an amount"))),
        }
    }

    /// Seconds since 1970 that must be there.
    ///
    /// # Errors
    /// Drift.
    pub fn seconds(&mut self, name: &str) -> Result<chrono::DateTime<chrono::Utc>, Bad> {
        let seconds = self.id(name)?;
        chrono::DateTime::from_timestamp(seconds, 0)
            .ok_or_else(|| Bad::Drift(self.wrong(name, &seconds.to_string(), "seconds since 1970")))
    }

    /// The same, where it may be absent.
    ///
    /// # Errors
    /// Drift.
    pub fn optional_seconds(&mut self, name: &str) -> Result<Option<chrono::DateTime<chrono::Utc>>, Bad> {
        match self.optional_id(name)? {
            None => Ok(None),
            Some(seconds) => chrono::DateTime::from_timestamp(seconds, 0)
                .map(Some)
                .ok_or_else(|| Bad::Drift(self.wrong(name, &seconds.to_string(), "seconds since 1970"))),
        }
    }

    /// The id of a nested object (mostly a string there), if the object is there.
    ///
    /// # Errors
    /// Drift.
    pub fn nested_id(&mut self, name: &'static str) -> Result<Option<i64>, Bad> {
        let Some(raw) = self.fields.take(name).filter(|raw| raw.get() != "null") else { return Ok(None) };
        let mut nested = Record::read(name, raw)?;
        // Some are only a link: {"href": ".../variants/352.json"}.
        if !nested.fields.has("id")
            && let Some(href) = nested.text("href", 500)?
        {
            return match id_of_href(&href) {
                Some(id) => Ok(Some(id)),
                None => Err(Bad::Drift(format!(
                    "{}.{name}.href is {href:.80}, expected a link to one",
                    self.what
                ))),
            };
        }
        nested.id("id").map(Some)
    }

    /// A nested list that was expanded. None: it was not.
    ///
    /// # Errors
    /// Drift.
    pub fn expanded(&mut self, name: &'static str) -> Result<Option<Expanded<'a>>, Bad> {
        let Some(raw) = self.fields.take(name).filter(|raw| raw.get() != "null") else { return Ok(None) };
        let wrong = |why: String| {
            Bad::Drift(format!("{}.{name} is {:.60}, expected a list: {why}", self.what, raw.get()))
        };
        // An array would be taken for the fields in their order.
        if !raw.get().starts_with('{') {
            return Err(wrong("it is no object".to_owned()));
        }
        let list: List<'a> = serde_json::from_str(raw.get()).map_err(|error| wrong(error.to_string()))?;
        let Some(items) = list.items else { return Ok(None) };
        let count = match list.count.map(RawValue::get) {
            None | Some("\"\"") => items.len() as u64,
            Some(count) => unquoted(count)
                .and_then(|text| text.parse().ok())
                .map(i64::unsigned_abs)
                .ok_or_else(|| Bad::Drift(format!("{name}.count is {count:.80}, expected a whole number")))?,
        };
        Ok(Some(Expanded { what: name, items, count }))
    }

    /// A plain list of objects; absent is empty.
    ///
    /// # Errors
    /// Drift.
    pub fn list(&mut self, name: &'static str) -> Result<Vec<Record<'a>>, Bad> {
        let Some(raw) = self.fields.take(name).filter(|raw| raw.get() != "null") else {
            return Ok(Vec::new());
        };
        let items: Vec<&'a RawValue> = serde_json::from_str(raw.get())
            .map_err(|_| Bad::Drift(format!("{}.{name} is not a list", self.what)))?;
        items.into_iter().map(|raw| Record::read(name, raw)).collect()
    }

    /// What nobody took, as a JSON object without links; with the names that `known` lacks.
    ///
    /// # Errors
    /// A text in it is none: half of a surrogate pair, which databases refuse.
    pub fn rest(mut self, known: &[&str]) -> Result<(String, Vec<String>), Bad> {
        self.fields.take("href");
        let fields = self.fields.left();
        // A line of a document, of which there are the most, has nothing more.
        if fields.is_empty() {
            return Ok(("{}".to_owned(), Vec::new()));
        }
        let new = fields.keys().filter(|name| !known.contains(name)).map(|name| (*name).to_owned()).collect();
        let not_json = |error: serde_json::Error| Bad::Record(format!("{} is not JSON: {error}", self.what));
        let mut rest = serde_json::to_string(&fields).map_err(not_json)?;
        if rest.contains("\\u0000") {
            // A text of PostgreSQL's jsonb holds no NUL.
            rest = rest.replace("\\u0000", "\\ufffd");
        }
        serde_json::from_str::<Checked>(&rest).map_err(not_json)?;
        Ok((rest, new))
    }
}

/// A string's content, or a number as it stands.
fn unquoted(text: &str) -> Option<Cow<'_, str>> {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(content) if !content.contains('\\') => Some(content.into()),
        Some(_) => serde_json::from_str::<String>(text).ok().map(Cow::Owned),
        None => text.starts_with(|first: char| first.is_ascii_digit() || first == '-').then(|| text.into()),
    }
}

/// 352 of `https://api.bsale.io/v1/variants/352.json`.
pub fn id_of_href(href: &str) -> Option<i64> {
    let path = href.split(['?', '#']).next()?;
    path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
}

/// The id of a record that can't be read otherwise.
pub fn id_of(raw: &RawValue) -> Option<i64> {
    Record::read("record", raw).ok()?.id("id").ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn ids_are_numbers_or_strings_and_a_missing_one_is_named() {
        let text = raw(
            r#"{"id": "7", "n": 8, "v": {"id": 9}, "w": {"href": "https://x/v1/variants/352.json"}, "z": null}"#,
        );
        let mut record = Record::read("document", &text).expect("an object");
        assert_eq!(record.id("id"), Ok(7));
        assert_eq!(record.id("n"), Ok(8));
        assert_eq!(record.nested_id("v"), Ok(Some(9)));
        assert_eq!(record.nested_id("w"), Ok(Some(352)));
        assert_eq!(record.nested_id("client"), Ok(None));
        assert_eq!(record.id("z"), Err(Bad::Drift("document.z is missing".into())));
        let text = raw(r#"{"totalAmount": true, "net": "abc"}"#);
        let mut record = Record::read("document", &text).expect("an object");
        assert_eq!(
            record.amount("totalAmount"),
            Err(Bad::Drift("document.totalAmount is true, expected an amount".into()))
        );
        assert!(matches!(record.amount("net"), Err(Bad::Drift(_))));
    }

    #[test]
    fn amounts_are_read_from_their_text() {
        let text = raw(r#"{"a": 99999999999999.9999, "b": "100000000.01", "c": 1e2, "d": 100000000000000}"#);
        let mut record = Record::read("document", &text).expect("an object");
        assert_eq!(record.amount("a").expect("an amount").to_string(), "99999999999999.9999");
        assert_eq!(record.amount("b").expect("an amount").to_string(), "100000000.0100");
        assert_eq!(record.amount("c").expect("an amount").to_string(), "100.0000");
        assert!(matches!(record.amount("d"), Err(Bad::Record(_))));
    }

    #[test]
    fn what_nobody_takes_is_kept_and_what_is_new_is_told() {
        let text = raw(r#"{"href": "x", "id": 1, "address": "Á", "points": 3.50, "novedad": {"a": 1}}"#);
        let mut record = Record::read("client", &text).expect("an object");
        record.id("id").expect("an id");
        let (extra, new) = record.rest(&["address", "points"]).expect("JSON");
        assert_eq!(extra, r#"{"address":"Á","novedad":{"a": 1},"points":3.50}"#);
        assert_eq!(new, ["novedad"]);
    }

    #[test]
    fn a_name_with_escapes_is_the_name_it_stands_for() {
        let text = raw(r#"{"\u0069d": 1, "n\"o\u00f1o": 2, "id\n": 3}"#);
        let mut record = Record::read("client", &text).expect("an object");
        assert_eq!(record.id("id"), Ok(1));
        let (extra, new) = record.rest(&[]).expect("JSON");
        assert_eq!(extra, r#"{"id\n":3,"n\"oño":2}"#);
        assert_eq!(new, ["id\n", "n\"oño"]);
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_counts() {
        let text = raw(r#"{"id": 1, "x": 1, "id": 2, "x": null, "y": 3, "x": 4}"#);
        let mut record = Record::read("client", &text).expect("an object");
        assert_eq!(record.id("id"), Ok(2));
        assert_eq!(record.id("id"), Err(Bad::Drift("client.id is missing".into())));
        let (extra, new) = record.rest(&["y"]).expect("JSON");
        assert_eq!(extra, r#"{"x":4,"y":3}"#);
        assert_eq!(new, ["x"]);
    }

    #[test]
    fn a_list_that_is_none_is_drift() {
        for details in [
            "5",
            "[{\"id\": 1}]",
            "[[], 0]",
            "[null, null]",
            r#"{"items": {}}"#,
            r#"{"items": [], "count": "x"}"#,
        ] {
            let text = raw(&format!(r#"{{"details": {details}}}"#));
            let mut record = Record::read("document", &text).expect("an object");
            assert!(matches!(record.expanded("details"), Err(Bad::Drift(_))), "{details}");
        }
        // Of one that does not say how many there are, all came.
        let text = raw(r#"{"details": {"count": null, "items": [{}], "limit": 25}}"#);
        let mut record = Record::read("document", &text).expect("an object");
        assert_eq!(record.expanded("details").expect("a list").map(|list| list.count), Some(1));
    }

    #[test]
    fn half_of_a_surrogate_pair_is_a_bad_record_wherever_it_is() {
        let text = raw(r#"{"note": "a \ud83d", "nested": {"x": ["\ud83d\ude00"]}}"#);
        let rest = Record::read("client", &text).expect("an object").rest(&[]);
        assert!(matches!(rest, Err(Bad::Record(_))), "{rest:?}");
        for bad in [r#"{"x": [{"y": "\udc00"}]}"#, r#"{"x": {"\ud83d": 1}}"#, r#"{"x": [1e999]}"#] {
            let text = raw(bad);
            let rest = Record::read("client", &text).expect("an object").rest(&[]);
            assert!(matches!(rest, Err(Bad::Record(_))), "{bad}: {rest:?}");
        }
        let text = raw(r#"{"x": [true, null, -1, 1.5, 18446744073709551616, "\ud83d\ude00", {"y": {}}]}"#);
        assert!(Record::read("client", &text).expect("an object").rest(&[]).is_ok());
        let text = raw(r#"{"note": "a \ud83d\ude00 \u0000"}"#);
        let rest = Record::read("client", &text).expect("an object").rest(&[]);
        assert_eq!(rest.expect("a pair").0, r#"{"note":"a \ud83d\ude00 \ufffd"}"#);
    }

    #[test]
    fn a_cut_list_says_how_many_there_are() {
        let text = raw(r#"{"details": {"count": 40, "limit": 25, "items": [{"id": 1}, {"id": 2}]}}"#);
        let mut record = Record::read("document", &text).expect("an object");
        let list = record.expanded("details").expect("a list").expect("expanded");
        assert_eq!(list.count, 40);
        for (text, expected) in [
            (r#"{"details": {"count": 40, "items": [{"id": 1}, {"id": 2}]}}"#, None),
            // None of what came is taken for gone.
            (r#"{"details": {"count": 0, "items": [{"id": 1}, {"id": 2}]}}"#, None),
            (r#"{"details": {"count": 2, "items": [{"id": 1}, {"id": 2}]}}"#, Some(2)),
            (r#"{"details": {"count": 0, "items": []}}"#, Some(0)),
        ] {
            let text = raw(text);
            let mut record = Record::read("document", &text).expect("an object");
            let list = record.expanded("details").expect("a list").expect("expanded");
            assert_eq!(list.whole().expect("objects").as_ref().map(Vec::len), expected, "{text}");
        }
        for text in [r#"{"details": {"href": "https://x/details.json"}}"#, r#"{"details": null}"#] {
            let text = raw(text);
            let mut record = Record::read("document", &text).expect("an object");
            assert!(record.expanded("details").expect("no list").is_none());
        }
    }
}
