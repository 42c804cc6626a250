//! Above a size or a cost somebody else than its last editor has to look at a campaign: when it is started, when it is scheduled,
//! and again when it starts by itself, for it may have grown since.

use std::collections::BTreeMap;

use chrono::Utc;
use sea_orm::sqlx::PgConnection;

use crate::{
    campaign_preview,
    campaigns::{self, Refused},
    config::SmsSettings,
    storage::{campaigns::Campaign, preview},
};

/// Refuses a large or costly campaign, which the caller has locked, that nobody but its last editor has looked at.
///
/// # Errors
/// [`Refused::NeedsApproval`]; what a start would be refused for.
pub async fn check(
    conn: &mut PgConnection,
    settings: &SmsSettings,
    campaign: &Campaign,
) -> Result<(), Refused> {
    if let (Some(by), Some(at)) = (&campaign.approved_by, campaign.approved_at)
        && *by != campaign.edited_by
        && !campaigns::audience_changed(conn, campaign, at).await?
    {
        return Ok(());
    }
    let now = Utc::now();
    let frozen = campaigns::freeze(conn, campaign, now, &settings.public_url).await?;
    let count = match &frozen.file {
        Some(file) => file.people,
        None => {
            let found = preview::preview(conn, &frozen.filter, now).await?;
            frozen.filter.of(found.by_state.values().sum())
        }
    };
    let bounds = Bounds { recipients: settings.approve_above, cost: settings.approve_above_cost };
    let worst = campaign_preview::worst_costs(campaign, &frozen)?;
    bounds.passed(count, &worst).map_or(Ok(()), |what| Err(Refused::NeedsApproval(what)))
}

/// What a campaign may come to before somebody else than its last editor has looked at it.
struct Bounds {
    recipients: i64,
    /// In units of whatever currency.
    cost: i64,
}

impl Bounds {
    /// Which bound so many recipients pass, each at the worst cost, in millionths by currency. For people.
    fn passed(&self, recipients: i64, worst: &BTreeMap<String, i64>) -> Option<String> {
        if recipients > self.recipients {
            let most = self.recipients;
            return Some(format!("llega a unas {recipients} personas, por encima de {most}"));
        }
        let (currency, micros) = worst
            .iter()
            .map(|(currency, each)| (currency, each.saturating_mul(recipients)))
            .max_by_key(|cost| cost.1)?;
        let (units, most) = (micros / 1_000_000, self.cost);
        (micros > most.saturating_mul(1_000_000))
            .then(|| format!("puede costar hasta {units} {currency}, por encima de {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_campaign_above_a_size_or_a_cost_needs_somebody_else() {
        let bounds = Bounds { recipients: 100, cost: 2 };
        let worst = |micros: i64| BTreeMap::from([("USD".to_owned(), micros), ("MXN".to_owned(), 1)]);
        assert_eq!(bounds.passed(100, &worst(20_000)), None, "2 USD, and not more");
        assert!(bounds.passed(100, &worst(20_001)).is_some_and(|what| what.contains("2 USD")));
        assert!(bounds.passed(101, &BTreeMap::new()).is_some_and(|what| what.contains("101 personas")));
        assert_eq!(bounds.passed(100, &BTreeMap::new()), None, "nobody said what it costs");
        assert!(bounds.passed(100, &worst(i64::MAX)).is_some());
    }
}
