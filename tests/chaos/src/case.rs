use crate::arena::Arena;
use anyhow::Result;
use clap::ValueEnum;
use stack::services::CATALOG_UPLOAD;
use std::time::Duration;

/// What is broken, each on servers of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Case {
    /// SIGKILL to all workers.
    WorkerKill,
    /// SIGKILL to catalog-upload's API.
    ApiKill,
    /// PostgreSQL stops as `-m immediate` does.
    PostgresKill,
    /// SIGKILL to Redis, which keeps nothing.
    RedisKill,
    /// SIGKILL to RabbitMQ.
    RabbitmqKill,
    /// S3 and SQS can't be reached for a while.
    LocalstackOutage,
    /// S3 and SQS lose everything they have.
    LocalstackWipe,
    /// SIGKILL to all workers while an import is taken back.
    UndoKill,
    /// SIGKILL to all workers while a dry run is carried out.
    ApplyKill,
    /// A cancel that races its import and, half of the time, the death of its worker.
    CancelRace,
    /// Each failpoint, once.
    Failpoints,
}

impl Case {
    /// The name on the command line and in the results.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkerKill => "worker_kill",
            Self::ApiKill => "api_kill",
            Self::PostgresKill => "postgres_kill",
            Self::RedisKill => "redis_kill",
            Self::RabbitmqKill => "rabbitmq_kill",
            Self::LocalstackOutage => "localstack_outage",
            Self::LocalstackWipe => "localstack_wipe",
            Self::UndoKill => "undo_kill",
            Self::ApplyKill => "apply_kill",
            Self::CancelRace => "cancel_race",
            Self::Failpoints => "failpoints",
        }
    }

    /// Whether an upload under way depends on what is struck: then half of the rounds strike during one.
    pub fn strikes_uploads(self) -> bool {
        matches!(self, Self::ApiKill | Self::PostgresKill | Self::LocalstackOutage | Self::LocalstackWipe)
    }

    /// Kills. A wipe takes the workers with it where `hard`: they have the file on their disks then, and need
    /// it again.
    pub async fn strike(self, arena: &Arena, hard: bool) -> Result<()> {
        match self {
            Self::WorkerKill | Self::UndoKill | Self::ApplyKill | Self::CancelRace => {
                kill_workers(arena).await
            }
            Self::ApiKill => arena.platform.service(&CATALOG_UPLOAD).api.kill().await,
            Self::PostgresKill => arena.stack.postgres.kill().await,
            Self::RedisKill => arena.stack.redis.kill().await,
            Self::RabbitmqKill => arena.stack.rabbit.kill().await,
            Self::LocalstackOutage => {
                arena.aws.cut().await;
                Ok(())
            }
            Self::LocalstackWipe => {
                if hard {
                    kill_workers(arena).await?;
                }
                arena.stack.localstack.kill().await
            }
            Self::Failpoints => Ok(()),
        }
    }

    /// Brings back what was struck, after `pause`.
    pub async fn restore(self, arena: &mut Arena, pause: Duration) -> Result<()> {
        tokio::time::sleep(pause).await;
        match self {
            Self::WorkerKill | Self::UndoKill | Self::ApplyKill | Self::CancelRace => {
                restart_workers(arena).await
            }
            Self::ApiKill => arena.platform.service_mut(&CATALOG_UPLOAD).api.restart().await,
            Self::PostgresKill => arena.stack.postgres.start().await,
            Self::RedisKill => arena.stack.redis.start().await,
            Self::RabbitmqKill => arena.stack.rabbit.start().await,
            Self::LocalstackOutage => {
                arena.aws.heal().await;
                Ok(())
            }
            Self::LocalstackWipe => {
                arena.stack.localstack.start().await?;
                restart_workers(arena).await
            }
            Self::Failpoints => Ok(()),
        }
    }
}

async fn kill_workers(arena: &Arena) -> Result<()> {
    arena.platform.service(&CATALOG_UPLOAD).kill_workers().await
}

/// Starts those that do not run.
async fn restart_workers(arena: &mut Arena) -> Result<()> {
    arena.platform.service_mut(&CATALOG_UPLOAD).restart_workers().await
}
