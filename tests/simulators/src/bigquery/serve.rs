//! The requests.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, MutexGuard, PoisonError},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{self, Bytes, Data, Json, Path, Query, ServiceConfig},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fault, Field, Found, Job, Row, State, cell, schema};

pub fn configure(config: &mut ServiceConfig) {
    config
        .route("/token", web::post().to(token))
        .route("/bigquery/v2/projects/{project}/jobs", web::post().to(insert))
        .route("/bigquery/v2/projects/{project}/jobs/{job}", web::get().to(job))
        .route("/bigquery/v2/projects/{project}/queries", web::post().to(query))
        .route("/bigquery/v2/projects/{project}/queries/{job}", web::get().to(results))
        .route("/truth.json", web::get().to(truth))
        .route("/health/ready", web::get().to(HttpResponse::Ok));
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refusal(status: u16, reason: &str, message: &str) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).json(json!({ "error": {
        "code": status.as_u16(), "message": message,
        "errors": [{ "message": message, "domain": "global", "reason": reason }],
        "status": status.canonical_reason().unwrap_or_default().to_uppercase().replace(' ', "_"),
    } }))
}

/// What every request may meet.
fn met(state: &mut State, request: &HttpRequest, of_results: bool) -> Option<HttpResponse> {
    if let Some(tokens) = &state.tokens {
        let given = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if !tokens.iter().any(|token| token == given) {
            return Some(refusal(401, "authError", "Request had invalid authentication credentials."));
        }
    }
    let next = state.faults.front()?;
    if matches!(next, Fault::JobError(_)) || (next.of_results() && !of_results) {
        return None;
    }
    match next {
        Fault::Forbidden(reason) => {
            let reason = *reason;
            state.faults.pop_front();
            Some(refusal(403, reason, "Exceeded rate limits, or not allowed"))
        }
        Fault::Unavailable => {
            state.faults.pop_front();
            Some(HttpResponse::ServiceUnavailable().content_type("text/html").body("<html>503</html>"))
        }
        Fault::Empty => {
            state.faults.pop_front();
            Some(HttpResponse::Ok().finish())
        }
        Fault::Unauthorized => {
            state.faults.pop_front();
            if let Some(tokens) = &mut state.tokens {
                tokens.clear();
            }
            Some(refusal(401, "authError", "Request had invalid authentication credentials."))
        }
        _ => None,
    }
}

#[derive(Deserialize)]
struct TokenForm {
    grant_type: String,
    assertion: String,
}

async fn token(state: Data<Mutex<State>>, form: web::Form<TokenForm>) -> HttpResponse {
    let mut state = lock(&state);
    if form.grant_type != "urn:ietf:params:oauth:grant-type:jwt-bearer"
        || form.assertion.split('.').count() != 3
    {
        return HttpResponse::BadRequest().json(json!({ "error": "invalid_grant" }));
    }
    state.assertions.push(form.assertion.clone());
    let token = format!("token-{}", state.assertions.len());
    state.tokens.get_or_insert_default().push(token.clone());
    HttpResponse::Ok().json(json!({ "access_token": token, "expires_in": 3600, "token_type": "Bearer" }))
}

/// The rows that a query asks for: of the table that it names in backticks, and of those the ones whose column is
/// within the parameters.
fn answer(state: &State, configuration: &Value) -> Result<(Vec<super::Field>, Found), String> {
    let text = configuration["query"].as_str().unwrap_or_default();
    let named = text.split('`').nth(1).ok_or("the query names no table in backticks")?;
    let name = named.rsplit('.').next().unwrap_or_default();
    let table = state.tables.get(name).ok_or_else(|| format!("Not found: Table {named}"))?;
    let of_days = text.contains("BIT_XOR(FARM_FINGERPRINT(TO_JSON_STRING(t)))");
    let parameter = |name: &str| {
        let all = configuration["queryParameters"].as_array()?;
        let found = all.iter().find(|parameter| parameter["name"] == name)?;
        found["parameterValue"]["value"].as_str().map(str::to_owned)
    };
    let bound = text.split("WHERE ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let column = bound.map(|column| column.trim_matches('`').to_owned());
    let (from, to) = (parameter("desde"), parameter("hasta"));
    if let Some((rows, make)) = table.made {
        if !of_days {
            return Ok((table.fields.clone(), Found::Made(rows, make)));
        }
        // It never changes, and is too large to be looked through: all of it is of the first day.
        let first = from.as_deref().and_then(micros_of).unwrap_or_default();
        let day = json!({ "dia": day_of(first), "filas": rows, "huella": 0 });
        return Ok((fingerprint_fields(), Found::Held(day.as_object().cloned().into_iter().collect())));
    }
    let within = |row: &Row| {
        let Some(column) = &column else { return true };
        let value = match row.get(column) {
            Some(Value::Number(micros)) => micros.as_i64(),
            Some(Value::String(text)) => micros_of(text),
            _ => None,
        };
        let after =
            from.as_deref().and_then(micros_of).is_none_or(|from| value.is_some_and(|value| value >= from));
        let before = to.as_deref().and_then(micros_of).is_none_or(|to| value.is_some_and(|value| value < to));
        after && before
    };
    let rows: Vec<Row> = table.rows.iter().filter(|row| within(row)).cloned().collect();
    if of_days {
        let moment = |row: &Row| column.as_ref().and_then(|column| row.get(column)?.as_i64());
        return Ok((fingerprint_fields(), Found::Held(fingerprints(&rows, moment))));
    }
    Ok((table.fields.clone(), Found::Held(rows)))
}

fn fingerprint_fields() -> Vec<Field> {
    vec![Field::new("dia", "DATE"), Field::new("filas", "INTEGER"), Field::new("huella", "INTEGER")]
}

/// The rows of each day of Lima's: how many, and a number that follows from all of them in any order.
fn fingerprints(rows: &[Row], moment: impl Fn(&Row) -> Option<i64>) -> Vec<Row> {
    let mut days: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for row in rows {
        let mut hasher = DefaultHasher::new();
        Value::Object(row.clone()).to_string().hash(&mut hasher);
        let day = days.entry(day_of(moment(row).unwrap_or_default())).or_default();
        *day = (day.0 + 1, day.1 ^ hasher.finish().cast_signed());
    }
    let row = |(day, (rows, print))| json!({ "dia": day, "filas": rows, "huella": print });
    days.into_iter().map(row).filter_map(|row| row.as_object().cloned()).collect()
}

/// Lima's day of a moment.
fn day_of(micros: i64) -> String {
    let at = chrono::DateTime::from_timestamp_micros(micros).unwrap_or_default();
    (at - chrono::Duration::hours(5)).date_naive().to_string()
}

/// A day, or a moment in UTC.
fn micros_of(text: &str) -> Option<i64> {
    let day = text.get(..10)?.parse::<chrono::NaiveDate>().ok()?;
    let time = match text.get(11..) {
        None | Some("") => chrono::NaiveTime::MIN,
        Some(time) => time.trim_end_matches(['Z']).trim_end_matches("+00:00").parse().ok()?,
    };
    Some(day.and_time(time).and_utc().timestamp_micros())
}

fn begin(state: &mut State, id: &str, configuration: &Value) -> Result<(), String> {
    let (fields, rows) = answer(state, configuration)?;
    let error = match state.faults.front() {
        Some(Fault::JobError(reason)) => Some(*reason),
        _ => None,
    };
    if error.is_some() {
        state.faults.pop_front();
    }
    state.inserted += 1;
    state.jobs.insert(id.to_owned(), Job { fields, rows, error, incomplete: 0, expired: false });
    Ok(())
}

async fn insert(
    state: Data<Mutex<State>>,
    request: HttpRequest,
    project: Path<String>,
    body: Json<Value>,
) -> HttpResponse {
    let mut state = lock(&state);
    if let Some(met) = met(&mut state, &request, false) {
        return met;
    }
    if body["configuration"]["dryRun"] == true {
        return match answer(&state, &body["configuration"]["query"]) {
            Ok((_, found)) => HttpResponse::Ok().json(json!({
                "status": { "state": "DONE" },
                "statistics": { "totalBytesProcessed": (found.len() * 100).to_string() },
            })),
            Err(message) => refusal(404, "notFound", &message),
        };
    }
    let id = body["jobReference"]["jobId"].as_str().unwrap_or_default().to_owned();
    if id.is_empty() {
        return refusal(400, "invalid", "jobReference.jobId is missing");
    }
    if state.jobs.contains_key(&id) {
        return refusal(409, "duplicate", &format!("Already Exists: Job {project}:{id}"));
    }
    let query = &body["configuration"]["query"];
    let most = query["maximumBytesBilled"].as_str().and_then(|most| most.parse::<usize>().ok());
    if let Some(most) = most
        && let Ok((_, found)) = answer(&state, query)
        && found.len() * 100 > most
    {
        let message = format!("Query exceeded limit for bytes billed: {most}.");
        return refusal(400, "bytesBilledLimitExceeded", &message);
    }
    match begin(&mut state, &id, query) {
        Ok(()) => HttpResponse::Ok().json(status(&state, &project, &id)),
        Err(message) => refusal(404, "notFound", &message),
    }
}

fn status(state: &State, project: &str, id: &str) -> Value {
    let job = &state.jobs[id];
    let mut status = json!({ "state": if job.incomplete > 0 { "RUNNING" } else { "DONE" } });
    if let Some(reason) = job.error {
        status["errorResult"] = json!({ "reason": reason, "message": "the job failed" });
    }
    json!({
        "jobReference": { "projectId": project, "jobId": id, "location": state.location },
        "status": status,
        "statistics": { "totalBytesProcessed": (job.rows.len() * 100).to_string() },
    })
}

async fn job(state: Data<Mutex<State>>, request: HttpRequest, path: Path<(String, String)>) -> HttpResponse {
    let mut state = lock(&state);
    if let Some(met) = met(&mut state, &request, false) {
        return met;
    }
    let (project, id) = path.into_inner();
    if !state.jobs.contains_key(&id) {
        return refusal(404, "notFound", &format!("Not found: Job {project}:{id}"));
    }
    HttpResponse::Ok().json(status(&state, &project, &id))
}

async fn query(
    state: Data<Mutex<State>>,
    request: HttpRequest,
    project: Path<String>,
    body: Json<Value>,
) -> HttpResponse {
    let mut state = lock(&state);
    if let Some(met) = met(&mut state, &request, false) {
        return met;
    }
    let id = format!("job_{}", state.jobs.len());
    match begin(&mut state, &id, &body) {
        Ok(()) => page(&mut state, &project, &id, &PageQuery::default()),
        Err(message) => refusal(404, "notFound", &message),
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageQuery {
    location: Option<String>,
    page_token: Option<String>,
    max_results: Option<usize>,
    #[serde(rename = "formatOptions.useInt64Timestamp")]
    micros: Option<String>,
}

async fn results(
    state: Data<Mutex<State>>,
    request: HttpRequest,
    path: Path<(String, String)>,
    asked: Query<PageQuery>,
) -> HttpResponse {
    let delay = lock(&state).delay;
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let mut state = lock(&state);
    if state.one_in > 0 && state.pages.is_multiple_of(state.one_in) && state.faults.is_empty() {
        let kinds = [
            Fault::Unavailable,
            Fault::Empty,
            Fault::Cut,
            Fault::Incomplete(2),
            Fault::Forbidden("rateLimitExceeded"),
            Fault::Expired,
        ];
        let kind = usize::try_from(state.pages / state.one_in).unwrap_or_default() % kinds.len();
        // Not this page again and again.
        state.pages += 1;
        state.faults.push_back(kinds[kind].clone());
    }
    if let Some(met) = met(&mut state, &request, true) {
        return met;
    }
    let (project, id) = path.into_inner();
    if !state.jobs.contains_key(&id) {
        return refusal(404, "notFound", &format!("Not found: Job {project}:{id}"));
    }
    let said = asked.location.as_deref();
    if said.map_or(!["US", "EU"].contains(&state.location), |said| said != state.location) {
        return refusal(404, "notFound", &format!("Not found: Job {project}:{id}"));
    }
    page(&mut state, &project, &id, &asked)
}

fn page(state: &mut State, project: &str, id: &str, asked: &PageQuery) -> HttpResponse {
    state.pages += 1;
    let (mut cut, mut none) = (false, false);
    match state.faults.front().cloned() {
        Some(Fault::Incomplete(times)) => {
            state.faults.pop_front();
            if let Some(job) = state.jobs.get_mut(id) {
                job.incomplete = times;
            }
        }
        Some(Fault::Expired) => {
            state.faults.pop_front();
            if let Some(job) = state.jobs.get_mut(id) {
                job.expired = true;
            }
        }
        Some(Fault::Cut) => {
            state.faults.pop_front();
            cut = true;
        }
        Some(Fault::NoRows) => {
            state.faults.pop_front();
            none = true;
        }
        _ => {}
    }
    let size = asked.max_results.unwrap_or(usize::MAX).min(state.page);
    let Some(job) = state.jobs.get_mut(id) else { return refusal(404, "notFound", "no such job") };
    if job.expired {
        return refusal(404, "notFound", "Not found: the results have expired");
    }
    let reference = json!({ "projectId": project, "jobId": id, "location": state.location });
    if job.incomplete > 0 {
        job.incomplete -= 1;
        return HttpResponse::Ok().json(json!({ "jobReference": reference, "jobComplete": false }));
    }
    if let Some(reason) = job.error {
        return refusal(400, reason, "the job failed");
    }
    let start: usize =
        asked.page_token.as_deref().and_then(|token| token.strip_prefix("at-")?.parse().ok()).unwrap_or(0);
    let end = job.rows.len().min(start + size);
    // Google's own client says True.
    let micros = asked.micros.as_deref().is_some_and(|micros| micros.eq_ignore_ascii_case("true"));
    let rows: Vec<Value> = (start.min(end)..end)
        .map(|number| {
            let row = job.rows.get(number);
            let cells = job.fields.iter().map(
                |field| json!({ "v": cell(field, row.get(field.name).unwrap_or(&Value::Null), micros) }),
            );
            json!({ "f": cells.collect::<Vec<_>>() })
        })
        .collect();
    let mut body = json!({
        "kind": "bigquery#getQueryResultsResponse",
        "schema": { "fields": job.fields.iter().map(schema).collect::<Vec<_>>() },
        "jobReference": reference,
        "jobComplete": true,
        "totalRows": job.rows.len().to_string(),
    });
    // An empty result has no rows at all.
    if !rows.is_empty() && !none {
        body["rows"] = rows.into();
    }
    if end < job.rows.len() && !none {
        body["pageToken"] = format!("at-{end}").into();
    }
    if cut {
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        return HttpResponse::Ok()
            .content_type("application/json")
            .body(Bytes::copy_from_slice(&bytes[..bytes.len() / 2]));
    }
    HttpResponse::Ok().json(body)
}

async fn truth(state: Data<Mutex<State>>) -> HttpResponse {
    let state = lock(&state);
    let tables: serde_json::Map<String, Value> =
        state.tables.iter().map(|(name, table)| (name.clone(), json!(table.rows))).collect();
    HttpResponse::Ok().json(tables)
}
