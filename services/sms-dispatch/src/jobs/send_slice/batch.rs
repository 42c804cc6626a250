//! A micro-batch: as many messages as requests may be in flight, from the peek at their rows to what became of them.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use messaging::JobError;
use sea_orm::{
    DbErr,
    sqlx::{self, PgConnection, PgPool},
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Left, SendSlices, Sending, UNDER_WAY, UnderWay, Waits,
    claim::{Claim, Claimed, Skip},
};
use crate::{
    buckets::{Buckets, HORIZON},
    config::SmsSettings,
    domain::{
        Phone,
        callback::Callback,
        campaign::FrozenSender,
        message_state::{MessageState, Observed},
        pace::{Ask, Bucket, Reserved},
        parts::MAX_PARTS,
        sender::{ProviderName, Sender},
    },
    in_flight::{InFlight, Place},
    providers::messaging::{Encoding, Messaging, Outcome, OutgoingMessage, SEND_TIMEOUT, Submission},
    settle::{Fact, Open},
    storage::{
        ledger::{self, Row},
        phone_sends, providers,
        providers::Provider,
        senders, singles,
        slices::Grant,
    },
};

/// How long a slice waits where this worker has no provider that takes messages.
const CLOSED: TimeDelta = TimeDelta::seconds(5);
/// The same of a single message, each of which is a job of its own.
const NO_SENDER: TimeDelta = TimeDelta::seconds(60);
/// A request that would begin so much later than it may is given another time: with others it would pass the rate.
const LATE: Duration = Duration::from_millis(40);
/// A request begins so long after its claim at most, which is as long as a pause or an opt-out may come too late for it.
const CLAIM_HOLDS: Duration = HORIZON.saturating_add(Duration::from_millis(500));
/// The longest that a slice is kept while its bucket is empty.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was answered is written after so long, though others of the same requests are not.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// How soon a single message goes by what is kept for such, before it asks for what campaigns share.
const SOON: Duration = Duration::from_millis(20);

/// Whose part of the rates.
#[derive(Clone, Copy)]
enum Lane {
    Campaigns,
    Singles,
}

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

/// A message that is going to be sent.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub row: Row,
    pub phone: Phone,
    pub sender: FrozenSender,
    pub text: String,
    pub encoding: Encoding,
    pub parts: u16,
}

/// What became of a request.
pub(super) struct Answer {
    pub fact: Fact,
    pub provider: ProviderName,
    /// Its phone has opted out at the provider.
    pub opted_out: Option<String>,
    /// What it says of all others: this sender, or the provider, is closed.
    pub closes: Option<Closes>,
    /// How long the provider wants to be left alone.
    pub pause: Option<Duration>,
    /// There was no connection, or something on the way answered.
    pub unreachable: bool,
    /// Whether a request was made at all.
    pub made: bool,
}

impl Answer {
    /// Whether the provider did not answer, as far as is known.
    pub fn is_silent(&self) -> bool {
        self.made && (self.fact.observed == Observed::Unknown || self.unreachable)
    }
}

/// What a refusal closes.
pub(super) enum Closes {
    Sender(String, String),
    Provider(String, Option<Duration>),
}

/// Of providers that did not answer lately, how many requests each may have now: one, or none where another asks.
type Probes = HashMap<ProviderName, usize>;

impl SendSlices {
    /// Begins the next requests of a slice, which go on in `under_way`.
    pub(super) async fn batch(
        &self,
        sending: &Sending<'_>,
        rest: i64,
        sent: i64,
        under_way: &UnderWay,
    ) -> Result<Batch, JobError> {
        let open = &sending.open;
        let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
        let (range, limit) = ((sending.grant.first, sending.grant.last), rest.min(self.settings.in_flight));
        let rows =
            ledger::in_state(&mut conn, open.date, open.number, range, MessageState::Pending, limit).await;
        let rows = rows.map_err(JobError::retry)?;
        if rows.is_empty() {
            return Ok(Batch::Nothing);
        }
        let states = providers::list(&chassis::db::Orm::on(&mut conn)).await.map_err(JobError::retry)?;
        let rates = self.rates(&mut conn, sending).await.map_err(JobError::retry)?;
        let mut senders = self.senders(sending, &states, &rates);
        if sending.campaign.single
            && let Some(wanted) = rows.first().and_then(|row| singles::wanted_sender(&row.vars))
        {
            senders.retain(|sender| sender.address == wanted);
        }
        if senders.is_empty() {
            drop(conn);
            return self.without_senders(sending, &rows, sent).await;
        }
        let phones: Vec<&str> = rows.iter().map(|row| row.phone_e164.as_str()).collect();
        let known = phone_sends::senders(&mut conn, &phones).await.map_err(JobError::retry)?;
        let mut probes = take_probes(&mut conn, &senders, &states).await.map_err(JobError::retry)?;
        drop(conn);
        let asking: Vec<ProviderName> =
            probes.iter().filter(|(_, left)| **left > 0).map(|(name, _)| *name).collect();
        let (mut chosen, mut unsendable, now) = (Vec::new(), HashMap::new(), Utc::now());
        for row in rows {
            if row.expires_at.is_some_and(|at| at <= now) {
                unsendable.insert(row.position, Skip::Expired);
                continue;
            }
            let had = known.iter().find(|(phone, _)| *phone == row.phone_e164);
            let place = |sender: &FrozenSender| self.place(sender, &states, &rates, &mut probes);
            let has_room = |sender: &FrozenSender| self.in_flight.has_room(&sender.address);
            let had = had.map(|(_, sender)| sender.as_str());
            let Some((sender, place)) = choose(&senders, &row, had, has_room, place) else { continue };
            let (text, encoding, parts) = open.texts.write(&row, sender.provider, sender.kind);
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
        if chosen.is_empty() && unsendable.is_empty() {
            self.give_back(asking).await?;
            return Ok(Batch::Busy);
        }
        // Whose rate has no room, as far as is known, keeps no other waiting.
        chosen.sort_by_key(|(letter, _)| !self.in_flight.has_room(&letter.sender.address));
        let (letters, places): (Vec<Letter>, Vec<Place>) = chosen.into_iter().unzip();
        let lead = self.buckets.lead();
        let began = Instant::now();
        let (reserved, pace) = self.reserve(sending, &states, &rates, &letters, lead).await;
        let mut again_at_once = false;
        let full = reserved.waits_for.and_then(|bucket| pace.0.get(bucket)).map(|bucket| bucket.key.as_str());
        if let Some(blocked) = letters.get(reserved.starts_us.len())
            && full.is_some_and(|key| key.starts_with("sender:"))
        {
            // It is this sender's rate alone: the others are asked for what is left, unless that is known.
            let address = &blocked.sender.address;
            again_at_once = senders.len() > 1 && self.in_flight.has_room(address);
            self.in_flight.is_full_for(address, Duration::from_micros(reserved.wait_us));
        }
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
        let claimed = match self.claim(sending, letters, &unsendable, sent).await? {
            Claim::Claimed(claimed) => claimed,
            Claim::Waits(left) => {
                self.give_back(asking).await?;
                return Ok(Batch::Waits(left));
            }
        };
        self.buckets.took(answered.elapsed());
        let is_claimed = |name: &ProviderName| claimed.iter().any(|one| one.letter.sender.provider == *name);
        let (asking, unused): (Vec<_>, Vec<_>) = asking.into_iter().partition(is_claimed);
        self.give_back(unused).await?;
        // None could still be under way at its deadline.
        let latest = (Instant::now() + CLAIM_HOLDS).min(began + UNDER_WAY.saturating_sub(SEND_TIMEOUT));
        // Not what the budget left: the slice goes on to say that it waits for it.
        let taken = (claimed.len() + unsendable.len()) as i64;
        let requests = Arc::new(Requests {
            pool: self.pool.clone(),
            providers: self.providers.clone(),
            settings: self.settings.clone(),
            open: open.clone(),
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
            let start = starts.get(claimed.place).copied().unwrap_or(began);
            let place = places.get_mut(claimed.place).and_then(Option::take);
            let of_sender = by_sender.entry(claimed.letter.sender.address.clone()).or_default();
            of_sender.push(Request { claimed, start, latest, place });
        }
        for group in by_sender.into_values() {
            // In a task of its own: a job that loses its lease, or whose process drains, is dropped at an await, and one that
            // goes on waits for no late answer. The answers of requests that were made must be written all the same.
            under_way.push(self.under_way.spawn(Arc::clone(&requests).make(group)));
        }
        Ok(Batch::Sent(taken))
    }

    /// A place for a request of a sender, and of a provider that did not answer lately the one request that it may have.
    fn place(
        &self,
        sender: &FrozenSender,
        states: &[Provider],
        rates: &HashMap<String, f64>,
        probes: &mut Probes,
    ) -> Option<Place> {
        if probes.get(&sender.provider).is_some_and(|left| *left == 0) {
            return None;
        }
        let account = states.iter().find(|state| state.name == sender.provider);
        let rate = rates.get(&sender.address).copied().unwrap_or(1.0);
        let rate = account.map_or(rate, |account| rate.min(account.per_second));
        let most = self.settings.in_flight.unsigned_abs() as usize * self.settings.slices_at_once;
        let place = self.in_flight.take(&sender.address, InFlight::limit(rate, most))?;
        if let Some(left) = probes.get_mut(&sender.provider) {
            *left -= 1;
        }
        Some(place)
    }

    /// Gives the one request back that providers may have, where it was not made.
    async fn give_back(&self, asking: Vec<ProviderName>) -> Result<(), JobError> {
        for name in asking {
            let mut conn = self.pool.acquire().await.map_err(JobError::retry)?;
            providers::give_probe_back(&mut conn, name).await.map_err(JobError::retry)?;
        }
        Ok(())
    }

    /// What has expired is settled all the same; the rest waits, until then at most.
    async fn without_senders(
        &self,
        sending: &Sending<'_>,
        rows: &[Row],
        sent: i64,
    ) -> Result<Batch, JobError> {
        let now = Utc::now();
        let expired = rows.iter().filter(|row| row.expires_at.is_some_and(|at| at <= now));
        let expired: HashMap<i32, Skip> = expired.map(|row| (row.position, Skip::Expired)).collect();
        if !expired.is_empty() {
            return Ok(match self.claim(sending, &[], &expired, sent).await? {
                Claim::Claimed(_) => Batch::Sent(expired.len() as i64),
                Claim::Waits(left) => Batch::Waits(left),
            });
        }
        let pause = if sending.campaign.single { NO_SENDER } else { CLOSED };
        let expires = rows.iter().filter_map(|row| row.expires_at).min();
        let due = expires.map_or(now + pause, |at| at.min(now + pause));
        Ok(Batch::Waits(Left::until(due, Some(Waits::Provider))))
    }

    /// Parts a second of those of the campaign's senders that are in use.
    async fn rates(
        &self,
        conn: &mut PgConnection,
        sending: &Sending<'_>,
    ) -> Result<HashMap<String, f64>, DbErr> {
        let frozen = sending.campaign.frozen.as_ref();
        let all = frozen.map(|frozen| frozen.senders.as_slice()).unwrap_or_default();
        let addresses: Vec<String> = all.iter().map(|sender| sender.address.clone()).collect();
        let known = senders::of(conn, &addresses).await?;
        let used = known.into_iter().filter(|sender| sender.enabled);
        Ok(used.map(|sender| (sender.address, sender.per_second)).collect())
    }

    /// The campaign's senders that are in use and whose provider is here and open.
    fn senders<'a>(
        &self,
        sending: &'a Sending<'_>,
        states: &[Provider],
        rates: &HashMap<String, f64>,
    ) -> Vec<&'a FrozenSender> {
        let frozen = sending.campaign.frozen.as_ref();
        let all = frozen.map(|frozen| frozen.senders.as_slice()).unwrap_or_default();
        let opens = |name: ProviderName| {
            self.providers.contains_key(&name)
                && states.iter().any(|state| state.name == name && state.is_open())
        };
        all.iter().filter(|sender| opens(sender.provider) && rates.contains_key(&sender.address)).collect()
    }

    /// Starts for the first of the letters. A single message has its start from the part of the rates that is kept for such, or
    /// else from what campaigns share.
    async fn reserve(
        &self,
        sending: &Sending<'_>,
        states: &[Provider],
        rates: &HashMap<String, f64>,
        letters: &[Letter],
        lead: Duration,
    ) -> (Reserved, Pace) {
        let lanes: &[(Lane, Duration)] = match sending.campaign.single {
            true => &[(Lane::Singles, lead + SOON), (Lane::Campaigns, HORIZON), (Lane::Singles, HORIZON)],
            false => &[(Lane::Campaigns, HORIZON)],
        };
        let (mut reserved, mut pace) = (Reserved::default(), Pace::default());
        for (lane, horizon) in lanes {
            pace = self.asks(*lane, sending, states, rates, letters);
            reserved = self.buckets.reserve(&pace.0, &pace.1, lead, *horizon).await;
            if !reserved.starts_us.is_empty() {
                break;
            }
        }
        (reserved, pace)
    }

    /// Which buckets each message takes its parts from: the account's, the sender's, the campaign's.
    fn asks(
        &self,
        lane: Lane,
        sending: &Sending<'_>,
        states: &[Provider],
        rates: &HashMap<String, f64>,
        letters: &[Letter],
    ) -> Pace {
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
                let account = states.iter().find(|state| state.name == provider);
                let rate = account.map_or(1.0, |state| state.per_second);
                let mut of = vec![place(format!("account:{}{of_lane}", provider.name()), rate * part)];
                let address = &letter.sender.address;
                let rate = rates.get(address).copied().unwrap_or(1.0);
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

/// The buckets, and what each letter takes from them.
type Pace = (Vec<Bucket>, Vec<Ask>);

/// Of the providers that did not answer lately, takes the one request that each may have.
async fn take_probes(
    conn: &mut PgConnection,
    senders: &[&FrozenSender],
    states: &[Provider],
) -> sqlx::Result<Probes> {
    let mut probes = Probes::new();
    let used = |state: &&Provider| senders.iter().any(|sender| sender.provider == state.name);
    for state in states.iter().filter(used).filter(|state| state.is_half_open()) {
        let mine = providers::take_probe(conn, state.name, UNDER_WAY.as_secs_f64()).await?;
        probes.insert(state.name, usize::from(mine));
    }
    Ok(probes)
}

/// A request to be made.
struct Request {
    claimed: Claimed,
    start: Instant,
    /// It is not made after that.
    latest: Instant,
    place: Option<Place>,
}

/// What requests need, and what becomes of them.
pub(super) struct Requests {
    pub pool: PgPool,
    pub providers: Arc<HashMap<ProviderName, Arc<dyn Messaging>>>,
    settings: Arc<SmsSettings>,
    pub open: Open,
    /// What their job was told.
    pub grant: Grant,
    /// Whether that has left its slice.
    pub gone: Arc<AtomicBool>,
    /// Providers of which one of these asks whether they answer again.
    pub asking: Vec<ProviderName>,
    buckets: Arc<Buckets>,
    pace: Pace,
    stopping: CancellationToken,
}

impl Requests {
    /// Makes requests of one sender, and writes what became of them: all at once, or those that are answered after a while. Gives
    /// what the rest of the slice waits for, if anything.
    async fn make(self: Arc<Self>, requests: Vec<Request>) -> Result<Option<Left>, JobError> {
        // A task each: while answers are written the others begin at their time.
        let mut open = JoinSet::new();
        for request in requests {
            open.spawn(Arc::clone(&self).request(request));
        }
        let mut left = None;
        while let Some(first) = open.join_next().await {
            let mut answers = vec![first.map_err(JobError::retry)?];
            let until = Instant::now() + SETTLE_AFTER;
            while let Ok(Some(next)) = tokio::time::timeout_at(until, open.join_next()).await {
                answers.push(next.map_err(JobError::retry)?);
            }
            left = left.or(self.record(&answers).await?);
        }
        Ok(left)
    }

    /// Makes one request, at its time.
    async fn request(self: Arc<Self>, request: Request) -> Answer {
        let Request { claimed, start, latest, place: _place } = request;
        let letter = &claimed.letter;
        let provider = letter.sender.provider;
        let attempt = letter.row.attempt;
        let answer = |observed| Answer {
            fact: Fact::plain(letter.row.position, attempt, observed, Utc::now()),
            provider,
            opted_out: None,
            closes: None,
            pause: None,
            unreachable: false,
            made: true,
        };
        let waited = self.stopping.run_until_cancelled(self.turn(claimed.place, start, latest)).await;
        let client = self.providers.get(&provider).filter(|_| waited == Some(true));
        let Some(client) = client else {
            let mut answer = answer(Observed::NotAccepted);
            (answer.fact.unasked, answer.made) = (true, false);
            return answer;
        };
        let id = letter.row.id(self.open.date, self.open.number);
        let message = OutgoingMessage {
            id,
            attempt,
            to: letter.phone,
            from: Sender { kind: letter.sender.kind, value: letter.sender.address.clone() },
            text: letter.text.clone(),
            encoding: letter.encoding,
            validity: letter
                .row
                .expires_at
                .map(|at| (at - Utc::now()).to_std().unwrap_or(PATIENCE).max(PATIENCE)),
            callback_url: Callback { message: id, attempt }.url(&self.settings.public_url, provider),
        };
        read(client.send(&message).await, letter, answer)
    }
}

impl Requests {
    /// Waits for a request's time, and for another one where that has passed: the database was slow, or the process was
    /// stopped. False where its claim is too old by then.
    async fn turn(&self, place: usize, first: Instant, latest: Instant) -> bool {
        let mut start = first;
        loop {
            tokio::time::sleep_until(start).await;
            let now = Instant::now();
            if now > latest {
                return false;
            }
            if now <= start + LATE {
                return true;
            }
            let (buckets, asks) = &self.pace;
            let Some(ask) = asks.get(place) else { return false };
            // Of a bucket from which nothing else went meanwhile, nor would have, it keeps what it has.
            let late = (now - first).as_secs_f64();
            let mine = ask.buckets.iter().filter_map(|bucket| buckets.get(*bucket));
            let mine: Vec<Bucket> = mine
                .filter(|bucket| bucket.per_second * late * 2.0 >= f64::from(ask.parts))
                .cloned()
                .collect();
            if mine.is_empty() {
                return true;
            }
            let ask = Ask { parts: ask.parts, buckets: (0..mine.len()).collect() };
            let reserved = self.buckets.reserve(&mine, &[ask], Duration::ZERO, HORIZON).await;
            let Some(after) = reserved.starts_us.first() else { return false };
            start = Instant::now() + Duration::from_micros(*after);
        }
    }
}

/// What a submission says.
fn read(submission: Submission, letter: &Letter, answer: impl Fn(Observed) -> Answer) -> Answer {
    match submission {
        Submission::Accepted(receipt) => {
            let mut answer = answer(receipt.observed);
            answer.fact.provider_id = Some(receipt.provider_id);
            answer.fact.parts =
                receipt.parts.filter(|parts| *parts > 0).and_then(|parts| parts.try_into().ok());
            answer.fact.cost = receipt.cost;
            answer
        }
        Submission::NotAccepted(refusal) => {
            let verdict = refusal.verdict;
            let mut answer = answer(verdict.observed());
            answer.closes = match verdict.outcome {
                Outcome::SenderClosed => {
                    Some(Closes::Sender(letter.sender.address.clone(), verdict.reason.clone()))
                }
                Outcome::ProviderClosed => Some(Closes::Provider(verdict.reason.clone(), refusal.pause)),
                _ => None,
            };
            // What is closed opens by itself: the slice need not wait as long.
            answer.pause = (verdict.outcome == Outcome::Later).then(|| refusal.pause.unwrap_or(PATIENCE));
            answer.unreachable = verdict.outcome == Outcome::Later && verdict.code.is_none();
            // It says nothing of this message: however long the provider or the sender is closed, none is given up for it.
            let closed = matches!(verdict.outcome, Outcome::SenderClosed | Outcome::ProviderClosed);
            answer.fact.unasked = answer.unreachable || closed;
            answer.opted_out = verdict.suppresses.then(|| letter.row.phone_e164.clone());
            answer.fact.code = verdict.code.map(|code| code.to_string());
            answer.fact.repeatable = verdict.repeatable;
            answer.fact.reason = Some(verdict.reason);
            answer
        }
        Submission::Unknown { reason } => {
            let mut answer = answer(Observed::Unknown);
            answer.fact.reason = Some(reason);
            answer
        }
    }
}

/// The sender that the phone had, if it is among these; else one of them by weight, the same for the same phone. Where it has no
/// place another one is taken; where its rate has no room, too, unless the phone had it. None where none has a place.
fn choose<'a>(
    senders: &[&'a FrozenSender],
    row: &Row,
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
        while let Some(drawn) = draw(&among, row) {
            if let Some(place) = place(drawn) {
                return Some((drawn, place));
            }
            among.retain(|sender| sender.address != drawn.address);
        }
    }
    None
}

/// One of these by weight, the same for the same phone.
fn draw<'a>(senders: &[&'a FrozenSender], row: &Row) -> Option<&'a FrozenSender> {
    let all: u64 = senders.iter().map(|sender| u64::from(sender.weight)).sum();
    let digits: u64 =
        row.phone_e164.bytes().filter(u8::is_ascii_digit).fold(0xcbf2_9ce4_8422_2325, |hash, digit| {
            (hash ^ u64::from(digit)).wrapping_mul(0x0100_0000_01b3)
        });
    let mut drawn = (digits >> 16) % all.max(1);
    senders.iter().copied().find(|sender| {
        let weight = u64::from(sender.weight);
        let mine = drawn < weight;
        drawn = drawn.saturating_sub(weight);
        mine
    })
}
