//! A provider that says what a test has it say.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sms_dispatch::{
    domain::{Phone, sender::ProviderName},
    providers::messaging::{
        AskError, Balance, Messaging, Money, Observed, OptOut, OptOutPage, OutgoingMessage, Receipt, Report,
        Sought, Submission,
    },
};
use uuid::Uuid;

/// A provider that remembers what it accepted.
#[derive(Debug, Default)]
pub struct Truth {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accepted: Vec<OutgoingMessage>,
    /// When each request came.
    asked: Vec<Instant>,
    /// The provider's ids of what it accepted, by message and attempt.
    ids: HashMap<(Uuid, i16), Uuid>,
    /// So many submissions are accepted, and their answers are lost.
    lost: usize,
    /// Whether it has records.
    records: bool,
    /// Whether it has too much of all questions about them.
    throttled: bool,
    /// Whether each question about them was by an id of its own.
    looked_up: Vec<bool>,
    balance_micros: Option<i64>,
    opted_out: Vec<Phone>,
    /// What the next submissions come to, in place of being accepted.
    answers: VecDeque<Submission>,
    /// What all submissions come to, where that is said.
    refused: Option<Submission>,
    /// Requests that are never answered, though they are accepted.
    silent: bool,
    /// How long an answer takes.
    slow: Duration,
    /// The same of messages of one sender.
    slow_senders: HashMap<String, Duration>,
}

impl Truth {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was accepted, by phone.
    pub fn accepted(&self) -> HashMap<String, Vec<OutgoingMessage>> {
        let mut by_phone: HashMap<String, Vec<OutgoingMessage>> = HashMap::new();
        for message in &self.state().accepted {
            by_phone.entry(message.to.to_string()).or_default().push(message.clone());
        }
        by_phone
    }

    /// When requests came, in order.
    pub fn asked(&self) -> Vec<Instant> {
        let mut asked = self.state().asked.clone();
        asked.sort_unstable();
        asked
    }

    /// Which messages it accepted, and when their requests came: where it refused none.
    pub fn asked_for(&self) -> Vec<(Uuid, DateTime<Utc>)> {
        let (state, now) = (self.state(), Utc::now());
        let asked = state.accepted.iter().zip(&state.asked);
        asked.map(|(message, at)| (message.id, now - at.elapsed())).collect()
    }

    /// Whether records were asked about what has an id of the provider's, in order.
    pub fn looked_up(&self) -> Vec<bool> {
        self.state().looked_up.clone()
    }

    /// Waits until it has accepted so many messages.
    pub async fn has_accepted(&self, many: usize) {
        while self.state().accepted.len() < many {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn lose_answers(&self, many: usize) {
        self.state().lost = many;
    }

    /// From now on its records say that all arrived.
    pub fn keep_records(&self) {
        self.state().records = true;
    }

    /// Whether it has too much of all questions about its records.
    pub fn throttle_records(&self, throttled: bool) {
        self.state().throttled = throttled;
    }

    pub fn set_balance(&self, micros: i64) {
        self.state().balance_micros = Some(micros);
    }

    pub fn opted_out(&self, phone: Phone) {
        self.state().opted_out.push(phone);
    }

    pub fn answer_next(&self, answers: impl IntoIterator<Item = Submission>) {
        self.state().answers.extend(answers);
    }

    pub fn refuse(&self, all: Option<Submission>) {
        self.state().refused = all;
    }

    pub fn answer_after(&self, slow: Duration) {
        self.state().slow = slow;
    }

    /// How long answers to messages of one sender take.
    pub fn answer_sender_after(&self, sender: &str, slow: Duration) {
        self.state().slow_senders.insert(sender.to_owned(), slow);
    }

    pub fn fall_silent(&self, silent: bool) {
        self.state().silent = silent;
    }
}

#[async_trait]
impl Messaging for Truth {
    fn name(&self) -> ProviderName {
        ProviderName::Telnyx
    }

    async fn send(&self, message: &OutgoingMessage) -> Submission {
        let (silent, slow, provider_id) = {
            let mut state = self.state();
            state.asked.push(Instant::now());
            let refused = state.refused.clone();
            if let Some(answer) = refused.or_else(|| state.answers.pop_front()) {
                return answer;
            }
            state.accepted.push(message.clone());
            let id = Uuid::new_v4();
            state.ids.insert((message.id, message.attempt), id);
            if state.lost > 0 {
                state.lost -= 1;
                return Submission::Unknown { reason: "La conexión se cortó".to_owned() };
            }
            let slow = state.slow_senders.get(&message.from.value).copied().unwrap_or(state.slow);
            (state.silent, slow, id)
        };
        tokio::time::sleep(slow).await;
        if silent {
            std::future::pending::<()>().await;
        }
        Submission::Accepted(Receipt {
            provider_id,
            observed: Observed::Accepted,
            verdict: None,
            parts: Some(1),
            wait: None,
            cost: None,
        })
    }

    async fn find(&self, sought: &Sought) -> Result<Vec<Report>, AskError> {
        let mut state = self.state();
        state.looked_up.push(false);
        if state.throttled {
            return Err(AskError::Throttled(Duration::from_millis(1)));
        }
        let id = state.ids.get(&(sought.message.id, sought.message.attempt)).filter(|_| state.records);
        Ok(id.map(|id| delivered(*id)).into_iter().collect())
    }

    async fn fetch(&self, id: Uuid) -> Result<Option<Report>, AskError> {
        let mut state = self.state();
        state.looked_up.push(true);
        if state.throttled {
            return Err(AskError::Throttled(Duration::from_millis(1)));
        }
        Ok((state.records && state.ids.values().any(|known| *known == id)).then(|| delivered(id)))
    }

    async fn balance(&self) -> Result<Option<Balance>, AskError> {
        let available = |micros| Money { micros, currency: *b"USD" };
        Ok(self.state().balance_micros.map(|micros| Balance { available: available(micros) }))
    }

    async fn opt_outs(&self, _: DateTime<Utc>, page: u32) -> Result<OptOutPage, AskError> {
        // One a page.
        let all = self.state().opted_out.clone();
        let place = page as usize - 1;
        let one = all.get(place).map(|phone| OptOut { phone: *phone, at: None, keyword: None });
        Ok(OptOutPage {
            opt_outs: one.into_iter().collect(),
            next: (place + 1 < all.len()).then_some(page + 1),
        })
    }
}

fn delivered(provider_id: Uuid) -> Report {
    Report { provider_id, observed: Observed::Delivered, verdict: None, parts: Some(1), cost: None, at: None }
}
