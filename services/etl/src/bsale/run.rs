//! One run of a stream of Bsale.

use anyhow::{Context as _, anyhow};
use chrono::Utc;
use jobs::{JobRun, Outcome};
use messaging::JobError;
use sea_orm::sqlx::PgPool;
use serde_json::json;

use super::{
    Bsale, costs, days_walk, scan,
    session::{Cursor, Session, State},
};
use crate::{
    domain::{
        run::{Counters, RunParams},
        stream::Stream,
    },
    target::Claim,
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
            claim.forget_others().await?;
            State { began: Utc::now(), counters: Counters::default(), place: Cursor::default() }
        }
    };
    let mut session = Session::new(bsale, run, params, claim, (state, lane.watermark), pool.clone());
    let walked = walk(&mut session, stream.name).await;
    // What was read before it failed is kept, and the next attempt goes on from there.
    let kept = session.finish().await;
    walked?;
    kept?;
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

async fn walk(session: &mut Session<'_>, stream: &str) -> Result<(), JobError> {
    match stream {
        "bsale.documentos" => days_walk::walk(session).await,
        "bsale.costos" => costs::walk(session).await,
        name => {
            let spec = scan::spec(name, &session.bsale.settings)
                .ok_or_else(|| JobError::fail(anyhow!("{name} is not a stream of Bsale")))?;
            scan::walk(session, &spec).await
        }
    }
}
