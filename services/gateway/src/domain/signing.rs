//! When signing keys are made, used and withdrawn.
//!
//! A key is published some time before it signs, so that every service has it in its cache by then, and stays
//! published until the last token it signed has expired.

use chrono::{DateTime, TimeDelta, Utc};

/// The lengths that the life of a key is made of.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// How long a key signs.
    pub rotate_every: TimeDelta,
    /// How long it is published before it signs. More than any service caches the key set for.
    pub publish_ahead: TimeDelta,
    /// How long a token lives, with the leeway that verifiers grant.
    pub token: TimeDelta,
}

/// A key that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in the token's header.
    pub kid: String,
    /// From when it signs: until the next key does.
    pub activates_at: DateTime<Utc>,
}

/// What to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Make a key that signs from then on.
    pub create: Option<DateTime<Utc>>,
    /// Withdraw these: no token they signed can still be valid.
    pub withdraw: Vec<String>,
}

/// The key that signs now: the newest that has come into force.
pub fn signer(keys: &[Key], now: DateTime<Utc>) -> Option<&Key> {
    keys.iter().filter(|key| key.activates_at <= now).max_by_key(|key| key.activates_at)
}

/// What is due now. Where no key exists, the first one signs at once: no service has cached anything yet.
pub fn plan(keys: &[Key], now: DateTime<Utc>, lifetimes: Lifetimes) -> Plan {
    let newest = keys.iter().map(|key| key.activates_at).max();
    let create = match newest {
        None => Some(now),
        Some(newest) => {
            let next = newest + lifetimes.rotate_every;
            (next - lifetimes.publish_ahead <= now).then(|| next.max(now + lifetimes.publish_ahead))
        }
    };
    let Some(current) = signer(keys, now) else { return Plan { create, withdraw: Vec::new() } };
    let successor = |key: &Key| {
        keys.iter().map(|other| other.activates_at).filter(|start| *start > key.activates_at).min()
    };
    let withdraw = keys
        .iter()
        .filter(|key| key.kid != current.kid)
        .filter(|key| successor(key).is_some_and(|end| end + lifetimes.token < now))
        .map(|key| key.kid.clone())
        .collect();
    Plan { create, withdraw }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIMES: Lifetimes = Lifetimes {
        rotate_every: TimeDelta::days(30),
        publish_ahead: TimeDelta::hours(1),
        token: TimeDelta::minutes(16),
    };

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + minutes * 60, 0).expect("a valid instant")
    }

    fn key(kid: &str, minutes: i64) -> Key {
        Key { kid: kid.into(), activates_at: at(minutes) }
    }

    const MONTH: i64 = 30 * 24 * 60;

    #[test]
    fn first_key_signs_at_once() {
        assert_eq!(plan(&[], at(0), LIFETIMES), Plan { create: Some(at(0)), withdraw: vec![] });
    }

    #[test]
    fn next_key_is_published_before_it_signs() {
        let keys = [key("a", 0)];
        assert_eq!(plan(&keys, at(MONTH - 61), LIFETIMES), Plan::default());
        assert_eq!(plan(&keys, at(MONTH - 60), LIFETIMES).create, Some(at(MONTH)));
        let both = [key("a", 0), key("b", MONTH)];
        assert_eq!(plan(&both, at(MONTH - 59), LIFETIMES), Plan::default());
        assert_eq!(signer(&both, at(MONTH - 1)), Some(&both[0]));
        assert_eq!(signer(&both, at(MONTH)), Some(&both[1]));
    }

    #[test]
    fn late_rotation_still_publishes_ahead() {
        let create = plan(&[key("a", 0)], at(3 * MONTH), LIFETIMES).create;
        assert_eq!(create, Some(at(3 * MONTH + 60)));
    }

    #[test]
    fn old_key_stays_until_its_last_token_expired() {
        let both = [key("a", 0), key("b", MONTH)];
        assert!(plan(&both, at(MONTH + 16), LIFETIMES).withdraw.is_empty());
        assert_eq!(plan(&both, at(MONTH + 17), LIFETIMES).withdraw, ["a"]);
    }

    #[test]
    fn the_signing_key_is_never_withdrawn() {
        assert!(plan(&[key("a", 0)], at(100 * MONTH), LIFETIMES).withdraw.is_empty());
    }
}
