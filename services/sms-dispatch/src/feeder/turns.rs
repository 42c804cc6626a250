//! Whose slices are given to workers next.

use chrono::{DateTime, Utc};

use super::{Feeder, MOST_FED};
use crate::jobs::send_slice;

/// What a campaign may have with workers is given to them in so many pieces, where it has as many slices: while one comes to its end
/// the others go on.
pub(super) const PIECES: i64 = 4;

/// A campaign of which more may be given to workers.
pub(super) struct Candidate {
    pub campaign: i32,
    /// Those that may be written to now.
    pub zones: Vec<i16>,
    /// Messages that are with workers.
    pub fed: f64,
    /// How many more may be.
    pub may: f64,
    /// How many its rate lets be ahead.
    pub ahead: f64,
    /// Slices that are with workers or due, [`PIECES`] at most.
    pub slices: i64,
    /// When some were given last.
    pub fed_at: Option<DateTime<Utc>>,
}

impl Feeder {
    /// Gives slices to workers while there is room for some, out of `ahead` that there is for all: each time of the campaign that has
    /// the fewest messages with them, and of several of the one whose turn was the longest ago.
    pub(super) async fn take_turns(
        &self,
        mut candidates: Vec<Candidate>,
        mut room: f64,
        ahead: f64,
    ) -> anyhow::Result<()> {
        let kind = send_slice::kind(&self.settings);
        candidates.retain(|one| one.may >= 1.0);
        let part = ahead / candidates.len().max(1) as f64;
        let mut fed = 0;
        while room >= 1.0 && fed < MOST_FED {
            candidates.sort_by(|one, other| {
                one.fed.total_cmp(&other.fed).then_with(|| one.fed_at.cmp(&other.fed_at))
            });
            let Some(next) = candidates.first_mut() else { break };
            let piece = (next.ahead.min(part) / next.slices.max(1) as f64).max(1.0);
            let most = piece.min(next.may).min(room);
            // Whoever has some waits for a whole piece: a job each for what others leave would soon be a job a message.
            let waits = next.fed >= 1.0 && most < piece / 2.0;
            let granted = match waits {
                true => None,
                false => self.feed_one(&kind, next.campaign, &next.zones, most).await?,
            };
            let Some(granted) = granted else {
                candidates.remove(0);
                continue;
            };
            fed += 1;
            room -= granted;
            (next.fed, next.may, next.fed_at) = (next.fed + granted, next.may - granted, Some(Utc::now()));
            if next.may < 1.0 {
                candidates.remove(0);
            }
        }
        Ok(())
    }
}
