//! Jobs as clients see them: that one was taken, how far it is, and what is wrong with a request for one.

use actix_web::HttpResponse;
use chrono::{DateTime, Utc};
use jobs::{Job, State};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Problem;

/// La petición está guardada y se procesará.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    message: &'static str,
    id: Uuid,
    /// Dónde preguntar cuánto lleva.
    status_url: String,
}

impl Accepted {
    /// 202, with where to look. `list` is the path that the id is below.
    pub fn respond(message: &'static str, list: &str, id: Uuid) -> HttpResponse {
        let status_url = format!("{list}/{id}");
        let location = ("Location", status_url.clone());
        HttpResponse::Accepted().insert_header(location).json(Self { message, id, status_url })
    }
}

/// How fast a job is, and when it will be done, while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Items a second, since it started.
    pub per_second: Option<f64>,
    /// Whole seconds, where it is known how many items there are.
    pub eta_seconds: Option<i64>,
}

impl Pace {
    /// A job's pace at this moment; nothing in its first second, which says little.
    pub fn of(job: &Job, now: DateTime<Utc>) -> Self {
        let started = job.started_at.filter(|_| job.state == State::Running);
        let seconds = started.map(|since| (now - since).as_seconds_f64()).filter(|seconds| *seconds > 1.0);
        let per_second =
            seconds.map(|seconds| job.progress.processed as f64 / seconds).filter(|rate| *rate > 0.0);
        let left = job.progress.total.map(|total| (total - job.progress.processed).max(0));
        let eta_seconds = left.zip(per_second).map(|(left, rate)| (left as f64 / rate).ceil() as i64);
        Self { per_second, eta_seconds }
    }
}

/// How much is done, in percent with one decimal; none where nobody knows how much there is, or there is nothing.
pub fn percent(done: i64, total: Option<i64>) -> Option<f64> {
    let total = total.filter(|total| *total > 0)?;
    Some((1000.0 * done as f64 / total as f64).round() / 10.0)
}

impl From<jobs::Error> for Problem {
    /// 409 for a key of another request; 503 or 500 for all else.
    fn from(error: jobs::Error) -> Self {
        match error {
            jobs::Error::KeyReused(_) => Self::key_reused(),
            error => anyhow::Error::new(error).into(),
        }
    }
}

impl Problem {
    /// 409: the request's `Idempotency-Key` came with another request before.
    pub fn key_reused() -> Self {
        Self::conflict("idempotency_key_reused", "Idempotency-Key ya fue usada con otra petición")
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn a_share_has_one_decimal_and_nothing_has_none() {
        assert_eq!(percent(1, Some(3)), Some(33.3));
        assert_eq!(percent(3, Some(3)), Some(100.0));
        assert_eq!(percent(0, Some(0)), None);
        assert_eq!(percent(5, None), None);
    }
}
