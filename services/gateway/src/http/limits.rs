//! Rate limits: GCRA a caller and class of request, in this replica's memory (a fleet of n replicas
//! behind a balancer allows up to n times as much).
//!
//! What a client is told follows draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy` names the
//! quota and its window, `RateLimit` what remains of it and in how many seconds it is whole again.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use actix_web::http::header::{HeaderName, HeaderValue};
use governor::{
    Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
    state::keyed::DashMapStateStore,
};
use tokio_util::sync::CancellationToken;

use crate::config::{Limits, Rate};

/// The field with what remains.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// The field with the quota.
pub const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The class of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Logins and refreshes.
    Auth,
    /// Uploads.
    Upload,
    /// What vendors call: all of them from few addresses.
    Webhook,
    /// All else.
    Default,
}

/// What a limiter says to one request.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Requests left at this moment.
    pub remaining: u32,
    /// Until the quota is whole again or, for a refused request, until the next one may pass.
    pub reset: Duration,
    /// Whether this one may pass.
    pub allowed: bool,
    policy: &'static str,
    rate: Rate,
}

impl Verdict {
    /// Both header fields.
    pub fn headers(&self) -> [(HeaderName, HeaderValue); 2] {
        let remaining = format!("\"{}\";r={};t={}", self.policy, self.remaining, self.seconds());
        let policy = format!("\"{}\";q={};w={}", self.policy, self.rate.requests, self.rate.seconds);
        [(RATE_LIMIT, remaining), (RATE_LIMIT_POLICY, policy)]
            .map(|(name, value)| (name, HeaderValue::from_str(&value).expect("only ASCII goes into it")))
    }

    /// `reset` in whole seconds, rounded up so that a client that waits them is not refused again.
    pub fn seconds(&self) -> u64 {
        self.reset.as_secs() + u64::from(self.reset.subsec_nanos() > 0)
    }
}

struct Keyed {
    name: &'static str,
    rate: Rate,
    limiter: RateLimiter<String, DashMapStateStore<String>, DefaultClock, StateInformationMiddleware>,
}

impl Keyed {
    fn new(name: &'static str, rate: Rate) -> Self {
        let quota = Quota::with_period(rate.period())
            .expect("a rate's period is never zero")
            .allow_burst(rate.requests);
        let limiter = RateLimiter::dashmap(quota).with_middleware::<StateInformationMiddleware>();
        Self { name, rate, limiter }
    }

    fn check(&self, key: &String) -> Verdict {
        let (allowed, remaining, reset) = match self.limiter.check_key(key) {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                let used = self.rate.requests.get().saturating_sub(remaining);
                (true, remaining, self.rate.period() * used)
            }
            Err(not_until) => (false, 0, not_until.wait_time_from(self.limiter.clock().now())),
        };
        Verdict { remaining, reset, allowed, policy: self.name, rate: self.rate }
    }
}

/// Refusals, by whom or what they are counted. Asked before something is looked up and charged only once it was refused, which
/// the limiters above can't: they charge whoever asks.
struct Refusals {
    rate: Rate,
    /// When each has earned back all of its refusals.
    whole_at: HashMap<String, Instant>,
}

impl Refusals {
    fn new(rate: Rate) -> Self {
        Self { rate, whole_at: HashMap::new() }
    }

    fn wait(&self, key: &str, now: Instant) -> Option<Duration> {
        let whole_at = *self.whole_at.get(key)?;
        let all_but_one = self.rate.period() * (self.rate.requests.get() - 1);
        whole_at.checked_duration_since(now + all_but_one).filter(|wait| !wait.is_zero())
    }

    /// Whether it had nothing to earn back before.
    fn charge(&mut self, key: &str, now: Instant) -> bool {
        let whole_at = self.whole_at.entry(key.to_owned()).or_insert(now);
        let is_first = *whole_at <= now;
        *whole_at = now.max(*whole_at) + self.rate.period();
        is_first
    }

    fn forget_idle(&mut self, now: Instant) {
        self.whole_at.retain(|_, whole_at| *whole_at > now);
    }
}

/// How often one and the same credential that does not hold is looked up. A script that has it sends it for ever.
const SAME: Rate = Rate::per_minute(6);

/// So many of those that did not hold are remembered, some 20 MB: whoever guesses from many addresses fills no memory.
const MOST: usize = 100_000;

/// How long a credential that held is known, after it was last sent.
const HELD_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What came of it when keys and sessions were looked up. An address is one caller or a whole office: whoever guesses is slowed,
/// what is known to hold is looked up whatever others of its address send, and a credential that does not hold counts once,
/// however often it is sent.
struct Lookups {
    addresses: Refusals,
    credentials: Refusals,
    /// When each that held was last sent. As many as there are.
    held: HashMap<String, Instant>,
}

/// Whether a key or a session is looked up.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is.
    Allowed,
    /// It is not: it did not hold a moment ago.
    Refused,
    /// It is not, for so long: too many others of its address did not hold.
    Wait(Duration),
}

impl Lookups {
    fn new(rate: Rate) -> Self {
        Self { addresses: Refusals::new(rate), credentials: Refusals::new(SAME), held: HashMap::new() }
    }

    fn ask(&self, address: &str, credential: &str, now: Instant) -> Lookup {
        if self.held.contains_key(credential) {
            Lookup::Allowed
        } else if self.credentials.wait(credential, now).is_some() {
            Lookup::Refused
        } else {
            self.addresses.wait(address, now).map_or(Lookup::Allowed, Lookup::Wait)
        }
    }

    fn held(&mut self, credential: &str, now: Instant) {
        self.held.insert(credential.to_owned(), now);
    }

    fn refused(&mut self, address: &str, credential: &str, now: Instant) {
        self.held.remove(credential);
        if self.credentials.whole_at.len() >= MOST || self.credentials.charge(credential, now) {
            self.addresses.charge(address, now);
        }
    }

    fn forget_idle(&mut self, now: Instant) {
        self.addresses.forget_idle(now);
        self.credentials.forget_idle(now);
        self.held.retain(|_, sent| now.saturating_duration_since(*sent) < HELD_FOR);
    }
}

/// The limits of all classes.
pub struct Limiter {
    lookups: Mutex<Lookups>,
    auth: Keyed,
    upload: Keyed,
    webhook: Keyed,
    default: Keyed,
}

impl Limiter {
    /// Limits as configured.
    pub fn new(limits: Limits) -> Self {
        Self {
            lookups: Mutex::new(Lookups::new(limits.refused)),
            auth: Keyed::new("auth", limits.auth),
            upload: Keyed::new("upload", limits.upload),
            webhook: Keyed::new("webhook", limits.webhook),
            default: Keyed::new("default", limits.default),
        }
    }

    /// Counts one request of `key`.
    pub fn check(&self, class: Class, key: &String) -> Verdict {
        match class {
            Class::Auth => self.auth.check(key),
            Class::Upload => self.upload.check(key),
            Class::Webhook => self.webhook.check(key),
            Class::Default => self.default.check(key),
        }
    }

    fn lookups(&self) -> MutexGuard<'_, Lookups> {
        self.lookups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a credential that came from an address, by its key, is looked up.
    pub fn lookup(&self, address: &str, credential: &str) -> Lookup {
        self.lookups().ask(address, credential, Instant::now())
    }

    /// Remembers a credential that held.
    pub fn held(&self, credential: &str) {
        self.lookups().held(credential, Instant::now());
    }

    /// Counts a credential of an address that did not hold.
    pub fn refused(&self, address: &str, credential: &str) {
        self.lookups().refused(address, credential, Instant::now());
    }

    /// Forgets callers whose quota is whole again, once a minute: memory stays bounded by those who are active.
    pub async fn forget_idle(&self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_secs(60));
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            self.lookups().forget_idle(Instant::now());
            for keyed in [&self.auth, &self.upload, &self.webhook, &self.default] {
                keyed.limiter.retain_recent();
                keyed.limiter.shrink_to_fit();
            }
        }
    }
}

/// The key of a caller without a name. An IPv6 client has a whole /64 to choose its address from.
pub fn address_key(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => format!("ip:{v4}"),
        IpAddr::V6(v6) => {
            let network = v6.to_bits() & (u128::MAX << 64);
            format!("ip:{}/64", std::net::Ipv6Addr::from_bits(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> Limiter {
        let rate = |text: &str| text.parse().expect("a rate");
        Limiter::new(Limits {
            refused: rate("3/3600"),
            auth: rate("2/3600"),
            upload: rate("3/3600"),
            webhook: rate("4/3600"),
            default: rate("1000/3600"),
        })
    }

    #[test]
    fn counts_down_and_refuses_by_class_and_key() {
        let limiter = limiter();
        let (ana, eva) = ("sub:ana".to_owned(), "sub:eva".to_owned());
        let first = limiter.check(Class::Auth, &ana);
        assert!(first.allowed);
        assert_eq!((first.remaining, first.seconds()), (1, 1800));
        assert_eq!(limiter.check(Class::Auth, &ana).remaining, 0);
        let third = limiter.check(Class::Auth, &ana);
        assert!(!third.allowed);
        assert!((1790..=1800).contains(&third.seconds()), "{third:?}");
        assert!(limiter.check(Class::Auth, &eva).allowed, "another caller");
        assert!(limiter.check(Class::Upload, &ana).allowed, "another class");
    }

    #[test]
    fn refusals_are_earned_back_one_by_one_and_asking_costs_nothing() {
        let mut refusals = Refusals::new("3/60".parse().expect("a rate"));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for number in 0..3 {
            for _ in 0..10 {
                assert_eq!(refusals.wait("ip:1", start), None);
            }
            assert_eq!(refusals.charge("ip:1", start), number == 0);
        }
        assert_eq!(refusals.wait("ip:1", start), Some(Duration::from_secs(20)));
        assert_eq!(refusals.wait("ip:2", start), None, "another address");
        assert_eq!(refusals.wait("ip:1", after(20)), None);
        assert!(!refusals.charge("ip:1", after(20)));
        assert_eq!(refusals.wait("ip:1", after(20)), Some(Duration::from_secs(20)));
        refusals.forget_idle(after(79));
        assert_eq!(refusals.whole_at.len(), 1);
        refusals.forget_idle(after(80));
        assert_eq!(refusals.whole_at.len(), 0, "memory is for those who were refused of late");
    }

    #[test]
    fn one_credential_that_does_not_hold_costs_its_address_one_refusal_and_is_soon_not_looked_up() {
        let mut lookups = Lookups::new("2/3600".parse().expect("a rate"));
        let start = Instant::now();
        for _ in 0..6 {
            assert_eq!(lookups.ask("ip:1", "script's", start), Lookup::Allowed);
            lookups.refused("ip:1", "script's", start);
        }
        assert_eq!(lookups.ask("ip:1", "script's", start), Lookup::Refused);
        assert_eq!(lookups.ask("ip:1", "script's", start + Duration::from_secs(10)), Lookup::Allowed);
        assert_eq!(lookups.ask("ip:1", "another", start), Lookup::Allowed, "its office is not locked out");
    }

    #[test]
    fn whoever_guesses_is_slowed_and_what_held_is_looked_up_all_the_same() {
        let mut lookups = Lookups::new("2/3600".parse().expect("a rate"));
        let start = Instant::now();
        lookups.held("good", start);
        for guess in ["one", "two"] {
            assert_eq!(lookups.ask("ip:1", guess, start), Lookup::Allowed);
            lookups.refused("ip:1", guess, start);
        }
        let wait = Lookup::Wait(Duration::from_secs(1800));
        assert_eq!(lookups.ask("ip:1", "three", start), wait);
        assert_eq!(lookups.ask("ip:1", "good", start), Lookup::Allowed);
        assert_eq!(lookups.ask("ip:2", "three", start), Lookup::Allowed, "another address");
        // It was revoked.
        lookups.refused("ip:1", "good", start);
        assert_eq!(lookups.ask("ip:2", "good", start), Lookup::Allowed);
        assert!(matches!(lookups.ask("ip:1", "good", start), Lookup::Wait(_)));

        lookups.held("lasting", start);
        lookups.forget_idle(start + HELD_FOR - Duration::from_secs(1));
        assert_eq!(lookups.held.len(), 1);
        lookups.forget_idle(start + HELD_FOR);
        assert!(lookups.held.is_empty() && lookups.credentials.whole_at.is_empty(), "memory has an end");
    }

    #[test]
    fn whoever_guesses_from_many_addresses_fills_no_memory_and_is_counted() {
        let mut lookups = Lookups::new("1/3600".parse().expect("a rate"));
        let start = Instant::now();
        for number in 0..MOST + 10 {
            lookups.refused(&format!("ip:{number}"), &format!("guess {number}"), start);
        }
        assert_eq!(lookups.credentials.whole_at.len(), MOST);
        assert!(matches!(lookups.ask(&format!("ip:{}", MOST + 9), "next", start), Lookup::Wait(_)));
    }

    #[test]
    fn the_fields_are_structured_as_the_draft_says() {
        let [(_, remaining), (_, policy)] = limiter().check(Class::Upload, &"k".to_owned()).headers();
        assert_eq!(remaining, "\"upload\";r=2;t=1200");
        assert_eq!(policy, "\"upload\";q=3;w=3600");
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_key() {
        let key = |text: &str| address_key(text.parse().expect("an address"));
        assert_eq!(key("2001:db8::1"), key("2001:db8::ffff:1"));
        assert_ne!(key("2001:db8::1"), key("2001:db8:0:1::1"));
        assert_eq!(key("::ffff:10.0.0.1"), key("10.0.0.1"));
    }
}
