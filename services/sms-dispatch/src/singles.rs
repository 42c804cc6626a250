//! Single messages, each on its own: it takes its place in its day's campaign, and a job of its own sends it, before whatever
//! waits in bulk.

use anyhow::Context as _;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::America::Mexico_City;
use jobs::{Creation, Job, NewJob};
use rand::RngExt as _;
use sea_orm::{
    ActiveValue::Set,
    EntityTrait as _,
    sqlx::{self, PgConnection},
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    campaigns::{self, Refused},
    config::SmsSettings,
    domain::{
        Phone,
        campaign::{Audience, Frozen, FrozenSender, Kind, Plan, State, Text, WeightedSender},
        ladas,
        link::Links,
        message_id::MessageId,
        segment::Segment,
    },
    jobs::send_slice,
    storage::{
        audit,
        campaigns::{self as rows, ActiveModel, Campaign},
        ledger, prices, senders,
        singles::{self, New},
        slices::Grant,
    },
};

/// Why a message is not taken. The texts are for people.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    #[error("No hay ningún remitente habilitado")]
    NoSenders,
    #[error("El remitente {0:?} no existe o está deshabilitado")]
    NoSender(String),
    #[error(transparent)]
    Job(#[from] jobs::Error),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<sqlx::Error> for NotTaken {
    fn from(error: sqlx::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<sea_orm::DbErr> for NotTaken {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Other(error.into())
    }
}

impl From<Refused> for NotTaken {
    fn from(error: Refused) -> Self {
        Self::Other(anyhow::anyhow!("{error}"))
    }
}

/// A message to be.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    pub to: Phone,
    pub text: &'a str,
    /// The only sender that it may have; none: we choose.
    pub sender: Option<&'a str>,
    pub expires_at: DateTime<Utc>,
}

/// Who wants it, and by which key it is known again.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    pub actor: &'a str,
    /// The client's `Idempotency-Key`, and a hash of what it asked for.
    pub key: Option<String>,
    pub hash: Option<String>,
    pub correlation: Option<String>,
}

/// A day's campaign, locked: nobody else takes a place in it until the transaction ends.
#[derive(Debug)]
pub struct Day {
    campaign: Campaign,
    date: NaiveDate,
    /// What its links are made with.
    links: Option<Links>,
    /// Its senders that are in use, each with the price that the day has for it.
    senders: Vec<FrozenSender>,
}

impl Day {
    /// Today's, in Mexico City; begun where there is none. Senders that came into use since then are added to it, with today's
    /// prices.
    ///
    /// # Errors
    /// [`NotTaken::NoSenders`]; the database.
    pub async fn open(
        conn: &mut PgConnection,
        settings: &SmsSettings,
        now: DateTime<Utc>,
    ) -> Result<Self, NotTaken> {
        let date = now.with_timezone(&Mexico_City).date_naive();
        let used = in_use(conn, date).await?;
        if used.is_empty() {
            return Err(NotTaken::NoSenders);
        }
        let known = match singles::lock_day(conn, date).await? {
            Some(known) => Some(known),
            None => {
                singles::turn(conn).await?;
                singles::lock_day(conn, date).await?
            }
        };
        let Some(campaign) = known else { return Self::begin(conn, settings, now, date, used).await };
        let mut frozen = campaign
            .frozen
            .clone()
            .ok_or_else(|| anyhow::anyhow!("campaign {} never started", campaign.id))?;
        let addresses: Vec<String> = used.iter().map(|sender| sender.address.clone()).collect();
        let new: Vec<FrozenSender> = used
            .into_iter()
            .filter(|one| frozen.senders.iter().all(|known| known.address != one.address))
            .collect();
        if !new.is_empty() {
            frozen.senders.extend(new);
            let change = ActiveModel { frozen: Set(Some(frozen.clone())), ..Default::default() };
            rows::change(conn, campaign.id, change).await?;
        }
        let Frozen { links, mut senders, .. } = frozen;
        senders.retain(|sender| addresses.contains(&sender.address));
        Ok(Self { campaign, date, links, senders })
    }

    async fn begin(
        conn: &mut PgConnection,
        settings: &SmsSettings,
        now: DateTime<Utc>,
        date: NaiveDate,
        senders: Vec<FrozenSender>,
    ) -> Result<Self, NotTaken> {
        ledger::ensure_day(conn, date).await?;
        let plan = Plan {
            // What each message says is its own value.
            texts: vec![Text { text: "{{texto}}".to_owned(), weight: 1 }],
            audience: Audience {
                filter: Some(Segment::default()),
                segment_id: None,
                less_segments: Vec::new(),
                file_id: None,
                less_campaigns: Vec::new(),
            },
            senders: senders
                .iter()
                .map(|sender| WeightedSender { address: sender.address.clone(), weight: sender.weight })
                .collect(),
            zone: Mexico_City.name().to_owned(),
            per_minute: None,
            most_recipients: None,
            ramp: None,
            pause_above_percent: None,
            most_cost: None,
            transliterate: false,
        };
        let frozen = Frozen {
            file: None,
            own_hour: None,
            filter: Segment::default(),
            less_filters: Vec::new(),
            less_campaigns: Vec::new(),
            senders,
            at: now,
            seed: rand::rng().random(),
            links: Some(Links::under(&settings.public_url)),
        };
        let row = ActiveModel {
            id: Set(Uuid::now_v7()),
            name: Set(format!("Mensajes individuales {date}")),
            description: Set(String::new()),
            kind: Set(Kind::Transactional),
            state: Set(State::Running),
            single: Set(true),
            plan: Set(plan),
            frozen: Set(Some(frozen.clone())),
            date: Set(Some(date)),
            created_by: Set("system".to_owned()),
            edited_by: Set("system".to_owned()),
            started_at: Set(Some(now)),
            ..Default::default()
        };
        let campaign = rows::Entity::insert(row).exec_with_returning(&chassis::db::Orm::on(conn)).await?;
        campaigns::tell_start(conn, &campaign).await?;
        let (id, details) = (campaign.id.to_string(), json!({ "date": date }));
        audit::record(conn, "system", "single_messages_begun", Some(&id), &details).await?;
        Ok(Self { campaign, date, links: frozen.links, senders: frozen.senders })
    }

    /// The id that the next message has: its text may say it.
    ///
    /// # Errors
    /// There are as many as a day has places for.
    pub fn next(&self) -> anyhow::Result<MessageId> {
        let position = i32::try_from(self.campaign.recipients + 1)?;
        Ok(MessageId { date: self.date, campaign: self.campaign.number, position })
    }

    /// The link that opts the recipient of the next message out.
    ///
    /// # Errors
    /// As [`Day::next`].
    pub fn next_link(&self) -> anyhow::Result<Option<String>> {
        let id = self.next()?;
        Ok(self.links.as_ref().map(|links| links.url(id)))
    }

    /// The senders that the next message may have.
    pub fn senders(&self) -> &[FrozenSender] {
        &self.senders
    }

    /// Takes a message, and has it sent when the transaction commits. Gives its id: the first's, where the key was used before.
    ///
    /// # Errors
    /// As [`NotTaken`] says.
    pub async fn add(
        &mut self,
        conn: &mut PgConnection,
        settings: &SmsSettings,
        message: &Message<'_>,
        asked: Asked<'_>,
    ) -> Result<MessageId, NotTaken> {
        if let Some(sender) = message.sender
            && !self.senders.iter().any(|known| known.address == sender)
        {
            return Err(NotTaken::NoSender(sender.to_owned()));
        }
        let id = self.next()?;
        let grant = Grant { campaign: id.campaign, first: id.position, last: id.position, messages: 1 };
        let kind = send_slice::single_kind(settings);
        let job = NewJob {
            params: serde_json::to_value(grant).map_err(anyhow::Error::from)?,
            idempotency_key: asked.key,
            request_hash: asked.hash,
            ..kind.job(asked.actor)
        };
        let job_id = job.id;
        if let Creation::Existing(first) = kind.create(conn, job, asked.correlation).await? {
            return Ok(message_of(conn, &first).await?);
        }
        let (phone, lada) = (message.to.to_string(), message.to.lada());
        let new = New {
            phone: &phone,
            lada: lada.as_str(),
            state_code: ladas::of(lada).and_then(|info| info.state).map(|state| state.code()),
            text: message.text,
            sender: message.sender,
            expires_at: message.expires_at,
            job: job_id,
        };
        singles::insert(conn, id.campaign, id.date, id.position, &new).await?;
        self.campaign.recipients += 1;
        Ok(id)
    }
}

/// The message that a user's key was answered with, before anything of the request is looked at: a repetition is answered
/// with it though the phone has opted out since, or no sender is left.
///
/// # Errors
/// [`NotTaken::Job`] where the key came with another request; the database.
pub async fn keyed(
    conn: &mut PgConnection,
    user: &str,
    key: &str,
    hash: &str,
) -> Result<Option<MessageId>, NotTaken> {
    match jobs::keyed(conn, user, key, Some(hash)).await? {
        Some(first) => Ok(Some(message_of(conn, &first).await?)),
        None => Ok(None),
    }
}

/// The message whose sending a job is.
async fn message_of(conn: &mut PgConnection, job: &Job) -> anyhow::Result<MessageId> {
    let grant: Grant = serde_json::from_value(job.params.clone())?;
    let campaign = rows::by_number(conn, grant.campaign).await?.context("the campaign of a day")?;
    let date = campaign.date.context("a day's campaign has its day")?;
    Ok(MessageId { date, campaign: grant.campaign, position: grant.first })
}

/// The senders in use, each with its price on a day.
async fn in_use(conn: &mut PgConnection, day: NaiveDate) -> Result<Vec<FrozenSender>, NotTaken> {
    let listed = prices::all(conn).await?;
    let used = senders::enabled(conn).await?.into_iter().map(|sender| {
        let own = sender.price_micros.zip(sender.currency);
        let price = own.or_else(|| prices::on(&listed, sender.provider, sender.kind, day));
        let (price_micros, currency) = price.unzip();
        let (address, provider, kind) = (sender.address, sender.provider, sender.kind);
        FrozenSender { address, weight: 1, provider, kind, price_micros, currency }
    });
    Ok(used.collect())
}
