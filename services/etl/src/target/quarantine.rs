//! Records that could not be read, with why, as they came.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Value};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;

use super::sql::{Sql, lists, repeated};

/// Un registro.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Quarantined {
    pub stream: String,
    /// Su clave, hasta donde se pudo leer.
    pub clave: String,
    /// Lo que incumple.
    pub regla: String,
    /// Como lo envió la fuente.
    pub registro: String,
    /// Of the answer that it is from, as rows have it: what was asked for after that is newer.
    #[serde(skip)]
    pub version: i64,
}

impl Quarantined {
    fn id(&self) -> String {
        let hash = Sha256::digest(format!("{}\0{}", self.stream, self.registro));
        hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Uno que se guarda.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct KeptRecord {
    pub id: String,
    #[serde(flatten)]
    pub record: Quarantined,
    /// La última ejecución que lo encontró.
    pub corrida: String,
    /// Cuándo se pidió la respuesta que lo traía.
    pub visto_en: DateTime<Utc>,
}

/// Keeps records, each as of its answer: they may be committed long after that.
pub(super) async fn keep(
    conn: &impl ConnectionTrait,
    run: &str,
    records: &[Quarantined],
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let end = match conn.get_database_backend() {
        DbBackend::Postgres => {
            " ON CONFLICT (id) DO UPDATE SET regla = excluded.regla, corrida = excluded.corrida, visto_en = excluded.visto_en"
        }
        _ => {
            " ON DUPLICATE KEY UPDATE regla = VALUES(regla), corrida = VALUES(corrida), visto_en = VALUES(visto_en)"
        }
    };
    for record in records {
        let rule: String = record.regla.chars().take(500).collect();
        let key: String = record.clave.chars().take(100).collect();
        let seen = DateTime::from_timestamp_micros(record.version).unwrap_or(now);
        let text = "INSERT INTO lote_cuarentena (id, stream, clave, regla, registro, corrida, visto_en) VALUES (?, ?, ?, ?, ?, ?, ?)";
        Sql::new(format!("{text}{end}"))
            .bind(record.id())
            .bind(record.stream.as_str())
            .bind(key)
            .bind(rule)
            // PostgreSQL's text holds no NUL.
            .bind(record.registro.replace('\0', "\u{fffd}"))
            .bind(run)
            .bind(seen)
            .run(conn)
            .await?;
    }
    Ok(())
}

const COLUMNS: &str = "id, stream, clave, regla, registro, corrida, visto_en";

/// Those of a stream, or of all, newest first.
///
/// # Errors
/// The database.
pub async fn list(
    conn: &impl ConnectionTrait,
    stream: Option<&str>,
    size: u64,
) -> Result<Vec<KeptRecord>, DbErr> {
    let only = if stream.is_some() { " WHERE stream = ?" } else { "" };
    let text = format!("SELECT {COLUMNS} FROM lote_cuarentena{only} ORDER BY visto_en DESC, id LIMIT {size}");
    let rows = Sql::new(text).bind_all(stream.map(Into::into)).all(conn).await?;
    rows.iter().map(read).collect()
}

/// Those of a stream that have these ids.
///
/// # Errors
/// The database.
pub async fn named(
    conn: &impl ConnectionTrait,
    stream: &str,
    ids: &[String],
) -> Result<Vec<KeptRecord>, DbErr> {
    let mut found = Vec::new();
    for list in lists(ids) {
        let places = repeated("?", list.len());
        let text = format!(
            "SELECT {COLUMNS} FROM lote_cuarentena WHERE stream = ? AND id IN ({places}) ORDER BY id"
        );
        let ids = list.into_iter().map(|id| Value::from(id.as_str()));
        for row in Sql::new(text).bind(stream).bind_all(ids).all(conn).await? {
            found.push(read(&row)?);
        }
    }
    Ok(found)
}

fn read(row: &QueryResult) -> Result<KeptRecord, DbErr> {
    let seen: DateTime<Utc> = row.try_get("", "visto_en")?;
    Ok(KeptRecord {
        id: row.try_get("", "id")?,
        record: Quarantined {
            stream: row.try_get("", "stream")?,
            clave: row.try_get("", "clave")?,
            regla: row.try_get("", "regla")?,
            registro: row.try_get("", "registro")?,
            version: seen.timestamp_micros(),
        },
        corrida: row.try_get("", "corrida")?,
        visto_en: seen,
    })
}

/// Forgets those that no run has met since.
///
/// # Errors
/// The database.
pub async fn purge(conn: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<u64, DbErr> {
    Sql::new("DELETE FROM lote_cuarentena WHERE visto_en < ?").bind(before).run(conn).await
}
