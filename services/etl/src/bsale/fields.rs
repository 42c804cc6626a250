//! JSON as little read as can be: an object's fields as they came, and what need only be valid.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// The fields of an object as they came; those that were taken have no value any more. A record has ten to forty of them:
/// looking through them all is faster than keeping them in order.
#[derive(Debug)]
pub struct Fields<'a>(Vec<(Name<'a>, Option<&'a RawValue>)>);

/// The name of a field. It is copied only where it is written with escapes: a page has some ten thousand of them.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Fields<'a> {
    /// The value of a name. Of one that comes more than once the last counts.
    pub fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let mut found = None;
        for (known, value) in &mut self.0 {
            if known.0 == name {
                found = value.take().or(found);
            }
        }
        found
    }

    /// Whether there is one that nobody has taken.
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, value)| known.0 == name && value.is_some())
    }

    /// Those that nobody took, in the order of their names.
    pub fn left(&self) -> BTreeMap<&str, &'a RawValue> {
        self.0.iter().filter_map(|(name, value)| Some((&*name.0, (*value)?))).collect()
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::with_capacity(16);
        while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            fields.push((name, Some(value)));
        }
        Ok(Fields(fields))
    }
}

/// JSON that is read to its last text and number, and of which nothing is kept. What is only skipped may have halves of
/// surrogate pairs.
pub struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}
