//! A source with a few hundred rows in its nine tables, and what the raw tables must have of it.

use std::collections::BTreeMap;

use anyhow::Result;
use chrono::{DateTime, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe};
use serde_json::{Value, json};
use simulators::bigquery::{BigQuery, Field, Row, Table};

use crate::{World, data::Dice};

/// The start of the source: rows have moments after it.
const START: &str = "2026-09-01";

pub(super) fn micros(day: &str, seconds: i64) -> i64 {
    let day: DateTime<Utc> = format!("{day}T00:00:00Z").parse().expect("a day");
    day.timestamp_micros() + seconds * 1_000_000
}

pub(super) fn row(value: Value) -> Row {
    value.as_object().cloned().expect("an object")
}

fn table(fields: &[(&'static str, &'static str)], rows: Vec<Value>) -> Table {
    let fields = fields.iter().map(|(name, kind)| Field::new(name, kind)).collect();
    Table::new(fields, rows.into_iter().map(row).collect())
}

/// Nine tables with a few hundred rows.
pub fn fill(source: &BigQuery, dice: &mut Dice) {
    source.set(
        "calendario",
        table(
            &[("archivo", "STRING"), ("periodo_date", "DATE"), ("fecha_apertura", "DATE"), ("fecha_trandeuda", "DATE"),
              ("fecha_cierre", "DATE"), ("TIPO_CARTERA", "STRING"), ("DURACION_CAMPANA_DIAS_HABILES", "INTEGER")],
            (0..5).map(|n| json!({ "archivo": format!("Temprana_{n}"), "periodo_date": "2026-09-01", "fecha_apertura": "2026-09-02",
                "DURACION_CAMPANA_DIAS_HABILES": 20 + n })).collect(),
        ),
    );
    let at = |dice: &mut Dice| micros(START, dice.below(60 * 86_400) as i64);
    // All assignments of a file were made at one moment: one cursor.
    source.set(
        "asignaciones",
        table(
            &[("cod_luna", "INTEGER"), ("cuenta", "STRING"), ("archivo", "STRING"), ("fecha_asignacion", "DATE"),
              ("creado_el", "TIMESTAMP"), ("tramo_gestion", "INTEGER"), ("min_vto", "DATE"), ("negocio", "STRING"), ("zona", "STRING")],
            (0..150).map(|n| json!({ "cod_luna": n / 2, "cuenta": format!("C{n}"), "archivo": format!("Temprana_{}.txt", n % 5),
                "fecha_asignacion": "2026-09-02", "creado_el": micros("2026-09-02", 3_600), "tramo_gestion": 5, "negocio": "MOVIL" })).collect(),
        ),
    );
    source.set(
        "trandeuda",
        table(
            &[("cod_cuenta", "STRING"), ("nro_documento", "STRING"), ("archivo", "STRING"), ("fecha_proceso", "DATE"),
              ("creado_el", "TIMESTAMP"), ("monto_exigible", "NUMERIC"), ("motivo_rechazo", "STRING")],
            (0..150).map(|n| json!({ "cod_cuenta": format!("C{n}"), "nro_documento": format!("D{n}"), "archivo": "TRAN",
                "fecha_proceso": "2026-09-03", "creado_el": micros("2026-09-03", n), "monto_exigible": format!("{n}.25") })).collect(),
        ),
    );
    let payments = table(
        &[("nro_documento", "STRING"), ("fecha_pago", "DATE"), ("monto_cancelado", "FLOAT"), ("creado_el", "TIMESTAMP"), ("motivo_rechazo", "STRING")],
        (0..200).map(|n| json!({ "nro_documento": format!("D{}", n % 90), "fecha_pago": "2026-09-10",
            "monto_cancelado": if n % 7 == 0 { "1.4E3".to_owned() } else { format!("{n}.5") }, "creado_el": at(dice) })).collect(),
    );
    source.set("pagos", payments);
    let mut managements = table(
        &[("uid", "STRING"), ("date", "TIMESTAMP"), ("document", "STRING"), ("management", "STRING"), ("sub_management", "STRING"), ("compromiso", "STRING")],
        (0..400).map(|n| json!({ "uid": format!("V{n}"), "date": at(dice), "document": (n % 75).to_string(), "management": "A" })).collect(),
    );
    managements.fields.push(Field { repeated: true, ..Field::new("etiquetas", "STRING") });
    managements.fields.push(Field {
        fields: vec![Field::new("a", "STRING"), Field::new("b", "INTEGER")],
        ..Field::new("detalle", "RECORD")
    });
    for row in &mut managements.rows {
        row.insert("etiquetas".into(), json!(["x", "y"]));
        row.insert("detalle".into(), json!({ "a": "z", "b": 5 }));
    }
    source.set("voicebot_gestiones", managements);
    source.set(
        "mibotair_gestiones",
        table(
            &[("uid", "STRING"), ("date", "TIMESTAMP"), ("document", "STRING"), ("n1", "STRING"), ("n2", "STRING"), ("n3", "STRING"),
              ("nombre_agente", "STRING"), ("correo_agente", "STRING"), ("monto_compromiso", "NUMERIC")],
            (0..300).map(|n| json!({ "uid": format!("M{n}"), "date": at(dice), "document": (n % 75).to_string(), "n1": "A", "correo_agente": "a@x" })).collect(),
        ),
    );
    dictionaries(source);
}

/// What managements mean, and who the agents are.
fn dictionaries(source: &BigQuery) {
    let rules = |names: [&'static str; 3]| {
        table(
            &[
                (names[0], "STRING"),
                (names[1], "STRING"),
                (names[2], "STRING"),
                ("contactabilidad", "STRING"),
                ("pdp", "STRING"),
                ("peso", "NUMERIC"),
            ],
            vec![json!({ names[0]: "A", "contactabilidad": "Contacto Efectivo", "pdp": "SI", "peso": "1" })],
        )
    };
    source.set("homologacion_voicebot", rules(["management", "sub_management", "compromiso"]));
    source.set("homologacion_mibotair", rules(["n1", "n2", "n3"]));
    source.set(
        "ejecutivos",
        table(
            &[("correo_name", "STRING"), ("nombre", "STRING"), ("document", "STRING")],
            vec![json!({ "correo_name": "a@x", "nombre": "Ana" })],
        ),
    );
}

/// What the raw tables must have, from the source's rows: the newest of a key.
pub(super) fn truth(
    source: &BigQuery,
    name: &str,
    key: &[&str],
    moment: Option<&str>,
    shown: &str,
) -> BTreeMap<String, String> {
    let mut rows = Vec::new();
    source.change(name, |table| rows = table.rows.clone());
    rows.sort_by_key(|row| moment.and_then(|moment| row.get(moment)?.as_i64()));
    let text = |row: &Row, name: &str| match row.get(name) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) if name == "monto_cancelado" => {
            let amount = text.parse::<f64>().expect("a number");
            format!("{amount:.4}")
        }
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    rows.iter()
        .map(|row| {
            let key = key.iter().map(|name| text(row, name)).collect::<Vec<_>>().join("|");
            let at = moment.map(|moment| text(row, moment)).unwrap_or_default();
            (key, format!("{at} {}", text(row, shown)))
        })
        .collect()
}

pub(super) async fn same(world: &World, source: &BigQuery) -> Result<()> {
    same_of(world, source, &[]).await
}

/// Of these tables; of all where none is named.
pub(super) async fn same_of(world: &World, source: &BigQuery, only: &[&str]) -> Result<()> {
    for (name, key, moment, shown) in [
        ("calendario", &["archivo", "periodo_date"][..], None, "fecha_cierre"),
        (
            "asignaciones",
            &["archivo", "cuenta", "cod_luna", "fecha_asignacion"],
            Some("creado_el"),
            "negocio",
        ),
        (
            "trandeuda",
            &["fecha_proceso", "cod_cuenta", "nro_documento", "archivo"],
            Some("creado_el"),
            "motivo_rechazo",
        ),
        ("pagos", &["nro_documento", "fecha_pago", "monto_cancelado"], Some("creado_el"), "motivo_rechazo"),
        ("voicebot_gestiones", &["uid"], Some("date"), "document"),
        ("mibotair_gestiones", &["uid"], Some("date"), "document"),
        ("homologacion_voicebot", &["management", "sub_management", "compromiso"], None, "contactabilidad"),
        ("ejecutivos", &["correo_name"], None, "nombre"),
    ] {
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let at = moment.map_or("''".to_owned(), |moment| {
            format!("(extract(epoch from \"{moment}\") * 1000000)::bigint::text")
        });
        let columns = key
            .iter()
            .map(|name| format!("coalesce(\"{name}\"::text, '')"))
            .collect::<Vec<_>>()
            .join(" || '|' || ");
        let sql = format!(
            "select {columns}, {at} || ' ' || coalesce(\"{shown}\"::text, '') from raw_{name} where eliminado_en is null"
        );
        let found: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&world.pool).await?;
        let found: BTreeMap<String, String> = found.into_iter().collect();
        assert_eq!(found, truth(source, name, key, moment, shown), "{name}");
    }
    Ok(())
}
