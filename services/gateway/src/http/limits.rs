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

/// Credentials that did not hold, by who sent them. Asked before one is looked up and charged only once it was refused, which
/// the limiters above can't: they charge whoever asks.
struct Refusals {
    rate: Rate,
    /// When each has earned back all of its refusals.
    whole_at: Mutex<HashMap<String, Instant>>,
}

impl Refusals {
    fn whole_at(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.whole_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, key: &str, now: Instant) -> Option<Duration> {
        let whole_at = *self.whole_at().get(key)?;
        let all_but_one = self.rate.period() * (self.rate.requests.get() - 1);
        whole_at.checked_duration_since(now + all_but_one).filter(|wait| !wait.is_zero())
    }

    fn charge(&self, key: &str, now: Instant) {
        let mut all = self.whole_at();
        let whole_at = all.entry(key.to_owned()).or_insert(now);
        *whole_at = now.max(*whole_at) + self.rate.period();
    }

    fn forget_idle(&self, now: Instant) {
        self.whole_at().retain(|_, whole_at| *whole_at > now);
    }
}

/// The limits of all classes.
pub struct Limiter {
    refused: Refusals,
    auth: Keyed,
    upload: Keyed,
    webhook: Keyed,
    default: Keyed,
}

impl Limiter {
    /// Limits as configured.
    pub fn new(limits: Limits) -> Self {
        Self {
            refused: Refusals { rate: limits.refused, whole_at: Mutex::default() },
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

    /// How long credentials of an address, by its key, are not looked up any more: too many of them did not hold.
    pub fn refused_for(&self, address: &str) -> Option<Duration> {
        self.refused.wait(address, Instant::now())
    }

    /// Counts a credential of an address that did not hold.
    pub fn refuse(&self, address: &str) {
        self.refused.charge(address, Instant::now());
    }

    /// Forgets callers whose quota is whole again, once a minute: memory stays bounded by those who are active.
    pub async fn forget_idle(&self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(Duration::from_secs(60));
        while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
            self.refused.forget_idle(Instant::now());
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
        let rate = "3/60".parse().expect("a rate");
        let refusals = Refusals { rate, whole_at: Mutex::default() };
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        for _ in 0..3 {
            for _ in 0..10 {
                assert_eq!(refusals.wait("ip:1", start), None);
            }
            refusals.charge("ip:1", start);
        }
        assert_eq!(refusals.wait("ip:1", start), Some(Duration::from_secs(20)));
        assert_eq!(refusals.wait("ip:2", start), None, "another address");
        assert_eq!(refusals.wait("ip:1", after(20)), None);
        refusals.charge("ip:1", after(20));
        assert_eq!(refusals.wait("ip:1", after(20)), Some(Duration::from_secs(20)));
        refusals.forget_idle(after(79));
        assert_eq!(refusals.whole_at().len(), 1);
        refusals.forget_idle(after(80));
        assert_eq!(refusals.whole_at().len(), 0, "memory is for those who were refused of late");
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
