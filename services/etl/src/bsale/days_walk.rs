//! Which days of documents a run reads.

use chrono::{NaiveDate, TimeDelta};
use messaging::JobError;

use super::{
    batch::Batch,
    calendar::{before, midnight},
    days::read_day,
    reconcile,
    session::Session,
};
use crate::domain::run::Mode;

/// What the source wrote a moment ago may not show in its lists yet.
const LAG: TimeDelta = TimeDelta::minutes(5);

/// Walks the days that the run's mode names.
pub async fn walk(session: &mut Session<'_>) -> Result<(), JobError> {
    let settings = &session.bsale.settings;
    let (_, clock) =
        session.bsale.client.count("documents", &[("limit", "1".to_owned())], session.priority).await?;
    let today = session.place.last_day.unwrap_or_else(|| (clock - LAG).date_naive());
    session.place.last_day = Some(today);
    // Nothing was ever read whole, or somebody has said to forget that it was: a daily run is a full one.
    let first_of_all = session.watermark.is_none() && session.params.from.is_none();
    match session.params.mode {
        Mode::Backfill => {
            let from = session.params.from.unwrap_or(settings.start).max(settings.start);
            let to = session.params.to.unwrap_or(today).min(today);
            let mut day = session.place.day.unwrap_or(to);
            // Newest first; the watermark stays where it is.
            while day >= from {
                read_day(session, day, day.pred_opt().filter(|before| *before >= from)).await?;
                let Some(before) = day.pred_opt() else { break };
                day = before;
                session.place.day = Some(day);
                session.add(Batch::default()).await?;
            }
            Ok(())
        }
        Mode::Daily if !first_of_all => {
            if session.place.phase == 0 {
                look_back(session, today).await?;
                (session.place.phase, session.place.day) = (1, None);
                session.add(Batch::default()).await?;
            }
            let first = before(today, settings.check_days).max(settings.start);
            let first = session.params.from.unwrap_or(first).max(settings.start);
            reconcile::walk(session, first, today).await
        }
        Mode::Daily | Mode::Full => {
            let first = session.params.from.unwrap_or(settings.start).max(settings.start);
            reconcile::walk(session, first, today).await?;
            // All days before this one have been compared, and read where they differed.
            let watermark = (first <= settings.start).then(|| midnight(today));
            session.add(Batch { watermark, ..Batch::default() }).await
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
        read_day(session, day, day.succ_opt().filter(|next| *next <= today)).await?;
        let Some(next) = day.succ_opt() else { break };
        // Only over days that are whole, and only from where everything before is there: before the start there is nothing.
        let mark = session.watermark.or((from <= settings.start).then(|| midnight(from)));
        let whole = mark.is_some_and(|mark| midnight(day) <= mark && midnight(next) > mark);
        let watermark = (whole && next <= today).then(|| midnight(next));
        day = next;
        session.place.day = Some(day);
        session.add(Batch { watermark, ..Batch::default() }).await?;
    }
    Ok(())
}
