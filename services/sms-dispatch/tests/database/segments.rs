use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use sea_orm::sqlx::{self, PgPool};
use sms_dispatch::{
    domain::segment::{Order, Sample, Segment, Status},
    storage::{preview, segment_sql, views},
};

const CONTACTS: usize = 3_000;
const SEGMENTS: usize = 150;

const STATES: [&str; 4] = ["BCS", "JAL", "CDMX", "NL"];
const LADAS: [&str; 4] = ["612", "33", "55", "81"];
const CITIES: [&str; 4] = ["La Paz", "Guadalajara", "Ciudad de México", "Monterrey"];
const PLACES: [&str; 5] = ["LA PAZ", "COMONDÚ", "ZAPOPAN", "TLALPAN", "APODACA"];
const CONSENT: [&str; 3] = ["unknown", "contrato", "formulario web"];

#[derive(Clone, Debug)]
struct Person {
    id: i64,
    state: Option<&'static str>,
    lada: &'static str,
    city: Option<&'static str>,
    municipality: Option<&'static str>,
    mobile: Option<bool>,
    status: Status,
    consent: &'static str,
    last_sent_at: Option<DateTime<Utc>>,
    send_count: i32,
    opted_out: bool,
}

fn one<T: Copy>(rng: &mut StdRng, of: &[T]) -> T {
    *of.choose(rng).expect("there are some")
}

fn person(rng: &mut StdRng, id: i64, now: DateTime<Utc>) -> Person {
    let some = |rng: &mut StdRng| rng.random_bool(0.9);
    let sent = rng.random_bool(0.4);
    Person {
        id,
        state: some(rng).then(|| one(rng, &STATES)),
        lada: one(rng, &LADAS),
        city: some(rng).then(|| one(rng, &CITIES)),
        municipality: some(rng).then(|| one(rng, &PLACES)),
        mobile: one(rng, &[None, Some(true), Some(true), Some(false)]),
        status: one(
            rng,
            &[Status::Active, Status::Active, Status::Inactive, Status::Unknown, Status::Invalid],
        ),
        consent: one(rng, &CONSENT),
        last_sent_at: sent.then(|| now - TimeDelta::hours(rng.random_range(0..24 * 60))),
        send_count: if sent { rng.random_range(1..8) } else { 0 },
        opted_out: rng.random_bool(0.1),
    }
}

fn segment(rng: &mut StdRng, now: DateTime<Utc>) -> Segment {
    let several = |rng: &mut StdRng, of: &[&str]| -> Vec<String> {
        let most = if rng.random_bool(0.6) { 0 } else { rng.random_range(1..3) };
        (0..most).map(|_| one(rng, of).to_owned()).collect()
    };
    let since = one(rng, &[0, 0, 1, 2]);
    let segment = Segment {
        states: several(rng, &STATES),
        ladas: several(rng, &LADAS),
        cities: several(rng, &CITIES),
        municipalities: several(rng, &PLACES),
        mobile_only: rng.random_bool(0.3),
        status: (0..rng.random_range(0..3)).map(|_| one(rng, &Status::ALL)).collect(),
        consent: several(rng, &CONSENT),
        not_contacted_since: (since == 1).then(|| now - TimeDelta::hours(rng.random_range(0..24 * 60))),
        not_contacted_days: (since == 2).then(|| rng.random_range(1..60)),
        max_sends: rng.random_bool(0.3).then(|| rng.random_range(0..8)),
        sample: rng.random_bool(0.3).then(|| Sample {
            size: rng.random_range(1..400),
            order: one(rng, &[Order::Random, Order::Newest]),
        }),
    };
    segment.checked().expect("a good segment")
}

/// The definition, said once more: slow, and plain to see.
fn belongs(person: &Person, segment: &Segment, now: DateTime<Utc>) -> bool {
    let one_of = |values: &[String], value: Option<&str>| {
        values.is_empty() || value.is_some_and(|value| values.iter().any(|one| one == value))
    };
    let days = segment.not_contacted_days.map(|days| now - TimeDelta::days(i64::from(days)));
    let quiet = segment.not_contacted_since.or(days);
    !person.opted_out
        && one_of(&segment.states, person.state)
        && one_of(&segment.ladas, Some(person.lada))
        && one_of(&segment.cities, person.city)
        && one_of(&segment.municipalities, person.municipality)
        && one_of(&segment.consent, Some(person.consent))
        && (!segment.mobile_only || person.mobile == Some(true))
        && segment.status.contains(&person.status)
        && quiet.is_none_or(|since| person.last_sent_at.is_none_or(|sent| sent < since))
        && segment.max_sends.is_none_or(|most| person.send_count <= most)
}

async fn store(pool: &PgPool, people: &[Person]) -> Result<()> {
    let mut transaction = pool.begin().await?;
    for person in people {
        sqlx::query(
            "insert into contacts (id, phone_e164, state_code, lada, city, municipality, is_mobile, status, consent,
                 last_sent_at, send_count, opt_out_at, is_valid, import, source_id)
             overriding system value
             values ($1, '+52' || (6120000000 + $1), $2, $3, $4, $5, $6, $7, $8, $9, $10,
                     case when $11 then now() end, true, 1, $1)",
        )
        .bind(person.id)
        .bind(person.state)
        .bind(person.lada)
        .bind(person.city)
        .bind(person.municipality)
        .bind(person.mobile)
        .bind(person.status.name())
        .bind(person.consent)
        .bind(person.last_sent_at)
        .bind(person.send_count)
        .bind(person.opted_out)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    sqlx::query("vacuum analyze contacts").execute(pool).await?;
    views::refresh(pool).await?;
    Ok(())
}

/// Random segments of random people, against the definition: the audience, and what its preview says of it.
#[tokio::test]
async fn a_segment_is_what_its_definition_says() -> Result<()> {
    let (namespace, database) = super::database("segments").await?;
    let pool = &database.pool;
    // As PostgreSQL keeps a time.
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let mut rng = StdRng::seed_from_u64(20_260_131);
    let people: Vec<Person> = (1..=CONTACTS as i64).map(|id| person(&mut rng, id, now)).collect();
    store(pool, &people).await?;
    let mut conn = pool.acquire().await?;
    let mut costly = pool.acquire().await?;
    // To this connection no table is cheap to read: what the cube doesn't know is estimated, here from all pages there are.
    sqlx::raw_sql("set seq_page_cost = 10000; set random_page_cost = 10000").execute(&mut *costly).await?;
    let (mut empty, mut of_cube) = (0, 0);
    for number in 0..SEGMENTS {
        let segment = segment(&mut rng, now);
        let expected: Vec<&Person> = people.iter().filter(|person| belongs(person, &segment, now)).collect();
        empty += usize::from(expected.is_empty());
        of_cube += usize::from(segment.is_of_the_cube());
        audience(&mut conn, &segment, now, &expected).await?;

        let mut by_state: BTreeMap<Option<String>, i64> = BTreeMap::new();
        for person in &expected {
            *by_state.entry(person.state.map(str::to_owned)).or_default() += 1;
        }
        let told = preview::preview(&mut conn, &segment, now).await?;
        ensure!(told.exact && told.as_of.is_some(), "number {number}: {segment:?}");
        let guessed = preview::preview(&mut costly, &segment, now).await?;
        ensure!(guessed.exact == segment.is_of_the_cube(), "number {number}: {segment:?}");
        for preview in [told, guessed] {
            let counted: BTreeMap<_, _> =
                preview.by_state.into_iter().filter(|(_, count)| *count > 0).collect();
            ensure!(
                counted == by_state,
                "number {number}: {segment:?} has {by_state:?}, told is {counted:?}"
            );
            ensure!(preview.sample.len() == expected.len().min(10), "number {number}: {:?}", preview.sample);
            let strangers: Vec<_> = preview
                .sample
                .iter()
                .filter(|example| !expected.iter().any(|person| person.id == example.id))
                .collect();
            ensure!(strangers.is_empty(), "number {number}: {strangers:?} are not in {segment:?}");
        }
    }
    ensure!(empty < SEGMENTS / 2 && of_cube > SEGMENTS / 10, "{empty} are empty, {of_cube} of the cube");
    drop((conn, costly));
    database.pool.close().await;
    namespace.cleanup().await
}

async fn audience(
    conn: &mut sqlx::PgConnection,
    segment: &Segment,
    now: DateTime<Utc>,
    expected: &[&Person],
) -> Result<()> {
    let mut ids: Vec<i64> =
        segment_sql::members(segment, now, 7).build_query_scalar().fetch_all(&mut *conn).await?;
    let again: Vec<i64> =
        segment_sql::members(segment, now, 7).build_query_scalar().fetch_all(&mut *conn).await?;
    let mut all: Vec<i64> = expected.iter().map(|person| person.id).collect();
    if let Some(sample) = segment.sample {
        ensure!(ids == again, "the same sample each time");
        match sample.order {
            Order::Newest => all.reverse(),
            // Whoever they are, they are of the segment.
            Order::Random => {
                ensure!(ids.iter().all(|id| all.contains(id)), "{segment:?}");
                ensure!(ids.len() == all.len().min(sample.size as usize), "{segment:?}");
                return Ok(());
            }
        }
        all.truncate(sample.size as usize);
    } else {
        ids.sort_unstable();
    }
    ensure!(ids == all, "{segment:?} has {} members, found are {}", all.len(), ids.len());
    Ok(())
}

/// Between a contact's coming and its mark: an import, or a restore, is under way.
#[tokio::test]
async fn who_is_suppressed_is_in_no_segment_before_the_mark() -> Result<()> {
    let (namespace, database) = super::database("segmentsout").await?;
    let pool = &database.pool;
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let mut rng = StdRng::seed_from_u64(7);
    let person = |rng: &mut StdRng, id| Person { opted_out: false, ..person(rng, id, now) };
    let people: Vec<Person> = (1..=200).map(|id| person(&mut rng, id)).collect();
    store(pool, &people).await?;
    sqlx::query(
        "insert into suppressions (phone_e164, reason, effective_at, source)
         select phone_e164, 'opt_out', now() + make_interval(days => case when id % 2 = 0 then -1 else 30 end), 'sms'
         from contacts where id > 20",
    )
    .execute(pool)
    .await?;
    let out = |id: i64| id > 20 && id % 2 == 0;
    let mut conn = pool.acquire().await?;
    let mut costly = pool.acquire().await?;
    sqlx::raw_sql("set seq_page_cost = 10000; set random_page_cost = 10000").execute(&mut *costly).await?;
    for number in 0..40 {
        let segment = segment(&mut rng, now);
        let expected: Vec<&Person> =
            people.iter().filter(|person| !out(person.id) && belongs(person, &segment, now)).collect();
        audience(&mut conn, &segment, now, &expected).await?;
        for conn in [&mut conn, &mut costly] {
            let told = preview::preview(conn, &segment, now).await?;
            let shown: Vec<i64> = told.sample.iter().map(|example| example.id).collect();
            ensure!(
                shown.iter().all(|id| expected.iter().any(|person| person.id == *id)),
                "number {number}: {shown:?} are shown of {segment:?}"
            );
            // What the cube counts is as of its refresh; what is counted now is right now.
            let counted: i64 = told.by_state.values().sum();
            let is_counted_now = told.exact && !segment.is_of_the_cube();
            ensure!(
                !is_counted_now || counted == expected.len() as i64,
                "number {number}: {counted} counted"
            );
        }
    }
    drop((conn, costly));
    database.pool.close().await;
    namespace.cleanup().await
}
