//! Raw rows as a source could have them: in memory for the oracle, and in the tables.

use std::collections::HashSet;

use anyhow::Result;
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use sea_orm::sqlx::{self, AssertSqlSafe, PgPool};
use serde::Serialize;
use serde_json::{Value, json};

/// SplitMix64: the same rows for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }

    pub fn of<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize].clone()
    }

    pub fn day(&mut self, from: &str, days: u64) -> NaiveDate {
        day(from) + TimeDelta::days(self.below(days) as i64)
    }
}

pub fn day(text: &str) -> NaiveDate {
    text.parse().expect("a day")
}

/// The moment of a time in Lima, which is five hours behind UTC all year.
pub fn lima(day: NaiveDate, seconds: i64) -> DateTime<Utc> {
    day.and_time(NaiveTime::MIN).and_utc() + TimeDelta::hours(5) + TimeDelta::seconds(seconds)
}

#[derive(Clone, Serialize)]
pub struct Calendario {
    pub archivo: String,
    pub periodo_date: NaiveDate,
    pub fecha_apertura: NaiveDate,
    pub fecha_trandeuda: Option<NaiveDate>,
    pub fecha_cierre: Option<NaiveDate>,
    pub duracion_campana_dias_habiles: Option<i64>,
    pub eliminado_en: Option<DateTime<Utc>>,
}

#[derive(Clone, Serialize)]
pub struct Asignacion {
    pub cod_luna: String,
    pub cuenta: String,
    pub archivo: String,
    pub fecha_asignacion: NaiveDate,
    pub creado_el: DateTime<Utc>,
    pub tramo_gestion: Option<String>,
    pub min_vto: Option<NaiveDate>,
    pub negocio: Option<String>,
    pub fraccionamiento: Option<String>,
    pub eliminado_en: Option<DateTime<Utc>>,
}

#[derive(Clone, Serialize)]
pub struct Trandeuda {
    pub cod_cuenta: String,
    pub nro_documento: String,
    pub archivo: String,
    pub fecha_proceso: NaiveDate,
    pub creado_el: DateTime<Utc>,
    /// Hundredths.
    #[serde(serialize_with = "cents")]
    pub monto_exigible: i64,
    pub motivo_rechazo: Option<String>,
    pub eliminado_en: Option<DateTime<Utc>>,
}

#[derive(Clone, Serialize)]
pub struct Pago {
    pub nro_documento: String,
    pub fecha_pago: NaiveDate,
    /// Hundredths.
    #[serde(serialize_with = "cents")]
    pub monto_cancelado: i64,
    pub creado_el: DateTime<Utc>,
    pub motivo_rechazo: Option<String>,
    pub eliminado_en: Option<DateTime<Utc>>,
}

/// Of either channel: three codes, and an agent where a person called.
#[derive(Clone)]
pub struct Gestion {
    pub voicebot: bool,
    pub uid: String,
    pub date: DateTime<Utc>,
    pub document: Option<String>,
    pub codes: [Option<String>; 3],
    pub nombre_agente: Option<String>,
    pub correo_agente: Option<String>,
    pub eliminado_en: Option<DateTime<Utc>>,
}

#[derive(Clone)]
pub struct Rule {
    pub voicebot: bool,
    pub codes: [String; 3],
    pub contactabilidad: Option<String>,
    pub pdp: Option<String>,
}

#[derive(Clone, Serialize)]
pub struct Ejecutivo {
    pub correo_name: String,
    pub nombre: Option<String>,
    pub document: Option<String>,
}

fn cents<S: serde::Serializer>(cents: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let sign = if *cents < 0 { "-" } else { "" };
    serializer.serialize_str(&format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100))
}

#[derive(Clone, Default)]
pub struct Raw {
    pub calendario: Vec<Calendario>,
    pub asignaciones: Vec<Asignacion>,
    pub trandeuda: Vec<Trandeuda>,
    pub pagos: Vec<Pago>,
    pub gestiones: Vec<Gestion>,
    pub rules: Vec<Rule>,
    pub ejecutivos: Vec<Ejecutivo>,
    /// Keys of payments.
    paid: HashSet<(String, NaiveDate, i64)>,
}

/// The first day of the campaigns.
pub const START: &str = "2025-05-05";
const FILES: [&str; 5] = ["Cartera_Agencia_Temprana_", "CF_ANN_", "Cartera_AN_", "Cobros_", "temprana_fija_"];
const CODES: [Option<&str>; 5] = [Some("A"), Some("B"), Some("C"), Some(""), None];

impl Raw {
    pub fn generate(seed: u64, accounts: u64, managements: u64) -> Self {
        let mut dice = Dice(seed);
        let mut raw = Self::default();
        raw.add_campaigns(&mut dice);
        let clients = accounts * 6 / 10;
        raw.add_assignments(&mut dice, accounts, clients);
        let mut snapshot = day("2025-04-28");
        while snapshot < day("2025-07-12") {
            raw.add_snapshot(&mut dice, snapshot, accounts);
            snapshot += TimeDelta::days(2 + dice.below(3) as i64);
        }
        for _ in 0..accounts {
            raw.add_payment(&mut dice, accounts);
        }
        let codes = ["A", "B", "C", ""];
        for (number, voicebot) in (0..codes.len().pow(3)).flat_map(|number| [(number, true), (number, false)])
        {
            if dice.one_in(3) {
                continue;
            }
            raw.rules.push(Rule {
                voicebot,
                codes: [number / 16, number / 4 % 4, number % 4].map(|code| codes[code].to_owned()),
                contactabilidad: dice
                    .of(&[Some("Contacto Efectivo"), Some("Contacto No Efectivo"), Some("No Contacto"), None])
                    .map(str::to_owned),
                pdp: dice
                    .of(&[Some("1"), Some("true"), Some("SI"), Some("0"), Some("NO"), None])
                    .map(str::to_owned),
            });
        }
        for _ in 0..managements {
            raw.add_management(&mut dice, clients);
        }
        for number in 0..4 {
            raw.ejecutivos.push(Ejecutivo {
                correo_name: format!("Agente{number}@x.pe"),
                nombre: (number != 1).then(|| format!("Persona {number}")),
                document: (number != 2).then(|| format!("4000{number}")),
            });
        }
        raw
    }

    fn add_campaigns(&mut self, dice: &mut Dice) {
        for number in 0..14 {
            let opens = dice.day(START, 55);
            let closes = opens + TimeDelta::days(10 + dice.below(35) as i64);
            self.calendario.push(Calendario {
                archivo: format!("{}{number:02}", FILES[number % FILES.len()]),
                periodo_date: day("2025-05-01"),
                fecha_apertura: opens,
                fecha_trandeuda: (!dice.one_in(4)).then(|| opens - TimeDelta::days(dice.below(3) as i64)),
                fecha_cierre: (!dice.one_in(4)).then_some(closes),
                duracion_campana_dias_habiles: (!dice.one_in(5)).then(|| 10 + dice.below(20) as i64),
                eliminado_en: None,
            });
        }
        // A file that is in the calendar twice, one that the source took back, and one that is assigned but not in it.
        let mut again = self.calendario[2].clone();
        again.periodo_date = day("2025-06-01");
        again.fecha_apertura += TimeDelta::days(5);
        self.calendario.push(again);
        self.calendario[5].eliminado_en = Some(lima(day("2025-07-20"), 0));
    }

    fn add_assignments(&mut self, dice: &mut Dice, accounts: u64, clients: u64) {
        let gone = |dice: &mut Dice| dice.one_in(40).then(|| lima(day("2025-07-20"), 0));
        let mut files: Vec<String> =
            self.calendario.iter().map(|row| format!("{}.txt", row.archivo)).collect();
        files.push("Desconocida.txt".to_owned());
        for number in 0..accounts {
            for _ in 0..=dice.below(2) {
                let archivo = dice.of(&files);
                let made = lima(dice.day(START, 60), dice.below(86_400) as i64);
                // Some are assigned again, and of those some to another client.
                for version in 0..1 + u64::from(dice.one_in(6)) {
                    let client = if dice.one_in(5) { dice.below(clients) } else { number % clients };
                    self.asignaciones.push(Asignacion {
                        cod_luna: format!("L{client}"),
                        cuenta: format!("C{number}"),
                        archivo: archivo.clone(),
                        fecha_asignacion: made.date_naive() + TimeDelta::days(version as i64),
                        // Of equal ones the later assignment is the account's.
                        creado_el: made + TimeDelta::days(if dice.one_in(3) { 0 } else { version as i64 }),
                        tramo_gestion: dice.of(&[Some("3"), Some("5"), Some("30"), None]).map(str::to_owned),
                        min_vto: (!dice.one_in(9)).then(|| dice.day("2025-05-01", 40)),
                        negocio: dice
                            .of(&[Some("MOVIL"), Some("FIJA"), Some("movil "), None])
                            .map(str::to_owned),
                        fraccionamiento: dice.of(&[Some("SI"), Some("NO"), None]).map(str::to_owned),
                        eliminado_en: gone(dice),
                    });
                }
            }
        }
        let mut seen = HashSet::new();
        self.asignaciones.retain(|row| {
            seen.insert((row.archivo.clone(), row.cuenta.clone(), row.cod_luna.clone(), row.fecha_asignacion))
        });
    }

    pub fn add_snapshot(&mut self, dice: &mut Dice, snapshot: NaiveDate, accounts: u64) {
        for number in 0..accounts {
            // Not all are in all.
            if dice.one_in(4) {
                continue;
            }
            for document in 0..1 + dice.below(2) {
                // A document may pass to another account.
                let of = if dice.one_in(50) { (number + 1) % accounts } else { number };
                let row = Trandeuda {
                    cod_cuenta: format!("C{of}"),
                    nro_documento: format!("D{number}-{document}"),
                    archivo: format!("TRAN_{snapshot}"),
                    fecha_proceso: snapshot,
                    creado_el: lima(snapshot, 3_600 + dice.below(3) as i64),
                    monto_exigible: dice
                        .of(&[0, 50, 99, 100, 101, 9_999, 10_000, 50_000, 50_001, 123_457, -5]),
                    motivo_rechazo: dice.one_in(15).then(|| "X".to_owned()),
                    eliminado_en: dice.one_in(40).then(|| lima(day("2025-07-20"), 0)),
                };
                self.trandeuda.push(row);
            }
        }
    }

    pub fn add_payment(&mut self, dice: &mut Dice, accounts: u64) {
        let pago = Pago {
            nro_documento: format!("D{}-{}", dice.below(accounts + 20), dice.below(2)),
            fecha_pago: dice.day(START, 70),
            monto_cancelado: dice.of(&[1, 50, 100, 9_999, 20_000, 77_777, 0, -100]),
            creado_el: lima(dice.day(START, 70), 0),
            motivo_rechazo: dice.one_in(15).then(|| "X".to_owned()),
            eliminado_en: dice.one_in(40).then(|| lima(day("2025-07-20"), 0)),
        };
        // Three a day of one document, or four: only three may be.
        let times = if dice.one_in(8) { 3 + dice.below(2) as i64 } else { 1 };
        for time in 0..times {
            let pago = Pago { monto_cancelado: pago.monto_cancelado + time * 111, ..pago.clone() };
            if self.paid.insert((pago.nro_documento.clone(), pago.fecha_pago, pago.monto_cancelado)) {
                self.pagos.push(pago);
            }
        }
    }

    pub fn add_management(&mut self, dice: &mut Dice, clients: u64) {
        let voicebot = dice.one_in(2);
        let at = dice.day(START, 70);
        // Some at half past eleven at night in Lima, which is the next day in UTC; some at midnight itself.
        let seconds = dice.of(&[84_600, 0, 86_399, 32_400, 50_000])
            + i64::from(dice.one_in(2)) * dice.below(3_600) as i64 % 60;
        let agent = dice.below(6);
        let uid = format!("G{}", self.gestiones.len());
        self.gestiones.push(Gestion {
            voicebot,
            uid,
            date: lima(at, seconds),
            document: (!dice.one_in(30)).then(|| format!("L{}", dice.below(clients + 10))),
            codes: std::array::from_fn(|_| dice.of(&CODES).map(str::to_owned)),
            nombre_agente: (agent != 5).then(|| format!("Nombre {agent}")),
            correo_agente: (agent < 4).then(|| format!("agente{agent}@X.pe")),
            eliminado_en: dice.one_in(40).then(|| lima(day("2025-07-20"), 0)),
        });
    }

    /// Writes the rows that there are, in place of those with the same key.
    pub async fn write(&self, pool: &PgPool) -> Result<()> {
        let gestiones = |voicebot: bool| {
            let names =
                if voicebot { ["management", "sub_management", "compromiso"] } else { ["n1", "n2", "n3"] };
            let of = self.gestiones.iter().filter(move |row| row.voicebot == voicebot);
            of.map(move |row| {
                let mut value = json!({
                    "uid": row.uid, "date": row.date, "document": row.document, "eliminado_en": row.eliminado_en,
                    names[0]: row.codes[0], names[1]: row.codes[1], names[2]: row.codes[2],
                });
                if !voicebot {
                    value["nombre_agente"] = json!(row.nombre_agente);
                    value["correo_agente"] = json!(row.correo_agente);
                }
                value
            })
        };
        let rules = |voicebot: bool| {
            let names =
                if voicebot { ["management", "sub_management", "compromiso"] } else { ["n1", "n2", "n3"] };
            let of = self.rules.iter().filter(move |row| row.voicebot == voicebot);
            of.map(move |row| {
                json!({
                    names[0]: row.codes[0], names[1]: row.codes[1], names[2]: row.codes[2],
                    "contactabilidad": row.contactabilidad, "pdp": row.pdp,
                })
            })
        };
        fn values<T: Serialize>(rows: &[T]) -> impl Iterator<Item = Value> {
            rows.iter().map(|row| serde_json::to_value(row).expect("JSON"))
        }
        write(pool, "raw_calendario", "archivo, periodo_date", values(&self.calendario)).await?;
        let key = "archivo, cuenta, cod_luna, fecha_asignacion";
        write(pool, "raw_asignaciones", key, values(&self.asignaciones)).await?;
        let key = "fecha_proceso, cod_cuenta, nro_documento, archivo";
        write(pool, "raw_trandeuda", key, values(&self.trandeuda)).await?;
        write(pool, "raw_pagos", "nro_documento, fecha_pago, monto_cancelado", values(&self.pagos)).await?;
        write(pool, "raw_voicebot_gestiones", "uid", gestiones(true)).await?;
        write(pool, "raw_mibotair_gestiones", "uid", gestiones(false)).await?;
        let key = "management, sub_management, compromiso";
        write(pool, "raw_homologacion_voicebot", key, rules(true)).await?;
        write(pool, "raw_homologacion_mibotair", "n1, n2, n3", rules(false)).await?;
        write(pool, "raw_ejecutivos", "correo_name", values(&self.ejecutivos)).await
    }
}

/// Rows that differ from those that are there.
async fn write(pool: &PgPool, table: &str, key: &str, rows: impl Iterator<Item = Value>) -> Result<()> {
    let mut rows = rows.peekable();
    let Some(Value::Object(first)) = rows.peek().cloned() else { return Ok(()) };
    let columns: Vec<String> = first.keys().map(|name| format!("\"{name}\"")).collect();
    let names = columns.join(", ");
    let others: Vec<&String> =
        columns.iter().filter(|name| !key.split(", ").any(|key| format!("\"{key}\"") == **name)).collect();
    let set: Vec<String> = others.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let old: Vec<String> = others.iter().map(|name| format!("{table}.{name}")).collect();
    let new: Vec<String> = others.iter().map(|name| format!("excluded.{name}")).collect();
    let sql = format!(
        "insert into {table} ({names}, huella, leido_en)
         select {names}, '', now() from jsonb_populate_recordset(null::{table}, $1)
         on conflict ({key}) do update set {} where ({}) is distinct from ({})",
        set.join(", "),
        old.join(", "),
        new.join(", ")
    );
    loop {
        let chunk: Vec<Value> = rows.by_ref().take(20_000).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        sqlx::query(AssertSqlSafe(sql.clone())).bind(Value::Array(chunk)).execute(pool).await?;
    }
}
