//! Asks a provider about the numbers of a segment's contacts: within a budget, at the provider's pace, and where it was broken
//! off, on from there.

use std::{num::NonZeroU32, sync::Arc};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use contracts::{Message as _, queues::SMS_VALIDATIONS, sms::v1::ValidateContacts as Replaced};
use failpoints::Point;
use futures::{StreamExt as _, stream};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jobs::{Job, JobKind, JobRun, Outcome, Position, Progress, Work};
use messaging::JobError;
use sea_orm::sqlx::{self, PgConnection, PgPool};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    SERVICE,
    advisory_lock::{AdvisoryLock, VALIDATIONS},
    config::LookupSettings,
    domain::{Phone, lookup::Lookup},
    metrics,
    providers::telnyx::{LookupError, Telnyx},
    storage::{
        audit,
        lookups::{self, Asked},
        validations::{self, Validation},
    },
};

/// The name of the kind.
pub const KIND: &str = "sms.validations";
/// What `phone_lookups` says of who was asked.
const PROVIDER: &str = "telnyx";
/// Contacts a transaction: what a worker that dies can have paid for in vain.
const BATCH: i64 = 50;
/// So many numbers of a batch that are all answered 403 or 404 say that it is us who may not ask.
const ALL_CLOSED: usize = 10;
/// How often a number is asked for again where the provider asks for a pause or says that it can't answer.
const TRIES: u32 = 5;

/// Validations, one at a time in each worker: they share an account, and its limit.
pub fn kind(settings: &LookupSettings) -> JobKind {
    JobKind {
        deadline: settings.deadline,
        lease: settings.lease,
        max_attempts: settings.max_attempts,
        replaces: Some(Replaced::TYPE),
        ..JobKind::new(SERVICE, KIND, &SMS_VALIDATIONS)
    }
}

/// Validates contacts. One at a time in all workers: the account's limit is one.
pub struct ValidateContacts {
    pool: PgPool,
    settings: Arc<LookupSettings>,
    /// None where nobody has an account.
    provider: Option<Telnyx>,
    pace: DefaultDirectRateLimiter,
}

/// Where a validation is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Place {
    /// Contacts it has to ask about, up to its budget.
    total: Option<i64>,
    /// The last contact that was asked about.
    after: i64,
    /// Answers, refusals, and contacts that changed.
    answered: i64,
    refused: i64,
    changed: i64,
}

impl Place {
    fn progress(&self) -> Progress {
        let processed = self.answered + self.refused;
        Progress { total: self.total, processed, successful: self.answered, failed: self.refused }
    }

    /// How near to its end it is: what was answered or refused is not asked about again.
    const fn position(&self) -> Position {
        Position::new(0, self.answered + self.refused)
    }
}

/// What came of the questions of a batch.
struct Batch {
    asked: Vec<Asked>,
    /// Questions that nobody counted.
    free: i64,
    /// Why not all were answered.
    broken_off: Option<JobError>,
}

impl ValidateContacts {
    /// With the account of `settings`.
    pub fn new(pool: PgPool, settings: Arc<LookupSettings>) -> Self {
        // One after the other, evenly: a burst and what follows it in the same second would pass a limit a second.
        let quota = Quota::per_second(settings.per_second).allow_burst(NonZeroU32::MIN);
        let provider = settings.telnyx.clone().map(Telnyx::new);
        Self { pool, settings, provider, pace: RateLimiter::direct(quota) }
    }

    /// Asks about some phones, several at a time.
    async fn ask(&self, run: &JobRun, provider: &Telnyx, phones: Vec<String>) -> Batch {
        let at_once = self.settings.at_once;
        let mut answers = stream::iter(phones)
            .map(|phone| async move { (self.ask_one(run, provider, &phone).await, phone) })
            .buffer_unordered(at_once);
        let mut batch = Batch { asked: Vec::new(), free: 0, broken_off: None };
        let (mut closed, mut others) = (Vec::new(), false);
        while let Some((answer, phone)) = answers.next().await {
            match answer {
                Ok(Answer::Said(answer)) => {
                    batch.asked.push(Asked { phone, answer });
                    others = true;
                }
                Ok(Answer::Closed(reason)) => closed.push(Asked { phone, answer: Err(reason) }),
                Err(Unanswered { free, why }) => {
                    batch.free += i64::from(free);
                    batch.broken_off.get_or_insert(why);
                }
            }
        }
        // Nothing is noted against numbers that nobody asked about in earnest.
        if !others && closed.len() >= ALL_CLOSED {
            let reason = closed.first().and_then(|asked| asked.answer.clone().err()).unwrap_or_default();
            batch.free += closed.len() as i64;
            batch.broken_off = Some(JobError::fail(LookupError::Denied(reason)));
        } else {
            batch.asked.extend(closed);
        }
        batch
    }

    async fn ask_one(&self, run: &JobRun, provider: &Telnyx, phone: &str) -> Result<Answer, Unanswered> {
        let phone = Phone::from_e164(phone).ok_or_else(|| Unanswered {
            free: true,
            why: JobError::fail(anyhow!("a contact has a phone that is none")),
        })?;
        let stopped = || Unanswered { free: true, why: JobError::Release };
        let mut tries = 0;
        loop {
            tries += 1;
            run.stopping().run_until_cancelled(self.pace.until_ready()).await.ok_or_else(stopped)?;
            let error = match provider.look_up(phone).await {
                Ok(lookup) => return Ok(Answer::Said(Ok(lookup))),
                Err(LookupError::Refused(reason)) => return Ok(Answer::Said(Err(reason))),
                Err(LookupError::Closed(reason)) => return Ok(Answer::Closed(reason)),
                Err(error) => error,
            };
            let pause = match &error {
                LookupError::Denied(_) => {
                    return Err(Unanswered { free: true, why: JobError::fail(error) });
                }
                // Asked for again, it might be billed again, and nobody would have counted it.
                LookupError::Lost(_) => return Err(Unanswered { free: false, why: JobError::retry(error) }),
                LookupError::Throttled(pause) => *pause,
                _ => self.settings.pause * tries,
            };
            if tries >= TRIES {
                return Err(Unanswered { free: true, why: JobError::retry(error) });
            }
            tracing::debug!(phone = phone.masked(), tries, %error, "a look-up is tried again");
            run.stopping().run_until_cancelled(tokio::time::sleep(pause)).await.ok_or_else(stopped)?;
        }
    }

    /// Writes where the validation is, in the transaction of what brought it there.
    async fn commit(
        &self,
        run: &JobRun,
        mut transaction: sqlx::PgTransaction<'_>,
        place: &Place,
    ) -> Result<(), JobError> {
        let checkpoint = serde_json::to_value(place).map_err(JobError::fail)?;
        run.checkpoint(&mut transaction, &checkpoint, place.position(), &place.progress()).await?;
        failpoints::hit(Point::BatchWritten);
        transaction.commit().await.map_err(JobError::retry)?;
        failpoints::hit(Point::BatchCommitted);
        Ok(())
    }

    /// For statements that may look at every contact, which takes longer than a statement may.
    async fn patient(&self) -> Result<sqlx::PgTransaction<'_>, JobError> {
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        let settings = "set local statement_timeout = 0; set local plan_cache_mode = force_custom_plan";
        sqlx::raw_sql(settings).execute(&mut *transaction).await.map_err(JobError::retry)?;
        Ok(transaction)
    }
}

/// What came of a question.
enum Answer {
    /// What the provider says of the number, or why it says nothing.
    Said(Result<Lookup, String>),
    /// 403 or 404: of the number, or of us.
    Closed(String),
}

/// There is no answer to a question.
struct Unanswered {
    /// Whether it surely was not billed.
    free: bool,
    why: JobError,
}

#[async_trait]
impl Work for ValidateContacts {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let validation = validations::get(&self.pool, run.job.id).await.map_err(JobError::retry)?;
        let mut validation =
            validation.ok_or_else(|| JobError::fail(anyhow!("the job has no validation")))?;
        let provider = self.provider.as_ref().ok_or_else(|| {
            JobError::fail(anyhow!("No hay proveedor de consultas configurado (TELNYX_API_KEY)"))
        })?;
        let _lock = AdvisoryLock::take(&self.pool, VALIDATIONS, run).await?;
        let mut place: Place = run.job.checkpoint_as().map_err(JobError::fail)?.unwrap_or_default();
        if place.total.is_none() {
            let mut transaction = self.patient().await?;
            let total = validations::count(&mut transaction, &validation).await.map_err(JobError::retry)?;
            place.total = Some(total);
            self.commit(run, transaction, &place).await?;
        }
        while self.batch(run, provider, &mut validation, &mut place).await? {
            run.proceed()?;
        }
        Ok(Outcome::Done(result(&validation, &place)))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let actor = job.user.as_deref().unwrap_or("unknown");
        let place: Place = job.checkpoint_as().context("the job's checkpoint")?.unwrap_or_default();
        let details = json!({"state": job.state.name(), "error": job.error, "processed": job.progress.processed, "changed": place.changed});
        audit::record(conn, actor, "validation_ended", Some(&job.id.to_string()), &details).await?;
        Ok(())
    }
}

impl ValidateContacts {
    /// Asks about the next contacts; false where there are none, or no budget. What they may cost is written down before they
    /// are asked about, so that however often a worker dies, no more than the budget is spent.
    async fn batch(
        &self,
        run: &JobRun,
        provider: &Telnyx,
        validation: &mut Validation,
        place: &mut Place,
    ) -> Result<bool, JobError> {
        let room = (validation.budget - validation.spent).min(BATCH);
        if room <= 0 {
            return Ok(false);
        }
        let mut transaction = self.patient().await?;
        let due = validations::next(&mut transaction, validation, place.after, room).await;
        let due = due.map_err(JobError::retry)?;
        let Some((last, _)) = due.last().cloned() else { return Ok(false) };
        let asked = due.len() as i64;
        let spent = validations::spend(&mut transaction, validation.id, asked).await;
        validation.spent = spent.map_err(JobError::retry)?;
        // No answer yet: an attempt that gets no further counts as one without progress.
        self.commit(run, transaction, place).await?;

        let batch = self.ask(run, provider, due.into_iter().map(|(_, phone)| phone).collect()).await;
        let mut transaction = self.pool.begin().await.map_err(JobError::retry)?;
        let changed = lookups::record(&mut transaction, validation.id, PROVIDER, &batch.asked).await;
        place.changed += changed.map_err(JobError::retry)?;
        let refused = batch.asked.iter().filter(|asked| asked.answer.is_err()).count() as i64;
        place.refused += refused;
        place.answered += batch.asked.len() as i64 - refused;
        let spent = validations::spend(&mut transaction, validation.id, -batch.free).await;
        validation.spent = spent.map_err(JobError::retry)?;
        if batch.broken_off.is_none() {
            place.after = last;
        }
        self.commit(run, transaction, place).await?;
        metrics::count_lookups(PROVIDER, batch.asked.len() as i64 - refused, refused, asked - batch.free);
        batch.broken_off.map_or(Ok(true), Err)
    }
}

/// What a validation came to.
fn result(validation: &Validation, place: &Place) -> Value {
    json!({
        "answered": place.answered,
        "refused": place.refused,
        "changed": place.changed,
        "spent": validation.spent,
        "budget_used_up": validation.spent >= validation.budget,
    })
}

/// How many contacts changed by it, as its job says.
pub fn changed(job: &Job) -> i64 {
    job.checkpoint.as_ref().and_then(|checkpoint| checkpoint.get("changed")?.as_i64()).unwrap_or_default()
}
