use std::sync::Arc;

use anyhow::{Context as _, Result};
use chassis::{
    config::{DatabaseSettings, Env, RedisSettings, S3Settings},
    db,
    redis::Redis,
    s3,
};
use chrono::NaiveDate;
use report::{
    Resources, SERVICE,
    config::ReportSettings,
    domain::params::MessageState,
    live::Live,
    storage::{
        campaigns::{self, CampaignUpdate, Origin},
        messages::{self, Message},
        migrations::Migrator,
    },
};
use sea_orm::sqlx::PgPool;
use stack::{Namespace, aws::CREDENTIALS};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The service's tables and bucket, and nobody at work on them.
pub struct World {
    pub resources: Resources,
    pub pool: PgPool,
    /// Goes last.
    _namespace: Namespace,
}

impl World {
    pub async fn new(label: &str) -> Result<Self> {
        stack::install_tls();
        let namespace = Namespace::create(label).await?;
        let servers = namespace.servers();
        let settings = [
            ("DATABASE_URL", namespace.database_url.as_str()),
            ("REDIS_URL", &servers.redis_url),
            ("REDIS_PREFIX", &namespace.redis_prefix),
            ("AWS_ENDPOINT_URL", &servers.aws_endpoint),
            ("S3_BUCKET_NAME", &namespace.bucket),
        ];
        let mut env = Env::from_map(settings.into_iter().chain(CREDENTIALS));
        let (database, redis) = (DatabaseSettings::read(&mut env), RedisSettings::read(&mut env));
        let (storage, reports) = (S3Settings::read(&mut env), ReportSettings::read(&mut env));
        env.finish()?;
        let shutdown = CancellationToken::new();
        db::migrate::<Migrator>(&database, SERVICE, &shutdown).await?;
        let database = db::connect(&database, SERVICE, &shutdown).await?;
        let client = s3::client(&storage).await;
        let resources = Resources {
            database: database.clone(),
            live: Live::new(&Redis::new(&redis)?),
            signer: client.clone(),
            s3: client,
            bucket: storage.bucket,
            settings: Arc::new(reports),
        };
        Ok(Self { resources, pool: database.pool, _namespace: namespace })
    }

    /// A campaign of a day with so many messages. Gives its id.
    pub async fn campaign(&self, fecha: NaiveDate, name: &str, rows: u32) -> Result<i64> {
        let mut conn = self.pool.acquire().await?;
        let told = CampaignUpdate {
            origin_id: name.to_owned(),
            fecha,
            nombre: name.to_owned(),
            estado: "COMPLETADA".to_owned(),
            descripcion: String::new(),
            expected_rows: None,
            version: 1,
        };
        campaigns::write(&mut conn, Origin::Sms, &[told]).await?;
        let (id, fecha) = campaigns::known(&mut conn, Origin::Sms, name, fecha).await?;
        messages::ensure_day(&mut conn, fecha).await?;
        let messages: Vec<_> = (0..rows).map(|number| message(number, 1)).collect();
        for messages in messages.chunks(5_000) {
            messages::write(&mut conn, id, fecha, messages).await?;
        }
        Ok(id)
    }
}

/// A message that tells its number in its phone and its version in its text.
pub fn message(number: u32, version: i64) -> Message {
    Message {
        id: Uuid::from_u128(u128::from(number)),
        version,
        phone: format!("+57{number:010}"),
        text: format!("v{version}"),
        sent_at: None,
        state: MessageState::Enviado,
        error: None,
    }
}

pub fn day(text: &str) -> Result<NaiveDate> {
    text.parse().with_context(|| text.to_owned())
}
