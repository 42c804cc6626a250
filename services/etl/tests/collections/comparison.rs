//! Answers, and what the oracle says they are.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use chrono::TimeDelta;
use etl::collections::question::{self, CARTERAS, DIMENSIONS, Filters, Metric, RANGOS, SERVICIOS};
use serde_json::Value;

use crate::{
    TODAY, World,
    data::{Dice, Raw, START, day},
    oracle::{Only, Oracle},
};

/// A filter as a caller gives it and as the oracle takes it.
fn filters(dice: &mut Dice) -> (Filters, Only) {
    let mut some = |values: &[&str]| -> BTreeSet<String> {
        if !dice.one_in(3) {
            return BTreeSet::new();
        }
        (0..1 + dice.below(2)).map(|_| dice.of(values).to_owned()).collect()
    };
    let (cartera, servicio) = (some(&CARTERAS), some(&SERVICIOS));
    let (tramo, rango) = (some(&["3", "5", "SIN_TRAMO"]), some(&RANGOS));
    let periodo = some(&["ANTERIOR", "ULTIMO_MES", "ULTIMOS_3_MESES"]);
    let vencimiento: BTreeSet<i16> = if dice.one_in(4) { (0..20).collect() } else { BTreeSet::new() };
    let opened_from = dice.one_in(5).then(|| dice.day(START, 20));
    let opened_to = dice.one_in(5).then(|| dice.day("2025-06-01", 30));
    let given = |set: &BTreeSet<String>| (!set.is_empty()).then(|| set.iter().cloned().collect::<Vec<_>>());
    let filters = Filters {
        cartera: given(&cartera),
        servicio: given(&servicio),
        tramo: given(&tramo),
        rango_deuda: given(&rango),
        vencimiento: (!vencimiento.is_empty()).then(|| vencimiento.iter().copied().collect()),
        periodo: given(&periodo),
        fecha_inicio: opened_from,
        fecha_fin: opened_to,
    };
    let spans = Vec::new();
    (filters, Only { cartera, servicio, tramo, vencimiento, rango, opened_from, opened_to, periodo, spans })
}

/// Asks `number` random questions of each kind, and the oracle too.
pub async fn compare(world: &World, raw: &Raw, dice: &mut Dice, number: u64) -> Result<()> {
    let oracle = Oracle::new(raw, world.settings.holidays.clone());
    let today = day(TODAY);
    let mut rows = 0;
    for _ in 0..number {
        let (given, only) = filters(dice);
        let corte = dice.day("2025-05-01", 80);
        let dimensions = [dice.of(&DIMENSIONS), dice.of(&DIMENSIONS)];
        let question = question::dashboard(given, Some(corte), &dimensions.map(str::to_owned), today)?;
        let expected = oracle.dashboard(corte, &only.of_day(corte), dimensions);
        let found = world.answer(&question).await?;
        same(&found, &expected).with_context(|| format!("{question:?}"))?;
        rows += found["segmentoData"].as_array().map_or(0, Vec::len);
    }
    assert!(rows > number as usize, "the questions have answers: {rows} rows");
    for _ in 0..number / 8 + 1 {
        let (given, only) = filters(dice);
        let from = dice.day("2025-05-01", 60);
        let to = from + TimeDelta::days(dice.below(20) as i64);
        let dimension = dice.of(&DIMENSIONS);
        let metrics: BTreeSet<Metric> = Metric::ALL.into_iter().filter(|_| !dice.one_in(2)).collect();
        let mut names: Vec<&str> = metrics.iter().map(|metric| metric.name()).collect();
        if names.is_empty() {
            names = vec!["cobertura", "contacto", "cd", "ci", "cierre", "recupero"];
        }
        let asked: Vec<String> = metrics.iter().map(|metric| metric.name().to_owned()).collect();
        let question = question::evolution(given, Some(from), Some(to), Some(dimension), &asked, today)?;
        let found = world.answer(&question).await?;
        same(&found, &oracle.evolution(from, to, &only.of_day(to), dimension, &names))
            .with_context(|| format!("{question:?}"))?;
    }
    for _ in 0..number / 4 + 1 {
        let (now, before) = (dice.day("2025-05-01", 80), dice.day("2025-05-01", 80));
        let (given, only) = filters(dice);
        let question = question::assignment(Some(now), Some(before), given.cartera, today)?;
        let mut found = world.answer(&question).await?;
        let expected = oracle.assignment(now, before, &only.cartera);
        only_these(&mut found, &expected);
        same(&found, &expected).with_context(|| format!("{question:?}"))?;
    }
    for _ in 0..number / 8 + 1 {
        let asked = dice.day("2025-05-01", 80);
        let question = question::operation(Some(asked), today)?;
        let mut found = world.answer(&question).await?;
        for kpi in found["kpis"].as_array_mut().into_iter().flatten() {
            kpi["value"] = kpi["value"].as_str().unwrap_or_default().replace(',', "").into();
        }
        same(&found, &oracle.operation(asked)).with_context(|| format!("{question:?}"))?;
        let to = asked + TimeDelta::days(dice.below(15) as i64);
        let to = to.min(today);
        let question = question::productivity(Some(asked), Some(to), today)?;
        let mut found = world.answer(&question).await?;
        let expected = oracle.productivity(asked, to);
        only_these(&mut found, &expected);
        same(&found, &expected).with_context(|| format!("{question:?}"))?;
    }
    Ok(())
}

/// Leaves out what the oracle does not say.
fn only_these(found: &mut Value, expected: &Value) {
    let names: Vec<String> =
        expected.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
    if let Some(map) = found.as_object_mut() {
        map.retain(|name, _| names.contains(name));
    }
}

/// Fails with the first place that differs.
pub fn same(found: &Value, expected: &Value) -> Result<()> {
    fn differ(path: &str, found: &Value, expected: &Value) -> Option<String> {
        match (found, expected) {
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                a.iter().zip(b).enumerate().find_map(|(n, (a, b))| differ(&format!("{path}[{n}]"), a, b))
            }
            (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
                a.iter().find_map(|(name, a)| differ(&format!("{path}.{name}"), a, &b[name]))
            }
            (Value::Number(a), Value::Number(b)) if a.as_f64() == b.as_f64() => None,
            (a, b) if a == b => None,
            (a, b) => Some(format!("{path}: found {a}, expected {b}")),
        }
    }
    match differ("", found, expected) {
        None => Ok(()),
        Some(difference) => anyhow::bail!(difference),
    }
}
