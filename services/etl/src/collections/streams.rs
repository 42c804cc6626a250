//! What is read from BigQuery, as data: the raw tables, their keys and columns.

use chrono::{DateTime, Duration, NaiveTime, Utc};
use chrono_tz::America::Lima;

use super::bigquery::{BigQuerySettings, Parameter};
use crate::domain::stream::{Source, Stream, Walk};

/// What a raw column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A part of a rule's key: null is `''`.
    Code,
    Date,
    /// A moment.
    Time,
    /// `numeric(18, 4)`.
    Amount,
    Int,
}

/// A stream's raw table. What the source has beside the columns goes to `extra`.
#[derive(Debug)]
pub struct RawTable {
    pub stream: &'static str,
    pub name: &'static str,
    /// The source's table, unless the configuration says otherwise.
    source: &'static str,
    pub columns: &'static [(&'static str, Kind)],
    pub key: &'static [&'static str],
    /// What slices are of. None: each run reads all.
    pub cursor: Option<&'static str>,
    /// The column that says which of two rows with one key is the newer, where the source keeps both.
    pub version: Option<&'static str>,
}

use Kind::{Amount, Code, Date, Int, Text, Time};

pub const TABLES: &[RawTable] = &[
    RawTable {
        stream: "bigquery.calendario",
        name: "raw_calendario",
        source: "calendario",
        columns: &[
            ("archivo", Text),
            ("periodo_date", Date),
            ("fecha_apertura", Date),
            ("fecha_trandeuda", Date),
            ("fecha_cierre", Date),
            ("tipo_cartera", Text),
            ("duracion_campana_dias_habiles", Int),
        ],
        key: &["archivo", "periodo_date"],
        // Small, and campaigns of long ago get their end: always read whole.
        cursor: None,
        version: None,
    },
    RawTable {
        stream: "bigquery.asignaciones",
        name: "raw_asignaciones",
        source: "asignaciones",
        columns: &[
            ("cod_luna", Text),
            ("cuenta", Text),
            ("archivo", Text),
            ("fecha_asignacion", Date),
            ("creado_el", Time),
            ("telefono", Text),
            ("tramo_gestion", Text),
            ("min_vto", Date),
            ("negocio", Text),
            ("fraccionamiento", Text),
            ("zona", Text),
        ],
        key: &["archivo", "cuenta", "cod_luna", "fecha_asignacion"],
        cursor: Some("creado_el"),
        version: Some("creado_el"),
    },
    RawTable {
        stream: "bigquery.trandeuda",
        name: "raw_trandeuda",
        source: "trandeuda",
        columns: &[
            ("cod_cuenta", Text),
            ("nro_documento", Text),
            ("archivo", Text),
            ("fecha_proceso", Date),
            ("creado_el", Time),
            ("fecha_vencimiento", Date),
            ("monto_exigible", Amount),
            ("motivo_rechazo", Text),
        ],
        key: &["fecha_proceso", "cod_cuenta", "nro_documento", "archivo"],
        cursor: Some("creado_el"),
        version: Some("creado_el"),
    },
    RawTable {
        stream: "bigquery.pagos",
        name: "raw_pagos",
        source: "pagos",
        columns: &[
            ("nro_documento", Text),
            ("fecha_pago", Date),
            ("monto_cancelado", Amount),
            ("creado_el", Time),
            ("cod_sistema", Text),
            ("archivo", Text),
            ("motivo_rechazo", Text),
        ],
        key: &["nro_documento", "fecha_pago", "monto_cancelado"],
        cursor: Some("creado_el"),
        version: Some("creado_el"),
    },
    RawTable {
        stream: "bigquery.voicebot_gestiones",
        name: "raw_voicebot_gestiones",
        source: "voicebot_gestiones",
        columns: &[
            ("uid", Text),
            ("date", Time),
            ("document", Text),
            ("phone", Text),
            ("management", Text),
            ("sub_management", Text),
            ("compromiso", Text),
            ("fecha_compromiso", Date),
        ],
        key: &["uid"],
        cursor: Some("date"),
        version: None,
    },
    RawTable {
        stream: "bigquery.mibotair_gestiones",
        name: "raw_mibotair_gestiones",
        source: "mibotair_gestiones",
        columns: &[
            ("uid", Text),
            ("date", Time),
            ("document", Text),
            ("phone", Text),
            ("n1", Text),
            ("n2", Text),
            ("n3", Text),
            ("nombre_agente", Text),
            ("correo_agente", Text),
            ("monto_compromiso", Amount),
            ("fecha_compromiso", Date),
        ],
        key: &["uid"],
        cursor: Some("date"),
        version: None,
    },
    RawTable {
        stream: "bigquery.homologacion_voicebot",
        name: "raw_homologacion_voicebot",
        source: "homologacion_voicebot",
        columns: &[
            ("management", Code),
            ("sub_management", Code),
            ("compromiso", Code),
            ("contactabilidad", Text),
            ("pdp", Text),
            ("peso", Amount),
        ],
        key: &["management", "sub_management", "compromiso"],
        cursor: None,
        version: None,
    },
    RawTable {
        stream: "bigquery.homologacion_mibotair",
        name: "raw_homologacion_mibotair",
        source: "homologacion_mibotair",
        columns: &[
            ("n1", Code),
            ("n2", Code),
            ("n3", Code),
            ("contactabilidad", Text),
            ("pdp", Text),
            ("peso", Amount),
        ],
        key: &["n1", "n2", "n3"],
        cursor: None,
        version: None,
    },
    RawTable {
        stream: "bigquery.ejecutivos",
        name: "raw_ejecutivos",
        source: "ejecutivos",
        columns: &[("correo_name", Text), ("nombre", Text), ("document", Text)],
        key: &["correo_name"],
        cursor: None,
        version: None,
    },
];

const fn stream(table: &RawTable) -> Stream {
    let walk = if table.cursor.is_some() { Walk::Days } else { Walk::Scan };
    Stream { name: table.stream, source: Source::BigQuery, table: table.name, walk, daily: true, after: None }
}

/// The same, as the service knows streams.
pub const STREAMS: &[Stream] = &[
    stream(&TABLES[0]),
    stream(&TABLES[1]),
    stream(&TABLES[2]),
    stream(&TABLES[3]),
    stream(&TABLES[4]),
    stream(&TABLES[5]),
    stream(&TABLES[6]),
    stream(&TABLES[7]),
    stream(&TABLES[8]),
];

/// The table of a stream.
pub fn table_of(stream: &str) -> Option<&'static RawTable> {
    TABLES.iter().find(|table| table.stream == stream)
}

/// A part of a stream's time, its end excluded. None: all there is.
pub type Slice = Option<(DateTime<Utc>, DateTime<Utc>)>;

impl RawTable {
    /// What a column holds.
    pub fn kind(&self, column: &str) -> Option<Kind> {
        self.columns.iter().find(|(name, _)| *name == column).map(|(_, kind)| *kind)
    }

    /// The query that counts and fingerprints the rows of a span by Lima's days: columns `dia`, `filas`, `huella`. None: the
    /// stream has no days.
    pub fn fingerprints(
        &self,
        settings: &BigQuerySettings,
        span: (DateTime<Utc>, DateTime<Utc>),
    ) -> Option<(String, Vec<Parameter>)> {
        let cursor = self.cursor?;
        let (rows, parameters) = self.query(settings, Some(span));
        let day = match parameters.first()?.kind.as_str() {
            "TIMESTAMP" => format!("DATE(t.{cursor}, 'America/Lima')"),
            _ => format!("DATE(t.{cursor})"),
        };
        let sql = format!(
            "SELECT {day} AS dia, COUNT(*) AS filas, BIT_XOR(FARM_FINGERPRINT(TO_JSON_STRING(t))) AS huella \
             FROM ({rows}) AS t GROUP BY dia"
        );
        Some((sql, parameters))
    }

    /// The query of a slice, and its parameters.
    pub fn query(&self, settings: &BigQuerySettings, slice: Slice) -> (String, Vec<Parameter>) {
        let short = self.stream.rsplit('.').next().unwrap_or_default();
        let given = settings.tables.get(short).cloned().unwrap_or_default();
        let table = given.table.as_deref().unwrap_or(self.source);
        let table = match table.matches('.').count() {
            0 => format!("{}.{}.{table}", settings.project, settings.dataset),
            1 => format!("{}.{table}", settings.project),
            _ => table.to_owned(),
        };
        let all = format!("SELECT * FROM `{table}`");
        let (Some((from, to)), Some(cursor)) = (slice, self.cursor) else {
            return (given.sql.unwrap_or(all), Vec::new());
        };
        let kind = given.cursor_type.unwrap_or_else(|| "TIMESTAMP".to_owned()).to_uppercase();
        let sql =
            given.sql.unwrap_or_else(|| format!("{all} WHERE `{cursor}` >= @desde AND `{cursor}` < @hasta"));
        let there = |at: DateTime<Utc>| at.with_timezone(&Lima);
        let text = |at: DateTime<Utc>, end: bool| match kind.as_str() {
            "DATETIME" => there(at).format("%Y-%m-%d %H:%M:%S%.6f").to_string(),
            // A day that has begun is read: its rows have no hour.
            "DATE" => {
                let whole = there(at).time() == NaiveTime::MIN;
                let day = there(at).date_naive() + Duration::days(i64::from(end && !whole));
                day.to_string()
            }
            _ => at.format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string(),
        };
        let parameter = |name, value| Parameter { name, kind: kind.clone(), value };
        (sql, vec![parameter("desde", text(from, false)), parameter("hasta", text(to, true))])
    }
}

#[cfg(test)]
mod tests {
    use chassis::config::Env;

    use super::*;

    fn asked(stream: &str, tables: &str, slice: Slice) -> (String, Vec<[String; 2]>) {
        let mut env = Env::from_map([
            ("BIGQUERY_PROJECT_ID", "p"),
            ("BIGQUERY_DATASET", "d"),
            ("BIGQUERY_ANONYMOUS", "true"),
            ("COLLECTIONS_TABLES", tables),
        ]);
        let settings = BigQuerySettings::read(&mut env).expect("a project");
        let (sql, parameters) = table_of(stream).expect("a stream").query(&settings, slice);
        (sql, parameters.into_iter().map(|parameter| [parameter.kind, parameter.value]).collect())
    }

    #[test]
    fn tables_queries_and_types_of_cursors_are_configured() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().expect("a moment");
        // From a midnight in Lima to half past three the night after.
        let slice = Some((at("2025-06-01T05:00:00Z"), at("2025-06-02T08:30:00Z")));
        let of = |table: &str| {
            format!("SELECT * FROM `{table}` WHERE `creado_el` >= @desde AND `creado_el` < @hasta")
        };
        let sql = "SELECT * FROM f(@desde, @hasta)";
        for (tables, expected, kind, from, to) in [
            (
                "{}".to_owned(),
                of("p.d.pagos"),
                "TIMESTAMP",
                "2025-06-01 05:00:00.000000+00:00",
                "2025-06-02 08:30:00.000000+00:00",
            ),
            (
                r#"{"pagos": {"table": "otro.pagos_v2", "cursor_type": "DATETIME"}}"#.to_owned(),
                of("p.otro.pagos_v2"),
                "DATETIME",
                "2025-06-01 00:00:00.000000",
                "2025-06-02 03:30:00.000000",
            ),
            // Rows of a day that has begun have no hour.
            (
                r#"{"pagos": {"table": "x.y.z", "cursor_type": "date"}}"#.to_owned(),
                of("x.y.z"),
                "DATE",
                "2025-06-01",
                "2025-06-03",
            ),
            (
                format!(r#"{{"pagos": {{"sql": "{sql}"}}}}"#),
                sql.to_owned(),
                "TIMESTAMP",
                "2025-06-01 05:00:00.000000+00:00",
                "2025-06-02 08:30:00.000000+00:00",
            ),
        ] {
            let (asked, parameters) = asked("bigquery.pagos", &tables, slice);
            assert_eq!(asked, expected);
            assert_eq!(parameters, [[kind, from], [kind, to]], "{tables}");
        }
        let whole = asked("bigquery.ejecutivos", r#"{"ejecutivos": {"table": "agentes"}}"#, None);
        assert_eq!(whole, ("SELECT * FROM `p.d.agentes`".to_owned(), Vec::new()));
    }
}
