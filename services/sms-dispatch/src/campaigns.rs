//! What happens to a campaign as a whole: each change of its state, with its audit row and what other services learn of it, in
//! one transaction.

use chrono::{DateTime, NaiveDate, Utc};
use contracts::sms::v1::{
    Campaign as ToldCampaign, CampaignCompleted, CampaignCreated, CampaignPaused, CampaignResumed,
    CampaignStarted,
};
use outbox::Meta;
use rand::RngExt as _;
use sea_orm::{
    ActiveValue::Set,
    sqlx::{self, PgConnection},
};
use serde_json::json;

use crate::{
    SERVICE,
    domain::{
        audience_file::FileAudience,
        campaign::{Action, Frozen, FrozenSender, Kind, Plan, State},
        link::Links,
        segment::Segment,
    },
    storage::{
        audience_files, audit,
        campaigns::{self, ActiveModel, Campaign},
        prices, segments, senders,
    },
    texts::{BadText, Texts},
};

/// Why a campaign does not do what it is asked for. The texts are for people.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("La campaña está en estado {from}; no admite esta acción", from = .0.name())]
    State(State),
    #[error("{0}")]
    Text(#[from] BadText),
    #[error("El segmento {0} ya no existe")]
    NoSegment(uuid::Uuid),
    #[error("La lista {0} de la audiencia no existe, o ya se eliminó")]
    NoFile(uuid::Uuid),
    #[error("La lista {0} de la audiencia todavía no termina de cargarse")]
    FileNotLoaded(uuid::Uuid),
    #[error(
        "La lista {0} no dice con qué consentimiento se escribe a sus personas: la publicidad lo necesita"
    )]
    NoConsent(uuid::Uuid),
    #[error("La campaña {0} de less_campaigns no existe")]
    NoCampaign(uuid::Uuid),
    #[error("El remitente {0:?} no existe o está deshabilitado")]
    NoSender(String),
    #[error("un segmento de su audiencia cambió después de programarla")]
    Changed,
    #[error("La campaña {0}: la aprueba alguien distinto de quien la editó")]
    NeedsApproval(String),
    #[error("most_cost está en {currency}, y el remitente {address:?} no tiene precio en esa moneda")]
    NoPrice { address: String, currency: String },
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<sea_orm::DbErr> for Refused {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Other(error.into())
    }
}

/// Moves a campaign that the caller has locked, with its audit row, and tells of it where it is paused or sends on. `change` is
/// what else of it changes.
///
/// # Errors
/// [`Refused::State`] where the table of transitions has no such step.
pub async fn act(
    conn: &mut PgConnection,
    campaign: &Campaign,
    action: Action,
    actor: &str,
    change: ActiveModel,
) -> Result<Campaign, Refused> {
    let state = campaign.state.after(action).ok_or(Refused::State(campaign.state))?;
    let changed = campaigns::change(conn, campaign.id, ActiveModel { state: Set(state), ..change }).await?;
    let details = json!({ "from": campaign.state.name(), "to": state.name(), "reason": changed.reason });
    audit::record(conn, actor, action.audited(), Some(&campaign.id.to_string()), &details).await?;
    match action {
        Action::Pause => tell_pause(conn, &changed).await?,
        Action::Resume => tell_resumption(conn, &changed).await?,
        // Messages of a completed one are sent again.
        Action::Retry if campaign.state != state => tell_resumption(conn, &changed).await?,
        _ => {}
    }
    Ok(changed)
}

/// Whether a segment that decides whom a campaign reaches has changed since then: whoever looked at the campaign looked at
/// another one.
///
/// # Errors
/// The database.
pub async fn audience_changed(
    conn: &mut PgConnection,
    campaign: &Campaign,
    since: DateTime<Utc>,
) -> Result<bool, Refused> {
    let audience = &campaign.plan.audience;
    for id in audience.segment_id.iter().chain(&audience.less_segments) {
        let kept = segments::lock(conn, *id).await?.ok_or(Refused::NoSegment(*id))?;
        if kept.updated_at > since {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The day that a moment is of in the campaign's zone.
pub fn day(plan: &Plan, at: DateTime<Utc>) -> NaiveDate {
    // Checked when it was written.
    let zone: chrono_tz::Tz = plan.zone.parse().unwrap_or(chrono_tz::America::Mexico_City);
    at.with_timezone(&zone).date_naive()
}

/// What a campaign depends on, as it is now. The segments and the file that its audience names are locked.
///
/// # Errors
/// As [`Refused`] says: something of it is not there, or has no price.
pub async fn freeze(
    conn: &mut PgConnection,
    campaign: &Campaign,
    at: DateTime<Utc>,
    public_url: &str,
) -> Result<Frozen, Refused> {
    let plan = &campaign.plan;
    let file = file(conn, plan, campaign.kind).await?;
    let filter = match (&plan.audience.filter, plan.audience.segment_id) {
        (Some(filter), _) => filter.clone(),
        (None, Some(id)) => segment(conn, id).await?,
        (None, None) if file.is_some() => Segment::default(),
        (None, None) => return Err(Refused::Other(anyhow::anyhow!("a plan without an audience"))),
    };
    let mut less_filters = Vec::new();
    for id in &plan.audience.less_segments {
        less_filters.push(segment(conn, *id).await?);
    }
    let mut less_campaigns = Vec::new();
    for id in &plan.audience.less_campaigns {
        // Not locked: who sends it would wait until the other's audience is counted, and the feeder with them.
        let less = campaigns::find(conn, *id).await?.ok_or(Refused::NoCampaign(*id))?;
        less_campaigns.push(less.number);
    }
    let addresses: Vec<String> = plan.senders.iter().map(|sender| sender.address.clone()).collect();
    let known = senders::of(conn, &addresses).await?;
    let (listed, day) = (prices::all(conn).await?, day(plan, at));
    let frozen_sender = |wanted: &crate::domain::campaign::WeightedSender| {
        let sender = known.iter().find(|known| known.address == wanted.address && known.enabled);
        let sender = sender.ok_or_else(|| Refused::NoSender(wanted.address.clone()))?;
        let own = sender.price_micros.zip(sender.currency.clone());
        let price = own.or_else(|| prices::on(&listed, sender.provider, sender.kind, day));
        if let Some(most) = &plan.most_cost
            && price.as_ref().is_none_or(|(_, currency)| *currency != most.currency)
        {
            let (address, currency) = (sender.address.clone(), most.currency.clone());
            return Err(Refused::NoPrice { address, currency });
        }
        let (price_micros, currency) = price.unzip();
        Ok(FrozenSender {
            address: sender.address.clone(),
            weight: wanted.weight,
            provider: sender.provider,
            kind: sender.kind,
            price_micros,
            currency,
        })
    };
    let senders = plan.senders.iter().map(frozen_sender).collect::<Result<Vec<_>, Refused>>()?;
    let links = Texts::of(plan, file.as_ref())?.have_links().then(|| Links::under(public_url));
    Ok(Frozen {
        filter,
        file,
        less_filters,
        less_campaigns,
        senders,
        at,
        seed: rand::rng().random(),
        own_hour: campaign.own_hour(),
        links,
    })
}

/// The file whose people a plan's audience is, if it is one's, locked: it stays for as long as the transaction.
///
/// # Errors
/// It is not there, or not loaded; or advertising may not use it.
pub async fn file(conn: &mut PgConnection, plan: &Plan, kind: Kind) -> Result<Option<FileAudience>, Refused> {
    let Some(id) = plan.audience.file_id else { return Ok(None) };
    let known = audience_files::lock(conn, id).await?.filter(|file| file.purged_at.is_none());
    let known = known.ok_or(Refused::NoFile(id))?;
    let audience = known.audience().ok_or(Refused::FileNotLoaded(id))?;
    if kind == Kind::Marketing && known.consent.is_none() {
        return Err(Refused::NoConsent(id));
    }
    Ok(Some(audience))
}

async fn segment(conn: &mut PgConnection, id: uuid::Uuid) -> Result<Segment, Refused> {
    Ok(segments::lock(conn, id).await?.ok_or(Refused::NoSegment(id))?.filter)
}

/// Tells of a new draft.
///
/// # Errors
/// The database.
pub async fn tell_creation(conn: &mut PgConnection, campaign: &Campaign) -> anyhow::Result<()> {
    let event = CampaignCreated { campaign: Some(told(campaign)) };
    outbox::publish(conn, SERVICE, &event, Meta::about(campaign.id)).await?;
    Ok(())
}

async fn tell_pause(conn: &mut PgConnection, campaign: &Campaign) -> anyhow::Result<()> {
    let reason = campaign.reason.clone().unwrap_or_default();
    let event = CampaignPaused { campaign: Some(told(campaign)), reason };
    outbox::publish(conn, SERVICE, &event, Meta::about(campaign.id)).await?;
    Ok(())
}

async fn tell_resumption(conn: &mut PgConnection, campaign: &Campaign) -> anyhow::Result<()> {
    let event = CampaignResumed { campaign: Some(told(campaign)) };
    outbox::publish(conn, SERVICE, &event, Meta::about(campaign.id)).await?;
    Ok(())
}

/// Tells that a campaign begins.
///
/// # Errors
/// The database.
pub async fn tell_start(conn: &mut PgConnection, campaign: &Campaign) -> anyhow::Result<()> {
    let event = CampaignStarted { campaign: Some(told(campaign)) };
    outbox::publish(conn, SERVICE, &event, Meta::about(campaign.id)).await?;
    Ok(())
}

/// Tells how a campaign ended.
///
/// # Errors
/// The database.
pub async fn tell_end(conn: &mut PgConnection, campaign: &Campaign) -> anyhow::Result<()> {
    let event = CampaignCompleted { campaign: Some(told(campaign)) };
    outbox::publish(conn, SERVICE, &event, Meta::about(campaign.id)).await?;
    Ok(())
}

fn told(campaign: &Campaign) -> ToldCampaign {
    ToldCampaign {
        id: campaign.id.to_string(),
        name: campaign.name.clone(),
        date: campaign.date.map(|date| date.to_string()).unwrap_or_default(),
        description: campaign.description.clone(),
        state: campaign.state.told().to_owned(),
        expected_rows: campaign.recipients.unsigned_abs(),
        version: campaign.version.unsigned_abs(),
    }
}
