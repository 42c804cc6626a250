use std::time::Duration;

use chassis::{config::Secret, redis::Redis};
use chrono::{DateTime, Utc};
use reqwest::{Method, StatusCode};
use sea_orm::sqlx::PgPool;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{BigQuerySettings, Field, auth::Token};
use crate::{
    bucket::{Bucket, Priority},
    metrics::{BIGQUERY_QUERIES, REQUEST_SECONDS, REQUESTS},
};

/// How often a request is made that might do better next time.
const TRIES: u32 = 5;
/// How long nobody asks after a first refusal, and twice as long after each further one.
const COOLDOWN: Duration = Duration::from_millis(500);
/// The longest that BigQuery may wait for a job before it says that it is not complete.
const WAIT_MS: u32 = 10_000;
/// Larger answers are not read: pages have 10 MB at most, and some more as JSON.
const LARGEST: usize = 64 << 20;

/// Why BigQuery gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BigQueryError {
    /// The network, a 5xx, a malformed answer, again and again: later.
    #[error("BigQuery does not answer: {0}")]
    Unavailable(String),
    /// Too many requests, for now.
    #[error("BigQuery limits us: {0}")]
    RateLimited(String),
    /// A quota is used up: for hours.
    #[error("a quota of BigQuery is used up: {0}")]
    QuotaExceeded(String),
    /// The credentials.
    #[error("BigQuery does not know us: {0}")]
    Unauthorized(String),
    /// The job or its results are not there any more, or the table is not.
    #[error("BigQuery has no such thing: {0}")]
    NotFound(String),
    /// The job ended with an error; it needs a new id to be tried again.
    #[error("the query failed, {reason}: {message}")]
    JobFailed { reason: String, message: String },
    /// It will never work: permissions, a query that is wrong.
    #[error("BigQuery refuses, {code} {reason}: {message}")]
    Refused { code: u16, reason: String, message: String },
    /// The last page has come, and the rows are not as many as BigQuery says that there are.
    #[error("BigQuery gave {rows} rows of {total}")]
    Incomplete { rows: u64, total: u64 },
    /// It is no answer that we know.
    #[error("BigQuery's answer is malformed: {0}")]
    Malformed(String),
}

/// A named parameter of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: &'static str,
    /// `TIMESTAMP`, `DATETIME` or `DATE`.
    pub kind: String,
    pub value: String,
}

/// A page of a job's results.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub fields: Vec<Field>,
    /// What the caller has read of its rows.
    pub rows: T,
    /// How many rows it has.
    pub number: u64,
    /// Of all pages.
    pub total: u64,
    /// None: this is the last one.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The page, where it is not the last one or all rows have come with it and the `before` rows before it.
    ///
    /// # Errors
    /// [`BigQueryError::Incomplete`].
    pub fn counted(self, before: u64) -> Result<Self, BigQueryError> {
        let (rows, total) = (before + self.number, self.total);
        if self.next.is_none() && rows != total {
            return Err(BigQueryError::Incomplete { rows, total });
        }
        Ok(self)
    }
}

/// A query that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Whether it is new: one that was begun under this id before goes on, whoever began it.
    pub new: bool,
    /// Where it runs, if BigQuery says: it does not of one that is not new.
    pub location: Option<String>,
}

/// A project's BigQuery. Clones share its token.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    settings: BigQuerySettings,
    token: Token,
    /// None: nobody else has the credential.
    bucket: Option<Bucket>,
    priority: Priority,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultsBody<'a> {
    job_complete: bool,
    #[serde(default)]
    schema: Option<SchemaBody>,
    #[serde(default)]
    total_rows: Option<String>,
    #[serde(default)]
    page_token: Option<String>,
    /// Unread: all at once they are ten times as large.
    #[serde(borrow, default)]
    rows: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct SchemaBody {
    #[serde(default)]
    fields: Vec<Field>,
}

impl Client {
    /// Connects nothing yet.
    pub fn new(settings: BigQuerySettings) -> Self {
        let (token, priority) = (Token::default(), Priority::Daily);
        Self { http: chassis::http_client(), settings, token, bucket: None, priority }
    }

    /// Requests wait for their turn among those of all processes that have the credential.
    #[must_use]
    pub fn paced(self, redis: Redis, pool: PgPool) -> Self {
        let who = self.settings.account.as_ref().map_or("anonymous", |account| &account.client_email);
        let credential = format!("bigquery {who}");
        let bucket = Bucket::new(redis, pool, &credential, self.settings.per_second);
        Self { bucket: Some(bucket), ..self }
    }

    /// The same client, whose requests are so urgent.
    #[must_use]
    pub fn with_priority(&self, priority: Priority) -> Self {
        Self { priority, ..self.clone() }
    }

    /// How it is configured.
    pub fn settings(&self) -> &BigQuerySettings {
        &self.settings
    }

    /// BigQuery's clock, to the second: the date of whatever it answers.
    ///
    /// # Errors
    /// It can't be reached.
    pub async fn clock(&self) -> Result<DateTime<Utc>, BigQueryError> {
        let answer = self.http.head(self.settings.url.clone()).timeout(self.settings.patience).send().await;
        let answer = answer.map_err(|error| BigQueryError::Unavailable(error.without_url().to_string()))?;
        let date = answer.headers().get(reqwest::header::DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::parse_from_rfc2822(date).ok());
        date.map(|date| date.to_utc())
            .ok_or_else(|| BigQueryError::Malformed("an answer without a date".to_owned()))
    }

    /// How many bytes a query would read: a dry run, which costs nothing and runs nothing.
    ///
    /// # Errors
    /// As [`BigQueryError`] says: also what is wrong with the query.
    pub async fn bytes(&self, sql: &str, parameters: &[Parameter]) -> Result<u64, BigQueryError> {
        let mut body = json!({ "configuration": { "query": self.query(sql, parameters), "dryRun": true } });
        if let Some(location) = &self.settings.location {
            body["jobReference"] = json!({ "projectId": self.settings.project, "location": location });
        }
        let answer = self.call(Method::POST, "jobs", &[], Some(&body), value).await?;
        let bytes = &answer["statistics"]["totalBytesProcessed"];
        bytes
            .as_str()
            .and_then(|bytes| bytes.parse().ok())
            .ok_or_else(|| BigQueryError::Malformed("a dry run without totalBytesProcessed".to_owned()))
    }

    /// Begins a query under an id of ours.
    ///
    /// # Errors
    /// As [`BigQueryError`] says.
    pub async fn insert(
        &self,
        id: &str,
        sql: &str,
        parameters: &[Parameter],
    ) -> Result<Begun, BigQueryError> {
        let mut reference = json!({ "projectId": self.settings.project, "jobId": id });
        if let Some(location) = &self.settings.location {
            reference["location"] = location.as_str().into();
        }
        let query = self.query(sql, parameters);
        let body = json!({ "jobReference": reference, "configuration": { "query": query } });
        BIGQUERY_QUERIES.inc();
        match self.call(Method::POST, "jobs", &[], Some(&body), value).await {
            Ok(answer) => {
                let location = answer["jobReference"]["location"].as_str().map(str::to_owned);
                Ok(Begun { new: true, location })
            }
            // It is ours: an answer got lost, or a worker died after it.
            Err(BigQueryError::Refused { code: 409, .. }) => Ok(Begun { new: false, location: None }),
            Err(error) => Err(error),
        }
    }

    fn query(&self, sql: &str, parameters: &[Parameter]) -> Value {
        let parameters: Vec<Value> = parameters
            .iter()
            .map(|parameter| {
                json!({
                    "name": parameter.name,
                    "parameterType": { "type": parameter.kind },
                    "parameterValue": { "value": parameter.value },
                })
            })
            .collect();
        let mut query = json!({
            "query": sql, "useLegacySql": false, "parameterMode": "NAMED", "queryParameters": parameters,
        });
        if let Some(bytes) = self.settings.maximum_bytes_billed {
            query["maximumBytesBilled"] = bytes.to_string().into();
        }
        query
    }

    /// A page of a job's results, its rows as `read` makes them, which takes the columns and each row as it came; waits
    /// until the job is complete. Without a token: the first. Outside of `US` and `EU` the job's location must be said, where
    /// it is not configured.
    ///
    /// # Errors
    /// As [`BigQueryError`] says.
    pub async fn page<T>(
        &self,
        id: &str,
        location: Option<&str>,
        token: Option<&str>,
        read: impl Fn(&[Field], &[&RawValue]) -> T,
    ) -> Result<Page<T>, BigQueryError> {
        let path = format!("queries/{id}");
        let mut query = vec![
            ("maxResults", self.settings.page_rows.to_string()),
            ("timeoutMs", WAIT_MS.to_string()),
            ("formatOptions.useInt64Timestamp", "true".to_owned()),
        ];
        if let Some(location) = location.or(self.settings.location.as_deref()) {
            query.push(("location", location.to_owned()));
        }
        if let Some(token) = token {
            query.push(("pageToken", token.to_owned()));
        }
        loop {
            let page = self.call(Method::GET, &path, &query, None, |bytes| results(bytes, &read)).await?;
            if let Some(page) = page {
                return Ok(page);
            }
            // It has waited already, but for a server that doesn't.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// One request, again where that may help. `read` says what is no answer: what is cut short, or empty, must never pass
    /// for one without rows.
    async fn call<T>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
        read: impl Fn(&[u8]) -> Result<T, String>,
    ) -> Result<T, BigQueryError> {
        let mut failures = 0_u32;
        loop {
            if let Some(bucket) = &self.bucket {
                bucket.take(self.priority).await.map_err(unpaced)?;
            }
            let answer = self.once(method.clone(), path, query, body).await;
            let error = match answer.and_then(|bytes| read(&bytes).map_err(BigQueryError::Malformed)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            failures += 1;
            let again = matches!(
                error,
                BigQueryError::Unavailable(_)
                    | BigQueryError::RateLimited(_)
                    | BigQueryError::Malformed(_)
                    | BigQueryError::Unauthorized(_)
            );
            // A token that is refused twice will be a third time.
            let most = if matches!(error, BigQueryError::Unauthorized(_)) { 2 } else { TRIES };
            if !again || failures >= most {
                return Err(error);
            }
            if let (BigQueryError::RateLimited(_), Some(bucket)) = (&error, &self.bucket) {
                // All wait, also after a restart.
                bucket.cool(COOLDOWN * 2_u32.pow(failures - 1)).await.map_err(unpaced)?;
            }
            tracing::info!(path, %error, failures, "asking BigQuery again");
            let pause = 200_u64 << failures;
            tokio::time::sleep(Duration::from_millis(pause + rand::random_range(0..pause))).await;
        }
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Option<&Value>,
    ) -> Result<Vec<u8>, BigQueryError> {
        let path = format!("bigquery/v2/projects/{}/{path}", self.settings.project);
        let url =
            self.settings.url.join(&path).map_err(|error| BigQueryError::Malformed(error.to_string()))?;
        let mut request = self.http.request(method, url).query(query).timeout(self.settings.patience);
        let mut carried: Option<Secret<String>> = None;
        if let Some(account) = &self.settings.account {
            let token = self.token.get(&self.http, account).await?;
            request = request.bearer_auth(token.expose());
            carried = Some(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let timer = REQUEST_SECONDS.with_label_values(&["bigquery"]).start_timer();
        let answered = async {
            let mut response = request.send().await?;
            // Grown by doubling, a page would be copied again and again, and take twice its size.
            let length = response.content_length().and_then(|length| usize::try_from(length).ok());
            let mut bytes = Vec::with_capacity(length.unwrap_or_default().min(LARGEST));
            while let Some(piece) = response.chunk().await? {
                if bytes.len() + piece.len() > LARGEST {
                    return Ok((response.status(), None));
                }
                bytes.extend_from_slice(&piece);
            }
            Ok::<_, reqwest::Error>((response.status(), Some(bytes)))
        };
        let answered = answered.await;
        timer.observe_duration();
        let count = |outcome: &str| REQUESTS.with_label_values(&["bigquery", outcome]).inc();
        let (status, bytes) = answered.map_err(|error| {
            count("unreachable");
            BigQueryError::Unavailable(error.without_url().to_string())
        })?;
        count(status.as_str());
        let bytes = bytes.ok_or_else(|| BigQueryError::Malformed(format!("more than {LARGEST} bytes")))?;
        if status == StatusCode::UNAUTHORIZED
            && let Some(token) = &carried
        {
            self.token.forget(token).await;
        }
        if status.is_success() { Ok(bytes) } else { Err(refusal(status, &bytes)) }
    }
}

fn value(bytes: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// None: the job is not complete.
fn results<T>(bytes: &[u8], read: impl Fn(&[Field], &[&RawValue]) -> T) -> Result<Option<Page<T>>, String> {
    let body: ResultsBody<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if !body.job_complete {
        return Ok(None);
    }
    let without = |what: &str| format!("results without {what}");
    let fields = body.schema.ok_or_else(|| without("a schema"))?.fields;
    let total = body.total_rows.and_then(|total| total.parse().ok()).ok_or_else(|| without("totalRows"))?;
    let (rows, number) = (read(&fields, &body.rows), body.rows.len() as u64);
    Ok(Some(Page { fields, rows, number, total, next: body.page_token }))
}

fn unpaced(error: sea_orm::sqlx::Error) -> BigQueryError {
    BigQueryError::Unavailable(format!("the pace of requests can't be kept: {error}"))
}

/// What an answer other than 2xx means (<https://cloud.google.com/bigquery/docs/error-messages>).
fn refusal(status: StatusCode, bytes: &[u8]) -> BigQueryError {
    let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().chars().take(300).collect::<String>();
    let reason = text(&body["error"]["errors"][0]["reason"]);
    let message = text(&body["error"]["message"]);
    let said = format!("{status} {reason} {message}");
    match (status.as_u16(), reason.as_str()) {
        (401, _) => BigQueryError::Unauthorized(said),
        (_, "rateLimitExceeded" | "jobRateLimitExceeded") | (429, _) => BigQueryError::RateLimited(said),
        (_, "quotaExceeded") => BigQueryError::QuotaExceeded(said),
        (
            _,
            "backendError" | "internalError" | "jobBackendError" | "jobInternalError" | "tableUnavailable",
        ) => {
            if status.as_u16() == 400 {
                BigQueryError::JobFailed { reason, message }
            } else {
                BigQueryError::Unavailable(said)
            }
        }
        (_, "resourcesExceeded" | "stopped" | "timeout") => BigQueryError::JobFailed { reason, message },
        (404, _) => BigQueryError::NotFound(said),
        (500.., _) => BigQueryError::Unavailable(said),
        (code, _) => BigQueryError::Refused { code, reason, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, reason: &str) -> BigQueryError {
        let body = json!({ "error": { "code": status, "message": "m", "errors": [{ "reason": reason }] } });
        refusal(StatusCode::from_u16(status).expect("a status"), body.to_string().as_bytes())
    }

    #[test]
    fn refusals_are_told_apart() {
        assert!(matches!(refused(403, "rateLimitExceeded"), BigQueryError::RateLimited(_)));
        assert!(matches!(refused(403, "quotaExceeded"), BigQueryError::QuotaExceeded(_)));
        assert!(matches!(refused(403, "accessDenied"), BigQueryError::Refused { code: 403, .. }));
        assert!(matches!(refused(404, "notFound"), BigQueryError::NotFound(_)));
        assert!(matches!(refused(400, "invalidQuery"), BigQueryError::Refused { code: 400, .. }));
        assert!(matches!(refused(400, "backendError"), BigQueryError::JobFailed { .. }));
        assert!(matches!(refusal(StatusCode::SERVICE_UNAVAILABLE, b"<html>"), BigQueryError::Unavailable(_)));
    }
}
