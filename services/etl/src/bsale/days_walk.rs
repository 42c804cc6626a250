//! Which days of documents a run reads.

use chrono::{NaiveDate, TimeDelta};
use messaging::JobError;

use super::{
    calendar::{before, midnight},
    days::read_day,
    reconcile,
    session::Session,
};
use crate::{domain::run::Mode, target::Page};

/// What the source wrote a moment ago may not show in its lists yet.
const LAG: TimeDelta = TimeDelta::minutes(5);

/// Walks the days that the run's mode names.
pub async fn walk(session: &mut Session<'_>) -> Result<(), JobError> {
    let settings = &session.bsale.settings;
    let (_, clock) =
        session.bsale.client.count("documents", &[("limit", "1".to_owned())], session.priority).await?;
    let today = session.place.last_day.unwrap_or_else(|| (clock - LAG).date_naive());
    session.place.last_day = Some(today);
    match session.params.mode {
        Mode::Backfill => {
            let from = session.params.from.unwrap_or(settings.start).max(settings.start);
            let to = session.params.to.unwrap_or(today).min(today);
            let mut day = session.place.day.unwrap_or(to);
            // Newest first; the watermark stays where it is.
            while day >= from {
                read_day(session, day).await?;
                let Some(before) = day.pred_opt() else { break };
                day = before;
                session.place.day = Some(day);
                session.commit(Page::default(), 0).await?;
            }
            Ok(())
        }
        Mode::Daily => {
            if session.place.phase == 0 {
                look_back(session, today).await?;
                (session.place.phase, session.place.day) = (1, None);
                session.commit(Page::default(), 0).await?;
            }
            let first = before(today, settings.check_days).max(settings.start);
            let first = session.params.from.unwrap_or(first).max(settings.start);
            reconcile::walk(session, first, today).await
        }
        Mode::Full => {
            let first = session.params.from.unwrap_or(settings.start).max(settings.start);
            reconcile::walk(session, first, today).await?;
            // All days before this one have been compared, and read where they differed.
            let watermark = (first <= settings.start).then(|| midnight(today));
            session.commit_with(Page::default(), 0, watermark).await
        }
    }
}

/// From the watermark, and some days before it, to today.
async fn look_back(session: &mut Session<'_>, today: NaiveDate) -> Result<(), JobError> {
    let settings = &session.bsale.settings;
    let from = session.watermark.map_or(today, |watermark| watermark.date_naive()).min(today);
    let from = session.params.from.unwrap_or_else(|| before(from, settings.look_back)).max(settings.start);
    let mut day = session.place.day.unwrap_or(from);
    while day <= today {
        read_day(session, day).await?;
        let Some(next) = day.succ_opt() else { break };
        // Only over days that are whole, and only from where everything before is there.
        let whole = session.watermark.is_some_and(|mark| midnight(day) <= mark && midnight(next) > mark);
        let watermark = (whole && next <= today).then(|| midnight(next));
        day = next;
        session.place.day = Some(day);
        session.commit_with(Page::default(), 0, watermark).await?;
    }
    Ok(())
}
