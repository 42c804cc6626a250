//! The dashboards once more, from docs/kpis.md and raw rows in memory: account by account, day by day, with whole
//! numbers. Slow, and nothing in common with the SQL.

mod managements;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, Datelike as _, Months, NaiveDate, TimeDelta, Timelike as _, Utc};
use serde_json::{Value, json};

use crate::data::{Asignacion, Calendario, Gestion, Raw};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    Sc,
    Ci,
    Cd,
}

pub struct Call<'a> {
    pub row: &'a Gestion,
    pub day: NaiveDate,
    pub level: Level,
    pub promise: bool,
}

/// A payment that is valid: hundredths.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Paid {
    pub account: String,
    pub document: String,
    pub day: NaiveDate,
    pub amount: i64,
}

pub struct Campaign<'a> {
    pub row: &'a Calendario,
    pub file: String,
    pub cartera: &'static str,
    pub accounts: Vec<&'a Asignacion>,
}

impl Campaign<'_> {
    pub fn holds(&self, day: NaiveDate) -> bool {
        self.row.fecha_apertura <= day && self.row.fecha_cierre.is_none_or(|end| day <= end)
    }
}

pub struct Oracle<'a> {
    pub raw: &'a Raw,
    pub campaigns: Vec<Campaign<'a>>,
    /// By client.
    pub calls: HashMap<&'a str, Vec<Call<'a>>>,
    /// By account.
    pub payments: HashMap<String, Vec<Paid>>,
    /// Hundredths, by day and account.
    pub debt: BTreeMap<NaiveDate, HashMap<&'a str, i64>>,
    pub holidays: Vec<NaiveDate>,
}

/// What a filter of the test says; empty: all.
#[derive(Clone, Default, Debug)]
pub struct Only {
    pub cartera: BTreeSet<String>,
    pub servicio: BTreeSet<String>,
    pub tramo: BTreeSet<String>,
    pub vencimiento: BTreeSet<i16>,
    pub rango: BTreeSet<String>,
    pub opened_from: Option<NaiveDate>,
    pub opened_to: Option<NaiveDate>,
    pub periodo: BTreeSet<String>,
    /// First and last opening day of each period.
    pub spans: Vec<(NaiveDate, NaiveDate)>,
}

impl Only {
    /// What its periods mean as of a day.
    pub fn of_day(self, day: NaiveDate) -> Self {
        let of_month = |day: NaiveDate| day.with_day(1).expect("months have a first day");
        let months = |number| (day - Months::new(number) + TimeDelta::days(1), day);
        let span = |name: &String| match name.as_str() {
            "ANTERIOR" => {
                let last = of_month(day) - TimeDelta::days(1);
                (of_month(last), last)
            }
            "ULTIMO_MES" => months(1),
            _ => months(3),
        };
        let spans = self.periodo.iter().map(span).collect();
        Self { spans, ..self }
    }
}

/// Sums over accounts, and of which campaigns they are.
#[derive(Default, Clone)]
struct Sums {
    accounts: i128,
    managed: i128,
    managements: i128,
    cd: i128,
    ci: i128,
    sc: i128,
    promised: i128,
    fractioned: i128,
    either: i128,
    paying: i128,
    recovered: i128,
    assigned: i128,
    owed: i128,
    campaigns: BTreeSet<usize>,
}

fn lima(at: DateTime<Utc>) -> (NaiveDate, u32) {
    let there = at - TimeDelta::hours(5);
    (there.date_naive(), there.hour())
}

/// Tenths of a percent, halves up.
fn percent(part: i128, whole: i128) -> f64 {
    tenths(part * 100, whole)
}

fn tenths(part: i128, whole: i128) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    let (part, whole) = if whole < 0 { (-part, -whole) } else { (part, whole) };
    let sign = if part < 0 { -1 } else { 1 };
    (sign * ((part.abs() * 20 + whole) / (2 * whole))) as f64 / 10.0
}

fn money(cents: i128) -> f64 {
    cents as f64 / 100.0
}

fn cartera(file: &str) -> &'static str {
    if file.contains("TEMPRANA") {
        "TEMPRANA"
    } else if file.contains("CF_ANN") {
        "CUOTA_FRACCIONAMIENTO"
    } else if file.contains("AN") {
        "ALTAS_NUEVAS"
    } else {
        "OTRAS"
    }
}

/// Of a document's payments of a day more than three are a mistake: none of them counts.
fn by_account(valid: &[Paid]) -> HashMap<String, Vec<Paid>> {
    let mut times: HashMap<(&str, NaiveDate), usize> = HashMap::new();
    for paid in valid {
        *times.entry((paid.document.as_str(), paid.day)).or_default() += 1;
    }
    let mut payments: HashMap<String, Vec<Paid>> = HashMap::new();
    for paid in valid {
        if times[&(paid.document.as_str(), paid.day)] <= 3 {
            payments.entry(paid.account.clone()).or_default().push(paid.clone());
        }
    }
    payments
}

impl<'a> Oracle<'a> {
    pub fn new(raw: &'a Raw, holidays: Vec<NaiveDate>) -> Self {
        let mut campaigns: Vec<Campaign<'a>> = Vec::new();
        for row in raw.calendario.iter().filter(|row| row.eliminado_en.is_none()) {
            // Of two periods of a file the later is it.
            let later = raw.calendario.iter().any(|other| {
                other.eliminado_en.is_none()
                    && other.archivo == row.archivo
                    && other.periodo_date > row.periodo_date
            });
            if later {
                continue;
            }
            let cartera = cartera(&row.archivo.to_uppercase());
            let file = format!("{}.txt", row.archivo);
            let mut best: BTreeMap<&str, &Asignacion> = BTreeMap::new();
            for row in raw.asignaciones.iter().filter(|row| row.archivo == file && row.eliminado_en.is_none())
            {
                let known = best.entry(&row.cuenta).or_insert(row);
                let rank = |row: &Asignacion| (row.creado_el, row.fecha_asignacion);
                if rank(row) > rank(known) || (rank(row) == rank(known) && row.cod_luna < known.cod_luna) {
                    *known = row;
                }
            }
            campaigns.push(Campaign { row, file, cartera, accounts: best.into_values().collect() });
        }

        let mut calls: HashMap<&str, Vec<Call>> = HashMap::new();
        for row in raw.gestiones.iter().filter(|row| row.eliminado_en.is_none()) {
            let Some(client) = row.document.as_deref() else { continue };
            let codes: Vec<&str> = row.codes.iter().map(|code| code.as_deref().unwrap_or("")).collect();
            let rule = raw.rules.iter().find(|rule| {
                rule.voicebot == row.voicebot
                    && rule.codes.iter().map(String::as_str).eq(codes.iter().copied())
            });
            let level = match rule.and_then(|rule| rule.contactabilidad.as_deref()) {
                Some("Contacto Efectivo") => Level::Cd,
                Some("Contacto No Efectivo") => Level::Ci,
                _ => Level::Sc,
            };
            let promise = matches!(rule.and_then(|rule| rule.pdp.as_deref()), Some("1" | "true" | "SI"));
            calls.entry(client).or_default().push(Call { row, day: lima(row.date).0, level, promise });
        }

        let mut debt: BTreeMap<NaiveDate, HashMap<&str, i64>> = BTreeMap::new();
        let mut owner: HashMap<&str, (NaiveDate, DateTime<Utc>, &str)> = HashMap::new();
        for row in raw.trandeuda.iter().filter(|row| row.eliminado_en.is_none()) {
            if row.monto_exigible > 0 && row.motivo_rechazo.is_none() {
                *debt.entry(row.fecha_proceso).or_default().entry(&row.cod_cuenta).or_default() +=
                    row.monto_exigible;
            }
            let this = (row.fecha_proceso, row.creado_el, row.cod_cuenta.as_str());
            let known = owner.entry(&row.nro_documento).or_insert(this);
            if (this.0, this.1) > (known.0, known.1)
                || ((this.0, this.1) == (known.0, known.1) && this.2 < known.2)
            {
                *known = this;
            }
        }
        let mut valid = Vec::new();
        for row in raw.pagos.iter().filter(|row| row.eliminado_en.is_none()) {
            if row.monto_cancelado <= 0 || row.motivo_rechazo.is_some() {
                continue;
            }
            if let Some((_, _, account)) = owner.get(row.nro_documento.as_str()) {
                valid.push(Paid {
                    account: (*account).to_owned(),
                    document: row.nro_documento.clone(),
                    day: row.fecha_pago,
                    amount: row.monto_cancelado,
                });
            }
        }
        Self { raw, campaigns, calls, payments: by_account(&valid), debt, holidays }
    }

    fn debt_on(&self, account: &str, day: NaiveDate) -> Option<i64> {
        self.debt.get(&day)?.get(account).copied()
    }

    fn assigned_debt(&self, campaign: &Campaign, account: &str) -> i64 {
        let at = campaign.row.fecha_trandeuda.and_then(|day| self.debt_on(account, day));
        at.or_else(|| {
            self.debt.keys().filter(|day| campaign.holds(**day)).find_map(|day| self.debt_on(account, *day))
        })
        .unwrap_or(0)
    }

    fn paid_in<'b>(&'b self, campaign: &'b Campaign, account: &str) -> impl Iterator<Item = &'b Paid> {
        self.payments.get(account).into_iter().flatten().filter(|paid| campaign.holds(paid.day))
    }

    fn calls_in<'b>(&'b self, campaign: &'b Campaign, client: &str) -> impl Iterator<Item = &'b Call<'a>> {
        self.calls.get(client).into_iter().flatten().filter(|call| campaign.holds(call.day))
    }

    fn cuts(&self, campaign: &Campaign, account: &Asignacion) -> HashMap<&'static str, String> {
        let debt = self.assigned_debt(campaign, &account.cuenta);
        let rango = match debt {
            0 => "SIN_DEUDA",
            1..=99 => "MENOR_1",
            100..=9_999 => "RANGO_1_100",
            10_000..=50_000 => "RANGO_100_500",
            _ => "MAYOR_500",
        };
        let negocio = account.negocio.as_deref().unwrap_or("").trim().to_uppercase();
        HashMap::from([
            ("cartera", campaign.cartera.to_owned()),
            ("servicio", if negocio == "MOVIL" { "MOVIL" } else { "FIJA" }.to_owned()),
            ("tramo", account.tramo_gestion.clone().unwrap_or_else(|| "SIN_TRAMO".to_owned())),
            (
                "vencimiento",
                account.min_vto.map_or("SIN_VENCIMIENTO".to_owned(), |day| day.day().to_string()),
            ),
            ("rangoDeuda", rango.to_owned()),
            ("archivo", campaign.file.clone()),
        ])
    }

    /// Sums as of a day by the value of a dimension; "" is all.
    fn sums(&self, corte: NaiveDate, only: &Only, dimensions: &[&str]) -> Vec<BTreeMap<String, Sums>> {
        let mut all = vec![BTreeMap::<String, Sums>::new(); dimensions.len()];
        let snapshot = self.debt.keys().filter(|day| **day <= corte).max().copied();
        for (index, campaign) in
            self.campaigns.iter().enumerate().filter(|(_, campaign)| campaign.holds(corte))
        {
            let opens = campaign.row.fecha_apertura;
            if only.opened_from.is_some_and(|from| opens < from)
                || only.opened_to.is_some_and(|to| opens > to)
                || !(only.spans.is_empty()
                    || only.spans.iter().any(|(from, to)| (*from..=*to).contains(&opens)))
            {
                continue;
            }
            for account in &campaign.accounts {
                let cuts = self.cuts(campaign, account);
                let takes = |set: &BTreeSet<String>, cut: &str| set.is_empty() || set.contains(&cuts[cut]);
                let due = account.min_vto.map_or(0, |day| day.day() as i16);
                if !takes(&only.cartera, "cartera")
                    || !takes(&only.servicio, "servicio")
                    || !takes(&only.tramo, "tramo")
                    || !takes(&only.rango, "rangoDeuda")
                    || !(only.vencimiento.is_empty() || only.vencimiento.contains(&due))
                {
                    continue;
                }
                let calls: Vec<&Call> =
                    self.calls_in(campaign, &account.cod_luna).filter(|call| call.day <= corte).collect();
                let best = calls.iter().map(|call| call.level).max();
                let promised = calls.iter().any(|call| call.promise);
                let fractioned = account.fraccionamiento.as_deref() == Some("SI");
                let paid: Vec<&Paid> =
                    self.paid_in(campaign, &account.cuenta).filter(|paid| paid.day <= corte).collect();
                let standing = snapshot.and_then(|day| self.debt_on(&account.cuenta, day)).unwrap_or(0);
                let since: i64 =
                    paid.iter().filter(|paid| Some(paid.day) > snapshot).map(|paid| paid.amount).sum();
                for (sums, dimension) in all.iter_mut().zip(dimensions) {
                    let name = if dimension.is_empty() { String::new() } else { cuts[dimension].clone() };
                    let sums = sums.entry(name).or_default();
                    sums.accounts += 1;
                    sums.managed += i128::from(best.is_some());
                    sums.managements += calls.len() as i128;
                    sums.cd += i128::from(best == Some(Level::Cd));
                    sums.ci += i128::from(best == Some(Level::Ci));
                    sums.sc += i128::from(best == Some(Level::Sc));
                    sums.promised += i128::from(promised);
                    sums.fractioned += i128::from(fractioned);
                    sums.either += i128::from(promised || fractioned);
                    sums.paying += i128::from(!paid.is_empty());
                    sums.recovered += i128::from(paid.iter().map(|paid| paid.amount).sum::<i64>());
                    sums.assigned += i128::from(self.assigned_debt(campaign, &account.cuenta));
                    sums.owed += i128::from((standing - since).max(0));
                    sums.campaigns.insert(index);
                }
            }
        }
        all
    }

    pub fn dashboard(&self, corte: NaiveDate, only: &Only, dimensions: [&str; 2]) -> Value {
        let [total, first, second]: [BTreeMap<String, Sums>; 3] =
            self.sums(corte, only, &["", dimensions[0], dimensions[1]]).try_into().ok().expect("three");
        let total = total.get("").cloned().unwrap_or_default();
        let rows = |sums: BTreeMap<String, Sums>| {
            let mut rows: Vec<_> = sums.into_iter().collect();
            rows.sort_by_key(|(name, sums)| (-sums.accounts, name.clone()));
            rows.into_iter().map(|(name, sums)| self.row(corte, &name, &sums, &total)).collect::<Vec<_>>()
        };
        let (first, second) = (rows(first), rows(second));
        let chart: Vec<Value> = first
            .iter()
            .map(|row| {
                json!({
                    "name": row["name"], "cobertura": row["cobertura"], "contacto": row["contacto"],
                    "contactoDirecto": row["cd"], "contactoIndirecto": row["ci"],
                    "tasaDeCierre": row["cierre"], "intensidad": row["inten"],
                })
            })
            .collect();
        json!({ "segmentoData": first, "negocioData": second, "integralChartData": chart })
    }

    fn row(&self, corte: NaiveDate, name: &str, sums: &Sums, total: &Sums) -> Value {
        let of: Vec<&Campaign> = sums.campaigns.iter().map(|index| &self.campaigns[*index]).collect();
        let opens = of.iter().map(|campaign| campaign.row.fecha_apertura).min().expect("one at least");
        let mut days = 0;
        let mut day = opens;
        while day <= corte {
            days += i64::from(day.weekday().number_from_monday() <= 5 && !self.holidays.contains(&day));
            day += TimeDelta::days(1);
        }
        let closes: Option<Vec<NaiveDate>> = of.iter().map(|campaign| campaign.row.fecha_cierre).collect();
        assert_eq!(sums.cd + sums.ci + sums.sc + (sums.accounts - sums.managed), sums.accounts);
        json!({
            "id": name.to_lowercase(), "name": name, "status": "none",
            "cuentas": sums.accounts as i64, "porcentajeCuentas": percent(sums.accounts, total.accounts),
            "deudaAsig": money(sums.assigned), "porcentajeDeuda": percent(sums.assigned, total.assigned),
            "porcentajeDeudaStatus": "none",
            "deudaAct": money(sums.owed), "porcentajeDeudaAct": percent(sums.owed, total.owed),
            "porcentajeDeudaActStatus": "none",
            "cobertura": percent(sums.managed, sums.accounts),
            "contacto": percent(sums.cd + sums.ci, sums.accounts), "contactoStatus": "none",
            "cd": percent(sums.cd, sums.accounts), "ci": percent(sums.ci, sums.accounts),
            "sc": percent(sums.sc, sums.accounts),
            "cierre": percent(sums.paying, sums.accounts), "cierreStatus": "none",
            "inten": tenths(sums.managements, sums.managed), "intenStatus": "none",
            "cdCount": sums.cd as i64, "ciCount": sums.ci as i64, "scCount": sums.sc as i64,
            "sgCount": (sums.accounts - sums.managed) as i64, "pdpCount": sums.promised as i64,
            "fracCount": sums.fractioned as i64, "pdpFracCount": sums.either as i64,
            "fechaAsignacion": of.iter().flat_map(|campaign| &campaign.accounts).map(|row| row.fecha_asignacion).min(),
            "fechaCierre": closes.and_then(|closes| closes.into_iter().max()),
            "diasGestion": days,
            "diasHabiles": of.iter().filter_map(|campaign| campaign.row.duracion_campana_dias_habiles).max(),
        })
    }

    pub fn evolution(
        &self,
        from: NaiveDate,
        to: NaiveDate,
        only: &Only,
        dimension: &str,
        metrics: &[&str],
    ) -> Value {
        // By name ("" is all) and day.
        let mut standing: BTreeMap<String, BTreeMap<i64, Sums>> = BTreeMap::new();
        for number in 0..=(to - from).num_days() {
            let sums = self.sums(from + TimeDelta::days(number), only, &["", dimension]);
            for (name, sums) in sums.into_iter().flatten() {
                standing.entry(name).or_default().insert(number + 1, sums);
            }
        }
        let of = |metric: &&str| {
            let value = |sums: &Sums| match *metric {
                "cobertura" => percent(sums.managed, sums.accounts),
                "contacto" => percent(sums.cd + sums.ci, sums.accounts),
                "cd" => percent(sums.cd, sums.accounts),
                "ci" => percent(sums.ci, sums.accounts),
                "sc" => percent(sums.sc, sums.accounts),
                "cierre" => percent(sums.paying, sums.accounts),
                "recupero" => money(sums.recovered),
                _ => tenths(sums.managements, sums.managed),
            };
            let kind = match *metric {
                "recupero" => "currency",
                "intensidad" => "number",
                _ => "percent",
            };
            let series: Vec<Value> = standing
                .iter()
                .map(|(name, days)| {
                    let data: Vec<Value> =
                        days.iter().map(|(day, sums)| json!({ "day": day, "value": value(sums) })).collect();
                    json!({ "name": if name.is_empty() { "TODAS" } else { name }, "data": data })
                })
                .collect();
            json!({ "metric": metric, "valueType": kind, "series": series })
        };
        metrics.iter().map(of).collect()
    }
}
