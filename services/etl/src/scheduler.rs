//! Begins the runs that schedules ask for.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use schedules::{Begin, Begun, Schedule, Timetable};
use sea_orm::sqlx::PgConnection;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Resources,
    domain::run::{Mode, RunParams},
    request_run::{Requested, request_run},
    storage::runs,
    streams,
};

/// Qué se hace con una hora en la que lo anterior no ha terminado.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Overlap {
    /// Nothing is begun.
    #[default]
    #[serde(rename = "omitir")]
    Skip,
    /// It is begun after that.
    #[serde(rename = "esperar")]
    Queue,
}

/// Lo que inicia una programación.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScheduledSync {
    /// `bsale`, o el nombre de un flujo.
    pub source: String,
    pub mode: Mode,
    #[serde(default)]
    pub overlap: Overlap,
}

impl ScheduledSync {
    /// The streams that it begins: of a daily sync, those that have one.
    pub fn streams(&self) -> Vec<&'static str> {
        let prefix = format!("{}.", self.source);
        streams::all()
            .filter(|stream| {
                stream.name == self.source
                    || (stream.name.starts_with(&prefix) && (stream.daily || self.mode == Mode::Full))
            })
            .map(|stream| stream.name)
            .collect()
    }
}

/// Begins runs.
pub struct BeginSyncs {
    pub resources: Resources,
}

#[async_trait]
impl Begin for BeginSyncs {
    async fn begin(
        &self,
        conn: &mut PgConnection,
        schedule: &Schedule,
        _: &Timetable,
        _: DateTime<Utc>,
    ) -> anyhow::Result<Begun> {
        let sync: ScheduledSync = serde_json::from_value(schedule.params.clone())?;
        let streams = sync.streams();
        if streams.is_empty() {
            return Ok(Begun::Nothing(format!("{} no es una fuente ni un flujo", sync.source)));
        }
        let group = Uuid::now_v7();
        let mut busy = Vec::new();
        for stream in &streams {
            if runs::active(conn, stream).await?.is_some() {
                busy.push(*stream);
            }
        }
        if !busy.is_empty() && sync.overlap == Overlap::Queue {
            return Ok(Begun::Wait);
        }
        let mut begun = None;
        for stream in streams {
            if busy.contains(&stream) {
                continue;
            }
            let params = RunParams { group: Some(group), ..RunParams::new(stream, sync.mode) };
            let correlation = Some(format!("schedule-{}", schedule.id));
            match request_run(conn, &self.resources.settings, &params, &schedule.created_by, correlation)
                .await?
            {
                Requested::New(job) => begun = Some(job.id),
                Requested::Same(_) => busy.push(stream),
            }
        }
        Ok(match begun {
            Some(_) => Begun::Run(group),
            None => Begun::Nothing(format!("Sigue en curso: {}", busy.join(", "))),
        })
    }
}
