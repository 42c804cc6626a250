//! A collections business of some weeks, for the demo: campaigns that are open today, their accounts, managements and
//! payments. The same for the same seed and day.

use chrono::{Duration, NaiveDate};
use serde_json::{Value, json};

use super::{BigQuery, Field, Table};

/// The tables and their columns, as the configuration without changes expects them.
const COLUMNS: [(&str, &[(&str, &str)]); 9] = [
    (
        "calendario",
        &[
            ("archivo", "STRING"),
            ("periodo_date", "DATE"),
            ("fecha_apertura", "DATE"),
            ("fecha_trandeuda", "DATE"),
            ("fecha_cierre", "DATE"),
            ("tipo_cartera", "STRING"),
            ("duracion_campana_dias_habiles", "INTEGER"),
        ],
    ),
    (
        "asignaciones",
        &[
            ("cod_luna", "STRING"),
            ("cuenta", "STRING"),
            ("archivo", "STRING"),
            ("fecha_asignacion", "DATE"),
            ("creado_el", "TIMESTAMP"),
            ("telefono", "STRING"),
            ("tramo_gestion", "STRING"),
            ("min_vto", "DATE"),
            ("negocio", "STRING"),
            ("fraccionamiento", "STRING"),
            ("zona", "STRING"),
        ],
    ),
    (
        "trandeuda",
        &[
            ("cod_cuenta", "STRING"),
            ("nro_documento", "STRING"),
            ("archivo", "STRING"),
            ("fecha_proceso", "DATE"),
            ("creado_el", "TIMESTAMP"),
            ("fecha_vencimiento", "DATE"),
            ("monto_exigible", "NUMERIC"),
            ("motivo_rechazo", "STRING"),
        ],
    ),
    (
        "pagos",
        &[
            ("nro_documento", "STRING"),
            ("fecha_pago", "DATE"),
            ("monto_cancelado", "NUMERIC"),
            ("creado_el", "TIMESTAMP"),
            ("cod_sistema", "STRING"),
            ("archivo", "STRING"),
            ("motivo_rechazo", "STRING"),
        ],
    ),
    (
        "voicebot_gestiones",
        &[
            ("uid", "STRING"),
            ("date", "TIMESTAMP"),
            ("document", "STRING"),
            ("phone", "STRING"),
            ("management", "STRING"),
            ("sub_management", "STRING"),
            ("compromiso", "STRING"),
            ("fecha_compromiso", "DATE"),
        ],
    ),
    (
        "mibotair_gestiones",
        &[
            ("uid", "STRING"),
            ("date", "TIMESTAMP"),
            ("document", "STRING"),
            ("phone", "STRING"),
            ("n1", "STRING"),
            ("n2", "STRING"),
            ("n3", "STRING"),
            ("nombre_agente", "STRING"),
            ("correo_agente", "STRING"),
            ("monto_compromiso", "NUMERIC"),
            ("fecha_compromiso", "DATE"),
        ],
    ),
    (
        "homologacion_voicebot",
        &[
            ("management", "STRING"),
            ("sub_management", "STRING"),
            ("compromiso", "STRING"),
            ("contactabilidad", "STRING"),
            ("pdp", "STRING"),
            ("peso", "NUMERIC"),
        ],
    ),
    (
        "homologacion_mibotair",
        &[
            ("n1", "STRING"),
            ("n2", "STRING"),
            ("n3", "STRING"),
            ("contactabilidad", "STRING"),
            ("pdp", "STRING"),
            ("peso", "NUMERIC"),
        ],
    ),
    ("ejecutivos", &[("correo_name", "STRING"), ("nombre", "STRING"), ("document", "STRING")]),
];

const CAMPAIGNS: [&str; 4] = ["Cartera_Temprana", "Cartera_AN", "CF_ANN", "Cobros"];
const OUTCOMES: [(&str, &str, &str); 4] = [
    ("CONTACTO", "Contacto Efectivo", "NO"),
    ("PROMESA", "Contacto Efectivo", "SI"),
    ("TERCERO", "Contacto No Efectivo", "NO"),
    ("NO CONTESTA", "No Contacto", "NO"),
];

/// Fills the source with `accounts` accounts, as of `today`.
pub fn fill(source: &BigQuery, seed: u64, accounts: u64, today: NaiveDate) {
    let rows = COLUMNS.iter().map(|(name, _)| (*name, Vec::new())).collect();
    let mut demo = Demo { state: seed, opened: today - days(25), rows };
    demo.campaigns(today);
    for account in 0..accounts {
        demo.account(account);
    }
    demo.dictionaries();
    for ((name, rows), (_, columns)) in demo.rows.into_iter().zip(COLUMNS) {
        let fields = columns.iter().map(|(name, kind)| Field::new(name, kind)).collect();
        let rows = rows.into_iter().filter_map(|row| row.as_object().cloned()).collect();
        source.set(name, Table::new(fields, rows));
    }
}

/// The business as it is made up.
struct Demo {
    /// SplitMix64's.
    state: u64,
    /// The day on which the campaigns opened.
    opened: NaiveDate,
    rows: Vec<(&'static str, Vec<Value>)>,
}

impl Demo {
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn add(&mut self, name: &str, row: Value) {
        if let Some((_, rows)) = self.rows.iter_mut().find(|(known, _)| *known == name) {
            rows.push(row);
        }
    }

    fn campaigns(&mut self, today: NaiveDate) {
        let opened = self.opened;
        for campaign in CAMPAIGNS {
            self.add(
                "calendario",
                json!({
                    "archivo": campaign, "periodo_date": opened, "fecha_apertura": opened, "fecha_trandeuda": opened,
                    "fecha_cierre": today + days(10), "tipo_cartera": campaign, "duracion_campana_dias_habiles": 25,
                }),
            );
        }
    }

    /// An account with its debts, perhaps a payment, and who was called.
    fn account(&mut self, account: u64) {
        let opened = self.opened;
        let file = CAMPAIGNS[usize::try_from(account % 4).unwrap_or_default()];
        self.add(
            "asignaciones",
            json!({
                "cod_luna": format!("L{}", account * 2 / 3), "cuenta": format!("C{account}"),
                "archivo": format!("{file}.txt"), "fecha_asignacion": opened, "creado_el": at(opened, 0),
                "tramo_gestion": (3 + account % 3 * 2).to_string(), "min_vto": opened - days(account % 28),
                "negocio": if account.is_multiple_of(3) { "MOVIL" } else { "FIJA" },
                "fraccionamiento": if account.is_multiple_of(9) { "SI" } else { "NO" },
            }),
        );
        let amount = 20 + self.below(900);
        for snapshot in [0, 8, 16, 24] {
            // Some have paid, and are not in the later ones.
            if snapshot == 0 || self.below(8) > 0 {
                self.add(
                    "trandeuda",
                    json!({
                        "cod_cuenta": format!("C{account}"), "nro_documento": format!("D{account}"),
                        "archivo": "TRANDEUDA", "fecha_proceso": opened + days(snapshot),
                        "creado_el": at(opened + days(snapshot), account % 3_600),
                        "monto_exigible": format!("{amount}.{:02}", account % 100),
                    }),
                );
            }
        }
        if self.below(6) == 0 {
            let paid = opened + days(2 + self.below(23));
            let sum = 10 + self.below(amount);
            self.add(
                "pagos",
                json!({
                    "nro_documento": format!("D{account}"), "fecha_pago": paid, "creado_el": at(paid, 30_000),
                    "monto_cancelado": format!("{sum}.00"),
                }),
            );
        }
        for call in 0..self.below(7) {
            self.call(account, call);
        }
    }

    /// A call to the owner of an account: a third of them are voicebot's.
    fn call(&mut self, account: u64, call: u64) {
        let (day, seconds) = (self.opened + days(self.below(26)), self.below(30_000));
        let (code, _, _) = OUTCOMES[usize::try_from(self.below(4)).unwrap_or_default()];
        let (uid, document) = (format!("{account}-{call}"), format!("L{}", account * 2 / 3));
        if self.below(3) == 0 {
            self.add(
                "voicebot_gestiones",
                json!({ "uid": uid, "date": at(day, seconds), "document": document, "management": code }),
            );
        } else {
            let agent = self.below(12);
            self.add(
                "mibotair_gestiones",
                json!({
                    "uid": uid, "date": at(day, seconds), "document": document, "n1": code,
                    "nombre_agente": format!("Agente {agent}"), "correo_agente": format!("agente{agent}@ejemplo.pe"),
                }),
            );
        }
    }

    /// What codes mean, and who the agents are.
    fn dictionaries(&mut self) {
        for (code, level, pdp) in OUTCOMES {
            self.add(
                "homologacion_voicebot",
                json!({ "management": code, "contactabilidad": level, "pdp": pdp, "peso": "1" }),
            );
            self.add(
                "homologacion_mibotair",
                json!({ "n1": code, "contactabilidad": level, "pdp": pdp, "peso": "1" }),
            );
        }
        for agent in 0..12 {
            self.add(
                "ejecutivos",
                json!({
                    "correo_name": format!("agente{agent}@ejemplo.pe"), "nombre": format!("Agente {agent}"),
                    "document": format!("4000{agent:04}"),
                }),
            );
        }
    }
}

fn days(number: u64) -> Duration {
    Duration::days(i64::try_from(number).unwrap_or_default())
}

/// So many seconds after ten in the morning in Lima.
fn at(day: NaiveDate, seconds: u64) -> Value {
    let morning = day.and_hms_opt(15, 0, 0).unwrap_or_default().and_utc();
    json!(morning.timestamp_micros() + i64::try_from(seconds).unwrap_or_default() * 1_000_000)
}

/// What some hours bring: managements and payments that come late, some that change, a few that go, and a rejected
/// payment that came before. The last of these sometimes goes, and the source has the first one alone. `round` is how often
/// this was called.
pub fn live(source: &BigQuery, round: u64, today: NaiveDate) {
    let ago = |number: u64, seconds: u64| at(today - days(number), seconds);
    let row = |value: Value| value.as_object().cloned().unwrap_or_default();
    source.change("voicebot_gestiones", |table| {
        for number in 0..20 {
            let (uid, document) = (format!("late-{round}-{number}"), format!("L{}", number * 7 + round));
            table.rows.push(row(
                json!({ "uid": uid, "date": ago(1 + number % 6, number), "document": document, "management": "PROMESA" }),
            ));
        }
        let length = table.rows.len();
        for number in 0..5 {
            let place = (usize::try_from(round).unwrap_or_default() * 31 + number * 17) % length;
            table.rows[place].insert("management".to_owned(), json!("CONTACTO"));
        }
        table.rows.swap_remove(usize::try_from(round).unwrap_or_default() % length);
    });
    source.change("mibotair_gestiones", |table| {
        table.rows.swap_remove(usize::try_from(round * 3).unwrap_or_default() % table.rows.len());
    });
    source.change("pagos", |table| {
        if round % 3 == 2 {
            table.rows.pop();
        }
        let mut again = table.rows[usize::try_from(round).unwrap_or_default() % table.rows.len()].clone();
        again.insert("creado_el".to_owned(), ago(1, 60 + round));
        again.insert("motivo_rechazo".to_owned(), json!("ANULADO"));
        table.rows.push(again);
    });
}
