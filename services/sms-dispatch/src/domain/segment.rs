//! Segments: stored filters of contacts. Whoever opted out is in none.

use chrono::{DateTime, Days, Utc};
use sea_orm::{DeriveActiveEnum, EnumIter, FromJsonQueryResult};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Lada, State};

/// Values of one kind that a filter may name.
const MOST_VALUES: usize = 200;
/// Characters of one.
const MOST_CHARS: usize = 200;
/// Contacts that a sample may have.
const MOST_SAMPLED: i64 = 100_000_000;

/// Lo que puede ser un contacto.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    EnumIter,
    DeriveActiveEnum,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[sea_orm(rs_type = "String", db_type = "Text")]
pub enum Status {
    #[sea_orm(string_value = "ACTIVE")]
    Active,
    #[sea_orm(string_value = "INACTIVE")]
    Inactive,
    #[sea_orm(string_value = "UNKNOWN")]
    Unknown,
    #[sea_orm(string_value = "INVALID")]
    Invalid,
}

impl Status {
    pub const ALL: [Self; 4] = [Self::Active, Self::Inactive, Self::Unknown, Self::Invalid];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Unknown => "UNKNOWN",
            Self::Invalid => "INVALID",
        }
    }
}

/// Qué contactos. Se deben cumplir todas las clases de condiciones; de los valores de una clase, uno. Lo que
/// falta o está vacío no excluye a nadie, salvo el estado.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, FromJsonQueryResult)]
#[serde(default, deny_unknown_fields)]
pub struct Segment {
    /// Códigos o nombres de estados, como `BCS` o `Baja California Sur`.
    pub states: Vec<String>,
    pub ladas: Vec<String>,
    /// Como las tienen los contactos.
    pub cities: Vec<String>,
    /// Como los tienen los contactos.
    pub municipalities: Vec<String>,
    /// Solo teléfonos que se sabe que son móviles.
    pub mobile_only: bool,
    /// Los activos si falta.
    pub status: Vec<Status>,
    /// Con qué fundamento se les puede escribir.
    pub consent: Vec<String>,
    /// Solo a quienes no se les escribió desde entonces, o nunca.
    pub not_contacted_since: Option<DateTime<Utc>>,
    /// Solo a quienes no se les escribió en tantos días, o nunca.
    pub not_contacted_days: Option<u32>,
    /// Solo a quienes se les escribió tantas veces como máximo.
    pub max_sends: Option<i32>,
    /// Solo tantos de ellos.
    pub sample: Option<Sample>,
}

impl Default for Segment {
    fn default() -> Self {
        Self {
            states: Vec::new(),
            ladas: Vec::new(),
            cities: Vec::new(),
            municipalities: Vec::new(),
            mobile_only: false,
            status: vec![Status::Active],
            consent: Vec::new(),
            not_contacted_since: None,
            not_contacted_days: None,
            max_sends: None,
            sample: None,
        }
    }
}

/// Una parte de un segmento.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Cuántos como máximo.
    pub size: i64,
    #[serde(default)]
    pub order: Order,
}

/// Cuáles van primero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    #[default]
    Random,
    Newest,
}

/// Why a segment can't be. The text is for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSegment {
    #[error("{0:?} no es un estado de México")]
    State(String),
    #[error("{0:?} no es una LADA: se esperan dos o tres dígitos, como 55 o 612")]
    Lada(String),
    #[error("{0} lleva {MOST_VALUES} valores como máximo")]
    Many(&'static str),
    #[error("{0} lleva textos de 1 a {MOST_CHARS} caracteres")]
    Text(&'static str),
    #[error("not_contacted_since y not_contacted_days no van juntos")]
    Twice,
    #[error("{0} está fuera de rango")]
    Range(&'static str),
}

impl Segment {
    /// The same with each value once, states by their codes.
    ///
    /// # Errors
    /// As [`BadSegment`] says.
    pub fn checked(mut self) -> Result<Self, BadSegment> {
        let state = |text: &String| State::parse(text).ok_or_else(|| BadSegment::State(text.clone()));
        let states: Result<Vec<_>, _> = self.states.iter().map(state).collect();
        self.states = states?.into_iter().map(|state| state.code().to_owned()).collect();
        if let Some(wrong) = self.ladas.iter().find(|text| Lada::parse(text).is_none()) {
            return Err(BadSegment::Lada(wrong.clone()));
        }
        for (name, values) in [
            ("states", &mut self.states),
            ("ladas", &mut self.ladas),
            ("cities", &mut self.cities),
            ("municipalities", &mut self.municipalities),
            ("consent", &mut self.consent),
        ] {
            values.sort_unstable();
            values.dedup();
            if values.len() > MOST_VALUES {
                return Err(BadSegment::Many(name));
            }
            let good =
                |text: &String| (1..=MOST_CHARS).contains(&text.chars().count()) && !text.contains('\0');
            if !values.iter().all(good) {
                return Err(BadSegment::Text(name));
            }
        }
        self.status.sort_unstable();
        self.status.dedup();
        if self.status.is_empty() {
            self.status.push(Status::Active);
        }
        if self.not_contacted_since.is_some() && self.not_contacted_days.is_some() {
            return Err(BadSegment::Twice);
        }
        if self.not_contacted_days.is_some_and(|days| !(1..=3_650).contains(&days)) {
            return Err(BadSegment::Range("not_contacted_days"));
        }
        if self.max_sends.is_some_and(|most| most < 0) {
            return Err(BadSegment::Range("max_sends"));
        }
        if self.sample.is_some_and(|sample| !(1..=MOST_SAMPLED).contains(&sample.size)) {
            return Err(BadSegment::Range("sample.size"));
        }
        Ok(self)
    }

    /// Since when nobody in it was written to, at `now`.
    pub fn quiet_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let days = self.not_contacted_days.map(|days| Days::new(u64::from(days)));
        self.not_contacted_since.or_else(|| days.and_then(|days| now.checked_sub_days(days)))
    }

    /// Whether the cube of counts knows all that it asks for.
    pub fn is_of_the_cube(&self) -> bool {
        self.municipalities.is_empty()
            && self.not_contacted_since.is_none()
            && self.not_contacted_days.is_none()
            && self.max_sends.is_none()
    }

    /// How many an audience of it has, of so many that match.
    pub fn of(&self, matching: i64) -> i64 {
        self.sample.map_or(matching, |sample| sample.size.min(matching))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Result<Segment, BadSegment> {
        serde_json::from_value::<Segment>(json).expect("a segment's fields").checked()
    }

    #[test]
    fn values_are_known_ones_each_once_and_active_is_the_default() {
        let segment = parse(serde_json::json!({
            "states": ["Baja California Sur", "BCS", "jal"], "ladas": ["612", "33"], "status": [],
        }));
        let segment = segment.expect("a good segment");
        assert_eq!(segment.states, ["BCS", "JAL"]);
        assert_eq!(segment.status, [Status::Active]);
        assert_eq!(parse(serde_json::json!({})).expect("everybody").status, [Status::Active]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        use serde_json::json;
        for (wrong, error) in [
            (json!({"states": ["Texas"]}), BadSegment::State("Texas".into())),
            (json!({"ladas": ["551"]}), BadSegment::Lada("551".into())),
            (json!({"cities": [""]}), BadSegment::Text("cities")),
            (json!({"max_sends": -1}), BadSegment::Range("max_sends")),
            (json!({"sample": {"size": 0}}), BadSegment::Range("sample.size")),
            (json!({"not_contacted_days": 0}), BadSegment::Range("not_contacted_days")),
            (
                json!({"not_contacted_days": 7, "not_contacted_since": "2026-01-01T00:00:00Z"}),
                BadSegment::Twice,
            ),
        ] {
            assert_eq!(parse(wrong.clone()), Err(error), "{wrong}");
        }
        assert!(serde_json::from_value::<Segment>(json!({"estado": ["BCS"]})).is_err(), "no unknown field");
    }

    #[test]
    fn quiet_days_count_back_from_now_and_a_sample_takes_at_most_what_there_is() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
        let segment = Segment { not_contacted_days: Some(7), ..Segment::default() };
        assert_eq!(segment.quiet_since(now), now.checked_sub_days(Days::new(7)));
        assert!(!segment.is_of_the_cube() && Segment::default().is_of_the_cube());
        let sampled = Segment { sample: Some(Sample { size: 10, order: Order::Newest }), ..segment };
        assert_eq!((sampled.of(5), sampled.of(50)), (5, 10));
    }
}
