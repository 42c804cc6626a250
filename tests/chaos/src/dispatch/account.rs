//! The account of a case: ledger, totals, report's table and what was noted meanwhile, against the provider's record.

use super::Line;
use super::scene::{Round, Scene};
use anyhow::{Context, Result, ensure};
use chrono::{DateTime, NaiveDate, Utc};
use sea_orm::sqlx;
use serde_json::json;
use simulators::messages::Accepted;
use sms_dispatch::domain::callback::Callback;
use sms_dispatch::domain::message_id::MessageId;
use sms_dispatch::domain::message_state::MessageState;
use stack::platform::sending::CAMPAIGNS;
use stack::wait;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;
use uuid::Uuid;

/// How long webhooks, records and report may take to tell all.
const QUIET: Duration = Duration::from_secs(120);
/// Differences that are printed.
const SHOWN: usize = 10;

/// A message in the ledger: its campaign, with number and day, its position, phone, state and code.
type LedgerRow = (Uuid, i32, NaiveDate, i32, String, i16, Option<String>);

/// What there is to compare.
pub struct Account {
    /// The provider's record by message.
    record: HashMap<Uuid, Vec<Accepted>>,
    rows: Vec<Row>,
}

/// A row of the ledger.
#[derive(Debug)]
struct Row {
    id: Uuid,
    number: i32,
    date: NaiveDate,
    position: i32,
    phone_e164: String,
    state: i16,
    code: Option<String>,
}

impl Row {
    fn message(&self) -> Uuid {
        MessageId { date: self.date, campaign: self.number, position: self.position }.uuid()
    }

    fn state(&self) -> MessageState {
        MessageState::from_code(self.state).unwrap_or(MessageState::Unknown)
    }

    /// What report's table must say of it.
    fn told(&self) -> &'static str {
        match self.state() {
            MessageState::Accepted
            | MessageState::Sent
            | MessageState::Delivered
            | MessageState::Unconfirmed => "ENVIADO",
            MessageState::Pending | MessageState::Submitting | MessageState::Unknown => "PENDIENTE",
            MessageState::Failed
            | MessageState::Expired
            | MessageState::Skipped
            | MessageState::Cancelled => "FALLIDO",
        }
    }
}

impl Account {
    /// Waits until all that webhooks and records can tell is told, has what is left sent again as a person would, and counts
    /// what is wrong.
    pub async fn settle(scene: &mut Scene, rounds: &[Round], line: &mut Line) -> Result<()> {
        let ids: Vec<Uuid> = rounds.iter().flat_map(|round| round.ids.iter().copied()).collect();
        let before = Self::quiet(scene, &ids).await?;
        // Of these the provider has none: `quiet` has waited for the others.
        line.unknown = before.rows.iter().filter(|row| row.state() == MessageState::Unknown).count();
        line.resent = resend(scene, &ids).await?;
        if line.resent != line.unknown {
            eprintln!("{} are unknown, and {} were sent again", line.unknown, line.resent);
            line.lost += line.unknown.abs_diff(line.resent);
        }
        let account = if line.resent > 0 { Self::quiet(scene, &ids).await? } else { before };
        account.judge(line);
        line.lost += missing(scene, rounds).await?;
        account.claims_are_noted(scene).await?;
        line.after_opt_out = after_opt_out(scene).await?;
        line.opt_outs = scene.opt_outs.len();
        line.opt_out_late_ms = account.latest(scene);
        line.lost_answers = scene.summary().await?.lost_answers;
        (line.looks, line.totals) = scene.looks;
        if line.looks == 0 {
            eprintln!("nobody looked at totals");
            line.totals += 1;
        }
        line.report = account.report(scene).await?;
        Ok(())
    }

    /// Waits until nothing is under way, every report is applied, and of all that the provider accepted the ledger knows that
    /// it was delivered. What is not so in time is seen in the account.
    async fn quiet(scene: &Scene, ids: &[Uuid]) -> Result<Self> {
        if let Err(error) = scene.completed(ids).await {
            eprintln!("{error:#}");
        }
        let waited = wait::until("the ledger should know what the provider has", QUIET, async || {
            let open = "select exists (select from provider_reports where failed_at is null)";
            let open = sqlx::query_scalar::<_, bool>(open).fetch_one(&scene.pool).await.unwrap_or(true);
            match Self::read(scene, ids).await {
                Ok(account) => !open && account.rows.iter().all(|row| account.is_told(row)),
                Err(_) => false,
            }
        });
        if let Err(error) = waited.await {
            eprintln!("{error:#}");
        }
        Self::read(scene, ids).await
    }

    async fn read(scene: &Scene, ids: &[Uuid]) -> Result<Self> {
        let mut record: HashMap<Uuid, Vec<Accepted>> = HashMap::new();
        for accepted in scene.record().await? {
            let callback = Callback::parse(&accepted.callback_url).context("a callback of ours")?;
            record.entry(callback.message).or_default().push(accepted);
        }
        let rows: Vec<LedgerRow> = sqlx::query_as(
            "select c.id, c.number, c.date, m.position, m.phone_e164, m.state, m.code
             from campaigns c join messages m on m.campaign = c.number where c.id = any($1) order by 2, 4",
        )
        .bind(ids)
        .fetch_all(&scene.pool)
        .await?;
        let row = |(id, number, date, position, phone_e164, state, code)| Row {
            id,
            number,
            date,
            position,
            phone_e164,
            state,
            code,
        };
        Ok(Self { record, rows: rows.into_iter().map(row).collect() })
    }

    /// Whether nothing more will be heard of a message.
    fn is_told(&self, row: &Row) -> bool {
        match self.record.contains_key(&row.message()) {
            true => row.state() == MessageState::Delivered,
            false => row.state().is_final() || row.state() == MessageState::Unknown,
        }
    }

    fn judge(&self, line: &mut Line) {
        let mut wrong = Vec::new();
        let mut of_phones: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
        let mut known = BTreeSet::new();
        line.accepted = self.rows.len();
        for row in &self.rows {
            let message = row.message();
            known.insert(message);
            let accepted = self.record.get(&message).map(Vec::as_slice).unwrap_or_default();
            if accepted.len() > 1 {
                let times: Vec<_> = accepted.iter().map(|one| (one.at, &one.callback_url)).collect();
                eprintln!("{message} to {} was accepted {} times: {times:?}", row.phone_e164, accepted.len());
                line.duplicated += accepted.len() - 1;
            }
            if !accepted.is_empty() {
                of_phones.entry(&row.phone_e164).or_default().insert(row.id);
            }
            let to_others = accepted.iter().any(|one| one.to != row.phone_e164);
            let code = row.code.as_deref().unwrap_or_default();
            let right = match row.state() {
                MessageState::Delivered => !accepted.is_empty() && !to_others,
                MessageState::Skipped => accepted.is_empty() && matches!(code, "opt_out" | "cap"),
                _ => false,
            };
            line.opted_out += usize::from(code == "opt_out");
            line.capped += usize::from(code == "cap");
            match right {
                true => line.r#final += 1,
                false => wrong.push(format!("{row:?}: the provider has {}", accepted.len())),
            }
        }
        let strangers = self.record.keys().filter(|message| !known.contains(message));
        wrong.extend(strangers.map(|message| format!("the provider has {message}, which no ledger has")));
        for difference in wrong.iter().take(SHOWN) {
            eprintln!("{difference}");
        }
        line.lost += wrong.len();
        line.over_cap = of_phones.values().filter(|campaigns| campaigns.len() > 1).count();
    }

    /// Fails unless the database has noted a claim of each message that the provider has: by those it is told who was submitted
    /// after an opt-out.
    async fn claims_are_noted(&self, scene: &Scene) -> Result<()> {
        let noted = "select count(distinct (campaign, position)) from claims";
        let noted: i64 = sqlx::query_scalar(noted).fetch_one(&scene.pool).await?;
        let record = self.record.len();
        ensure!(usize::try_from(noted)? >= record, "{noted} claims are noted of {record} messages");
        Ok(())
    }

    /// How many milliseconds after an opt-out was committed the last message to its phone was accepted: of one that was
    /// submitted before it.
    fn latest(&self, scene: &Scene) -> i64 {
        let mut last: HashMap<&str, DateTime<Utc>> = HashMap::new();
        for accepted in self.record.values().flatten() {
            let at = last.entry(&accepted.to).or_insert(accepted.at);
            *at = accepted.at.max(*at);
        }
        let late = scene
            .opt_outs
            .iter()
            .filter_map(|(phone, at)| Some((*last.get(phone.as_str())? - *at).num_milliseconds()));
        late.max().unwrap_or_default().max(0)
    }

    /// How many rows of report's table are not the ledger's, once it has had its time.
    async fn report(&self, scene: &Scene) -> Result<usize> {
        let should: BTreeMap<Uuid, (&str, &str)> =
            self.rows.iter().map(|row| (row.message(), (row.phone_e164.as_str(), row.told()))).collect();
        let ids: BTreeSet<String> = self.rows.iter().map(|row| row.id.to_string()).collect();
        let ids: Vec<String> = ids.into_iter().collect();
        let differences = async || -> Result<Vec<String>> {
            let table: Vec<(Uuid, String, String)> = sqlx::query_as(
                "select d.mensaje_id, d.telefono, d.estado from ta_sms_detalle d join ta_sms_maestro m on m.id = d.id_maestro
                 where m.origen_id = any($1)",
            )
            .bind(&ids)
            .fetch_all(&scene.reports)
            .await?;
            let mut seen = BTreeSet::new();
            let mut differences = Vec::new();
            for (id, phone, state) in &table {
                if should.get(id) != Some(&(phone.as_str(), state.as_str())) || !seen.insert(*id) {
                    differences.push(format!(
                        "report has {id} to {phone} as {state}, the ledger {:?}",
                        should.get(id)
                    ));
                }
            }
            let missing = should.keys().filter(|id| !seen.contains(id));
            differences.extend(missing.map(|id| format!("report has no row of {id}")));
            let open = "select origen_id || ' is ' || estado from ta_sms_maestro where origen_id = any($1) and estado <> 'COMPLETADA'";
            differences
                .extend(sqlx::query_scalar::<_, String>(open).bind(&ids).fetch_all(&scene.reports).await?);
            Ok(differences)
        };
        let same = wait::until("report's table should be the ledger", QUIET, async || {
            differences().await.is_ok_and(|differences| differences.is_empty())
        });
        if same.await.is_ok() {
            return Ok(0);
        }
        let differences = differences().await?;
        for difference in differences.iter().take(SHOWN) {
            eprintln!("{difference}");
        }
        Ok(differences.len())
    }
}

/// How many people a campaign neither has in its ledger nor counts among those who fell out.
async fn missing(scene: &Scene, rounds: &[Round]) -> Result<usize> {
    let mut missing = 0;
    for round in rounds {
        let written: Vec<(Uuid, i64, i64, i64)> = sqlx::query_as(
            "select c.id, c.matched, c.recipients, (select count(*) from messages m where m.campaign = c.number)
             from campaigns c where c.id = any($1)",
        )
        .bind(&round.ids)
        .fetch_all(&scene.pool)
        .await?;
        ensure!(written.len() == round.ids.len(), "{} campaigns of {:?}", written.len(), round.ids);
        for (id, matched, recipients, rows) in written {
            let difference = matched.abs_diff(round.people) + recipients.abs_diff(rows);
            if difference > 0 {
                let people = round.people;
                eprintln!(
                    "{id} matched {matched} of {people} people, and has {rows} of {recipients} recipients"
                );
            }
            missing += usize::try_from(difference)?;
        }
    }
    Ok(missing)
}

/// Has all unknowns sent again, as a person who has waited long enough. Gives how many.
async fn resend(scene: &Scene, ids: &[Uuid]) -> Result<usize> {
    let mut resent = 0;
    for id in ids {
        let order = json!({ "action": "resend", "older_than_minutes": 0 });
        let answer = scene.client.post(&format!("{CAMPAIGNS}/{id}/resolve"), &order).await?;
        ensure!(answer.status.is_success(), "resolve {id}: {answer}");
        resent += answer.body["messages"].as_u64().context("a number of messages")? as usize;
    }
    Ok(resent)
}

/// Messages whose submitting transaction began after a suppression of their phone was committed.
async fn after_opt_out(scene: &Scene) -> Result<usize> {
    let (phones, times): (Vec<String>, Vec<DateTime<Utc>>) = scene.opt_outs.iter().cloned().unzip();
    let late: Vec<String> = sqlx::query_scalar(
        "select format('%s was submitted at %s, and opted out at %s', c.phone, c.began, o.at)
         from claims c join unnest($1::text[], $2::timestamptz[]) o (phone, at) using (phone) where c.began > o.at",
    )
    .bind(phones)
    .bind(times)
    .fetch_all(&scene.pool)
    .await?;
    for one in late.iter().take(SHOWN) {
        eprintln!("{one}");
    }
    Ok(late.len())
}
