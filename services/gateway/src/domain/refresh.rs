//! When a refresh token may be exchanged (RFC 9700 §4.14: rotation with detection of reuse).
//!
//! All tokens of one login are a family. Each exchange opens the next generation and answers with a token of
//! it. A client may lose that answer, or two tabs may present the same token: for a short grace after a
//! generation was opened, tokens of the one before still yield a *sibling* in the open generation. The
//! successor itself is never shown twice (only its hash is kept), and a sibling does not prolong the grace:
//! whoever holds a copy must keep within the grace of the rightful client for ever, or be detected.

use chrono::{DateTime, TimeDelta, Utc};

/// The family a presented token belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The newest generation that was opened.
    pub generation: i32,
    /// When it was opened.
    pub advanced_at: DateTime<Utc>,
    /// The absolute end of this login.
    pub expires_at: DateTime<Utc>,
    /// Whether it was ended before.
    pub revoked: bool,
}

/// A presented token.
#[derive(Clone, Copy, Debug)]
pub struct Presented {
    /// Its generation.
    pub generation: i32,
    /// Its own end: a token not used for long dies before its family.
    pub expires_at: DateTime<Utc>,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Open the next generation and issue its first token.
    Rotate,
    /// Issue one more token of the open generation.
    Sibling,
    /// Too old.
    Expired,
    /// The family was ended: by logout, a changed password, a reuse.
    Revoked,
    /// Two parties hold this family's tokens. End it.
    Reused,
}

/// Decides on a presented token.
pub fn decide(token: Presented, family: Family, now: DateTime<Utc>, grace: TimeDelta) -> Decision {
    if family.revoked {
        Decision::Revoked
    } else if now >= family.expires_at || now >= token.expires_at {
        Decision::Expired
    } else if token.generation == family.generation {
        Decision::Rotate
    } else if token.generation + 1 == family.generation && now - family.advanced_at <= grace {
        Decision::Sibling
    } else {
        Decision::Reused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("a valid instant")
    }

    fn family(generation: i32) -> Family {
        Family { generation, advanced_at: at(100), expires_at: at(1000), revoked: false }
    }

    fn decide_at(generation: i32, family: Family, now: i64) -> Decision {
        let token = Presented { generation, expires_at: at(500) };
        decide(token, family, at(now), TimeDelta::seconds(30))
    }

    #[test]
    fn newest_rotates_previous_gets_a_sibling_within_the_grace() {
        assert_eq!(decide_at(3, family(3), 110), Decision::Rotate);
        assert_eq!(decide_at(2, family(3), 130), Decision::Sibling);
        assert_eq!(decide_at(2, family(3), 131), Decision::Reused);
    }

    #[test]
    fn older_generations_are_reuse_even_within_the_grace() {
        assert_eq!(decide_at(1, family(3), 101), Decision::Reused);
    }

    #[test]
    fn ends_are_respected() {
        assert_eq!(decide_at(3, family(3), 500), Decision::Expired);
        assert_eq!(decide_at(3, Family { expires_at: at(200), ..family(3) }, 200), Decision::Expired);
        assert_eq!(decide_at(3, Family { revoked: true, ..family(3) }, 110), Decision::Revoked);
    }
}
