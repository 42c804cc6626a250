//! A segment as SQL, with its values as parameters. Nowhere else is one. By hand, for it is a part of larger queries by hand.

use chrono::{DateTime, Utc};
use sea_orm::sqlx::{Postgres, QueryBuilder};

use crate::domain::segment::{Order, Segment};

/// What a condition is about: both have columns of the same names, but for who opted out. Contacts go by this name, whatever
/// they are selected from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Contacts,
    Cube,
}

/// Adds the conditions that the cube knows, each after an `and`.
pub fn push_of_cube(query: &mut QueryBuilder<Postgres>, segment: &Segment, over: Over) {
    query.push(match over {
        Over::Contacts => " and opt_out_at is null",
        Over::Cube => " and not opted_out",
    });
    push_places(query, segment);
}

/// Adds all conditions but the sample for a campaign's audience, each after an `and`. Who opted out matches: a campaign counts
/// whom it leaves out, by the suppression that says so.
pub fn push_audience(query: &mut QueryBuilder<Postgres>, segment: &Segment, now: DateTime<Utc>) {
    push_places(query, segment);
    push_rest(query, segment, now);
}

fn push_places(query: &mut QueryBuilder<Postgres>, segment: &Segment) {
    let status: Vec<&str> = segment.status.iter().map(|status| status.name()).collect();
    query.push(" and status = any(").push_bind(status).push(")");
    for (column, values) in [
        ("state_code", &segment.states),
        ("lada", &segment.ladas),
        ("city", &segment.cities),
        ("consent", &segment.consent),
    ] {
        if !values.is_empty() {
            query.push(format!(" and {column} = any(")).push_bind(values.clone()).push(")");
        }
    }
    if segment.mobile_only {
        query.push(" and is_mobile");
    }
}

/// How the suppressions are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Contact by contact, where they are few: reading millions of suppressions for them would take a hundred times as long.
    OneByOne,
    /// As the planner thinks best.
    Planned,
}

/// Leaves out whose phone is suppressed, whether their contact is marked yet or not: for whoever shows people, counts them or
/// acts on them. Between a contact's coming and its mark nobody may be written to.
pub fn push_not_suppressed(query: &mut QueryBuilder<Postgres>, look: Look) {
    query.push(
        " and not exists (select from suppressions s where s.phone_e164 = contacts.phone_e164 and s.effective_at <= now()",
    );
    // Which makes no join of it.
    query.push(if look == Look::OneByOne { " offset 0)" } else { ")" });
}

/// Adds the conditions that only contacts know, each after an `and`.
pub fn push_rest(query: &mut QueryBuilder<Postgres>, segment: &Segment, now: DateTime<Utc>) {
    if !segment.municipalities.is_empty() {
        query.push(" and municipality = any(").push_bind(segment.municipalities.clone()).push(")");
    }
    // What campaigns sent stands by phone, and beside what contacts came with.
    if let Some(since) = segment.quiet_since(now) {
        query.push(" and (last_sent_at is null or last_sent_at < ").push_bind(since);
        query.push(
            ") and not exists (select from phone_sends p where p.phone_e164 = contacts.phone_e164 and p.last_sent_at >= ",
        );
        query.push_bind(since).push(")");
    }
    if let Some(most) = segment.max_sends {
        query.push(" and send_count + coalesce((select sends from phone_sends p where p.phone_e164 = contacts.phone_e164), 0) <= ");
        query.push_bind(most);
    }
}

/// The ids of an audience at `now`, exactly. Of a random sample, `seed` decides who is in it: the same ones each time.
pub fn members(segment: &Segment, now: DateTime<Utc>, seed: i64) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("select id from contacts where true");
    push_of_cube(&mut query, segment, Over::Contacts);
    push_rest(&mut query, segment, now);
    push_not_suppressed(&mut query, Look::Planned);
    if let Some(sample) = segment.sample {
        match sample.order {
            Order::Random => query.push(" order by hashint8extended(id, ").push_bind(seed).push("), id"),
            // Ids are given in the order of arrival.
            Order::Newest => query.push(" order by id desc"),
        };
        query.push(" limit ").push_bind(sample.size);
    }
    query
}
