//! When requests begin: each message takes its parts from several rates at once.

use std::time::Duration;

use super::{SendSlices, Sending, letter::Letter, senders::Routes};
use crate::{
    buckets::HORIZON,
    domain::pace::{Ask, Bucket, Reserved},
};

/// How soon a single message goes by what is kept for such, before it asks for what campaigns share.
const SOON: Duration = Duration::from_millis(20);

/// Whose part of the rates.
#[derive(Clone, Copy)]
enum Lane {
    Campaigns,
    Singles,
}

/// The buckets, and what each letter takes from them.
pub(super) type Pace = (Vec<Bucket>, Vec<Ask>);

impl SendSlices {
    /// Starts for the first of the letters. A single message has its start from the part of the rates that is kept for such, or
    /// else from what campaigns share.
    pub(super) async fn reserve(
        &self,
        sending: &Sending<'_>,
        routes: &Routes<'_>,
        letters: &[Letter],
        lead: Duration,
    ) -> (Reserved, Pace) {
        // Its claim comes first.
        let ahead = lead + HORIZON;
        let lanes: &[(Lane, Duration)] = match sending.campaign.single {
            true => &[(Lane::Singles, lead + SOON), (Lane::Campaigns, ahead), (Lane::Singles, ahead)],
            false => &[(Lane::Campaigns, ahead)],
        };
        let (mut reserved, mut pace) = (Reserved::default(), Pace::default());
        for (lane, horizon) in lanes {
            pace = self.asks(*lane, sending, routes, letters);
            reserved = self.buckets.reserve(&pace.0, &pace.1, lead, *horizon).await;
            if !reserved.starts_us.is_empty() {
                break;
            }
        }
        (reserved, pace)
    }

    /// Which buckets each message takes its parts from: the account's, the sender's, the campaign's.
    fn asks(&self, lane: Lane, sending: &Sending<'_>, routes: &Routes<'_>, letters: &[Letter]) -> Pace {
        let mut buckets: Vec<Bucket> = Vec::new();
        let mut place = |key: String, per_second: f64| match buckets.iter().position(|one| one.key == key) {
            Some(place) => place,
            None => {
                buckets.push(Bucket { key, per_second });
                buckets.len() - 1
            }
        };
        let (part, of_lane) = match lane {
            Lane::Campaigns => (1.0 - self.settings.singles_share, ""),
            Lane::Singles => (self.settings.singles_share, ":singles"),
        };
        let asks = letters
            .iter()
            .map(|letter| {
                let provider = letter.sender.provider;
                let rate = routes.account_rate(provider).unwrap_or(1.0);
                let mut of = vec![place(format!("account:{}{of_lane}", provider.name()), rate * part)];
                let address = &letter.sender.address;
                let rate = routes.sender_rate(address);
                of.push(place(format!("sender:{address}{of_lane}"), rate * part));
                if let Some(rate) = sending.campaign.plan.per_minute {
                    of.push(place(format!("campaign:{}", sending.open.number), f64::from(rate) / 60.0));
                }
                Ask { parts: u32::from(letter.parts), buckets: of }
            })
            .collect();
        (buckets, asks)
    }
}
