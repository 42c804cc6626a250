//! Whether the raw tables are what this BigQuery has.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use rust_decimal::Decimal;
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};
use serde_json::{Map, Value};

use super::{BigQuery, Field};

/// Each table's key, and what says which of two rows with one key is the newer.
const KEYS: [(&str, &[&str], Option<&str>); 9] = [
    ("calendario", &["archivo", "periodo_date"], None),
    ("asignaciones", &["archivo", "cuenta", "cod_luna", "fecha_asignacion"], Some("creado_el")),
    ("trandeuda", &["fecha_proceso", "cod_cuenta", "nro_documento", "archivo"], Some("creado_el")),
    ("pagos", &["nro_documento", "fecha_pago", "monto_cancelado"], Some("creado_el")),
    ("voicebot_gestiones", &["uid"], None),
    ("mibotair_gestiones", &["uid"], None),
    ("homologacion_voicebot", &["management", "sub_management", "compromiso"], None),
    ("homologacion_mibotair", &["n1", "n2", "n3"], None),
    ("ejecutivos", &["correo_name"], None),
];

/// Compares all raw tables with the source's, row by row and column by column.
///
/// # Errors
/// The first row that is missing, too much or otherwise.
pub async fn tables(pool: &PgPool, source: &BigQuery) -> Result<()> {
    for (name, key, version) in KEYS {
        let table = source.table(name).with_context(|| format!("the source has no {name}"))?;
        let mut rows: Vec<&Map<String, Value>> = table.rows.iter().collect();
        rows.sort_by_key(|row| version.and_then(|version| row.get(version)?.as_i64()));
        let expected = rows.into_iter().map(|row| canonical(&table.fields, key, row));
        let expected: BTreeMap<String, String> = expected.collect::<Result<_>>()?;
        let sql = format!("select to_jsonb(t) from raw_{name} t where eliminado_en is null");
        let found: Vec<Value> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await?;
        let found = found.iter().filter_map(Value::as_object);
        let found: BTreeMap<String, String> =
            found.map(|row| canonical(&table.fields, key, row)).collect::<Result<_>>()?;
        for (key, row) in &expected {
            ensure!(
                found.get(key) == Some(row),
                "raw_{name} {key}: {:?}, the source has {row}",
                found.get(key)
            );
        }
        let more = found.keys().find(|key| !expected.contains_key(*key));
        ensure!(more.is_none(), "raw_{name} has {more:?}, and the source does not");
    }
    Ok(())
}

/// The key of a row, and all of it, in one spelling.
fn canonical(fields: &[Field], key: &[&str], row: &Map<String, Value>) -> Result<(String, String)> {
    let mut columns = BTreeMap::new();
    for field in fields {
        let value = row.get(field.name).unwrap_or(&Value::Null);
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let text = match (field.kind, text.as_str()) {
            (_, "") => text,
            ("TIMESTAMP", text) if value.is_string() => {
                DateTime::parse_from_rfc3339(text)?.timestamp_micros().to_string()
            }
            ("NUMERIC", text) => text.parse::<Decimal>()?.normalize().to_string(),
            _ => text,
        };
        columns.insert(field.name, text);
    }
    let key: Vec<&str> = key.iter().map(|name| columns.get(name).map_or("", String::as_str)).collect();
    Ok((key.join("|"), format!("{columns:?}")))
}
