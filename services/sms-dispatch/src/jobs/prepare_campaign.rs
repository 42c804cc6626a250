//! Writes a campaign's ledger: its recipients, a keyset window of the contacts (or of a file's rows) at a time, each with its
//! checkpoint.
//!
//! Two connections share the work. On one a window is judged; on the other, in the transaction that commits, its recipients
//! are copied into the ledger as they come from the first. The next window is judged meanwhile, and no more than that one.

use std::{mem, pin::pin, time::Duration};

use anyhow::anyhow;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use contracts::queues::SMS_AUDIENCES;
use failpoints::Point;
use futures::TryStreamExt as _;
use jobs::{Job, JobKind, JobRun, Outcome, Position, Progress, State as JobState, Work};
use messaging::JobError;
use sea_orm::{
    ActiveValue::Set,
    sqlx::{self, PgConnection, PgPool, Postgres, pool::PoolConnection},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    SERVICE, campaigns,
    domain::campaign::{Action, State},
    storage::{
        audience_windows::{self, Window},
        audiences::{self, Audience},
        campaigns::{self as rows, ActiveModel, Campaign},
        indexes, slices,
    },
    texts::Texts,
};

/// The name of the kind.
pub const KIND: &str = "sms.audiences";
/// Contacts a window, or rows of a file.
const WINDOW: i64 = 20_000;
/// A window's rows are handed on in pieces of this many bytes.
const PIECE: usize = 256 << 10;
/// How many pieces may wait to be written: with them most windows are out of the way of the next one, and no window, however
/// large, takes more memory.
const PIECES: usize = 16;
/// How often it looks whether a load has ended that has the contacts' indexes away.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Audiences, two at a time in each worker.
pub fn kind() -> JobKind {
    JobKind {
        concurrency: 2,
        deadline: Duration::from_secs(6 * 60 * 60),
        lease: Duration::from_secs(30),
        ..JobKind::new(SERVICE, KIND, &SMS_AUDIENCES)
    }
}

/// Writes ledgers.
pub struct PrepareCampaigns {
    pool: PgPool,
    window: i64,
}

/// Where the writing is.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Place {
    /// The last contact that was judged, or the last row of a file.
    after: i64,
    matched: i64,
    recipients: i64,
}

impl Place {
    /// Behind a window.
    fn behind(self, window: &Window) -> Self {
        Self {
            after: window.last,
            matched: self.matched + window.matched,
            recipients: self.recipients + window.recipients(),
        }
    }
}

/// A window that was judged, with its rows as they come.
struct Judged {
    window: Window,
    pieces: mpsc::Receiver<Bytes>,
}

/// What became of a window that was judged.
enum Written {
    Committed,
    /// Its campaign was cancelled.
    Cancelled,
    /// The ledger has one of its phones already.
    Repeated(sqlx::Error),
}

/// How a pass over windows ended.
enum Pass {
    /// Nothing is left to write.
    Whole,
    /// A window has a phone that the ledger has, and was judged without knowing that: it has to be judged again.
    Repeated,
}

#[async_trait]
impl Work for PrepareCampaigns {
    async fn work(&self, run: &JobRun) -> Result<Outcome, JobError> {
        let mut place: Place = run.job.checkpoint_as().map_err(JobError::fail)?.unwrap_or_default();
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        let campaign = rows::of_preparation(&mut conn, run.job.id).await.map_err(JobError::retry)?;
        let campaign = campaign.ok_or_else(|| JobError::fail(anyhow!("the job has no campaign")))?;
        let less =
            campaign.frozen.as_ref().map(|frozen| frozen.less_campaigns.as_slice()).unwrap_or_default();
        let less_days = audiences::days_of(&mut conn, less).await.map_err(JobError::retry)?;
        drop(conn);
        let (frozen, date) = campaign
            .frozen
            .as_ref()
            .zip(campaign.date)
            .ok_or_else(|| JobError::fail(anyhow!("campaign {} never started", campaign.id)))?;
        // A file's rows have theirs; only the contacts of segments that it is less are looked up.
        if frozen.file.is_none() || !frozen.less_filters.is_empty() {
            self.indexes(run).await?;
        }
        let texts = Texts::of(&campaign.plan, frozen.file.as_ref()).map_err(JobError::fail)?;
        let weights: Vec<u32> = campaign.plan.texts.iter().map(|text| text.weight).collect();
        let audience = Audience::of(&campaign, date, frozen, texts.names(), &weights, &less_days);
        // Contacts are rarely replaced while a ledger is written: it is not asked for each of them before it has refused one.
        let mut repeats = false;
        while let Pass::Repeated = self.pass(run, &campaign, &audience, &mut place, repeats).await? {
            repeats = true;
        }
        Ok(Outcome::Done(json!({ "matched": place.matched, "recipients": place.recipients })))
    }

    async fn ended(&self, conn: &mut PgConnection, job: &Job) -> anyhow::Result<()> {
        let Some(campaign) = rows::of_preparation(conn, job.id).await? else { return Ok(()) };
        let campaign = rows::lock(conn, campaign.id).await?.unwrap_or(campaign);
        // A cancelled campaign's ledger is settled by the feeder.
        if campaign.state != State::Preparing {
            return Ok(());
        }
        let actor = job.user.as_deref().unwrap_or("unknown");
        if job.state == JobState::Completed {
            let running =
                campaigns::act(conn, &campaign, Action::Prepared, actor, ActiveModel::default()).await?;
            return campaigns::tell_start(conn, &running).await;
        }
        let reason = job.error.clone().unwrap_or_else(|| "La preparación se canceló".to_owned());
        let change = ActiveModel { reason: Set(Some(reason)), ..Default::default() };
        campaigns::act(conn, &campaign, Action::Fail, actor, change).await?;
        // What was written of it waits for no hour to be settled.
        Ok(slices::hurry(conn, campaign.number).await?)
    }
}

impl PrepareCampaigns {
    pub fn new(pool: PgPool) -> Self {
        Self { pool, window: WINDOW }
    }

    /// With windows of so many contacts.
    #[must_use]
    pub fn window(mut self, contacts: i64) -> Self {
        self.window = contacts;
        self
    }

    /// Waits while a load into an empty table has the indexes away: each window would read all contacts.
    async fn indexes(&self, run: &JobRun) -> Result<(), JobError> {
        loop {
            let there = indexes::count(&self.pool, indexes::ALL).await.map_err(JobError::retry)?;
            if there == indexes::ALL.len() {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            run.proceed()?;
        }
    }

    /// A connection for COPY. It is closed in the end: given back in the midst of one, it would answer the next who has it with
    /// what is left of that.
    async fn connection(&self) -> Result<PoolConnection<Postgres>, JobError> {
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        conn.close_on_drop();
        Ok(conn)
    }

    /// Judges windows from `place` on and writes them, until none is left or one has to be judged again.
    async fn pass(
        &self,
        run: &JobRun,
        campaign: &Campaign,
        audience: &Audience<'_>,
        place: &mut Place,
        repeats: bool,
    ) -> Result<Pass, JobError> {
        let (mut judge, mut writer) = (self.connection().await?, self.connection().await?);
        let (ahead, windows) = mpsc::channel(1);
        let mut judging = pin!(self.judge(&mut judge, audience, *place, repeats, ahead));
        let mut writing = pin!(write(&mut writer, run, campaign, audience, place, repeats, windows));
        tokio::select! {
            // Nobody takes what is judged any more.
            written = &mut writing => written,
            // What was judged before an error is written all the same; what came of it in part is not, and that error follows
            // from this one.
            judged = &mut judging => {
                let written = writing.await;
                judged?;
                written
            }
        }
    }

    /// Judges window after window behind `place`, and hands them over in their order: one may wait while another is written.
    async fn judge(
        &self,
        conn: &mut PgConnection,
        audience: &Audience<'_>,
        mut place: Place,
        repeats: bool,
        ahead: mpsc::Sender<Judged>,
    ) -> Result<(), JobError> {
        loop {
            let Ok(room) = ahead.reserve().await else { return Ok(()) };
            let base = i32::try_from(place.recipients).map_err(JobError::fail)?;
            let mut transaction = audience_windows::begin(conn).await.map_err(JobError::retry)?;
            let (after, size) = (place.after, self.window);
            let judged =
                audience_windows::judge(&mut transaction, audience, after, size, base, repeats).await;
            let Some(window) = judged.map_err(JobError::retry)? else { return Ok(()) };
            place = place.behind(&window);
            let is_last = audience.frozen.filter.sample.is_some() || window.matched < size;
            let (pieces, taken) = mpsc::channel(PIECES);
            room.send(Judged { window, pieces: taken });
            hand_on(&mut transaction, &pieces).await.map_err(JobError::retry)?;
            // So whoever writes them learns that these were all.
            drop(pieces);
            // What was judged is in the ledger's hands: its table goes before the next one comes.
            transaction.rollback().await.map_err(JobError::retry)?;
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Hands on the rows of the window that was judged, as far as somebody takes them.
async fn hand_on(conn: &mut PgConnection, pieces: &mpsc::Sender<Bytes>) -> sqlx::Result<()> {
    let mut rows = audience_windows::rows(conn).await?;
    let mut piece = BytesMut::with_capacity(PIECE);
    while let Some(row) = rows.try_next().await? {
        if piece.len() + row.len() > PIECE {
            let full = mem::replace(&mut piece, BytesMut::with_capacity(PIECE));
            // Where nobody takes it, this is about to be dropped, and its connection closed.
            if pieces.send(full.freeze()).await.is_err() {
                break;
            }
        }
        piece.extend_from_slice(&row);
    }
    pieces.send(piece.freeze()).await.ok();
    Ok(())
}

/// Writes the windows that were judged, one transaction each.
async fn write(
    conn: &mut PgConnection,
    run: &JobRun,
    campaign: &Campaign,
    audience: &Audience<'_>,
    place: &mut Place,
    repeats: bool,
    mut windows: mpsc::Receiver<Judged>,
) -> Result<Pass, JobError> {
    let mut committed = false;
    while let Some(judged) = windows.recv().await {
        run.proceed()?;
        match write_window(conn, run, campaign, audience, place, judged).await? {
            Written::Committed => committed = true,
            Written::Cancelled => return Ok(Pass::Whole),
            // It was looked for when all before it was committed.
            Written::Repeated(error) if repeats && !committed => return Err(JobError::retry(error)),
            // Nobody looked, or the window before, which has it, was being written.
            Written::Repeated(_) => return Ok(Pass::Repeated),
        }
    }
    Ok(Pass::Whole)
}

/// Writes a window with its checkpoint, and then `place` is behind it.
async fn write_window(
    conn: &mut PgConnection,
    run: &JobRun,
    campaign: &Campaign,
    audience: &Audience<'_>,
    place: &mut Place,
    Judged { window, pieces }: Judged,
) -> Result<Written, JobError> {
    let next = place.behind(&window);
    let mut transaction = audience_windows::begin(conn).await.map_err(JobError::retry)?;
    let rows = match audience_windows::copy(&mut transaction, audience.date, pieces).await {
        Ok(rows) => rows,
        Err(error) if audience_windows::is_repeated(&error) => return Ok(Written::Repeated(error)),
        Err(error) => return Err(JobError::retry(error)),
    };
    if i64::try_from(rows).ok() != Some(window.recipients()) {
        return Err(JobError::retry(anyhow!("{rows} rows came of a window of {}", window.recipients())));
    }
    // Not before: of a window that is refused it is not known yet how many its recipients are.
    if let Some(most) = campaign.plan.most_recipients.filter(|most| next.recipients > *most) {
        return Err(JobError::fail(anyhow!("La audiencia pasa de most_recipients ({most})")));
    }
    audience_windows::record(&mut transaction, audience, &window).await.map_err(JobError::retry)?;
    let added = audience_windows::add_to_campaign(&mut transaction, campaign.number, &window).await;
    if !added.map_err(JobError::retry)? {
        return Ok(Written::Cancelled);
    }
    let progress = Progress {
        total: None,
        processed: next.matched,
        successful: next.recipients,
        failed: next.matched - next.recipients,
    };
    let checkpoint: Value = serde_json::to_value(next).map_err(JobError::fail)?;
    run.checkpoint(&mut transaction, &checkpoint, Position::new(0, next.matched), &progress).await?;
    failpoints::hit(Point::BatchWritten);
    transaction.commit().await.map_err(JobError::retry)?;
    failpoints::hit(Point::BatchCommitted);
    *place = next;
    Ok(Written::Committed)
}
