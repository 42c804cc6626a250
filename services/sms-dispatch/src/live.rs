//! What those who watch are told of campaigns: how far each is, at most once a second, until it has nothing more to send.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chassis::redis::Redis;
use contracts::live::{LiveEvent, WATCHED};
use deadpool_redis::redis::cmd;
use jobs::mirror::Mirror;
use sea_orm::sqlx::PgPool;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    SERVICE,
    config::SmsSettings,
    http::campaign_view::ProgressView,
    settle,
    storage::campaigns::{self, Campaign},
};

/// Between two looks at campaigns.
const PAUSE: Duration = Duration::from_secs(1);
/// The key of whose turn it is.
const TELLER: &str = "live:campaigns";
/// A teller that has not said for so long that it is there has lost its turn.
const TURN_LASTS: Duration = Duration::from_secs(3);

/// Takes the turn, or keeps it; nobody has it while nobody watches.
/// KEYS: watched, teller. ARGV: who asks, how long a turn lasts in milliseconds.
const TAKE_TURN: &str = r"
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local teller = redis.call('GET', KEYS[2])
if teller and teller ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1";

/// Tells watchers through Redis, which may be down. Any number may run at once, in whatever replicas: one tells, of what all of
/// them do, for what they do is in the database.
pub struct Live {
    pool: PgPool,
    redis: Redis,
    mirror: Mirror,
    settings: Arc<SmsSettings>,
    me: String,
}

impl Live {
    pub fn new(pool: PgPool, redis: &Redis, settings: Arc<SmsSettings>) -> Self {
        let mirror = Mirror::new(redis.pool().clone(), redis.prefix());
        Self { pool, redis: redis.clone(), mirror, settings, me: Uuid::new_v4().to_string() }
    }

    /// Tells until `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut told = HashMap::new();
        let mut ticks = interval(PAUSE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let round = async {
                ticks.tick().await;
                self.round(&mut told).await
            };
            match shutdown.run_until_cancelled(round).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::debug!(error = format!("{error:#}"), "the progress of campaigns is not told");
                }
            }
        }
    }

    /// Tells how far those campaigns are of which that has changed. `told` has what was told last, by campaign. Nothing is read
    /// while nobody watches, or while somebody else tells.
    ///
    /// # Errors
    /// The database.
    pub async fn round(&self, told: &mut HashMap<Uuid, Value>) -> anyhow::Result<()> {
        if !self.has_turn().await {
            // Whoever comes next begins with what there is then.
            told.clear();
            return Ok(());
        }
        let mut conn = self.pool.acquire().await?;
        // What was read later is told later, whoever told what was read before.
        let version = settle::now(&mut conn).await?.timestamp_micros();
        let mut live = campaigns::live(&mut conn).await?;
        drop(conn);
        // One that waits for its hour has no progress.
        live.retain(|campaign| campaign.date.is_some());
        let ended: Vec<Uuid> =
            told.keys().filter(|id| !live.iter().any(|campaign| campaign.id == **id)).copied().collect();
        for campaign in &live {
            self.tell(campaign, version, told).await?;
        }
        for id in ended {
            if let Some(campaign) = campaigns::get(&self.pool, id).await? {
                self.tell(&campaign, version, told).await?;
            }
            told.remove(&id);
        }
        Ok(())
    }

    /// Whether it is for this one to tell now.
    async fn has_turn(&self) -> bool {
        let mut take = cmd("EVAL");
        take.arg(TAKE_TURN).arg(2).arg(self.redis.key(WATCHED)).arg(self.redis.key(TELLER));
        take.arg(&self.me).arg(TURN_LASTS.as_millis() as u64);
        self.redis.query(&take).await.unwrap_or(false)
    }

    async fn tell(
        &self,
        campaign: &Campaign,
        version: i64,
        told: &mut HashMap<Uuid, Value>,
    ) -> anyhow::Result<()> {
        let progress = ProgressView::read(&self.pool, &self.settings, campaign).await?;
        let progress = serde_json::to_value(progress)?;
        if told.get(&campaign.id) == Some(&progress) {
            return Ok(());
        }
        let event = LiveEvent {
            kind: "job.progress".into(),
            service: SERVICE.into(),
            proveedor_id: None,
            data: progress.clone(),
        };
        let (key, is_final) = (format!("sms:campaign:{}", campaign.id), campaign.finished_at.is_some());
        self.mirror.put(&key, version, &progress, is_final, Some(&event)).await;
        told.insert(campaign.id, progress);
        Ok(())
    }
}
