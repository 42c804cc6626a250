//! Runs that a request begins together.

use std::collections::HashMap;

use chassis::{Problem, auth::Caller};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Resources;
use crate::{
    domain::run::RunParams,
    request_run::{Requested, request_run},
    streams,
};

/// Lo que se inició.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Begun {
    /// De todas las ejecuciones que esto inició, juntas: `GET /api/v1/etl/runs/{run_id}`.
    pub run_id: Uuid,
    /// Una por flujo: una nueva, o la que ya tiene.
    pub runs: Vec<Uuid>,
}

/// Asks for a run of each stream, in one transaction. A stream that has a run keeps it, and it is named.
///
/// Streams are asked for in the order that they are listed in, as schedules do: requests that name some in other orders
/// don't wait for each other in a circle.
///
/// # Errors
/// The database.
pub(super) async fn begin(
    api: &Resources,
    caller: &Caller,
    names: &[&'static str],
    params: impl Fn(&str) -> RunParams,
) -> Result<Begun, Problem> {
    let group = Uuid::now_v7();
    let mut transaction = api.database.pool.begin().await?;
    let (mut asked_for, mut begun) = (HashMap::new(), false);
    for stream in streams::all().map(|stream| stream.name).filter(|name| names.contains(name)) {
        let params = RunParams { group: Some(group), ..params(stream) };
        let correlation = chassis::http::request_id();
        let asked = request_run(&mut transaction, &api.settings, &params, caller.id(), correlation).await?;
        begun |= matches!(asked, Requested::New(_));
        asked_for.insert(stream, asked.job().id);
    }
    transaction.commit().await?;
    // As the caller named them.
    let runs: Vec<Uuid> = names.iter().filter_map(|name| asked_for.get(name).copied()).collect();
    // Where nothing was begun there is no group to look at, but what is under way.
    let run_id = runs.first().copied().filter(|_| !begun).unwrap_or(group);
    Ok(Begun { run_id, runs })
}
