//! A micro-batch: as many messages as requests may be in flight, from the peek at their rows to their requests.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use messaging::JobError;
use tokio::time::Instant;

use super::{
    Left, PATIENCE, SendSlices, Sending, UnderWay, Waits,
    claim::{Claim, Skip},
    letter::{Claimed, Letter},
    requests::{Request, Requests},
    senders::{Probe, Routes},
    starts::Pace,
};
use crate::{
    buckets::{HORIZON, LONGEST_LEAD},
    domain::{Phone, message_state::MessageState, pace::Reserved, parts::MAX_PARTS},
    in_flight::Place,
    providers::messaging::{SEND_TIMEOUT, UNDER_WAY},
    storage::{
        ledger::{self, Row},
        phone_sends, singles,
    },
};

/// How long a slice waits where this worker has no provider that takes messages.
const CLOSED: TimeDelta = TimeDelta::seconds(5);
/// The same of a single message, each of which is a job of its own.
const NO_SENDER: TimeDelta = TimeDelta::seconds(60);
/// A request begins so long after its claim at most, which is as long as a pause or an opt-out may come too late for it: those have a
/// second in all. What is more than [`HORIZON`] is for a process that is slow.
const CLAIM_HOLDS: Duration = Duration::from_millis(700);
// However quick the claim was after all: a start beyond that is given for nothing.
const _: () = assert!(LONGEST_LEAD.as_millis() + HORIZON.as_millis() <= CLAIM_HOLDS.as_millis());

/// What a micro-batch came to.
pub(super) enum Batch {
    /// So many messages have left the slice.
    Sent(i64),
    /// The slice has nothing more to send.
    Nothing,
    /// None of its senders has a place for another request.
    Busy,
    /// The rest waits.
    Waits(Left),
}

/// What a micro-batch looks at first.
struct Seen<'a> {
    /// The next rows of its slice.
    rows: Vec<Row>,
    /// The senders that their phones had.
    known: HashMap<String, String>,
    routes: Routes<'a>,
}

/// What the next rows of a slice come to: letters, each with the place of its request, and rows that are never sent.
struct Chosen {
    letters: Vec<Letter>,
    places: Vec<Place>,
    unsendable: HashMap<i32, Skip>,
}

/// When claimed requests begin.
struct Times {
    /// Of each letter, by our clock.
    starts: Vec<Instant>,
    /// None begins after that.
    latest: Instant,
    pace: Pace,
}

impl SendSlices {
    /// Begins the next requests of a slice, which go on in `under_way`.
    pub(super) async fn batch(
        &self,
        sending: &Sending<'_>,
        rest: i64,
        sent: i64,
        under_way: &UnderWay,
    ) -> Result<Batch, JobError> {
        let Some(Seen { rows, known, mut routes }) = self.look(sending, rest).await? else {
            return Ok(Batch::Nothing);
        };
        if routes.senders.is_empty() {
            return self.without_senders(sending, &rows, routes.free_at, sent).await;
        }
        let asking = routes.asking();
        let Chosen { letters, places, unsendable } = self.choose(sending, rows, &known, &mut routes);
        if letters.is_empty() && unsendable.is_empty() {
            self.give_back(asking).await?;
            return Ok(Batch::Busy);
        }
        let lead = self.buckets.lead();
        let began = Instant::now();
        let (reserved, pace) = self.reserve(sending, &routes, &letters, lead).await;
        let again_at_once = self.others_have_room(&routes, &letters, &reserved, &pace);
        if reserved.starts_us.is_empty() && unsendable.is_empty() {
            self.give_back(asking).await?;
            if !again_at_once {
                let pause = tokio::time::sleep(Duration::from_micros(reserved.wait_us).min(PATIENCE));
                let stopping = sending.run.stopping();
                stopping.run_until_cancelled(pause).await.ok_or(JobError::Release)?;
            }
            return Ok(Batch::Sent(0));
        }
        // By our clock: the answer took some time, and nothing may start too early.
        let answered = Instant::now();
        let starts: Vec<_> =
            reserved.starts_us.iter().map(|start| answered + Duration::from_micros(*start)).collect();
        let letters = &letters[..starts.len().min(letters.len())];
        let (claimed, until) = match self.claim(sending, letters, &unsendable, sent).await? {
            Claim::Claimed(claimed, until) => (claimed, until),
            Claim::Waits(left) => {
                self.give_back(asking).await?;
                return Ok(Batch::Waits(left));
            }
        };
        // From here until their requests are made there is no await: whoever is dropped at one would leave them claimed for nobody.
        self.buckets.took(answered.elapsed());
        let is_claimed = |(name, _): &Probe| claimed.iter().any(|one| one.letter.sender.provider == *name);
        let (asking, unused): (Vec<_>, Vec<_>) = asking.into_iter().partition(is_claimed);
        let latest = last_start(Instant::now(), began, until.map(|until| until - Utc::now()));
        // Not what the budget left: the slice goes on to say that it waits for it.
        let taken = (claimed.len() + unsendable.len()) as i64;
        self.begin(sending, claimed, places, Times { starts, latest, pace }, asking, under_way);
        if let Err(error) = self.give_back(unused).await {
            // They lapse; the requests are under way.
            tracing::warn!(campaign = %sending.open.id, %error, "a provider is not asked again yet");
        }
        Ok(Batch::Sent(taken))
    }

    /// The next rows of a slice, and the ways that they may go; none where nothing is left.
    async fn look<'a>(&self, sending: &'a Sending<'_>, rest: i64) -> Result<Option<Seen<'a>>, JobError> {
        let open = &sending.open;
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        let (range, limit) = ((sending.grant.first, sending.grant.last), rest.min(self.settings.in_flight));
        let rows =
            ledger::in_state(&mut conn, open.date, open.number, range, MessageState::Pending, limit).await;
        let rows = rows.map_err(JobError::retry)?;
        let Some(first) = rows.first() else { return Ok(None) };
        let phones: Vec<&str> = rows.iter().map(|row| row.phone_e164.as_str()).collect();
        let known = phone_sends::senders(&mut conn, &phones).await.map_err(JobError::retry)?;
        let wanted = Some(first).filter(|_| sending.campaign.single);
        let wanted = wanted.and_then(|row| singles::wanted_sender(&row.vars));
        let routes = self.routes(&mut conn, sending, wanted).await?;
        Ok(Some(Seen { rows, known: known.into_iter().collect(), routes }))
    }

    /// Which of the rows are sent now, and in whose name.
    fn choose(
        &self,
        sending: &Sending<'_>,
        rows: Vec<Row>,
        known: &HashMap<String, String>,
        routes: &mut Routes<'_>,
    ) -> Chosen {
        let (mut chosen, mut unsendable, now) = (Vec::new(), HashMap::new(), Utc::now());
        for row in rows {
            if row.expires_at.is_some_and(|at| at <= now) {
                unsendable.insert(row.position, Skip::Expired);
                continue;
            }
            let had = known.get(&row.phone_e164).map(String::as_str);
            let Some((sender, place)) = self.sender_for(routes, &row, had) else { continue };
            let (text, encoding, parts) = sending.open.texts.write(&row, sender.provider, sender.kind);
            let skip = match Phone::from_e164(&row.phone_e164) {
                None => Skip::Invalid,
                Some(_) if text.is_empty() => Skip::NoValue,
                Some(_) if parts > MAX_PARTS => Skip::TooLong,
                Some(phone) => {
                    let sender = sender.clone();
                    chosen.push((Letter { row, phone, sender, text, encoding, parts }, place));
                    continue;
                }
            };
            unsendable.insert(row.position, skip);
        }
        // Whose rate has no room, as far as is known, keeps no other waiting.
        chosen.sort_by_key(|(letter, _)| !self.in_flight.has_room(&letter.sender.address));
        let (letters, places) = chosen.into_iter().unzip();
        Chosen { letters, places, unsendable }
    }

    /// Notes the sender whose rate alone the first letter without a start waits for. Gives whether others may have room.
    fn others_have_room(
        &self,
        routes: &Routes<'_>,
        letters: &[Letter],
        reserved: &Reserved,
        pace: &Pace,
    ) -> bool {
        let full = reserved.waits_for.and_then(|bucket| pace.0.get(bucket)).map(|bucket| bucket.key.as_str());
        let Some(blocked) = letters.get(reserved.starts_us.len()) else { return false };
        if !full.is_some_and(|key| key.starts_with("sender:")) {
            return false;
        }
        // The others are asked for what is left, unless that is known.
        let address = &blocked.sender.address;
        let others = routes.senders.len() > 1 && self.in_flight.has_room(address);
        self.in_flight.is_full_for(address, Duration::from_micros(reserved.wait_us));
        others
    }

    /// Makes the requests of claimed messages, in tasks of their own: a job that loses its lease, or whose process drains, is
    /// dropped at an await, and one that goes on waits for no late answer. The answers of requests that were made must be written
    /// all the same.
    fn begin(
        &self,
        sending: &Sending<'_>,
        claimed: Vec<Claimed>,
        places: Vec<Place>,
        times: Times,
        asking: Vec<Probe>,
        under_way: &UnderWay,
    ) {
        let Times { starts, latest, pace } = times;
        let requests = Arc::new(Requests {
            pool: self.pool.clone(),
            providers: self.providers.clone(),
            settings: self.settings.clone(),
            open: sending.open.clone(),
            grant: sending.grant,
            gone: Arc::clone(&sending.gone),
            asking,
            buckets: Arc::clone(&self.buckets),
            pace,
            stopping: sending.run.stopping().clone(),
        });
        let mut places: Vec<Option<Place>> = places.into_iter().map(Some).collect();
        let mut by_sender: HashMap<String, Vec<Request>> = HashMap::new();
        for claimed in claimed {
            let start = starts.get(claimed.place).copied().unwrap_or(latest);
            let place = places.get_mut(claimed.place).and_then(Option::take);
            let of_sender = by_sender.entry(claimed.letter.sender.address.clone()).or_default();
            of_sender.push(Request { claimed, start, latest, place });
        }
        for group in by_sender.into_values() {
            under_way.push(self.under_way.spawn(Arc::clone(&requests).make(group)));
        }
    }

    /// What has expired is settled all the same; the rest waits, until then at most, or until a sender is held no more.
    async fn without_senders(
        &self,
        sending: &Sending<'_>,
        rows: &[Row],
        free_at: Option<DateTime<Utc>>,
        sent: i64,
    ) -> Result<Batch, JobError> {
        let now = Utc::now();
        let expired = rows.iter().filter(|row| row.expires_at.is_some_and(|at| at <= now));
        let expired: HashMap<i32, Skip> = expired.map(|row| (row.position, Skip::Expired)).collect();
        if !expired.is_empty() {
            return Ok(match self.claim(sending, &[], &expired, sent).await? {
                Claim::Claimed(..) => Batch::Sent(expired.len() as i64),
                Claim::Waits(left) => Batch::Waits(left),
            });
        }
        let pause = if sending.campaign.single { NO_SENDER } else { CLOSED };
        let expires = rows.iter().filter_map(|row| row.expires_at).min();
        let due = expires.into_iter().chain(free_at).fold(now + pause, Ord::min);
        Ok(Batch::Waits(Left::until(due, Some(Waits::Provider))))
    }
}

/// The last moment at which a request of a claim may begin that was made just `now`, and prepared since `began`: before its hours end,
/// and so that none is under way at its deadline.
fn last_start(now: Instant, began: Instant, closes_in: Option<TimeDelta>) -> Instant {
    let latest = (now + CLAIM_HOLDS).min(began + UNDER_WAY.saturating_sub(SEND_TIMEOUT));
    let closes = closes_in.map(|time| now + time.to_std().unwrap_or_default());
    closes.map_or(latest, |closes| latest.min(closes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_begins_after_the_hours_of_its_recipients_or_past_what_its_deadline_allows() {
        let now = Instant::now();
        assert_eq!(last_start(now, now, None), now + CLAIM_HOLDS);
        assert_eq!(last_start(now, now, Some(TimeDelta::hours(3))), now + CLAIM_HOLDS);
        let closes = last_start(now, now, Some(TimeDelta::milliseconds(100)));
        assert_eq!(closes, now + Duration::from_millis(100));
        assert_eq!(last_start(now, now, Some(TimeDelta::seconds(-1))), now);
        // The database took its time.
        let slow = UNDER_WAY - SEND_TIMEOUT - Duration::from_millis(50);
        assert_eq!(last_start(now + slow, now, None), now + slow + Duration::from_millis(50));
    }
}
