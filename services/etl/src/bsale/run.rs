//! One run of a stream of Bsale.

use anyhow::{Context as _, anyhow};
use chrono::Utc;
use jobs::{JobRun, Outcome};
use messaging::JobError;
use sea_orm::sqlx::PgPool;
use serde_json::json;

use super::{
    Bsale, Priority, costs, days_walk, scan,
    session::{Cursor, Session, State},
};
use crate::{
    domain::{
        run::{Counters, Mode, RunParams},
        stream::Stream,
    },
    target::{self, Claim},
};

/// Works on a run of `stream` until its end.
///
/// # Errors
/// What the runner makes of it: a retry, a failure, or a release.
pub async fn work(
    bsale: &Bsale,
    pool: &PgPool,
    run: &JobRun,
    stream: &'static Stream,
    params: RunParams,
) -> Result<Outcome, JobError> {
    let (claim, lane) = Claim::take(&bsale.target, pool, run, &params.lane).await?;
    let known = lane.state.filter(|_| lane.run.as_deref() == Some(claim.run.as_str()));
    let state: State = match known {
        Some(state) => {
            serde_json::from_value(state).context("lote_streams.estado").map_err(JobError::Fail)?
        }
        None => {
            target::forget(&bsale.target.db, &params.lane, Some(&claim.run))
                .await
                .map_err(JobError::retry)?;
            State { began: Utc::now(), counters: Counters::default(), place: Cursor::default() }
        }
    };
    let priority = if params.mode == Mode::Backfill { Priority::Backfill } else { Priority::Daily };
    let mut session = Session {
        bsale,
        run,
        params,
        priority,
        claim,
        place: state.place,
        counters: state.counters,
        began: state.began,
        seen: None,
        watermark: lane.watermark,
        pool: pool.clone(),
    };
    match stream.name {
        "bsale.documentos" => days_walk::walk(&mut session).await?,
        "bsale.costos" => costs::walk(&mut session).await?,
        name => {
            let spec = scan::spec(name, &bsale.settings)
                .ok_or_else(|| JobError::fail(anyhow!("{name} is not a stream of Bsale")))?;
            scan::walk(&mut session, &spec).await?;
        }
    }
    if session.counters.too_many_bad() {
        let Counters { leidos, en_cuarentena, .. } = session.counters;
        return Err(JobError::fail(anyhow!(
            "{en_cuarentena} of {leidos} records are in quarantine: more than 1 %"
        )));
    }
    Ok(Outcome::Done(json!({
        "contadores": session.counters,
        "marca": session.watermark,
        "dias_distintos": session.place.differing,
    })))
}
