//! When messages may go, so that no bucket passes its rate: the generic cell rate algorithm, without bursts. Each bucket knows
//! when its next part may go; a message takes its parts from several buckets at once, and waits for the slowest.

use std::collections::HashMap;

/// A limit that messages share.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// Whose: `account:telnyx`, `sender:LOTE`, `campaign:7`.
    pub key: String,
    /// Parts a second.
    pub per_second: f64,
}

/// A message's request: its parts, from these of the buckets.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    pub parts: u32,
    pub buckets: Vec<usize>,
}

/// What was reserved: for the first messages, after how many microseconds each may go.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reserved {
    pub starts_us: Vec<u64>,
    /// After how many microseconds the next one could go, where not all were given a start.
    pub wait_us: u64,
    /// The bucket that it waits for.
    pub waits_for: Option<usize>,
}

/// Reserves for the first of `asks`, as many as may start within `horizon_us`, and none before `lead_us` have passed: what can't
/// begin by then would pass the rate when it begins together with others. `next` has when each bucket's next part may go, in
/// microseconds of the clock that `now_us` is of.
pub fn reserve(
    next: &mut HashMap<String, f64>,
    now_us: f64,
    buckets: &[Bucket],
    asks: &[Ask],
    (lead_us, horizon_us): (f64, f64),
) -> Reserved {
    let first = now_us + lead_us;
    let mut times: Vec<f64> =
        buckets.iter().map(|bucket| next.get(&bucket.key).copied().unwrap_or_default().max(first)).collect();
    let mut reserved = Reserved::default();
    for ask in asks {
        let (mut start, mut waits_for) = (first, None);
        for bucket in ask.buckets.iter().copied() {
            if times[bucket] > start {
                (start, waits_for) = (times[bucket], Some(bucket));
            }
        }
        if start - now_us > horizon_us {
            (reserved.wait_us, reserved.waits_for) = ((start - now_us) as u64, waits_for);
            break;
        }
        for bucket in &ask.buckets {
            times[*bucket] = start + f64::from(ask.parts) * 1e6 / buckets[*bucket].per_second;
        }
        reserved.starts_us.push((start - now_us) as u64);
    }
    if reserved.starts_us.is_empty() {
        // Nothing goes: whoever asks next finds the buckets as they were.
        return reserved;
    }
    for (bucket, time) in buckets.iter().zip(times) {
        next.insert(bucket.key.clone(), time);
    }
    reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(key: &str, per_second: f64) -> Bucket {
        Bucket { key: key.to_owned(), per_second }
    }

    fn asks(many: usize, parts: u32, buckets: &[usize]) -> Vec<Ask> {
        vec![Ask { parts, buckets: buckets.to_vec() }; many]
    }

    #[test]
    fn messages_go_at_the_rate_of_the_slowest_bucket() {
        let buckets = [bucket("account", 100.0), bucket("campaign", 10.0)];
        let mut next = HashMap::new();
        let got = reserve(&mut next, 0.0, &buckets, &asks(20, 1, &[0, 1]), (0.0, 1e6));
        assert_eq!(got.starts_us.len(), 11, "a second's worth, and the one that begins the next");
        assert_eq!(got.starts_us[..3], [0, 100_000, 200_000]);
        assert_eq!((got.wait_us, got.waits_for), (1_100_000, Some(1)));
    }

    #[test]
    fn parts_count_and_what_was_not_used_is_not_saved_up() {
        let buckets = [bucket("account", 50.0)];
        let mut next = HashMap::new();
        let got = reserve(&mut next, 0.0, &buckets, &asks(3, 5, &[0]), (0.0, 1e6));
        assert_eq!(got.starts_us, [0, 100_000, 200_000]);
        // An hour later there is no hour's worth to go at once.
        let got = reserve(&mut next, 3.6e9, &buckets, &asks(2, 5, &[0]), (0.0, 1e6));
        assert_eq!(got.starts_us, [0, 100_000]);
    }

    #[test]
    fn in_no_second_more_goes_than_the_rate() {
        let buckets = [bucket("account", 40.0)];
        let (mut next, mut starts, mut now) = (HashMap::new(), Vec::new(), 0.0);
        while now < 5e6 {
            let got = reserve(&mut next, now, &buckets, &asks(16, 1, &[0]), (2e4, 5e5));
            starts.extend(got.starts_us.iter().map(|start| now as u64 + start));
            now += 130_000.0;
        }
        let worst = starts
            .iter()
            .map(|from| starts.iter().filter(|at| (*from..from + 1_000_000).contains(*at)).count())
            .max();
        assert_eq!(worst, Some(40));
        assert!(starts.is_sorted());
    }
}
