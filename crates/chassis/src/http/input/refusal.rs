//! Why something that was sent is refused, in the words of Serde and in Spanish.

use std::fmt;

use serde::de::{self, Expected, Unexpected};
use serde_json::json;

use super::{Problem, nearest};

/// Why something that was sent is refused, and where it stands.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// From the inside out.
    pub(super) path: Vec<Step>,
    pub(super) why: Why,
}

#[derive(Debug)]
pub(super) enum Step {
    Member(String),
    Item(usize),
}

#[derive(Debug)]
pub(crate) enum Why {
    /// A name that is not known, and those that are.
    Unknown { name: String, known: Vec<&'static str> },
    /// It has to be there.
    Missing,
    /// It is there twice.
    Repeated,
    /// Another value is expected.
    Wrong { value: String, expected: String },
    /// A type's own reason, in its own words: for the log.
    Other { cause: String },
}

impl Refusal {
    pub(super) fn new(why: Why) -> Self {
        Self { path: Vec::new(), why }
    }

    pub(crate) fn unknown(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(Why::Unknown { name: name.to_owned(), known: known.to_vec() })
            .under(Step::Member(name.to_owned()))
    }

    pub(super) fn under(mut self, step: Step) -> Self {
        self.path.push(step);
        self
    }

    /// As `list[1].most`; empty for the whole.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.path.iter().rev() {
            match step {
                Step::Item(index) => path.push_str(&format!("[{index}]")),
                Step::Member(name) if path.is_empty() => path.push_str(name),
                Step::Member(name) => {
                    path.push('.');
                    path.push_str(name);
                }
            }
        }
        path
    }

    /// As a problem: 400 with `unknown` for a name that is not known, else with `invalid`. `what` is what the names are.
    pub(crate) fn problem(self, unknown: &'static str, invalid: &'static str, what: &str) -> Problem {
        let (path, code) =
            (self.path(), if matches!(self.why, Why::Unknown { .. }) { unknown } else { invalid });
        let detail = self.sentence(what);
        let problem = Problem::bad_request(code, detail);
        match self.why {
            Why::Unknown { name, known } => {
                let nearest = nearest::nearest(&name, &known);
                problem.with_details(json!({ "campo": path, "sugerencia": nearest, "conocidos": known }))
            }
            Why::Other { cause } => {
                problem.with_details(json!({ "campo": path })).because(anyhow::anyhow!("{cause}"))
            }
            _ if path.is_empty() => problem,
            _ => problem.with_details(json!({ "campo": path })),
        }
    }

    /// What is wrong, for the person.
    pub(super) fn sentence(&self, what: &str) -> String {
        let path = self.path();
        let named = if path.is_empty() { "El cuerpo".to_owned() } else { format!("El {what} {path:?}") };
        match &self.why {
            Why::Unknown { name, known } => match nearest::nearest(name, known) {
                Some(nearest) => format!("No se conoce el {what} {path:?}; ¿quiso decir {nearest:?}?"),
                None if known.is_empty() => {
                    format!("No se conoce el {what} {path:?}: aquí no se espera ninguno así")
                }
                None => format!("No se conoce el {what} {path:?}; se conocen {}", known.join(", ")),
            },
            Why::Missing => format!("Falta el {what} {path:?}"),
            Why::Repeated => format!("{named} está repetido"),
            Why::Wrong { value, expected } => format!("{named} es {value}; se espera {expected}"),
            Why::Other { .. } => format!("{named} no es válido"),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.path(), self.why)
    }
}

impl std::error::Error for Refusal {}

impl de::Error for Refusal {
    fn custom<T: fmt::Display>(message: T) -> Self {
        let cause = message.to_string();
        // What Serde says of a struct with `flatten` and `deny_unknown_fields`.
        match cause.strip_prefix("unknown field `").and_then(|rest| rest.strip_suffix('`')) {
            Some(name) => Self::unknown(name, &[]),
            None => Self::new(Why::Other { cause }),
        }
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_value(unexpected, expected)
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let value = match unexpected {
            Unexpected::Str(text) => format!("{text:?}"),
            Unexpected::Bool(value) => value.to_string(),
            Unexpected::Unsigned(value) => value.to_string(),
            Unexpected::Signed(value) => value.to_string(),
            Unexpected::Float(value) => value.to_string(),
            Unexpected::Seq => "una lista".to_owned(),
            Unexpected::Map => "un objeto".to_owned(),
            _ => "null".to_owned(),
        };
        Self::new(Why::Wrong { value, expected: in_spanish(&expected.to_string()) })
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(Why::Wrong { value: format!("{variant:?}"), expected: one_of(expected) })
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown(field, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(Why::Missing).under(Step::Member(field.to_owned()))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(Why::Repeated).under(Step::Member(field.to_owned()))
    }
}

/// `a, b o c`.
pub(super) fn one_of(names: &[&str]) -> String {
    match names {
        [] => "otro valor".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., last] => {
            let or = if last.starts_with(['o', 'O']) { "u" } else { "o" };
            format!("{} {or} {last}", first.join(", "))
        }
    }
}

/// What types of libraries say that they expect.
pub(super) fn in_spanish(expected: &str) -> String {
    let said = match expected {
        "a string" => "un texto",
        "a boolean" => "true o false",
        "a UUID string" | "UUID string" | "a formatted UUID string" => "un UUID",
        "a formatted date string" => "una fecha como 2026-01-31",
        "an RFC 3339 formatted date and time string" => "una fecha con hora como 2026-01-31T09:00:00Z",
        text if text.starts_with("a sequence") => "una lista",
        text if text.starts_with("struct") || text.starts_with("a map") => "un objeto",
        text if text.starts_with(['i', 'u']) && text[1..].parse::<u8>().is_ok() => "un número entero",
        "f64" | "f32" => "un número",
        _ => "otro valor",
    };
    said.to_owned()
}
