//! Who of an audience becomes a recipient, and why others don't: of the contacts, or of the rows of a file. SQL by hand: parts
//! of the one statement that judges a window ([`super::audience_windows`]) or foretells a campaign ([`super::expected`]).

use std::borrow::Cow;

use chrono::NaiveDate;
use sea_orm::sqlx::{self, PgConnection, Postgres, QueryBuilder};
use serde::Deserialize;

use super::{campaigns::Campaign, ledger::partition, segment_sql};
use crate::{
    domain::{
        audience_file::Source,
        campaign::{CAP_DAYS, Frozen, Kind},
        segment::Order,
        windows::Clocks,
    },
    places,
};

/// What the windows of one campaign have in common.
#[derive(Clone, Debug)]
pub struct Audience<'a> {
    /// The campaign's number.
    pub campaign: i32,
    pub date: NaiveDate,
    pub kind: Kind,
    pub frozen: &'a Frozen,
    /// The template's names in the order of `vars`; those without a default are required.
    pub names: &'a [Name],
    /// The weights of the texts.
    pub weights: &'a [u32],
    /// By state, or by LADA where a contact has no state: what its windows are known by.
    pub zones: &'a [(String, i16)],
    /// Of contacts that are in neither.
    pub other_zone: i16,
    /// Days between two messages of marketing to a phone.
    pub cap_days: i32,
    /// The days of the campaigns whose recipients are left out.
    pub less_days: &'a [NaiveDate],
}

impl<'a> Audience<'a> {
    /// A campaign's, as it is on a day.
    pub fn of(
        campaign: &Campaign,
        date: NaiveDate,
        frozen: &'a Frozen,
        names: &'a [Name],
        weights: &'a [u32],
        less_days: &'a [NaiveDate],
    ) -> Self {
        Self {
            campaign: campaign.number,
            date,
            kind: campaign.kind,
            frozen,
            names,
            weights,
            zones: places::zones(),
            other_zone: Clocks::Anywhere.code(),
            cap_days: CAP_DAYS,
            less_days,
        }
    }
}

/// A name of the template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    pub name: String,
    pub required: bool,
    /// Where its value stands.
    pub source: Source,
}

/// Recipients that have state, clocks and text in common.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Group {
    pub state_code: Option<String>,
    /// The number of their [`Clocks`].
    pub zone: i16,
    pub variant: i16,
    pub recipients: i64,
}

/// How many fell out by a reason.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Reason {
    pub reason: String,
    pub contacts: i64,
}

/// What a statement that [`push_judged`] began selects of what it judged: how many match, [`Reason`]s, and [`Group`]s.
pub(super) const SUMS: &str = "
    (select count(*) from matching),
    (select coalesce(jsonb_agg(r), '[]') from reasons r),
    (select coalesce(jsonb_agg(g), '[]') from (
        select state_code, zone, variant, count(*) as recipients from zoned group by 1, 2, 3) g)";

/// Which contacts a statement judges, or which rows of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Among {
    /// The next `size` of those that match, behind the id `after`; all of them where a sample is drawn. `repeats`: some may be in
    /// the ledger already.
    Window { after: i64, size: i64, repeats: bool },
    /// All of them.
    All,
    /// Those on so many of a hundred pages of the table, chosen at random, or as many of a hundred rows of a file; of them no
    /// sample is drawn.
    Pages { percent: f32 },
}

/// Begins a statement with who matches (`matching`), why some of them fall out (`judged`), who is drawn of the others (`drawn`),
/// these with the clocks they live by and their text (`zoned`), and how many fell out by reason (`reasons`). Whoever writes an
/// audience and whoever foretells one judge by this.
pub(super) fn push_judged(query: &mut QueryBuilder<Postgres>, audience: &Audience<'_>, among: Among) {
    let Audience { frozen, kind, .. } = *audience;
    query.push("with matching as (");
    let people = match &frozen.file {
        Some(file) => {
            push_rows(query, frozen, file.number, among);
            "audience_rows"
        }
        None => {
            push_contacts(query, frozen, among);
            "contacts"
        }
    };
    if !frozen.less_campaigns.is_empty() {
        query.push(format!(
            " and not exists (select from messages m where m.phone_e164 = {people}.phone_e164 and (m.campaign + 0) = any("
        ));
        // Only the partitions of their days are read.
        query.push_bind(frozen.less_campaigns.clone()).push(") and m.date = any(");
        query.push_bind(audience.less_days.to_vec()).push("))");
    }
    if let (Among::Window { size, .. }, None) = (among, frozen.filter.sample) {
        query.push(" order by id limit ").push_bind(size);
    }
    query.push("), judged as (select m.*, ");
    push_reason(query, audience);
    query.push(
        " as excluded from matching m left join lateral (
             select (array['opt_out', 'manual', 'repep', 'reus'])[
                        min(array_position(array['opt_out', 'manual', 'repep', 'reus'], s.reason))] as reason
             from suppressions s where s.phone_e164 = m.phone_e164 and s.effective_at <= now()",
    );
    if kind != Kind::Marketing {
        query.push(" and s.reason in ('opt_out', 'manual')");
    }
    query.push(
        ") s on true
          left join phone_sends p on p.phone_e164 = m.phone_e164
          left join lateral (select true as there from ",
    );
    push_earlier(query, audience, among);
    query.push(", drawn as (select * from judged where excluded is null");
    if let Some(sample) = frozen.filter.sample.filter(|_| !matches!(among, Among::Pages { .. })) {
        match sample.order {
            Order::Random => {
                query.push(" order by hashint8extended(id, ").push_bind(frozen.seed).push("), id")
            }
            Order::Newest => query.push(" order by id desc"),
        };
        query.push(" limit ").push_bind(sample.size);
    }
    query.push("), zoned as (select d.*, coalesce(z.zone, ").push_bind(audience.other_zone);
    query.push(") as zone, ");
    push_variant(query, audience);
    query.push(" as variant from drawn d left join unnest(");
    query
        .push_bind(audience.zones.iter().map(|(place, _)| place.clone()).collect::<Vec<_>>())
        .push("::text[], ");
    query.push_bind(audience.zones.iter().map(|(_, zone)| *zone).collect::<Vec<_>>());
    query.push(
        "::smallint[]) z (place, zone) on z.place = coalesce(d.state_code, d.lada)),
         reasons as (
             select excluded as reason, count(*) as contacts from judged where excluded is not null group by 1
             union all
             select 'not_drawn', n from (
                 select (select count(*) from judged where excluded is null) - (select count(*) from drawn) as n) rest where n > 0)",
    );
}

/// Ends the lateral that says whether a phone is there already, as `r`.
fn push_earlier(query: &mut QueryBuilder<Postgres>, audience: &Audience<'_>, among: Among) {
    let Audience { campaign, frozen, .. } = *audience;
    if let Some(file) = &frozen.file {
        // The first of a phone's rows counts. Look-ups one by one, by phone: by statistics from before the file it has no rows.
        query.push("audience_rows e where (e.file + 0) = ").push_bind(file.number);
        query.push(" and e.phone_e164 = m.phone_e164 and e.id < m.id limit 1) r on true)");
    } else if let Among::Window { repeats: true, .. } = among {
        // A contact that was replaced meanwhile comes back under another id, behind the windows that had it. Look-ups one by
        // one, by phone: the planner doesn't know how fast the ledger grows, and by statistics from before the campaign it
        // has no rows, so that all of them could be read for each contact.
        query
            .push(partition(audience.date))
            .push(" r where r.phone_e164 = m.phone_e164 and (r.campaign + 0) = ");
        query.push_bind(campaign).push(" limit 1) r on true)");
    } else {
        // Nobody has a message yet; where that is wrong of a window, the ledger refuses it.
        query.push("contacts where false) r on true)");
    }
}

/// Selects the contacts of a segment, less those of others; the statement's `where` goes on behind it.
fn push_contacts(query: &mut QueryBuilder<Postgres>, frozen: &Frozen, among: Among) {
    query.push(
        "select id, phone_e164, full_name, city, state_code, lada, is_valid, is_mobile, consent from contacts",
    );
    match among {
        Among::Window { after, .. } => query.push(" where id > ").push_bind(after),
        Among::All => query.push(" where true"),
        Among::Pages { percent } => {
            query.push(" tablesample system (").push_bind(percent).push(") where true")
        }
    };
    segment_sql::push_audience(query, &frozen.filter, frozen.at);
    for less in &frozen.less_filters {
        query.push(" and (true");
        segment_sql::push_audience(query, less, frozen.at);
        query.push(") is not true");
    }
}

/// Selects the rows of a file, less the contacts of segments; the statement's `where` goes on behind it. What a provider said of
/// a phone counts for it, whoever has it. Who uploaded the file said whose consent there is, for all of its rows; one that was
/// taken back is none.
fn push_rows(query: &mut QueryBuilder<Postgres>, frozen: &Frozen, file: i32, among: Among) {
    query.push(
        "select id, phone_e164, full_name, city, state_code, lada,
                is_valid and coalesce((select l.is_valid from phone_lookups l
                                       where l.phone_e164 = audience_rows.phone_e164), true) as is_valid,
                coalesce((select l.is_mobile from phone_lookups l
                          where l.phone_e164 = audience_rows.phone_e164), is_mobile) as is_mobile,
                case when exists (select from consent_withdrawals w where w.phone_e164 = audience_rows.phone_e164)
                     then 'unknown' else 'file' end as consent, vals
         from audience_rows where file = ",
    );
    query.push_bind(file);
    match among {
        Among::Window { after, .. } => {
            query.push(" and id > ").push_bind(after);
        }
        Among::All => {}
        Among::Pages { percent } => {
            query.push(" and id % ").push_bind((100.0 / percent).round() as i64).push(" = 0");
        }
    }
    for less in &frozen.less_filters {
        query.push(
            " and not exists (select from contacts where contacts.phone_e164 = audience_rows.phone_e164",
        );
        segment_sql::push_audience(query, less, frozen.at);
        query.push(")");
    }
}

/// The first reason that holds; null where none does.
fn push_reason(query: &mut QueryBuilder<Postgres>, audience: &Audience<'_>) {
    query.push(
        "case when s.reason is not null then s.reason when not m.is_valid then 'invalid'
              when r.there then 'repeated' when m.is_mobile is false then 'landline'",
    );
    if audience.kind == Kind::Marketing {
        query.push(" when m.consent = 'unknown' then 'no_consent' when p.marketing_at > now() - make_interval(days => ");
        query.push_bind(audience.cap_days).push(") then 'cap'");
    }
    for name in audience.names.iter().filter(|name| name.required) {
        query.push(format!(" when coalesce(btrim({}), '') = '' then 'no_value'", expression(name.source)));
    }
    query.push(" end");
}

/// The values of the template's names, as a row keeps them.
pub(super) fn push_vars(query: &mut QueryBuilder<Postgres>, names: &[Name]) {
    let values: Vec<_> =
        names.iter().map(|name| format!("coalesce({}, '')", expression(name.source))).collect();
    query.push(format!("array[{}]::text[]", values.join(", ")));
}

/// Where a name's value stands: none of this is a stranger's text.
fn expression(source: Source) -> Cow<'static, str> {
    match source {
        Source::FullName => "full_name".into(),
        Source::City => "city".into(),
        // Arrays begin with 1.
        Source::Column(place) | Source::FirstNameIn(place) => format!("vals[{}]", place + 1).into(),
    }
}

/// Which text: by the phone's hash, so that a phone has the same one whatever becomes of its contact.
fn push_variant(query: &mut QueryBuilder<Postgres>, audience: &Audience<'_>) {
    let mut sum = 0_i64;
    let bounds: Vec<i64> = audience
        .weights
        .iter()
        .map(|weight| {
            sum += i64::from(*weight);
            sum
        })
        .collect();
    query.push("width_bucket((hashtextextended(phone_e164, ").push_bind(audience.frozen.seed);
    query.push(") & 9223372036854775807) % ").push_bind(sum).push(", ").push_bind(bounds);
    query.push(")::smallint");
}

/// The days of campaigns that have started: those that their recipients are found in.
pub async fn days_of(conn: &mut PgConnection, campaigns: &[i32]) -> sqlx::Result<Vec<NaiveDate>> {
    sqlx::query_scalar("select distinct date from campaigns where number = any($1) and date is not null")
        .bind(campaigns)
        .fetch_all(conn)
        .await
}

/// Who fell out of an audience, by reason.
pub async fn exclusions(pool: &sqlx::PgPool, campaign: i32) -> sqlx::Result<Vec<(String, i64)>> {
    sqlx::query_as(
        "select reason, contacts from campaign_exclusions where campaign = $1 order by contacts desc, reason",
    )
    .bind(campaign)
    .fetch_all(pool)
    .await
}
