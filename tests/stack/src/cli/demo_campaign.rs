//! A campaign in the demo: what it would come to, how it goes while somebody opts out, what it came to, and its row in report.

use super::state::{Demo, TELNYX};
use super::upload::body;
use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const CAMPAIGNS: &str = "/api/v1/campaigns";
const SENDER: &str = "+525550001111";
/// Parts a second: the campaign takes some seconds, so that there is something to see.
const PER_SECOND: u32 = 500;
const RECIPIENTS: u64 = 2_000;
/// So many are sent before somebody opts out.
const FIRST: u64 = 200;
/// Without accents a part, with them two. Ñ costs nothing.
const TEXT: &str =
    "Hola {primer_nombre|cliente}: su pago vence mañana. Responda BAJA para no recibir más mensajes.";

/// A message that was claimed before its recipient opted out may still go for so long.
const HEEDED_WITHIN: Duration = Duration::from_secs(1);

/// How long all of it may take before we give up on it.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Campaign {
    id: String,
    date: Option<String>,
}

#[derive(Deserialize)]
struct Preview {
    matched: u64,
    recipients: u64,
    excluded: BTreeMap<String, u64>,
    by_state: Vec<Value>,
    parts: Parts,
    costs: Vec<Amount>,
}

#[derive(Deserialize)]
struct Parts {
    total: u64,
    transliteration_saves: u64,
}

#[derive(Deserialize)]
struct Amount {
    micros: i64,
    currency: String,
}

#[derive(Deserialize)]
struct Progress {
    state: String,
    reason: Option<String>,
    recipients: u64,
    messages: BTreeMap<String, u64>,
    codes: BTreeMap<String, u64>,
    parts: u64,
    costs: Vec<Cost>,
}

#[derive(Deserialize)]
struct Cost {
    currency: Option<String>,
    cost_micros: i64,
}

impl Progress {
    fn in_state(&self, state: &str) -> u64 {
        self.messages.get(state).copied().unwrap_or_default()
    }

    /// Those that a provider has, or had.
    fn sent(&self) -> u64 {
        ["accepted", "sent", "delivered"].into_iter().map(|state| self.in_state(state)).sum()
    }

    /// Whether nothing is expected of any message any more.
    fn has_settled(&self) -> bool {
        let open = ["pending", "submitting", "unknown", "accepted", "sent"];
        self.state == "completed" && open.into_iter().all(|state| self.in_state(state) == 0)
    }
}

#[derive(Deserialize)]
struct Messages {
    items: Vec<Message>,
    next_cursor: Option<i32>,
}

#[derive(Deserialize)]
struct Message {
    phone: String,
}

#[derive(Deserialize)]
struct Suppressed {
    suppressed: bool,
}

#[derive(Deserialize)]
struct Rows {
    items: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: i64,
    nombre: String,
    fecha: String,
    estado: String,
}

/// The gateway, as the demo's user asks it.
struct Api<'a> {
    client: &'a Client,
    gateway: String,
    token: &'a str,
    end: Instant,
}

impl Api<'_> {
    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer =
            self.client.get(format!("{}{path}", self.gateway)).bearer_auth(self.token).send().await?;
        body(answer, path).await
    }

    async fn post<T: serde::de::DeserializeOwned>(&self, path: &str, json: &Value) -> Result<T> {
        let request = self.client.post(format!("{}{path}", self.gateway)).bearer_auth(self.token);
        body(request.json(json).send().await?, path).await
    }

    /// A pause before something is asked again.
    async fn wait(&self, what: &str) -> Result<()> {
        ensure!(
            Instant::now() < self.end,
            "{what} after {PATIENCE:?}; see make logs SERVICE=sms-dispatch-worker"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }
}

/// Previews a campaign and sends it, with an opt-out on the way.
pub async fn run(demo: &Demo, client: &Client, token: &str) -> Result<()> {
    let gateway = demo.wiring.gateway_url();
    let api = Api { client, gateway, token, end: Instant::now() + PATIENCE };
    println!("\nA campaign of SMS through Telnyx, simulated");
    sender(&api).await?;
    let name = format!("Cobranza {}", chrono::Utc::now().format("%m%d%H%M%S"));
    let draft = json!({ "name": name, "kind": "cobranza", "plan": {
        "texts": [{ "text": TEXT }],
        "audience": { "filter": { "sample": { "size": RECIPIENTS } } },
        "senders": [{ "address": SENDER }],
        "transliterate": true,
    } });
    let campaign: Campaign = api.post(CAMPAIGNS, &draft).await?;
    let id = campaign.id;
    preview(&api, &id).await?;

    let began = Instant::now();
    let started: Campaign = api.post(&format!("{CAMPAIGNS}/{id}/start"), &Value::Null).await?;
    let day = started.date.context("a campaign that starts has its day")?;
    let simulator = demo.wiring.url(TELNYX);
    let (done, in_time) = follow(&api, &id, &simulator).await?;
    println!("  all settled {:.1} s after its start\n", began.elapsed().as_secs_f64());
    totals(&done, in_time)?;

    let row = loop {
        let path = format!("/campania/list?fecha={}&page_size=100", day.replace('-', "/"));
        let rows: Rows = api.get(&path).await?;
        let row = rows.items.into_iter().find(|row| row.nombre == name);
        match row {
            Some(row) if row.estado == "COMPLETADA" => break row,
            _ => api.wait("report has no row of it").await?,
        }
    };
    println!("\n  in report: {}  {}  {}  {}", row.id, row.fecha, row.nombre, row.estado);
    Ok(())
}

/// Has a sender there. The worker writes which providers there are.
async fn sender(api: &Api<'_>) -> Result<()> {
    let sender = json!({
        "provider": "telnyx", "kind": "long_code", "per_second": PER_SECOND, "price_micros": 5_100, "currency": "USD",
    });
    loop {
        let url = format!("{}/api/v1/sms/senders/{SENDER}", api.gateway);
        let kept = api.client.put(url).bearer_auth(api.token).json(&sender).send().await?;
        if kept.status() == StatusCode::OK {
            return Ok(());
        }
        api.wait("the sender is not taken").await?;
    }
}

async fn preview(api: &Api<'_>, id: &str) -> Result<()> {
    let told: Preview = api.get(&format!("{CAMPAIGNS}/{id}/preview")).await?;
    let Preview { matched, recipients, excluded, by_state, parts, costs } = told;
    println!(
        "  {matched} contacts match, of which {recipients} are written to, in {} states",
        by_state.len()
    );
    for (reason, contacts) in &excluded {
        println!("  {contacts:>8} {reason}");
    }
    let Parts { total, transliteration_saves } = parts;
    println!("  {total} parts, {transliteration_saves} fewer without accents");
    for Amount { micros, currency } in &costs {
        println!("  it costs {} {currency}", units(*micros));
    }
    ensure!(recipients == RECIPIENTS, "{recipients} recipients, and {RECIPIENTS} were asked for");
    Ok(())
}

/// Somebody who has opted out.
struct OptOut {
    phone: String,
    /// When that was known.
    known: Instant,
    /// Whether the message was still to be sent when opt-outs are heeded.
    in_time: Option<bool>,
}

/// Follows a campaign until nothing is expected of it any more, with a progress bar. On the way somebody opts out. Gives whether
/// that was in time, too.
async fn follow(api: &Api<'_>, id: &str, simulator: &str) -> Result<(Progress, bool)> {
    let bar = ProgressBar::new(RECIPIENTS);
    bar.set_style(ProgressStyle::with_template("  {bar:40.green} {pos}/{len} messages  {msg}")?);
    let mut opted_out: Option<OptOut> = None;
    loop {
        let progress: Progress = api.get(&format!("{CAMPAIGNS}/{id}/progress")).await?;
        bar.set_position(progress.sent() + progress.in_state("skipped"));
        bar.set_message(progress.state.clone());
        if progress.has_settled() {
            bar.finish();
            return Ok((progress, opted_out.and_then(|one| one.in_time).unwrap_or(false)));
        }
        if matches!(progress.state.as_str(), "paused" | "cancelled" | "failed") {
            bar.abandon();
            bail!("the campaign is {}: {}", progress.state, progress.reason.unwrap_or_default());
        }
        match &mut opted_out {
            None if progress.sent() >= FIRST => {
                let (phone, said) = opt_out(api, id, simulator).await?;
                bar.suspend(|| println!("{said}"));
                opted_out = Some(OptOut { phone, known: Instant::now(), in_time: None });
            }
            Some(one) if one.in_time.is_none() && one.known.elapsed() >= HEEDED_WITHIN => {
                one.in_time = Some(waiting(api, id).await?.contains(&one.phone));
            }
            _ => {}
        }
        api.wait("the campaign is not settled").await?;
    }
}

/// The last of those who still wait opts out, as if by an answer to an earlier campaign. Gives who, and what to say of it.
async fn opt_out(api: &Api<'_>, id: &str, simulator: &str) -> Result<(String, String)> {
    let phone = waiting(api, id).await?.pop().context("nobody waits for a message any more")?;
    let answer = json!({
        "from": phone, "to": SENDER, "text": "Baja, por favor",
        "url": format!("{}/webhooks/telnyx", api.gateway),
    });
    let began = Instant::now();
    api.client.post(format!("{simulator}/control/write")).json(&answer).send().await?.error_for_status()?;
    loop {
        let url = format!("{}/api/v1/suppressions/{phone}", api.gateway);
        let known = api.client.get(url).bearer_auth(api.token).send().await?;
        // 404 until anything is known of it.
        if known.status().is_success() && known.json::<Suppressed>().await?.suppressed {
            let last = phone.get(phone.len().saturating_sub(4)..).unwrap_or_default();
            let took = began.elapsed().as_millis();
            let said = format!("  …{last} answers BAJA and is suppressed after {took} ms");
            return Ok((phone, said));
        }
        api.wait("the opt-out is not known").await?;
    }
}

/// The phones whose messages are still to be sent.
async fn waiting(api: &Api<'_>, id: &str) -> Result<Vec<String>> {
    let (mut phones, mut cursor) = (Vec::new(), Some(0));
    while let Some(after) = cursor {
        let path = format!("{CAMPAIGNS}/{id}/messages?state=pending&cursor={after}&limit=500");
        let page: Messages = api.get(&path).await?;
        phones.extend(page.items.into_iter().map(|message| message.phone));
        cursor = page.next_cursor;
    }
    Ok(phones)
}

/// Prints what a campaign came to. Whoever opted out `in_time` must be left out.
fn totals(done: &Progress, in_time: bool) -> Result<()> {
    for (state, messages) in &done.messages {
        println!("  {messages:>8} {state}");
    }
    for (code, messages) in &done.codes {
        println!("  {messages:>8} did not arrive: {code}");
    }
    println!("  {:>8} parts", done.parts);
    for Cost { currency, cost_micros } in &done.costs {
        println!("  {:>8} {}", units(*cost_micros), currency.as_deref().unwrap_or_default());
    }
    let accounted: u64 = done.messages.values().sum();
    ensure!(accounted == done.recipients, "{accounted} messages of {} are accounted for", done.recipients);
    let left_out = done.codes.get("opt_out") == Some(&1);
    ensure!(left_out || !in_time, "who opted out was written to: {:?}", done.codes);
    if !left_out {
        println!("  who opted out had the message before: this machine was busy");
    }
    Ok(())
}

/// An amount of millionths.
fn units(micros: i64) -> String {
    format!("{}.{:04}", micros / 1_000_000, micros % 1_000_000 / 100)
}
