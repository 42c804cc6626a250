//! What the dashboards are asked, in one canonical form: the same question has one spelling, and so one place in the
//! cache, in whatever order and however often its values were given.

use std::collections::BTreeSet;

use chrono::{Datelike as _, Months, NaiveDate, TimeDelta, Utc};
use chrono_tz::America::Lima;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The carteras that a file can be of.
pub const CARTERAS: [&str; 4] = ["TEMPRANA", "CUOTA_FRACCIONAMIENTO", "ALTAS_NUEVAS", "OTRAS"];
pub const SERVICIOS: [&str; 2] = ["MOVIL", "FIJA"];
pub const PERIODOS: [&str; 4] = ["ACTUAL", "ANTERIOR", "ULTIMO_MES", "ULTIMOS_3_MESES"];
pub const RANGOS: [&str; 5] = ["SIN_DEUDA", "MENOR_1", "RANGO_1_100", "RANGO_100_500", "MAYOR_500"];
pub const DIMENSIONS: [&str; 6] = ["cartera", "servicio", "tramo", "vencimiento", "rangoDeuda", "archivo"];
/// No filter, whichever of them a client sends.
const ALL: [&str; 2] = ["TODAS", "TODOS"];
/// The longest span of days that a question is about.
const LONGEST: i64 = 366;
/// The most values of a filter.
const VALUES: usize = 200;

/// Why a question can't be asked: the parameter, and what is wrong with it, for the person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {problem}")]
pub struct Unclear {
    pub parameter: &'static str,
    pub problem: String,
}

/// A question, with all that was left open filled in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(tag = "endpoint", rename_all = "lowercase")]
pub enum Question {
    Dashboard { corte: NaiveDate, cut: Cut, dimensions: [&'static str; 2] },
    Evolution { from: NaiveDate, to: NaiveDate, cut: Cut, dimension: &'static str, metrics: BTreeSet<Metric> },
    Assignment { now: NaiveDate, before: NaiveDate, cartera: BTreeSet<String> },
    Operation { day: NaiveDate },
    Productivity { from: NaiveDate, to: NaiveDate },
}

impl Question {
    /// The endpoint's name, of metrics.
    pub const fn endpoint(&self) -> &'static str {
        match self {
            Self::Dashboard { .. } => "dashboard",
            Self::Evolution { .. } => "evolution",
            Self::Assignment { .. } => "assignment",
            Self::Operation { .. } => "operation",
            Self::Productivity { .. } => "productivity",
        }
    }
}

/// Which accounts. Empty: all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Cut {
    pub cartera: BTreeSet<String>,
    pub servicio: BTreeSet<String>,
    pub tramo: BTreeSet<String>,
    pub vencimiento: BTreeSet<i16>,
    pub rango_deuda: BTreeSet<String>,
    /// Of campaigns, by the day that they opened on.
    pub periodo: BTreeSet<String>,
    pub opened_from: Option<NaiveDate>,
    pub opened_to: Option<NaiveDate>,
}

/// Lo que evoluciona.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    Cobertura,
    Contacto,
    Cd,
    Ci,
    Sc,
    Cierre,
    Recupero,
    Intensidad,
}

impl Metric {
    pub const ALL: [Self; 8] = [
        Self::Cobertura,
        Self::Contacto,
        Self::Cd,
        Self::Ci,
        Self::Sc,
        Self::Cierre,
        Self::Recupero,
        Self::Intensidad,
    ];
    /// Those that are shown where nobody says which.
    const DEFAULT: [Self; 6] =
        [Self::Cobertura, Self::Contacto, Self::Cd, Self::Ci, Self::Cierre, Self::Recupero];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Cobertura => "cobertura",
            Self::Contacto => "contacto",
            Self::Cd => "cd",
            Self::Ci => "ci",
            Self::Sc => "sc",
            Self::Cierre => "cierre",
            Self::Recupero => "recupero",
            Self::Intensidad => "intensidad",
        }
    }

    /// `percent`, `currency` or `number`.
    pub const fn value_type(self) -> &'static str {
        match self {
            Self::Recupero => "currency",
            Self::Intensidad => "number",
            _ => "percent",
        }
    }

    pub const fn description(self) -> &'static str {
        match self {
            Self::Cobertura => "Cuentas gestionadas sobre cuentas asignadas",
            Self::Contacto => "Cuentas con contacto directo o indirecto sobre cuentas asignadas",
            Self::Cd => "Cuentas con contacto directo sobre cuentas asignadas",
            Self::Ci => "Cuentas con contacto indirecto sobre cuentas asignadas",
            Self::Sc => "Cuentas gestionadas sin contacto sobre cuentas asignadas",
            Self::Cierre => "Cuentas con pago sobre cuentas asignadas",
            Self::Recupero => "Monto pagado en la campaña",
            Self::Intensidad => "Gestiones por cuenta gestionada",
        }
    }
}

/// `filters` de un POST, y lo que un GET dice de ellos.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Filters {
    #[schema(example = json!(["TEMPRANA"]))]
    pub cartera: Option<Vec<String>>,
    pub servicio: Option<Vec<String>>,
    pub periodo: Option<Vec<String>>,
    pub tramo: Option<Vec<String>>,
    /// Días del mes.
    pub vencimiento: Option<Vec<i16>>,
    pub rango_deuda: Option<Vec<String>>,
    /// Campañas que abrieron este día o después.
    pub fecha_inicio: Option<NaiveDate>,
    /// Campañas que abrieron este día o antes.
    pub fecha_fin: Option<NaiveDate>,
}

impl Filters {
    /// The canonical form.
    ///
    /// # Errors
    /// A value that the filter does not know.
    pub fn cut(self) -> Result<Cut, Unclear> {
        let mut periodo = known("periodo", self.periodo, &PERIODOS, "TODOS")?;
        // The campaigns that are open, which all are: beside others it says nothing less than all.
        if periodo.contains("ACTUAL") {
            periodo.clear();
        }
        let vencimiento: BTreeSet<i16> = self.vencimiento.unwrap_or_default().into_iter().collect();
        if let Some(day) = vencimiento.iter().find(|day| !(0..=31).contains(*day)) {
            return Err(unclear("vencimiento", format!("{day} no es un día del mes (0: sin vencimiento)")));
        }
        let mut tramo = self.tramo.unwrap_or_default();
        if tramo.len() > VALUES {
            return Err(unclear("tramo", format!("más de {VALUES} valores")));
        }
        if tramo.iter().any(|tramo| is_all(tramo)) {
            tramo.clear();
        }
        let tramo = tramo
            .into_iter()
            .map(|tramo| if tramo == "SIN_TRAMO" { String::new() } else { tramo.trim().to_owned() });
        Ok(Cut {
            cartera: known("cartera", self.cartera, &CARTERAS, "TODAS")?,
            servicio: known("servicio", self.servicio, &SERVICIOS, "TODOS")?,
            tramo: tramo.collect(),
            vencimiento,
            rango_deuda: known("rangoDeuda", self.rango_deuda, &RANGOS, "TODOS")?,
            periodo,
            opened_from: self.fecha_inicio.map(|day| recent("fechaInicio", day)).transpose()?,
            opened_to: self.fecha_fin.map(|day| recent("fechaFin", day)).transpose()?,
        })
    }
}

/// Today, where the collections are.
pub fn today(now: chrono::DateTime<Utc>) -> NaiveDate {
    now.with_timezone(&Lima).date_naive()
}

/// The question that a dashboard asks.
///
/// # Errors
/// A value that is not known, a day that has not come.
pub fn dashboard(
    filters: Filters,
    corte: Option<NaiveDate>,
    dimensions: &[String],
    today: NaiveDate,
) -> Result<Question, Unclear> {
    let corte = past("fechaCorte", corte.unwrap_or(today), today)?;
    let first = dimension(dimensions.first().map_or("cartera", String::as_str))?;
    let second = dimension(dimensions.get(1).map_or("servicio", String::as_str))?;
    Ok(Question::Dashboard { corte, cut: filters.cut()?, dimensions: [first, second] })
}

/// The question that an evolution asks. Without days: the last 30.
///
/// # Errors
/// As [`dashboard`], or a span that ends before it begins or is longer than a year.
pub fn evolution(
    filters: Filters,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
    comparison: Option<&str>,
    metrics: &[String],
    today: NaiveDate,
) -> Result<Question, Unclear> {
    let (from, to) = span(from, to, today)?;
    let mut asked = BTreeSet::new();
    for name in
        metrics.iter().flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty())
    {
        let metric = Metric::ALL.into_iter().find(|metric| metric.name().eq_ignore_ascii_case(name));
        asked.insert(metric.ok_or_else(|| unclear("metrics", format!("{name:?} no es una métrica")))?);
    }
    if asked.is_empty() {
        asked = Metric::DEFAULT.into();
    }
    let dimension = dimension(comparison.unwrap_or("cartera"))?;
    Ok(Question::Evolution { from, to, cut: filters.cut()?, dimension, metrics: asked })
}

/// The question that an assignment asks. Without days: today, and 30 days before.
///
/// # Errors
/// As [`dashboard`].
pub fn assignment(
    now: Option<NaiveDate>,
    before: Option<NaiveDate>,
    cartera: Option<Vec<String>>,
    today: NaiveDate,
) -> Result<Question, Unclear> {
    let now = past("fecha_actual", now.unwrap_or(today), today)?;
    let before = past("fecha_anterior", before.unwrap_or(now - TimeDelta::days(30)), today)?;
    Ok(Question::Assignment { now, before, cartera: known("cartera", cartera, &CARTERAS, "TODAS")? })
}

/// The question of one day's operation. Without a day: today.
///
/// # Errors
/// A day that has not come.
pub fn operation(day: Option<NaiveDate>, today: NaiveDate) -> Result<Question, Unclear> {
    Ok(Question::Operation { day: past("fecha_analisis", day.unwrap_or(today), today)? })
}

/// The question of a span's productivity. Without days: the last 30.
///
/// # Errors
/// As [`evolution`].
pub fn productivity(
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
    today: NaiveDate,
) -> Result<Question, Unclear> {
    let (from, to) = span(from, to, today)?;
    Ok(Question::Productivity { from, to })
}

/// The first and last opening day of the campaigns of a period, as of a day.
pub fn period(name: &str, corte: NaiveDate) -> (NaiveDate, NaiveDate) {
    let month = corte.with_day(1).unwrap_or(corte);
    let back = |months| corte - Months::new(months) + TimeDelta::days(1);
    match name {
        "ANTERIOR" => (month - Months::new(1), month - TimeDelta::days(1)),
        "ULTIMO_MES" => (back(1), corte),
        _ => (back(3), corte),
    }
}

fn span(
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
    today: NaiveDate,
) -> Result<(NaiveDate, NaiveDate), Unclear> {
    let to = past("fecha_fin", to.unwrap_or(today), today)?;
    let from = from.unwrap_or(to - TimeDelta::days(29));
    if from > to {
        return Err(unclear("fecha_inicio", format!("{from} es posterior a fecha_fin, {to}")));
    }
    if (to - from).num_days() >= LONGEST {
        return Err(unclear("fecha_inicio", format!("de {from} a {to} hay más de {LONGEST} días")));
    }
    Ok((from, to))
}

fn past(parameter: &'static str, day: NaiveDate, today: NaiveDate) -> Result<NaiveDate, Unclear> {
    if day > today {
        return Err(unclear(parameter, format!("{day} es posterior a hoy, {today}")));
    }
    recent(parameter, day)
}

/// A day that databases know too: theirs begin and end elsewhere.
fn recent(parameter: &'static str, day: NaiveDate) -> Result<NaiveDate, Unclear> {
    if day.year() < 2000 {
        return Err(unclear(parameter, format!("{day} es anterior al año 2000")));
    }
    if day.year() > 2999 {
        return Err(unclear(parameter, format!("{day} es posterior al año 2999")));
    }
    Ok(day)
}

fn dimension(name: &str) -> Result<&'static str, Unclear> {
    DIMENSIONS.into_iter().find(|dimension| dimension.eq_ignore_ascii_case(name)).ok_or_else(|| {
        unclear("dimensions", format!("{name:?} no es una dimensión: {}", DIMENSIONS.join(", ")))
    })
}

fn is_all(value: &str) -> bool {
    ALL.iter().any(|all| value.trim().eq_ignore_ascii_case(all))
}

/// The values that were given, without those that stand for all. `all` is the one to tell of.
fn known(
    parameter: &'static str,
    given: Option<Vec<String>>,
    values: &[&str],
    all: &str,
) -> Result<BTreeSet<String>, Unclear> {
    let mut set = BTreeSet::new();
    let mut everything = false;
    for value in given.unwrap_or_default() {
        let value = value.trim().to_uppercase();
        if is_all(&value) {
            everything = true;
        } else if values.contains(&value.as_str()) {
            set.insert(value);
        } else if !value.is_empty() {
            return Err(unclear(parameter, format!("{value:?} no es uno de {all}, {}", values.join(", "))));
        }
    }
    if everything || set.len() == values.len() {
        set.clear();
    }
    Ok(set)
}

fn unclear(parameter: &'static str, problem: String) -> Unclear {
    Unclear { parameter, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().expect("a day")
    }

    fn texts(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn order_repetition_and_defaults_spelt_out_make_no_other_question() {
        let today = day("2025-06-20");
        let one = Filters {
            cartera: texts(&["OTRAS", "temprana", "OTRAS"]),
            servicio: texts(&["TODOS"]),
            periodo: texts(&["ACTUAL"]),
            vencimiento: Some(vec![17, 5, 17]),
            ..Filters::default()
        };
        let other = Filters {
            cartera: texts(&["TEMPRANA", "OTRAS"]),
            servicio: texts(&["FIJA", "MOVIL"]),
            vencimiento: Some(vec![5, 17]),
            ..Filters::default()
        };
        let one = dashboard(one, None, &[], today).expect("clear");
        let other =
            dashboard(other, Some(today), &["CARTERA".into(), "servicio".into()], today).expect("clear");
        assert_eq!(serde_json::to_string(&one).expect("JSON"), serde_json::to_string(&other).expect("JSON"));
        let third = dashboard(Filters::default(), Some(today), &[], today).expect("clear");
        assert_ne!(one, third);
        for all in ["TODAS", "TODOS", "todas"] {
            let filters = Filters {
                cartera: texts(&[all]),
                servicio: texts(&[all, "MOVIL"]),
                periodo: texts(&[all]),
                tramo: texts(&["3", all]),
                rango_deuda: texts(&[all]),
                ..Filters::default()
            };
            let question = dashboard(filters, None, &[], today).expect("clear");
            assert_eq!(question, third, "{all} is no filter");
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let today = day("2025-06-20");
        let refused = |filters: Filters| dashboard(filters, None, &[], today).expect_err("unclear").parameter;
        assert_eq!(refused(Filters { cartera: texts(&["X"]), ..Filters::default() }), "cartera");
        assert_eq!(refused(Filters { vencimiento: Some(vec![32]), ..Filters::default() }), "vencimiento");
        assert_eq!(
            dashboard(Filters::default(), Some(day("2025-06-21")), &[], today).expect_err("future").parameter,
            "fechaCorte"
        );
        for far in ["-262143-01-01", "1999-12-31", "+262142-12-31"] {
            let far: NaiveDate = far.parse().expect("a day");
            assert_eq!(refused(Filters { fecha_inicio: Some(far), ..Filters::default() }), "fechaInicio");
            assert_eq!(refused(Filters { fecha_fin: Some(far), ..Filters::default() }), "fechaFin");
        }
        assert!(
            evolution(Filters::default(), Some(day("2024-06-19")), Some(today), None, &[], today).is_err()
        );
        assert!(evolution(Filters::default(), None, None, None, &["cd,nada".into()], today).is_err());
    }

    #[test]
    fn periods_are_of_the_day_that_a_campaign_opened() {
        let corte = day("2025-03-31");
        assert_eq!(period("ANTERIOR", corte), (day("2025-02-01"), day("2025-02-28")));
        assert_eq!(period("ULTIMO_MES", corte), (day("2025-03-01"), corte));
        assert_eq!(period("ULTIMOS_3_MESES", corte), (day("2025-01-01"), corte));
    }

    #[test]
    fn a_day_is_limas() {
        let late = "2025-06-21T04:30:00Z".parse().expect("a moment");
        assert_eq!(today(late), day("2025-06-20"));
    }
}
