//! What was said to clients, and what came of it: assignment, operation, productivity.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::{Value, json};

use super::{Call, Level, Oracle, Paid, lima, money, percent, tenths};

impl<'a> Oracle<'a> {
    /// Without what is of the moment.
    pub fn assignment(&self, now: NaiveDate, before: NaiveDate, carteras: &BTreeSet<String>) -> Value {
        let sums = |day: NaiveDate, cartera: Option<&str>| {
            let (mut clients, mut accounts, mut debt) = (HashSet::new(), 0_i128, 0_i128);
            for campaign in self.campaigns.iter().filter(|campaign| {
                campaign.holds(day)
                    && cartera.is_none_or(|name| name == campaign.cartera)
                    && (carteras.is_empty() || carteras.contains(campaign.cartera))
            }) {
                for account in &campaign.accounts {
                    clients.insert(&account.cod_luna);
                    accounts += 1;
                    debt += i128::from(self.assigned_debt(campaign, &account.cuenta));
                }
            }
            (clients.len() as i128, accounts, debt)
        };
        // Hundredths, halves up.
        let ticket = |accounts: i128, debt: i128| {
            if accounts == 0 { 0 } else { (2 * debt + accounts) / (2 * accounts) }
        };
        let kpi = |label: &str, kind: &str, now: i128, before: i128, cents: bool| {
            let variation = match (before, now) {
                (0, 0) => 0.0,
                (0, _) => 100.0,
                _ => percent(now - before, before),
            };
            let value = |value: i128| if cents { money(value) } else { value as f64 };
            json!({ "label": label, "valorActual": value(now), "valorAnterior": value(before),
                    "variacion": variation, "valueType": kind })
        };
        let (a, b) = (sums(now, None), sums(before, None));
        let mut rows = Vec::new();
        for cartera in ["TEMPRANA", "CUOTA_FRACCIONAMIENTO", "ALTAS_NUEVAS", "OTRAS"] {
            let (a, b) = (sums(now, Some(cartera)), sums(before, Some(cartera)));
            if a.1 + b.1 > 0 {
                rows.push((cartera, a, b));
            }
        }
        rows.sort_by_key(|(name, a, _)| (-a.2, *name));
        json!({
            "kpis": [
                kpi("Total Clientes", "number", a.0, b.0, false),
                kpi("Total Cuentas", "number", a.1, b.1, false),
                kpi("Saldo Total Deuda", "currency", a.2, b.2, true),
                kpi("Ticket Promedio", "currency", ticket(a.1, a.2), ticket(b.1, b.2), true),
            ],
            "compositionData": rows.iter().map(|(name, a, _)| json!({ "name": name, "value": money(a.2) })).collect::<Vec<_>>(),
            "detailBreakdown": rows.iter().map(|(name, a, b)| json!({
                "id": name.to_lowercase(), "name": name,
                "clientesActual": a.0 as i64, "clientesAnterior": b.0 as i64,
                "cuentasActual": a.1 as i64, "cuentasAnterior": b.1 as i64,
                "saldoActual": money(a.2), "saldoAnterior": money(b.2),
                "ticketPromedioActual": money(ticket(a.1, a.2)), "ticketPromedioAnterior": money(ticket(b.1, b.2)),
            })).collect::<Vec<_>>(),
        })
    }

    /// Calls that reach a campaign, with it and the nth time of the client in it.
    fn reaching(&self) -> Vec<(usize, usize, &Call<'a>)> {
        let mut reaching = Vec::new();
        for (index, campaign) in self.campaigns.iter().enumerate() {
            let clients: BTreeSet<&str> = campaign.accounts.iter().map(|row| row.cod_luna.as_str()).collect();
            for client in clients {
                let mut calls: Vec<&Call> = self.calls_in(campaign, client).collect();
                calls.sort_by_key(|call| (call.row.date, call.row.voicebot, call.row.uid.clone()));
                reaching.extend(calls.into_iter().enumerate().map(|(nth, call)| (index, nth + 1, call)));
            }
        }
        reaching
    }

    pub fn operation(&self, day: NaiveDate) -> Value {
        let reaching: Vec<_> = self.reaching().into_iter().filter(|(_, _, call)| call.day == day).collect();
        type Counts = (HashSet<String>, HashSet<String>, HashSet<String>, HashSet<String>);
        fn count(counts: &mut Counts, call: &Call, key: String) {
            if call.level == Level::Cd {
                counts.1.insert(key.clone());
            }
            if call.level == Level::Ci {
                counts.2.insert(key.clone());
            }
            if call.promise {
                counts.3.insert(key.clone());
            }
            counts.0.insert(key);
        }
        let (mut all, mut channels, mut hours, mut attempts, mut queues) = (
            Counts::default(),
            BTreeMap::<&str, Counts>::new(),
            BTreeMap::<String, Counts>::new(),
            BTreeMap::<usize, Counts>::new(),
            BTreeMap::<&str, Counts>::new(),
        );
        for (campaign, nth, call) in &reaching {
            let key = || call.row.uid.clone();
            count(&mut all, call, key());
            let channel = if call.row.voicebot { "Voicebot" } else { "Call Center" };
            count(channels.entry(channel).or_default(), call, key());
            count(hours.entry(format!("{:02}:00", lima(call.row.date).1)).or_default(), call, key());
            count(queues.entry(self.campaigns[*campaign].cartera).or_default(), call, key());
            if *nth <= 5 {
                count(attempts.entry(*nth).or_default(), call, format!("{}/{campaign}", call.row.uid));
            }
        }
        let (mut reached, mut accounts) = (0_i128, 0_i128);
        for campaign in &self.campaigns {
            for account in &campaign.accounts {
                let calls = self.calls_in(campaign, &account.cod_luna).filter(|call| call.day == day).count();
                reached += calls as i128;
                accounts += i128::from(calls > 0);
            }
        }
        let n = |set: &HashSet<String>| set.len() as i128;
        let rate = |value: f64| format!("{value:.1}%");
        let closing = |counts: &Counts| percent(n(&counts.3), n(&counts.1));
        let mut by_calls: Vec<_> = queues.into_iter().collect();
        by_calls.sort_by_key(|(name, counts)| (-n(&counts.0), *name));
        json!({
            "kpis": [
                { "label": "Total Llamadas", "value": n(&all.0).to_string() },
                { "label": "Tasa de Contacto", "value": rate(percent(n(&all.1) + n(&all.2), n(&all.0))) },
                { "label": "Contacto Directo", "value": rate(percent(n(&all.1), n(&all.0))) },
                { "label": "Tasa de Cierre", "value": rate(closing(&all)) },
                { "label": "Intensidad", "value": format!("{:.1}", tenths(reached, accounts)) },
                { "label": "Cuentas Gestionadas", "value": accounts.to_string() },
            ],
            "channelPerformance": channels.iter().map(|(name, counts)| json!({
                "channel": name, "calls": counts.0.len(), "effectiveContacts": counts.1.len(),
                "nonEffectiveContacts": counts.2.len(), "pdp": counts.3.len(), "cierreRate": closing(counts),
            })).collect::<Vec<_>>(),
            "hourlyPerformance": hours.iter().map(|(hour, counts)| json!({
                "hour": hour, "effectiveContacts": counts.1.len(), "nonEffectiveContacts": counts.2.len(),
                "pdp": counts.3.len(),
            })).collect::<Vec<_>>(),
            "attemptEffectiveness": attempts.iter().map(|(nth, counts)| json!({
                "attempt": nth, "cierreRate": closing(counts),
            })).collect::<Vec<_>>(),
            "queuePerformance": by_calls.iter().map(|(name, counts)| json!({
                "queueName": name, "calls": counts.0.len(), "effectiveContacts": counts.1.len(),
                "pdp": counts.3.len(), "cierreRate": closing(counts),
            })).collect::<Vec<_>>(),
        })
    }

    /// Each call of a span once, with the first payment that follows it in any campaign.
    fn once(&self, from: NaiveDate, to: NaiveDate) -> BTreeMap<&str, (&Call<'a>, Option<NaiveDate>)> {
        let within = |day: NaiveDate| from <= day && day <= to;
        let mut once: BTreeMap<&str, (&Call<'a>, Option<NaiveDate>)> = BTreeMap::new();
        for (campaign, _, call) in self.reaching().into_iter().filter(|(_, _, call)| within(call.day)) {
            let campaign = &self.campaigns[campaign];
            let client = call.row.document.as_deref().expect("it reaches one");
            let follows = campaign
                .accounts
                .iter()
                .filter(|account| account.cod_luna == client)
                .flat_map(|account| self.paid_in(campaign, &account.cuenta))
                .map(|paid| paid.day)
                .filter(|day| *day >= call.day)
                .min();
            let known = once.entry(&call.row.uid).or_insert((call, None));
            known.1 = known.1.into_iter().chain(follows).min();
        }
        once
    }

    /// Each payment of a span once, and the latest direct contact of the campaigns that it is in.
    fn credited(&self, from: NaiveDate, to: NaiveDate) -> BTreeMap<&Paid, Option<&Call<'a>>> {
        let within = |day: NaiveDate| from <= day && day <= to;
        let mut paid: BTreeMap<&Paid, Option<&Call<'a>>> = BTreeMap::new();
        for campaign in &self.campaigns {
            for account in &campaign.accounts {
                for payment in self.paid_in(campaign, &account.cuenta).filter(|paid| within(paid.day)) {
                    let last = self
                        .calls_in(campaign, &account.cod_luna)
                        .filter(|call| call.level == Level::Cd && call.day <= payment.day)
                        .max_by_key(|call| rank(call));
                    let known = paid.entry(payment).or_insert(None);
                    *known = [*known, last].into_iter().flatten().max_by_key(|call| rank(call));
                }
            }
        }
        paid
    }

    /// Without what is of the moment.
    pub fn productivity(&self, from: NaiveDate, to: NaiveDate) -> Value {
        let number = |day: NaiveDate| (day - from).num_days() + 1;
        let once = self.once(from, to);
        let paid = self.credited(from, to);
        let (mut days, mut hours) =
            (BTreeMap::<i64, (i64, i64, i64)>::new(), BTreeMap::<String, (i64, i64)>::new());
        for (call, _) in once.values() {
            let day = days.entry(number(call.day)).or_default();
            day.0 += 1;
            day.1 += i64::from(call.promise);
            let hour = hours.entry(format!("{:02}:00", lima(call.row.date).1)).or_default();
            hour.0 += 1;
            hour.1 += i64::from(call.promise);
        }
        for payment in paid.keys() {
            days.entry(number(payment.day)).or_default().2 += payment.amount;
        }
        let agents = worked(&once, &paid, from, to);
        let known = |id: &str| self.raw.ejecutivos.iter().find(|row| row.correo_name.to_lowercase() == id);
        let called = |id: &str| known(id).and_then(|row| row.nombre.clone()).unwrap_or_else(|| id.to_owned());
        let mut ranked: Vec<_> = agents.iter().collect();
        ranked.sort_by_key(|(id, work)| (-work.money, -work.promises, (*id).clone()));
        let size = ranked.len();
        let ranking: Vec<Value> = ranked
            .iter()
            .enumerate()
            .map(|(place, (id, work))| {
                json!({
                    "id": id, "rank": place + 1, "agentName": called(id), "calls": work.calls,
                    "directContacts": work.contacts, "commitments": work.promises,
                    "amountRecovered": money(work.money.into()),
                    "closingRate": percent(work.promises.into(), work.contacts.into()),
                    "commitmentConversion": percent(work.kept.into(), work.promises.into()),
                    "quartile": quartile(place, size),
                })
            })
            .collect();
        let mut by_name: Vec<_> = agents.iter().collect();
        by_name.sort_by_key(|(id, _)| (called(id), (*id).clone()));
        let heat: Vec<Value> = by_name
            .iter()
            .map(|(id, work)| {
                let days: serde_json::Map<String, Value> = work
                    .days
                    .iter()
                    .map(|(day, (calls, contacts, promises))| {
                        let performance =
                            json!({ "gestiones": calls, "contactosEfectivos": contacts, "compromisos": promises });
                        (day.to_string(), performance)
                    })
                    .collect();
                let dni = known(id).and_then(|row| row.document.clone()).unwrap_or_default();
                json!({ "id": id, "dni": dni, "agentName": called(id), "dailyPerformance": days })
            })
            .collect();
        json!({
            "dailyTrend": days.iter().map(|(day, (calls, promises, paid))| json!({
                "day": day, "hour": null, "llamadas": calls, "compromisos": promises, "recupero": money((*paid).into()),
            })).collect::<Vec<_>>(),
            "hourlyTrend": hours.iter().map(|(hour, (calls, promises))| json!({
                "day": null, "hour": hour, "llamadas": calls, "compromisos": promises, "recupero": null,
            })).collect::<Vec<_>>(),
            "agentRanking": ranking,
            "agentHeatmap": heat,
        })
    }
}

/// Later first; of equal ones Call Center before Voicebot, then the first by its id.
fn rank<'c>(call: &&'c Call) -> (DateTime<Utc>, bool, std::cmp::Reverse<&'c str>) {
    (call.row.date, !call.row.voicebot, std::cmp::Reverse(&call.row.uid))
}

/// What an agent did, and what it brought in: hundredths.
#[derive(Default)]
struct Work {
    calls: i64,
    contacts: i64,
    promises: i64,
    kept: i64,
    money: i64,
    days: BTreeMap<i64, (i64, i64, i64)>,
}

/// By agent.
fn worked(
    once: &BTreeMap<&str, (&Call, Option<NaiveDate>)>,
    paid: &BTreeMap<&Paid, Option<&Call>>,
    from: NaiveDate,
    to: NaiveDate,
) -> BTreeMap<String, Work> {
    let within = |day: NaiveDate| from <= day && day <= to;
    let number = |day: NaiveDate| (day - from).num_days() + 1;
    let agent = |call: &Call| {
        if call.row.voicebot {
            return None;
        }
        call.row.correo_agente.clone().or(call.row.nombre_agente.clone()).map(|name| name.to_lowercase())
    };
    let mut agents: BTreeMap<String, Work> = BTreeMap::new();
    for (call, follows) in once.values() {
        let Some(name) = agent(call) else { continue };
        let work = agents.entry(name).or_default();
        let contact = i64::from(call.level == Level::Cd);
        work.calls += 1;
        work.contacts += contact;
        work.promises += i64::from(call.promise);
        work.kept += i64::from(call.promise && follows.is_some_and(|day| day <= to));
        let day = work.days.entry(number(call.day)).or_default();
        day.0 += 1;
        day.1 += contact;
        day.2 += i64::from(call.promise);
    }
    for (payment, call) in paid {
        if let Some(call) = call.filter(|call| within(call.day))
            && let Some(name) = agent(call)
        {
            agents.get_mut(&name).expect("it called").money += payment.amount;
        }
    }
    agents
}

/// ntile(4): as SQL deals places out.
fn quartile(place: usize, size: usize) -> usize {
    let mut quartile = 0;
    let mut end = 0;
    while end <= place {
        end += size / 4 + usize::from(quartile < size % 4);
        quartile += 1;
    }
    quartile
}
