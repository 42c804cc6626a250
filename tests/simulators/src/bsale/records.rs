//! What a shop holds, record by record.

use std::fmt;

use chrono::NaiveDate;

/// An amount in ten-thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(pub i64);

impl Money {
    pub const fn units(units: i64) -> Self {
        Self(units * 10_000)
    }
}

impl fmt::Display for Money {
    /// As `-12.3456`, without zeros at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, all) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let (whole, rest) = (all / 10_000, all % 10_000);
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let rest = format!("{rest:04}");
        write!(f, "{sign}{whole}.{}", rest.trim_end_matches('0'))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentType {
    pub name: String,
    /// `use`: 0 sale, 1 return, 2 dispatch, 3 settlement.
    pub usage: i64,
    pub credit_note: bool,
}

impl DocumentType {
    /// One that is no credit note.
    pub fn new(name: &str, usage: i64) -> Self {
        Self { name: name.to_owned(), usage, credit_note: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Product {
    pub id: i64,
    pub name: String,
    pub description: Option<String>,
    pub product_type: i64,
    pub stock_control: bool,
    pub state: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    pub id: i64,
    pub product: i64,
    pub description: String,
    pub sku: Option<String>,
    pub bar_code: Option<String>,
    pub state: i64,
    /// The average cost, once something was received.
    pub average_cost: Option<Money>,
    /// Receptions: day and cost.
    pub history: Vec<(NaiveDate, Money)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    pub id: i64,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub code: Option<String>,
    pub email: Option<String>,
    pub phone: Option<String>,
    pub address: Option<String>,
    pub state: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detail {
    pub id: i64,
    pub line: i64,
    pub variant: i64,
    pub quantity: Money,
    pub net_unit: Money,
    pub net: Money,
    pub tax: Money,
    pub total: Money,
    pub net_discount: Money,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub id: i64,
    pub document_type: i64,
    pub client: Option<i64>,
    pub office: i64,
    pub number: i64,
    pub day: NaiveDate,
    pub net: Money,
    pub tax: Money,
    pub total: Money,
    /// 0 active, 1 annulled.
    pub state: i64,
    pub details: Vec<Detail>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stock {
    pub variant: i64,
    pub office: i64,
    pub quantity: Money,
    pub reserved: Money,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    pub id: i64,
    pub variant: i64,
    pub value: Money,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reception {
    pub id: i64,
    pub day: NaiveDate,
    pub variants: Vec<i64>,
}
