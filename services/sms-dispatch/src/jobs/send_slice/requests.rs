//! Requests, each at its time, and what providers say to them.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use chrono::Utc;
use messaging::JobError;
use sea_orm::sqlx::PgPool;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Left, PATIENCE,
    letter::{Claimed, Letter},
    senders::Probe,
    starts::Pace,
};
use crate::{
    buckets::Buckets,
    config::SmsSettings,
    domain::{
        callback::Callback,
        message_state::Observed,
        outcomes::Verdict,
        pace::{Ask, Bucket},
        sender::{ProviderName, Sender},
    },
    in_flight::Place,
    providers::messaging::{Messaging, Outcome, OutgoingMessage, Submission},
    settle::{Fact, Open},
    storage::slices::Grant,
};

/// A request that would begin so much later than it may is given another time: with others it would pass the rate.
const LATE: Duration = Duration::from_millis(40);
/// The longest that a sender is left alone where its provider does not say for how long.
const LONGEST_HOLD: Duration = Duration::from_secs(600);
/// What was answered is written after so long, though others of the same requests are not.
const SETTLE_AFTER: Duration = Duration::from_secs(1);

/// What became of a request.
pub(super) struct Answer {
    pub fact: Fact,
    pub provider: ProviderName,
    /// Its phone has opted out at the provider.
    pub opted_out: Option<String>,
    /// What it says of all others: this sender, or the provider, is closed.
    pub closes: Option<Closes>,
    /// In whose name it was asked.
    pub sender: String,
    /// How long nobody is to ask in that name: its provider has too much of it.
    pub holds: Option<Duration>,
    /// How long the slice is to wait for a provider that was not reached.
    pub pause: Option<Duration>,
    /// There was no connection.
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

/// A request to be made.
pub(super) struct Request {
    pub claimed: Claimed,
    pub start: Instant,
    /// It is not made after that.
    pub latest: Instant,
    pub place: Option<Place>,
}

/// What requests need, and what becomes of them.
pub(super) struct Requests {
    pub pool: PgPool,
    pub providers: Arc<HashMap<ProviderName, Arc<dyn Messaging>>>,
    pub settings: Arc<SmsSettings>,
    pub open: Open,
    /// What their job was told.
    pub grant: Grant,
    /// Whether that has left its slice.
    pub gone: Arc<AtomicBool>,
    /// Providers of which one of these asks whether they answer again.
    pub asking: Vec<Probe>,
    pub buckets: Arc<Buckets>,
    pub pace: Pace,
    pub stopping: CancellationToken,
}

impl Requests {
    /// Makes requests of one sender, and writes what became of them: all at once, or those that are answered after a while. What
    /// can't be written keeps no later answer from it. Gives what the rest of the slice waits for, if anything.
    pub(super) async fn make(self: Arc<Self>, requests: Vec<Request>) -> Result<Option<Left>, JobError> {
        // A task each: while answers are written the others begin at their time.
        let mut open = JoinSet::new();
        for request in requests {
            open.spawn(Arc::clone(&self).request(request));
        }
        let (mut left, mut failed) = (None, None);
        while let Some(first) = open.join_next().await {
            let (mut answers, until) = (Vec::new(), Instant::now() + SETTLE_AFTER);
            let mut next = Some(first);
            while let Some(answered) = next {
                match answered {
                    Ok(answer) => answers.push(answer),
                    // After its deadline it is unknown.
                    Err(panic) => failed = failed.or(Some(JobError::retry(panic))),
                }
                next = tokio::time::timeout_at(until, open.join_next()).await.ok().flatten();
            }
            match self.record(&answers).await {
                Ok(waits) => left = left.or(waits),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(left), Err)
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
            sender: letter.sender.address.clone(),
            holds: None,
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
            let reserved = self.buckets.reserve(&mine, &[ask], Duration::ZERO, latest - now).await;
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
            if let Some(verdict) = receipt.verdict {
                judged(&mut answer, verdict, None, letter);
            }
            answer
        }
        Submission::NotAccepted(refusal) => {
            let verdict = refusal.verdict;
            let mut answer = answer(verdict.observed());
            // It says nothing of this message: however long the provider or the sender is closed, none is given up for it.
            answer.fact.unasked = matches!(verdict.outcome, Outcome::SenderClosed | Outcome::ProviderClosed);
            match (verdict.outcome, verdict.code, refusal.pause) {
                (Outcome::Later, Some(_), says) => answer.holds = Some(hold(letter.row.asked(), says)),
                // Something on the way has too much of it. It may mean this sender alone: the others go on, in this slice too.
                (Outcome::Later, None, Some(pause)) => {
                    (answer.holds, answer.fact.unasked) = (Some(pause), true);
                }
                (Outcome::Later, None, None) => {
                    (answer.unreachable, answer.fact.unasked) = (true, true);
                    answer.pause = Some(PATIENCE);
                }
                _ => {}
            }
            judged(&mut answer, verdict, refusal.pause, letter);
            answer
        }
        Submission::Unknown { reason } => {
            let mut answer = answer(Observed::Unknown);
            answer.fact.reason = Some(reason);
            answer
        }
    }
}

/// Why a message does not go or arrive, and what that says of others.
fn judged(answer: &mut Answer, verdict: Verdict, pause: Option<Duration>, letter: &Letter) {
    answer.closes = match verdict.outcome {
        Outcome::SenderClosed => Some(Closes::Sender(letter.sender.address.clone(), verdict.reason.clone())),
        // What is closed opens by itself: the slice need not wait as long.
        Outcome::ProviderClosed => Some(Closes::Provider(verdict.reason.clone(), pause)),
        _ => None,
    };
    answer.opted_out = verdict.suppresses.then(|| letter.row.phone_e164.clone());
    answer.fact.code = verdict.code.map(|code| code.to_string());
    answer.fact.repeatable = verdict.repeatable;
    answer.fact.reason = Some(verdict.reason);
}

/// How long a sender is left alone whose provider has too much of it, after so many attempts at one message: each time as long again,
/// so that the attempts that a message has last for hours; or as long as the provider says, if that is longer.
fn hold(asked: i16, says: Option<Duration>) -> Duration {
    let doublings = u32::try_from(asked.saturating_sub(1)).unwrap_or_default().min(16);
    (PATIENCE * 2_u32.pow(doublings)).min(LONGEST_HOLD).max(says.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_held_longer_each_time_and_never_shorter_than_its_provider_says() {
        let seconds = |asked, says: Option<u64>| hold(asked, says.map(Duration::from_secs)).as_secs();
        assert_eq!((1..=5).map(|asked| seconds(asked, None)).collect::<Vec<_>>(), [1, 2, 4, 8, 16]);
        assert_eq!((seconds(11, None), seconds(i16::MAX, None), seconds(0, None)), (600, 600, 1));
        assert_eq!((seconds(1, Some(60)), seconds(8, Some(60))), (60, 128));
        // All that one has.
        assert!((1..20).map(|asked| seconds(asked, None)).sum::<u64>() > 90 * 60);
    }
}
