//! A campaign that goes wrong stops by itself: by its last outcomes, and before the many by its first few.

use sea_orm::{
    ActiveValue::Set,
    sqlx::{PgConnection, PgPool},
};

use crate::{
    campaigns::{self, Refused},
    domain::{
        campaign::{Action, State},
        outcome_window::{Ended, Share, WINDOW, since_last},
    },
    storage::{
        campaigns::{self as rows, ActiveModel, Campaign},
        outcomes,
        slices::Wait,
        totals,
    },
};

/// How a campaign goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// So many messages more may be given to workers; none: as many as its rate allows.
    On(Option<i64>),
    /// What was sent first waits for its reports.
    Ramp,
    /// It was paused.
    Paused,
}

/// Looks at what became of a running campaign's messages. `above_percent` is what fails at most before it is paused.
///
/// # Errors
/// The database.
pub async fn look(pool: &PgPool, campaign: &Campaign, above_percent: u8) -> anyhow::Result<Course> {
    let mut conn = pool.acquire().await?;
    let counts = totals::ended(&mut conn, campaign.number).await?;
    let above = campaign.plan.pause_above_percent.unwrap_or(above_percent);
    // What nobody knows of did not arrive, as far as is known: a provider that answers nothing must stop a campaign too.
    let ended =
        Ended { ended: counts.ended.ended + counts.unknown, failed: counts.ended.failed + counts.unknown };
    if let Some(failed) = window(&mut conn, campaign, ended).await?
        && failed.is_above(above)
    {
        let reason =
            format!("Se pausó sola: fallaron {} de los últimos {} mensajes", failed.failed, failed.ended);
        return pause(pool, campaign, &reason, None).await;
    }
    let Some(first) = campaign.plan.ramp.filter(|_| campaign.ramped_at.is_none()).map(i64::from) else {
        return Ok(Course::On(None));
    };
    if counts.asked < first {
        return Ok(Course::On(Some(first - counts.asked)));
    }
    // Of those of which nobody knows whether they went out no report need come.
    if ended.ended < counts.asked {
        return Ok(Course::Ramp);
    }
    if Share::from(ended).is_above(above) {
        let Ended { ended, failed } = ended;
        let reason = format!("Se pausó sola: fallaron {failed} de los primeros {ended} mensajes");
        return pause(pool, campaign, &reason, Some(Wait::Ramp)).await;
    }
    outcomes::ramped(&mut conn, campaign.number).await?;
    Ok(Course::On(None))
}

/// What became of the last messages that ended; none before there are enough of them.
async fn window(conn: &mut PgConnection, campaign: &Campaign, now: Ended) -> anyhow::Result<Option<Share>> {
    let known = outcomes::of(conn, campaign.number).await?;
    let (base, share) = since_last(&known, now);
    if outcomes::is_news(&known, now) {
        outcomes::add(conn, campaign.number, now, base).await?;
    }
    Ok(share.filter(|share| share.ended >= WINDOW))
}

async fn pause(
    pool: &PgPool,
    campaign: &Campaign,
    reason: &str,
    waits: Option<Wait>,
) -> anyhow::Result<Course> {
    let mut transaction = pool.begin().await?;
    let Some(locked) = rows::lock(&mut transaction, campaign.id).await? else { return Ok(Course::Paused) };
    if locked.state != State::Running {
        return Ok(Course::Paused);
    }
    let change = ActiveModel {
        reason: Set(Some(reason.to_owned())),
        waiting: Set(waits.map(|wait| wait.name().to_owned())),
        ..Default::default()
    };
    match campaigns::act(&mut transaction, &locked, Action::Pause, "system", change).await {
        Ok(_) => {}
        Err(Refused::Other(error)) => return Err(error),
        Err(_) => return Ok(Course::Paused),
    }
    // Who resumes it has looked: from then on it is judged by what comes.
    outcomes::forget(&mut transaction, campaign.number).await?;
    transaction.commit().await?;
    tracing::error!(campaign = %campaign.id, reason, "campaign paused by itself");
    Ok(Course::Paused)
}
