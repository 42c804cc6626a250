//! What a provider of messages remembers, kept small enough for millions.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::faults::{Fate, Faults};
use super::parts::Coding;
use super::truth::{Accepted, Answer};

/// How far a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Queued,
    Sent,
    Final,
}

/// An accepted message, with everything that repeats kept once.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Microseconds since 1970.
    pub(super) at: i64,
    pub(super) salt: u64,
    pub(super) to: u64,
    pub(super) from: u32,
    pub(super) service: u32,
    pub(super) url: Address,
    pub(super) text: Option<Box<str>>,
    pub(super) parts: u8,
    pub(super) coding: Coding,
    pub(super) fate: Fate,
    pub(super) answer: Answer,
    pub(super) sent_ms: u32,
    pub(super) final_ms: u32,
}

/// A callback's address: what stands before a UUID, the UUID, and what stands after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    before: u32,
    pub(super) id: u128,
    pub(super) after: u32,
}

/// What is asked to be sent, after its form was checked.
pub(super) struct Wanted<'a> {
    pub to: u64,
    pub from: &'a str,
    pub service: &'a str,
    pub url: &'a str,
    pub text: &'a str,
    pub parts: u8,
    pub coding: Coding,
    /// A key and the body that it stands for.
    pub repetition: Option<(&'a str, &'a [u8])>,
}

/// Why a request is not served; each provider has its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Throttled,
    NoCredit,
    SpendLimit,
    QueueFull,
    BadSender,
    Landline,
    Invalid,
    OptedOut,
    /// The same key with another body.
    OtherBody,
}

/// What happens to a request before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    Cut,
    Unavailable,
    Throttled,
    /// Ordered by a test: a status and a code.
    Ordered(u16, u32),
}

pub(super) struct Receipt {
    pub number: usize,
    pub answer: Answer,
    /// Reports come before the answer.
    pub early: bool,
    /// The same request again: no reports.
    pub repeated: bool,
}

/// Everything that a provider remembers.
pub(super) struct State {
    pub faults: Faults,
    pub messages: Vec<Message>,
    names: Vec<Box<str>>,
    known: HashMap<Box<str>, u32>,
    /// Key's hash → body's hash and message.
    repetitions: HashMap<u64, (u64, u32)>,
    pub fates: HashMap<u64, Fate>,
    /// Phone, sender, word, time.
    pub opt_outs: Vec<(u64, String, String, DateTime<Utc>)>,
    opted_out: HashSet<u64>,
    /// For the next submissions, one each.
    pub ordered: VecDeque<(u16, u32)>,
    pub requests: u64,
    pub refused: u64,
    pub interrupted: u64,
    pub webhooks_delivered: u64,
    pub webhooks_failed: u64,
    window: (Instant, u32),
    random: u64,
}

/// What a part costs, in millionths of a dollar.
pub(super) const PART_MICROS: i64 = 5_100;

impl State {
    pub fn new() -> Self {
        Self {
            faults: Faults::default(),
            messages: Vec::new(),
            names: Vec::new(),
            known: HashMap::new(),
            repetitions: HashMap::new(),
            fates: HashMap::new(),
            opt_outs: Vec::new(),
            opted_out: HashSet::new(),
            ordered: VecDeque::new(),
            requests: 0,
            refused: 0,
            interrupted: 0,
            webhooks_delivered: 0,
            webhooks_failed: 0,
            window: (Instant::now(), 0),
            random: 1,
        }
    }

    pub fn set_faults(&mut self, faults: Faults) {
        self.random = faults.seed;
        self.faults = faults;
    }

    /// Whether chance has it, for a share of cases. SplitMix64.
    fn happens(&mut self, share: f64) -> bool {
        share > 0.0 && (self.number() >> 11) as f64 / ((1_u64 << 53) as f64) < share
    }

    fn number(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// What happens to a submission before it is looked at; none: it is looked at.
    pub fn interruption(&mut self) -> Option<Interruption> {
        self.requests += 1;
        let found = self.interrupting();
        self.interrupted += u64::from(found.is_some());
        found
    }

    fn interrupting(&mut self) -> Option<Interruption> {
        if let Some((status, code)) = self.ordered.pop_front() {
            return Some(Interruption::Ordered(status, code));
        }
        if self.faults.per_second > 0 {
            if self.window.0.elapsed() >= Duration::from_secs(1) {
                self.window = (Instant::now(), 0);
            }
            if self.window.1 >= self.faults.per_second {
                return Some(Interruption::Throttled);
            }
            self.window.1 += 1;
        }
        if self.happens(self.faults.cut) {
            return Some(Interruption::Cut);
        }
        self.happens(self.faults.unavailable).then_some(Interruption::Unavailable)
    }

    fn fate(&self, phone: u64) -> Fate {
        if self.opted_out.contains(&phone) {
            return Fate::OptedOut;
        }
        let by_digits = || if self.faults.fates { Fate::of_digits(phone) } else { Fate::Delivered };
        self.fates.get(&phone).copied().unwrap_or_else(by_digits)
    }

    /// Takes a message.
    pub fn accept(&mut self, wanted: &Wanted<'_>, landlines_refused: bool) -> Result<Receipt, Refused> {
        let outcome = self.accepting(wanted, landlines_refused);
        self.refused += u64::from(outcome.is_err());
        outcome
    }

    fn accepting(&mut self, wanted: &Wanted<'_>, landlines_refused: bool) -> Result<Receipt, Refused> {
        if let Some((key, body)) = wanted.repetition
            && let Some((known, number)) = self.repetitions.get(&hash(key))
        {
            let number = *number as usize;
            if *known != hash(body) {
                return Err(Refused::OtherBody);
            }
            return Ok(Receipt { number, answer: Answer::Whole, early: false, repeated: true });
        }
        let fate = self.fate(wanted.to);
        let cost = i64::from(wanted.parts) * PART_MICROS;
        match fate {
            _ if self.faults.spend_limit => return Err(Refused::SpendLimit),
            _ if self.faults.credit_micros.is_some_and(|credit| credit < cost) => {
                return Err(Refused::NoCredit);
            }
            _ if self.faults.queue_full => return Err(Refused::QueueFull),
            _ if self.faults.bad_senders.iter().any(|bad| bad == wanted.from) => {
                return Err(Refused::BadSender);
            }
            Fate::Landline if landlines_refused => return Err(Refused::Landline),
            Fate::Invalid => return Err(Refused::Invalid),
            Fate::OptedOut => return Err(Refused::OptedOut),
            _ => (),
        }
        if let Some(credit) = &mut self.faults.credit_micros {
            *credit -= cost;
        }
        let answer = if self.happens(self.faults.lost_answers) {
            Answer::Lost
        } else if self.happens(self.faults.broken_answers) {
            Answer::Broken
        } else if self.happens(self.faults.accepted_errors) {
            Answer::Error
        } else {
            Answer::Whole
        };
        let early = self.happens(self.faults.early);
        let number = self.messages.len();
        let milliseconds = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let message = Message {
            at: Utc::now().timestamp_micros(),
            salt: self.number(),
            to: wanted.to,
            from: self.name(wanted.from),
            service: self.name(wanted.service),
            url: self.address(wanted.url),
            text: self.faults.texts.then(|| wanted.text.into()),
            parts: wanted.parts,
            coding: wanted.coding,
            fate,
            answer,
            sent_ms: if early { 0 } else { milliseconds(self.faults.sent_ms) },
            final_ms: if early { 0 } else { milliseconds(self.faults.final_ms) },
        };
        self.messages.push(message);
        if let Some((key, body)) = wanted.repetition {
            self.repetitions.insert(hash(key), (hash(body), u32::try_from(number).unwrap_or(u32::MAX)));
        }
        Ok(Receipt { number, answer, early, repeated: false })
    }

    /// Delays of a message's two reports, each as often as it is delivered.
    pub fn reports(&mut self, number: usize) -> Vec<(Stage, Duration)> {
        let Some(message) = self.messages.get(number) else { return Vec::new() };
        let (fate, sent, last) = (message.fate, message.sent_ms, message.final_ms);
        if !self.faults.webhooks || fate == Fate::Stuck {
            return Vec::new();
        }
        let (mut sent, mut last) = (u64::from(sent), u64::from(last));
        if self.happens(self.faults.reordered) {
            (sent, last) = (last + 1, sent);
        }
        let mut reports = Vec::new();
        for (stage, after) in [(Stage::Sent, sent), (Stage::Final, last)] {
            if self.happens(self.faults.lost_webhooks) {
                continue;
            }
            let times = if self.happens(self.faults.doubled) { 2 } else { 1 };
            for _ in 0..times {
                let late = self.number().checked_rem(self.faults.late_ms).unwrap_or(0);
                reports.push((stage, Duration::from_millis(after + late)));
            }
        }
        reports
    }

    fn name(&mut self, name: &str) -> u32 {
        if let Some(number) = self.known.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(name.into());
        self.known.insert(name.into(), number);
        number
    }

    fn named(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", |name| name)
    }

    fn address(&mut self, url: &str) -> Address {
        const LENGTH: usize = 36;
        let id = (0..url.len().saturating_sub(LENGTH - 1)).find_map(|start| {
            let id = Uuid::try_parse(url.get(start..start + LENGTH)?).ok()?;
            Some((start, id.as_u128()))
        });
        let (before, id, after) = match id {
            Some((start, id)) => (&url[..start], id, &url[start + LENGTH..]),
            None => (url, 0, ""),
        };
        Address { before: self.name(before), id, after: self.name(after) }
    }

    /// The message of a number, as it stands now.
    pub fn read(&self, number: usize) -> Option<Accepted> {
        let message = self.messages.get(number)?;
        let at = DateTime::from_timestamp_micros(message.at)?;
        let after = |milliseconds: u32| at + TimeDelta::milliseconds(i64::from(milliseconds));
        let (sent_at, final_at) = (after(message.sent_ms), after(message.final_ms));
        let now = Utc::now();
        let stage = match message.fate {
            Fate::Stuck => Stage::Queued,
            _ if now >= final_at => Stage::Final,
            _ if now >= sent_at => Stage::Sent,
            _ => Stage::Queued,
        };
        let Address { before, id, after } = message.url;
        let mut callback_url = self.named(before).to_owned();
        if id != 0 {
            callback_url.push_str(&Uuid::from_u128(id).to_string());
            callback_url.push_str(self.named(after));
        }
        Some(Accepted {
            number,
            at,
            id: id_of(message.salt, number),
            to: format!("+{}", message.to),
            from: self.named(message.from).to_owned(),
            callback_url,
            text: message.text.as_deref().map(str::to_owned),
            parts: message.parts,
            ucs2: message.coding == Coding::Sixteen,
            fate: message.fate,
            answer: message.answer,
            service: self.named(message.service).to_owned(),
            stage: Some(stage),
            sent_at: (stage != Stage::Queued).then_some(sent_at),
            final_at: (stage == Stage::Final).then_some(final_at),
        })
    }

    /// The message of an id.
    pub fn find(&self, id: Uuid) -> Option<Accepted> {
        let number = (id.as_u128() & 0xffff_ffff) as usize;
        self.read(number).filter(|message| message.id == id)
    }

    /// Numbers of a phone's messages, newest first.
    pub fn to(&self, phone: Option<u64>) -> impl Iterator<Item = usize> {
        let found = self.messages.iter().enumerate().rev();
        found
            .filter(move |(_, message)| phone.is_none_or(|phone| phone == message.to))
            .map(|(number, _)| number)
    }

    /// Someone wrote STOP to a sender.
    pub fn opt_out(&mut self, phone: u64, sender: &str, word: &str) {
        if self.opted_out.insert(phone) {
            self.opt_outs.push((phone, sender.to_owned(), word.to_owned(), Utc::now()));
        }
    }

    /// Someone wrote START.
    pub fn opt_in(&mut self, phone: u64) {
        self.opted_out.remove(&phone);
        self.opt_outs.retain(|(other, ..)| *other != phone);
    }
}

/// A UUID of version 4 that ends in the message's number.
fn id_of(salt: u64, number: usize) -> Uuid {
    let bits = (u128::from(salt) << 64) | (u128::from(salt.rotate_left(32) >> 32) << 32) | number as u128;
    uuid::Builder::from_u128(bits).with_version(uuid::Version::Random).into_uuid()
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// The digits of `+52…` where that is what it is.
pub(super) fn digits(phone: &str) -> Option<u64> {
    let digits = phone.strip_prefix('+')?;
    let fits = (8..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit());
    if fits && !digits.starts_with('0') { digits.parse().ok() } else { None }
}
