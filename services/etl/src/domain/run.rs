//! A run: what is asked for, and what it counts.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// Cuánto lee una ejecución.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// All there is; where the source's totals say that a day is the same, the day is left alone.
    Full,
    /// What is new, with a look back.
    Daily,
    /// Days that are named, newest first; it never moves the watermark.
    Backfill,
}

impl Mode {
    /// The name in the job's row, events and APIs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Daily => "daily",
            Self::Backfill => "backfill",
        }
    }
}

/// A run, as the parameters of its job have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunParams {
    pub stream: String,
    /// What may have one run at a time: the stream, and beside it a stream's backfill.
    pub lane: String,
    pub mode: Mode,
    /// The first day, where the mode has days.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<NaiveDate>,
    /// The last day.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub to: Option<NaiveDate>,
    /// Marks what the scan does not meet as deleted, however much that is: somebody has said so.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub force: bool,
    /// What was asked for together.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<Uuid>,
}

impl RunParams {
    /// A run of `stream`, of all that the mode says.
    pub fn new(stream: &str, mode: Mode) -> Self {
        let lane = match mode {
            Mode::Backfill => format!("{stream}#backfill"),
            Mode::Full | Mode::Daily => stream.to_owned(),
        };
        Self { stream: stream.to_owned(), lane, mode, from: None, to: None, force: false, group: None }
    }
}

/// Lo que lleva hecho una ejecución. Se confirma junto con las filas que cuenta.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Counters {
    /// Registros que vinieron de la fuente, también los repetidos.
    pub leidos: u64,
    pub insertados: u64,
    pub actualizados: u64,
    /// Encontrados como estaban: no se escribieron.
    pub sin_cambios: u64,
    /// La tabla tenía uno más reciente.
    pub mas_antiguos: u64,
    pub eliminados: u64,
    pub en_cuarentena: u64,
    /// Guardados en las tablas pero no en las vistas, por motivo.
    pub omitidos: BTreeMap<String, u64>,
    /// Campos que la fuente no tenía antes, con cuántas veces aparecen.
    pub campos_nuevos: BTreeMap<String, u64>,
}

/// Lo que se hizo con registros en cuarentena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Redriven {
    pub leidos: u64,
    /// Los que ahora se entienden y ya no están en cuarentena: su tabla los tiene, o tiene lo que la fuente dijo después.
    pub recuperados: u64,
    /// Los que siguen incumpliendo una regla.
    pub en_cuarentena: u64,
}

impl Counters {
    /// Adds what another part of the run has counted.
    pub fn add(&mut self, other: &Self) {
        self.leidos += other.leidos;
        self.insertados += other.insertados;
        self.actualizados += other.actualizados;
        self.sin_cambios += other.sin_cambios;
        self.mas_antiguos += other.mas_antiguos;
        self.eliminados += other.eliminados;
        self.en_cuarentena += other.en_cuarentena;
        for (reason, times) in &other.omitidos {
            count(&mut self.omitidos, reason, *times);
        }
        for (field, times) in &other.campos_nuevos {
            count(&mut self.campos_nuevos, field, *times);
        }
    }

    /// A record that is in the tables and not in the views.
    pub fn skipped(&mut self, reason: &str) {
        count(&mut self.omitidos, reason, 1);
    }

    /// A field that the source did not have before.
    pub fn new_field(&mut self, field: &str) {
        count(&mut self.campos_nuevos, field, 1);
    }

    /// Whether so many records were bad that the source, or our reading of it, must be wrong: more than 1 %, and more
    /// than a handful.
    pub fn too_many_bad(&self) -> bool {
        self.en_cuarentena > 5 && self.en_cuarentena * 100 > self.leidos
    }
}

/// Names come from outside: not so many that the row grows without bound.
fn count(counts: &mut BTreeMap<String, u64>, name: &str, times: u64) {
    if counts.len() < 100 || counts.contains_key(name) {
        *counts.entry(name.to_owned()).or_default() += times;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handful_of_bad_records_does_not_fail_a_run_and_one_in_a_hundred_does() {
        let counters = |leidos, en_cuarentena| Counters { leidos, en_cuarentena, ..Counters::default() };
        assert!(!counters(10, 5).too_many_bad());
        assert!(counters(10, 6).too_many_bad());
        assert!(!counters(600, 6).too_many_bad());
        assert!(counters(599, 6).too_many_bad());
    }

    #[test]
    fn a_backfill_has_a_lane_of_its_own() {
        assert_eq!(RunParams::new("bsale.documentos", Mode::Daily).lane, "bsale.documentos");
        assert_eq!(RunParams::new("bsale.documentos", Mode::Full).lane, "bsale.documentos");
        assert_eq!(RunParams::new("bsale.documentos", Mode::Backfill).lane, "bsale.documentos#backfill");
    }
}
