use messaging::BrokerConfig;

use super::{AuthSettings, DatabaseSettings, Env, HttpSettings, RedisSettings, S3Settings, broker_config};

/// The role of a process: an API and a worker of one service have a port each.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    Api,
    Worker,
}

/// What every service with queues and files reads from its environment.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    pub http: HttpSettings,
    pub database: DatabaseSettings,
    pub redis: RedisSettings,
    pub s3: S3Settings,
    pub auth: AuthSettings,
    pub broker: BrokerConfig,
}

impl ServiceSettings {
    /// As each part documents. `port` is the role's when `HTTP_PORT` names none.
    pub fn read(env: &mut Env, service: &str, port: u16) -> Self {
        Self {
            http: HttpSettings::read(env, port),
            database: DatabaseSettings::read(env),
            redis: RedisSettings::read(env),
            s3: S3Settings::read(env),
            auth: AuthSettings::read(env),
            broker: broker_config(service, env),
        }
    }
}
