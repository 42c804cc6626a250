//! What a campaign would come to, told before it starts: who is written to and who is not, how many parts that makes, what they
//! cost, and when the last one leaves.

use std::collections::BTreeMap;

use chassis::db::Orm;
use chrono::{DateTime, Utc};
use sea_orm::sqlx::PgPool;

use crate::{
    campaigns::{self, Refused},
    config::SmsSettings,
    domain::{
        campaign::{Frozen, FrozenSender, State},
        forecast,
        parts::{Alphabet, Count, MAX_PARTS},
        sender::ProviderName,
        windows::Clocks,
    },
    storage::{
        audiences::{self, Audience, Name},
        campaigns::Campaign,
        expected::{self, Drawn, Expected},
        providers, senders,
    },
    texts::Texts,
};

/// Texts that are made at most, of all variants and senders together, each three times.
const MADE: usize = 20_000;
/// Texts that are shown.
const SHOWN: usize = 5;

/// What a campaign would come to.
#[derive(Clone, Debug)]
pub struct Preview {
    pub audience: Expected,
    pub parts: Parts,
    /// Millionths by currency.
    pub costs: BTreeMap<String, f64>,
    /// Parts of senders that have no price.
    pub unpriced_parts: f64,
    /// Parts a second; none where no sender of it is in use.
    pub per_second: Option<f64>,
    pub starts_at: DateTime<Utc>,
    /// None where it doesn't end within 90 days.
    pub ends_at: Option<DateTime<Utc>>,
    pub shown: Vec<Shown>,
}

/// How many parts the messages have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    pub total: f64,
    /// Counted: the audience was, and all messages have as many. Else the mean of so many texts.
    pub exact: bool,
    pub sampled: usize,
    /// Parts with letters left as they are, and with letters replaced that cost a second alphabet.
    pub as_written: f64,
    pub transliterated: f64,
    /// Messages with more parts than a provider takes: they are not sent.
    pub too_long: f64,
}

/// One of the messages, as its recipient would read it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub contact: i64,
    pub text: String,
    pub count: Count,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum NoPreview {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("no sample of the contacts could be looked at in time")]
    TooLate,
}

impl From<sea_orm::sqlx::Error> for NoPreview {
    fn from(error: sea_orm::sqlx::Error) -> Self {
        Self::Refused(error.into())
    }
}

impl From<sea_orm::DbErr> for NoPreview {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Refused(error.into())
    }
}

/// What a draft, or a scheduled campaign, would come to if it started as it is now.
///
/// # Errors
/// [`Refused::State`] where it has started: its ledger says what it comes to. What a start would be refused for.
pub async fn preview(
    pool: &PgPool,
    settings: &SmsSettings,
    campaign: &Campaign,
) -> Result<Preview, NoPreview> {
    if !matches!(campaign.state, State::Draft | State::Scheduled) {
        return Err(Refused::State(campaign.state).into());
    }
    let now = Utc::now();
    // A transaction of its own: freezing locks what the audience is made of, and counting takes seconds.
    let mut transaction = pool.begin().await?;
    let frozen = campaigns::freeze(&mut transaction, campaign, now, &settings.public_url).await?;
    transaction.rollback().await?;
    let day = campaigns::day(&campaign.plan, now);
    let texts = Texts::of(&campaign.plan, frozen.file.as_ref()).map_err(Refused::from)?;
    let texts = texts.linked(&frozen, day, campaign.number);
    let weights: Vec<u32> = campaign.plan.texts.iter().map(|text| text.weight).collect();

    let mut conn = pool.acquire().await?;
    let less_days = audiences::days_of(&mut conn, &frozen.less_campaigns).await?;
    let audience = Audience::of(campaign, day, &frozen, texts.names(), &weights, &less_days);
    let audience = expected::expected(&mut conn, &audience).await?.ok_or(NoPreview::TooLate)?;
    let addresses: Vec<String> = frozen.senders.iter().map(|sender| sender.address.clone()).collect();
    let rates = senders::of(&mut conn, &addresses).await?;
    let accounts = providers::list(&Orm::on(&mut conn)).await?;
    drop(conn);

    let written = Written::of(&texts, &frozen, &audience.drawn, weights.len());
    let per_second = rate(campaign, &rates, &accounts, 1.0 - settings.singles_share);
    let starts_at = campaign.start_at.filter(|at| *at > now).unwrap_or(now);
    let work: Vec<(Clocks, f64)> = audience
        .groups
        .iter()
        .map(|group| {
            let clocks = Clocks::from_code(group.zone).unwrap_or(Clocks::Anywhere);
            (clocks, group.recipients as f64 * written.mean(group.variant, |means| means.parts))
        })
        .collect();
    let not_before = |clocks| frozen.own_hour.and_then(|hour| hour.at(clocks));
    let ends_at =
        per_second.and_then(|rate| forecast::ends(&work, rate, settings.hours, not_before, starts_at));
    let (costs, unpriced_parts) = written.costs(&audience, &frozen.senders);
    let shown = shown(&texts, &frozen, &audience.drawn);
    let parts = written.parts(&audience);
    Ok(Preview { audience, parts, costs, unpriced_parts, per_second, starts_at, ends_at, shown })
}

/// Parts a second that a campaign's senders and their accounts let out, of which it has this part, less where the campaign
/// itself is slower.
fn rate(
    campaign: &Campaign,
    senders: &[senders::Sender],
    accounts: &[providers::Provider],
    part: f64,
) -> Option<f64> {
    let of = |name: ProviderName| -> f64 {
        let used = senders.iter().filter(|sender| sender.enabled && sender.provider == name);
        used.map(|sender| sender.per_second).sum()
    };
    let all: f64 = accounts.iter().map(|account| of(account.name).min(account.per_second)).sum();
    let wished = campaign.plan.per_minute.map_or(f64::INFINITY, |rate| f64::from(rate) / 60.0);
    (all > 0.0).then(|| (all * part).min(wished))
}

/// What a message of one variant has in the mean.
#[derive(Clone, Debug, Default)]
struct Means {
    parts: f64,
    as_written: f64,
    transliterated: f64,
    too_long: f64,
    /// Parts by sender, each times its share of the messages.
    by_sender: Vec<f64>,
}

/// What the messages have in the mean, by variant.
struct Written {
    means: Vec<Means>,
    sampled: usize,
    constant: bool,
}

impl Written {
    fn of(texts: &Texts, frozen: &Frozen, drawn: &[Drawn], variants: usize) -> Self {
        let weights: f64 = frozen.senders.iter().map(|sender| f64::from(sender.weight)).sum();
        let (plain, replaced) = (texts.transliterated(false), texts.transliterated(true));
        // Values don't depend on the text: each text is made of all of them.
        let enough = (MADE / (variants * frozen.senders.len()).max(1)).max(1);
        let values: Vec<&[String]> = match texts.are_constant() {
            true => vec![&[][..]],
            false => drawn.iter().take(enough).map(|one| &one.vars[..]).collect(),
        };
        let mut counts = Vec::new();
        let means = (0..variants).map(|variant| {
            let variant = i16::try_from(variant).unwrap_or_default();
            let mut means = Means { by_sender: vec![0.0; frozen.senders.len()], ..Means::default() };
            for (vars, (place, sender)) in
                values.iter().flat_map(|vars| frozen.senders.iter().enumerate().map(move |one| (vars, one)))
            {
                let share = f64::from(sender.weight) / weights.max(1.0) / values.len() as f64;
                let parts = |texts: &Texts| parts(texts, vars, variant, sender).parts;
                let own = parts(texts);
                counts.push(own);
                if own > MAX_PARTS {
                    means.too_long += share;
                } else {
                    means.parts += share * f64::from(own);
                    means.by_sender[place] += share * f64::from(own);
                }
                means.as_written += share * f64::from(parts(&plain));
                means.transliterated += share * f64::from(parts(&replaced));
            }
            means
        });
        let means = means.collect();
        counts.dedup();
        Self { means, sampled: values.len(), constant: texts.are_constant() && counts.len() == 1 }
    }

    fn mean(&self, variant: i16, of: impl Fn(&Means) -> f64) -> f64 {
        usize::try_from(variant).ok().and_then(|variant| self.means.get(variant)).map_or(0.0, of)
    }

    /// The sum over the audience of what a message has in the mean.
    fn sum(&self, audience: &Expected, of: impl Fn(&Means) -> f64) -> f64 {
        let groups = audience.groups.iter();
        groups.map(|group| group.recipients as f64 * self.mean(group.variant, &of)).sum()
    }

    fn parts(&self, audience: &Expected) -> Parts {
        Parts {
            total: self.sum(audience, |means| means.parts),
            exact: audience.exact && self.constant,
            sampled: self.sampled,
            as_written: self.sum(audience, |means| means.as_written),
            transliterated: self.sum(audience, |means| means.transliterated),
            too_long: self.sum(audience, |means| means.too_long),
        }
    }

    fn costs(&self, audience: &Expected, senders: &[FrozenSender]) -> (BTreeMap<String, f64>, f64) {
        let (mut costs, mut unpriced) = (BTreeMap::new(), 0.0);
        for (place, sender) in senders.iter().enumerate() {
            let parts = self.sum(audience, |means| means.by_sender.get(place).copied().unwrap_or_default());
            match (sender.price_micros, &sender.currency) {
                (Some(price), Some(currency)) => {
                    *costs.entry(currency.clone()).or_default() += parts * price as f64;
                }
                _ => unpriced += parts,
            }
        }
        (costs, unpriced)
    }
}

fn parts(texts: &Texts, vars: &[String], variant: i16, sender: &FrozenSender) -> Count {
    let text = texts.fill(vars, variant, 1, Some((sender.provider, sender.kind)));
    Alphabet::of(sender.provider, sender.kind).count(&text)
}

/// Some of the messages, as the first of the senders would send them. Their links are none: each message's is its own.
fn shown(texts: &Texts, frozen: &Frozen, drawn: &[Drawn]) -> Vec<Shown> {
    let Some(sender) = frozen.senders.first() else { return Vec::new() };
    let show = |one: &Drawn| Shown {
        contact: one.id,
        text: texts.fill(&one.vars, one.variant, 1, Some((sender.provider, sender.kind))),
        count: parts(texts, &one.vars, one.variant, sender),
    };
    drawn.iter().take(SHOWN).map(show).collect()
}

/// The most that a message can cost, in millionths, in each currency of the campaign's senders: with values as long as names of
/// people get, or as a file has them, and with the letters that names have.
///
/// # Errors
/// A text that can't be read, which its start has.
pub fn worst_costs(campaign: &Campaign, frozen: &Frozen) -> Result<BTreeMap<String, i64>, Refused> {
    const LONG: &str = "María de los Ángeles Hernández Rodríguez";
    let day = campaigns::day(&campaign.plan, frozen.at);
    let texts = Texts::of(&campaign.plan, frozen.file.as_ref())?.linked(frozen, day, campaign.number);
    // A file says how long its longest values are.
    let long = |name: &Name| {
        let measured = frozen.file.as_ref().and_then(|file| file.shape.longest(name.source));
        measured.map_or_else(|| LONG.to_owned(), |letters| LONG.chars().cycle().take(letters).collect())
    };
    let vars: Vec<String> = texts.names().iter().map(long).collect();
    let mut worst = BTreeMap::new();
    for sender in &frozen.senders {
        let (Some(price), Some(currency)) = (sender.price_micros, &sender.currency) else { continue };
        let variants = (0..campaign.plan.texts.len()).filter_map(|variant| i16::try_from(variant).ok());
        let most = variants.map(|variant| parts(&texts, &vars, variant, sender).parts.min(MAX_PARTS)).max();
        let cost = price.saturating_mul(i64::from(most.unwrap_or_default()));
        let known: &mut i64 = worst.entry(currency.clone()).or_default();
        *known = cost.max(*known);
    }
    Ok(worst)
}
