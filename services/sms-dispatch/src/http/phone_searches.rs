//! Searches by phone of those who see phones masked. A page shows the last four digits, the LADA and the name; who might try
//! the digits between one after the other would have the phone. So such searches are few, and each is in the audit.

use std::time::Duration;

use chassis::{Problem, auth::Caller, lock};
use chrono::{TimeDelta, Utc};
use serde_json::json;

use super::{Resources, sees_masked};
use crate::{domain::Phone, storage::audit};

/// What a search is in the audit.
const ACTION: &str = "phone_searched";

/// Notes that the caller asks for a phone, where phones are masked for them. Whoever calls this asks
/// [`chassis::http::CrossSite::refuse`] first: a page of another site could use up the caller's searches.
///
/// # Errors
/// 429 where they have asked for as many within the hour as they may.
pub(super) async fn note(api: &Resources, caller: &Caller, phone: Phone) -> Result<(), Problem> {
    if !sees_masked(caller) {
        return Ok(());
    }
    // Counted by user: keys are cheap. Committed before anybody is looked for, so that none is free.
    let user = caller.user();
    let mut transaction = api.database.pool.begin().await?;
    lock::hold(&mut transaction, &format!("phone searches {user}")).await?;
    let hour = TimeDelta::hours(1);
    let (searches, first) = audit::since(&mut transaction, user, ACTION, Utc::now() - hour).await?;
    if searches >= api.phone_searches {
        let wait = first.map_or(hour, |first| first + hour - Utc::now());
        let detail = format!(
            "Su rol puede buscar {} teléfonos por hora, y ya lo hizo; Retry-After dice cuándo volver",
            api.phone_searches
        );
        let after = wait.to_std().unwrap_or_default().max(Duration::from_secs(1));
        return Err(Problem::too_many(after).with_details(detail));
    }
    let details = json!({ "credential": caller.id() });
    audit::record(&mut transaction, user, ACTION, Some(&phone.to_string()), &details).await?;
    transaction.commit().await?;
    Ok(())
}

/// Notes that the caller turns a page of what was found of a phone: no other search than the one that began it, for its
/// hour. That they have a cursor proves no search: they can make one up.
///
/// # Errors
/// As [`note`].
pub(super) async fn turn_page(api: &Resources, caller: &Caller, phone: Phone) -> Result<(), Problem> {
    if !sees_masked(caller) {
        return Ok(());
    }
    let since = Utc::now() - TimeDelta::hours(1);
    let mut conn = api.database.pool.acquire().await?;
    if audit::did_with(&mut conn, caller.user(), ACTION, &phone.to_string(), since).await? {
        return Ok(());
    }
    drop(conn);
    note(api, caller, phone).await
}
