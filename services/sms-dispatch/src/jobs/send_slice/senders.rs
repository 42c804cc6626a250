//! In whose name a message goes: the senders that may send now, and which of them has a place for another request.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use messaging::JobError;
use sea_orm::sqlx::{self, PgConnection};

use super::{SendSlices, Sending};
use crate::{
    domain::{campaign::FrozenSender, sender::ProviderName},
    in_flight::{InFlight, Place},
    providers::messaging::UNDER_WAY,
    storage::{
        ledger::Row,
        providers::{self, Provider},
        senders,
    },
};

/// A request that asks whether a provider answers again, and until when it is ours.
pub(super) type Probe = (ProviderName, DateTime<Utc>);

/// Of providers that did not answer lately, the one request that each may have now; none where another asks.
type Probes = HashMap<ProviderName, Option<Probe>>;

/// The ways that messages of a campaign may go now.
pub(super) struct Routes<'a> {
    /// Those of its senders that are in use and whose provider is here and open.
    pub senders: Vec<&'a FrozenSender>,
    providers: Vec<Provider>,
    /// When the first of its senders is held no more that is held now.
    pub free_at: Option<DateTime<Utc>>,
    /// Parts a second, by address.
    rates: HashMap<String, f64>,
    probes: Probes,
}

impl Routes<'_> {
    /// Parts a second that an account may send.
    pub fn account_rate(&self, provider: ProviderName) -> Option<f64> {
        self.providers.iter().find(|known| known.name == provider).map(|known| known.per_second)
    }

    /// Parts a second that a sender may send.
    pub fn sender_rate(&self, address: &str) -> f64 {
        self.rates.get(address).copied().unwrap_or(1.0)
    }

    /// Requests that may ask providers whether they answer again.
    pub fn asking(&self) -> Vec<Probe> {
        self.probes.values().copied().flatten().collect()
    }
}

impl SendSlices {
    /// The ways that messages may go now; in the name of `only`, where that is given.
    pub(super) async fn routes<'a>(
        &self,
        conn: &mut PgConnection,
        sending: &'a Sending<'_>,
        only: Option<&str>,
    ) -> Result<Routes<'a>, JobError> {
        let states = providers::list(&chassis::db::Orm::on(conn)).await.map_err(JobError::retry)?;
        let frozen = sending.campaign.frozen.as_ref();
        let all = frozen.map(|frozen| frozen.senders.as_slice()).unwrap_or_default();
        let addresses: Vec<String> = all.iter().map(|sender| sender.address.clone()).collect();
        let known = senders::of(conn, &addresses).await.map_err(JobError::retry)?;
        let now = Utc::now();
        let wanted = |address: &str| only.is_none_or(|only| address == only);
        let held = known.iter().filter(|sender| sender.enabled && wanted(&sender.address));
        let free_at = held.filter_map(|sender| sender.held_until).filter(|until| *until > now).min();
        let used = known.into_iter().filter(|sender| sender.is_usable(now) && wanted(&sender.address));
        let rates: HashMap<String, f64> = used.map(|sender| (sender.address, sender.per_second)).collect();
        let opens = |name: ProviderName| {
            self.providers.contains_key(&name)
                && states.iter().any(|state| state.name == name && state.is_open())
        };
        let may = |sender: &&FrozenSender| opens(sender.provider) && rates.contains_key(&sender.address);
        let senders: Vec<&FrozenSender> = all.iter().filter(may).collect();
        let probes = take_probes(conn, &senders, &states).await.map_err(JobError::retry)?;
        Ok(Routes { senders, providers: states, free_at, rates, probes })
    }

    /// A sender for a message, with a place for its request; none where none has a place. `had` is the one that its phone had.
    pub(super) fn sender_for<'a>(
        &self,
        routes: &mut Routes<'a>,
        row: &Row,
        had: Option<&str>,
    ) -> Option<(&'a FrozenSender, Place)> {
        let senders = routes.senders.clone();
        let has_room = |sender: &FrozenSender| self.in_flight.has_room(&sender.address);
        choose(&senders, &row.phone_e164, had, has_room, |sender| self.place(sender, routes))
    }

    /// A place for a request of a sender, and of a provider that did not answer lately the one request that it may have.
    fn place(&self, sender: &FrozenSender, routes: &mut Routes<'_>) -> Option<Place> {
        if routes.probes.get(&sender.provider).is_some_and(Option::is_none) {
            return None;
        }
        let rate = routes.sender_rate(&sender.address);
        let rate = routes.account_rate(sender.provider).map_or(rate, |account| rate.min(account));
        let most = self.settings.in_flight.unsigned_abs() as usize * self.settings.slices_at_once;
        let place = self.in_flight.take(&sender.address, InFlight::limit(rate, most))?;
        if let Some(probe) = routes.probes.get_mut(&sender.provider) {
            *probe = None;
        }
        Some(place)
    }

    /// Gives the one request back that providers may have, where it was not made.
    pub(super) async fn give_back(&self, asking: Vec<Probe>) -> Result<(), JobError> {
        for (name, until) in asking {
            let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
            providers::give_probe_back(&mut conn, name, until).await.map_err(JobError::retry)?;
        }
        Ok(())
    }
}

/// Of the providers that did not answer lately, takes the one request that each may have.
async fn take_probes(
    conn: &mut PgConnection,
    senders: &[&FrozenSender],
    states: &[Provider],
) -> sqlx::Result<Probes> {
    let mut probes = Probes::new();
    let used = |state: &&Provider| senders.iter().any(|sender| sender.provider == state.name);
    for state in states.iter().filter(used).filter(|state| state.is_half_open()) {
        let until = providers::take_probe(conn, state.name, UNDER_WAY.as_secs_f64()).await?;
        probes.insert(state.name, until.map(|until| (state.name, until)));
    }
    Ok(probes)
}

/// The sender that the phone had, if it is among these; else one of them by weight, the same for the same phone. Where it has no
/// place another one is taken; where its rate has no room, too, unless the phone had it. None where none has a place.
fn choose<'a>(
    senders: &[&'a FrozenSender],
    phone: &str,
    had: Option<&str>,
    has_room: impl Fn(&FrozenSender) -> bool,
    mut place: impl FnMut(&FrozenSender) -> Option<Place>,
) -> Option<(&'a FrozenSender, Place)> {
    let same = senders.iter().copied().find(|sender| Some(sender.address.as_str()) == had);
    if let Some((same, place)) = same.and_then(|same| Some((same, place(same)?))) {
        return Some((same, place));
    }
    let rest = senders.iter().copied().filter(|sender| Some(sender.address.as_str()) != had);
    let (with_room, without): (Vec<_>, Vec<_>) = rest.partition(|sender| has_room(sender));
    for mut among in [with_room, without] {
        while let Some(drawn) = draw(&among, phone) {
            if let Some(place) = place(drawn) {
                return Some((drawn, place));
            }
            among.retain(|sender| sender.address != drawn.address);
        }
    }
    None
}

/// One of these by weight, the same for the same phone.
fn draw<'a>(senders: &[&'a FrozenSender], phone: &str) -> Option<&'a FrozenSender> {
    let all: u64 = senders.iter().map(|sender| u64::from(sender.weight)).sum();
    let digits: u64 = phone
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0xcbf2_9ce4_8422_2325, |hash, digit| (hash ^ u64::from(digit)).wrapping_mul(0x0100_0000_01b3));
    let mut drawn = (digits >> 16) % all.max(1);
    senders.iter().copied().find(|sender| {
        let weight = u64::from(sender.weight);
        let mine = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        mine
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sender::SenderKind;

    fn sender(address: &str, weight: u32) -> FrozenSender {
        FrozenSender {
            address: address.to_owned(),
            weight,
            provider: ProviderName::Telnyx,
            kind: SenderKind::LongCode,
            price_micros: None,
            currency: None,
        }
    }

    fn phone(number: u32) -> String {
        format!("+52612{:07}", 1_000_000 + number)
    }

    const FIRST: [&str; 8] = ["three", "three", "three", "three", "one", "three", "three", "three"];

    #[test]
    fn senders_have_their_shares_and_a_phone_keeps_the_same_one() {
        let (one, three) = (sender("one", 1), sender("three", 3));
        let all = [&one, &three];
        let drawn = |number| draw(&all, &phone(number)).map(|sender| sender.address.as_str());
        let of_three = (0..8_000).filter(|number| drawn(*number) == Some("three")).count();
        assert!(of_three.abs_diff(6_000) < 300, "{of_three} of 8,000 for three of four");
        // Computed once: with another hash people would be written to by another number in a campaign that is being sent.
        assert_eq!((0..8).map(|number| drawn(997 * number)).collect::<Vec<_>>(), FIRST.map(Some));
        assert_eq!(draw(&[], &phone(0)), None);
    }

    #[test]
    fn a_phone_keeps_the_sender_that_it_had_while_that_has_a_place() {
        let (one, other) = (sender("one", 1), sender("other", 1_000));
        let all = [&one, &other];
        let places = InFlight::default();
        let chosen = |had: Option<&str>, full: &[&str], taken: &[&str]| {
            let has_room = |sender: &FrozenSender| !full.contains(&sender.address.as_str());
            let place = |sender: &FrozenSender| {
                let limit = usize::from(!taken.contains(&sender.address.as_str()));
                places.take(&sender.address, limit)
            };
            choose(&all, &phone(7), had, has_room, place).map(|(sender, _)| sender.address.as_str())
        };
        // However little weight that has, and whether its rate has room or not.
        assert_eq!(chosen(Some("one"), &[], &[]), Some("one"));
        assert_eq!(chosen(Some("one"), &["one"], &[]), Some("one"));
        assert_eq!(chosen(Some("one"), &[], &["one"]), Some("other"));
        // One of another campaign's says nothing here.
        assert_eq!(chosen(Some("third"), &["other"], &[]), Some("one"), "the other's rate has no room");
        assert_eq!(chosen(None, &["one", "other"], &["other"]), Some("one"));
        assert_eq!(chosen(None, &[], &["one", "other"]), None);
    }
}
