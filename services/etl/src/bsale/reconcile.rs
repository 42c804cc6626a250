//! Totals by day against Bsale's own: what came back-dated, was annulled or was deleted shows there, and only days that
//! differ are read again. Of what is long ago months first, so that years without a difference cost two requests a month.

use chrono::{Datelike as _, Months, NaiveDate};
use messaging::JobError;
use rust_decimal::Decimal;
use sea_orm::DbErr;
use serde_json::value::RawValue;

use super::{
    Bsale,
    batch::Batch,
    calendar::{before, range},
    days,
    record::{Bad, Record},
    session::Session,
};
use crate::target::Sql;

/// Days before today that are compared one by one: documents are issued again under another date, and a month's totals
/// don't tell.
const BY_DAY: u32 = 90;

/// Active documents of some days.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Totals {
    count: i64,
    net: Decimal,
    tax: Decimal,
    total: Decimal,
}

/// Compares the days of `first` to `last`, oldest first, and reads those that differ; all of them where the run is forced.
pub async fn walk(session: &mut Session<'_>, first: NaiveDate, last: NaiveDate) -> Result<(), JobError> {
    let mut day = session.place.day.unwrap_or(first);
    let by_day = before(last, BY_DAY.max(session.bsale.settings.check_days));
    while day <= last {
        let end = month_end(day).min(last);
        if session.params.force {
            days::read_day(session, day, day.succ_opt().filter(|next| *next <= last)).await?;
        } else if end > day && end < by_day && same(session, day, end).await? {
            // A month that is the same needs no look at its days; one day is looked at anyhow.
            day = end;
        } else if !same(session, day, day).await? {
            days::read_day(session, day, None).await?;
            if !same(session, day, day).await? {
                tracing::warn!(%day, "the documents of a day differ from Bsale's totals after they were read again");
                if session.place.differing.len() < 100 {
                    session.place.differing.push(day);
                }
            }
        }
        let Some(next) = day.succ_opt() else { break };
        day = next;
        session.place.day = Some(day);
        session.add(Batch::default()).await?;
    }
    Ok(())
}

async fn same(session: &mut Session<'_>, from: NaiveDate, to: NaiveDate) -> Result<bool, JobError> {
    let (bsale, priority) = (session.bsale, session.priority);
    let query = [("emissiondaterange", range(from, to)), ("perdocument", "1".to_owned())];
    let read = bsale
        .client
        .read("documents/summary.json", &query, priority, |answer| {
            let raw =
                RawValue::from_string(answer.body.trim().to_owned()).map_err(|error| error.to_string())?;
            Ok(raw)
        })
        .await?;
    let theirs = match totals(&read) {
        Ok(totals) => totals,
        Err(Bad::Drift(what) | Bad::Record(what)) => return Err(session.drift(&what)),
    };
    session.flush().await?;
    let (ours, annulled) = ours(bsale, from, to).await.map_err(JobError::retry)?;
    if theirs != ours {
        return Ok(false);
    }
    // Totals are of active ones: a document that was annulled before anybody looked is in none.
    let query = [("emissiondaterange", range(from, to)), ("state", "1".to_owned())];
    let (theirs, _) = bsale.client.count("documents", &query, priority).await?;
    Ok(theirs == annulled)
}

/// The sum of a summary: a list of totals, or an object with one.
fn totals(raw: &RawValue) -> Result<Totals, Bad> {
    let items: Vec<Record<'_>> = if raw.get().starts_with('[') {
        let items: Vec<&RawValue> =
            serde_json::from_str(raw.get()).map_err(|_| Bad::Drift("summary is not a list".to_owned()))?;
        items.into_iter().map(|raw| Record::read("summary", raw)).collect::<Result<_, _>>()?
    } else {
        Record::read("summary", raw)?.list("items")?
    };
    let mut sum = Totals::default();
    for mut item in items {
        sum.count += item.id("count")?;
        sum.net += item.amount("totalNetAmount")?;
        sum.tax += item.amount("totalTaxAmount")?;
        sum.total += item.amount("totalAmount")?;
    }
    Ok(sum)
}

/// Those of active documents, and how many annulled ones there are.
async fn ours(bsale: &Bsale, from: NaiveDate, to: NaiveDate) -> Result<(Totals, u64), DbErr> {
    let query = "SELECT estado, count(*) AS n, sum(monto_neto) AS net, sum(monto_iva) AS tax, sum(monto_total) AS total
                 FROM documentos_venta
                 WHERE fecha_emision BETWEEN ? AND ? AND estado IN (0, 1) AND eliminado_en IS NULL GROUP BY estado";
    let (mut totals, mut annulled) = (Totals::default(), 0);
    for row in Sql::new(query).bind(from).bind(to).all(&bsale.target.db).await? {
        let (state, count): (i64, i64) = (row.try_get("", "estado")?, row.try_get("", "n")?);
        let sum = |name: &str| Ok::<_, DbErr>(row.try_get::<Option<Decimal>>("", name)?.unwrap_or_default());
        if state == 0 {
            totals = Totals { count, net: sum("net")?, tax: sum("tax")?, total: sum("total")? };
        } else {
            annulled = count.unsigned_abs();
        }
    }
    Ok((totals, annulled))
}

fn month_end(day: NaiveDate) -> NaiveDate {
    let first = day.with_day(1).unwrap_or(day);
    first.checked_add_months(Months::new(1)).and_then(|next| next.pred_opt()).unwrap_or(day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_a_list_or_has_one() {
        let one = r#"{"count": 2, "totalNetAmount": 100.5, "totalTaxAmount": 19.1, "totalAmount": 119.6}"#;
        for text in [format!("[{one},{one}]"), format!(r#"{{"items":[{one},{one}]}}"#)] {
            let raw = RawValue::from_string(text).expect("JSON");
            let totals = totals(&raw).expect("totals");
            assert_eq!((totals.count, totals.total.to_string()), (4, "239.2000".to_owned()));
        }
        let raw = RawValue::from_string(r#"[{"count": 2}]"#.to_owned()).expect("JSON");
        assert_eq!(totals(&raw), Err(Bad::Drift("summary.totalNetAmount is missing".to_owned())));
    }

    #[test]
    fn months_end_on_their_last_day() {
        for (day, end) in
            [("2024-02-03", "2024-02-29"), ("2025-12-31", "2025-12-31"), ("2025-01-01", "2025-01-31")]
        {
            let day: NaiveDate = day.parse().expect("a day");
            assert_eq!(month_end(day).to_string(), end);
        }
    }
}
