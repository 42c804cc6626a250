//! The live stream of this replica: one task reads the Redis stream that all services write to, and hands
//! each entry to everyone who watches here. Entries keep their Redis ids, so that a watcher can go on at
//! any replica where it left off.

use std::{
    convert::Infallible,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use chassis::redis::Redis;
use contracts::live::{FIELD, KEEP, LiveEvent, STREAM, WATCHED};
use deadpool_redis::redis::{aio::MultiplexedConnection, cmd};
use tokio::{
    sync::{Notify, broadcast},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How long one XREAD waits for news.
const BLOCK: Duration = Duration::from_secs(5);
/// Redis is given up when an answer is later than this.
const LATE: Duration = Duration::from_secs(2);
/// The pause before Redis is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// The stream counts as watched for so long after somebody was seen to watch it.
const WATCHED_FOR: Duration = Duration::from_secs(30);
/// How often that is said while somebody watches.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// Entries a read or a page of the past brings.
const PAGE: usize = 500;
/// Entries a watcher may fall behind before it is told to start over.
const BUFFER: usize = 1024;

/// The id of an entry: milliseconds, and a number within the millisecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64, pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for StreamId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (milliseconds, number) = text.split_once('-')?;
            Some(Self(milliseconds.parse().ok()?, number.parse().ok()?))
        };
        parse().ok_or_else(|| format!("{text:?} is no entry of the stream, expected <milliseconds>-<number>"))
    }
}

/// One entry of the stream.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands.
    pub id: StreamId,
    /// What it says.
    pub event: Arc<LiveEvent>,
}

/// What a watcher missed.
#[derive(Debug)]
pub struct Page {
    /// In the stream's order.
    pub entries: Vec<Entry>,
    /// Whether the stream held no more at that moment.
    pub last: bool,
    /// The id to go on from.
    pub position: StreamId,
}

/// The live stream as watchers see it. Cloning gives another handle to the same one.
#[derive(Clone)]
pub struct Feed {
    key: String,
    redis: Redis,
    shared: Arc<Shared>,
}

struct Shared {
    sender: broadcast::Sender<Entry>,
    state: Mutex<State>,
    /// Somebody has come to watch.
    arrival: Notify,
}

#[derive(Clone, Copy, Default)]
struct State {
    connected: bool,
    position: StreamId,
}

impl Feed {
    /// A feed of the stream in `redis`. Nothing is read before [`Feed::run`].
    pub fn new(redis: &Redis) -> Self {
        Self {
            key: redis.key(STREAM),
            redis: redis.clone(),
            shared: Arc::new(Shared {
                sender: broadcast::Sender::new(BUFFER),
                state: Mutex::new(State::default()),
                arrival: Notify::new(),
            }),
        }
    }

    /// Whether Redis is being read now.
    pub fn connected(&self) -> bool {
        self.state().connected
    }

    /// Starts watching: everything after the returned position arrives at the receiver.
    pub fn subscribe(&self) -> (broadcast::Receiver<Entry>, StreamId) {
        // In this order: an entry between the two is in the receiver and not after the position, so
        // the watcher skips it and has lost nothing that it was promised.
        let receiver = self.shared.sender.subscribe();
        self.shared.arrival.notify_one();
        (receiver, self.state().position)
    }

    /// Reads the stream until `shutdown`, through all outages of Redis, and says whether somebody watches it here.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.read_on(&shutdown) => {}
            never = self.say_watched() => match never {},
        }
    }

    /// Tells the services that somebody watches, for as long as somebody does: some of what is told is not found out for
    /// nobody.
    async fn say_watched(&self) -> Infallible {
        let mut say = cmd("SET");
        say.arg(self.redis.key(WATCHED)).arg(1).arg("PX").arg(WATCHED_FOR.as_millis() as u64);
        loop {
            // Nobody has come: whoever is there still watches.
            let _ = timeout(SAY_AGAIN, self.shared.arrival.notified()).await;
            if self.shared.sender.receiver_count() > 0
                && let Err(error) = self.redis.query::<()>(&say).await
            {
                debug!(%error, "nobody learns that somebody watches");
            }
        }
    }

    async fn read_on(&self, shutdown: &CancellationToken) {
        let mut position = None;
        while !shutdown.is_cancelled() {
            let outcome = tokio::select! {
                outcome = self.read(&mut position) => outcome,
                () = shutdown.cancelled() => break,
            };
            let was_connected = std::mem::take(&mut self.lock().connected);
            if let Err(error) = outcome
                && was_connected
            {
                warn!(error = format!("{error:#}"), "lost the live stream, reconnecting");
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = shutdown.cancelled() => break,
            }
        }
        self.lock().connected = false;
    }

    async fn read(&self, position: &mut Option<StreamId>) -> anyhow::Result<()> {
        let mut redis = self.redis.dedicated().await?;
        let newest = timeout(LATE, newest(&mut redis, &self.key)).await.context("Redis is late")??;
        let mut from = match *position {
            // The first connection begins now; what was before is for those who ask for it.
            None => newest,
            // A stream that ends before where we were was wiped: all that it has is new.
            Some(last) if newest < last => StreamId::default(),
            Some(last) => last,
        };
        *position = Some(from);
        *self.lock() = State { connected: true, position: from };
        info!(key = self.key, from = %from, "reading the live stream");
        loop {
            let mut read = cmd("XREAD");
            read.arg("COUNT").arg(PAGE).arg("BLOCK").arg(u64::try_from(BLOCK.as_millis())?);
            read.arg("STREAMS").arg(&self.key).arg(from.to_string());
            let reply: Option<Vec<(String, Vec<RawEntry>)>> =
                timeout(BLOCK + LATE, read.query_async(&mut redis)).await.context("Redis is late")??;
            for (id, fields) in reply.into_iter().flatten().flat_map(|(_, entries)| entries) {
                from = id.parse().map_err(anyhow::Error::msg)?;
                *position = Some(from);
                if let Some(event) = decode(&fields) {
                    // No receiver is no error: nobody watches here at the moment.
                    let _ = self.shared.sender.send(Entry { id: from, event: Arc::new(event) });
                }
                self.lock().position = from;
            }
        }
    }

    /// A page of what came after `after`, straight from Redis.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn after(&self, after: StreamId) -> anyhow::Result<Page> {
        let mut range = cmd("XRANGE");
        range.arg(&self.key).arg(format!("({after}")).arg("+").arg("COUNT").arg(PAGE);
        let raw: Vec<RawEntry> = self.redis.query(&range).await?;
        let last = raw.len() < PAGE;
        let mut position = after;
        let mut entries = Vec::with_capacity(raw.len());
        for (id, fields) in raw {
            position = id.parse().map_err(anyhow::Error::msg)?;
            if let Some(event) = decode(&fields) {
                entries.push(Entry { id: position, event: Arc::new(event) });
            }
        }
        Ok(Page { entries, last, position })
    }

    /// Whether the stream may have lost entries after `after`: it was trimmed beyond it, or wiped.
    ///
    /// # Errors
    /// Redis did not answer.
    pub async fn lost_since(&self, after: StreamId) -> anyhow::Result<bool> {
        if after == StreamId::default() {
            // The very beginning: all is there until the stream is first trimmed.
            let length: usize = self.redis.query(cmd("XLEN").arg(&self.key)).await?;
            return Ok(length >= KEEP);
        }
        // Everything after an entry that is still there is there as well: a stream loses its oldest first.
        let mut range = cmd("XRANGE");
        range.arg(&self.key).arg(after.to_string()).arg(after.to_string());
        let found: Vec<RawEntry> = self.redis.query(&range).await?;
        Ok(found.is_empty())
    }

    fn state(&self) -> State {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Plain values, written whole: a panic elsewhere can't have left them half changed.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry as Redis sends it: its id, then names and values in turn.
type RawEntry = (String, Vec<String>);

async fn newest(redis: &mut MultiplexedConnection, key: &str) -> anyhow::Result<StreamId> {
    let newest: Vec<RawEntry> =
        cmd("XREVRANGE").arg(key).arg("+").arg("-").arg("COUNT").arg(1).query_async(redis).await?;
    match newest.first() {
        Some((id, _)) => id.parse().map_err(anyhow::Error::msg),
        None => Ok(StreamId::default()),
    }
}

fn decode(fields: &[String]) -> Option<LiveEvent> {
    let json = fields.chunks_exact(2).find(|pair| pair[0] == FIELD).map(|pair| &pair[1])?;
    serde_json::from_str(json).inspect_err(|error| warn!(%error, "skipped an unreadable live event")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_as_redis_orders_them() {
        let id: StreamId = "1700000000000-12".parse().expect("an id");
        assert_eq!(id.to_string(), "1700000000000-12");
        assert!(id > StreamId(1_700_000_000_000, 9), "numbers, not text");
        for wrong in ["", "12", "a-b", "1-", "-1", "1-2-3"] {
            assert!(wrong.parse::<StreamId>().is_err(), "{wrong}");
        }
    }
}
