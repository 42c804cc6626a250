//! `CampaignStarted` and `CampaignCompleted`: what a campaign is, whichever of its events comes first.

use anyhow::Context as _;
use async_trait::async_trait;
use chrono::Utc;
use contracts::sms::v1::{Campaign, CampaignCompleted, CampaignStarted};
use messaging::{Context, Handler, JobError};
use uuid::Uuid;

use super::{clean, sensible_day};
use crate::{
    Resources,
    storage::campaigns::{self, CampaignUpdate, Origin},
};

/// Keeps what events tell of campaigns.
#[derive(Clone)]
pub struct CampaignUpdated {
    pub resources: Resources,
}

impl CampaignUpdated {
    async fn keep(&self, campaign: Option<Campaign>) -> Result<(), JobError> {
        let told = read(campaign).map_err(JobError::Fail)?;
        if self.resources.settings.is_past(told.fecha, Utc::now()) {
            tracing::warn!(campaign = told.origin_id, fecha = %told.fecha, "told of a campaign that is past its days");
            return Ok(());
        }
        let mut conn = self.resources.database.pool.acquire().await.map_err(JobError::retry)?;
        campaigns::write(&mut conn, Origin::Sms, &[told]).await.map_err(JobError::retry)?;
        Ok(())
    }
}

fn read(campaign: Option<Campaign>) -> anyhow::Result<CampaignUpdate> {
    let campaign = campaign.context("the event has no campaign")?;
    let id =
        Uuid::parse_str(&campaign.id).with_context(|| format!("{:?} is not a valid UUID", campaign.id))?;
    Ok(CampaignUpdate {
        origin_id: id.to_string(),
        fecha: sensible_day(&campaign.date)?,
        nombre: clean(campaign.name),
        estado: clean(campaign.state),
        descripcion: clean(campaign.description),
        expected_rows: Some(i64::try_from(campaign.expected_rows).context("expected_rows")?),
        version: i64::try_from(campaign.version).context("version")?,
    })
}

#[async_trait]
impl Handler<CampaignStarted> for CampaignUpdated {
    async fn handle(&self, message: CampaignStarted, _: &Context) -> Result<(), JobError> {
        self.keep(message.campaign).await
    }
}

#[async_trait]
impl Handler<CampaignCompleted> for CampaignUpdated {
    async fn handle(&self, message: CampaignCompleted, _: &Context) -> Result<(), JobError> {
        if never_began(message.campaign.as_ref()) {
            return Ok(());
        }
        self.keep(message.campaign).await
    }
}

/// Whether a campaign ended that never began: it has no day and no messages, and no report is made of it.
fn never_began(campaign: Option<&Campaign>) -> bool {
    campaign.is_some_and(|campaign| campaign.date.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_without_a_day_never_began_and_one_with_an_odd_day_is_an_error() {
        let of = |date: &str| Campaign { date: date.to_owned(), ..Campaign::default() };
        assert!(never_began(Some(&of(""))));
        for date in ["2026-11-26", "ayer", " "] {
            assert!(!never_began(Some(&of(date))), "{date:?}");
        }
        assert!(!never_began(None));
        let id = "0193a3c4-0000-7000-8000-000000000001".to_owned();
        assert!(read(Some(Campaign { id, ..of("ayer") })).is_err());
    }
}
