use std::{num::NonZeroU32, path::PathBuf, time::Duration};

pub use chassis::config::Role;
use chassis::config::{DatabaseSettings, Env, ServiceSettings, from_process};

use chrono::{DateTime, Utc};

use crate::{
    SERVICE,
    domain::{
        sender::ProviderName,
        webhooks::telnyx::PublicKey,
        windows::{Clocks, Hours},
    },
    providers::{telnyx::TelnyxSettings, twilio_messages::TwilioSettings},
};

/// The service's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What every service has.
    pub common: ServiceSettings,
    pub imports: ImportSettings,
    pub lookups: LookupSettings,
    pub sms: SmsSettings,
    /// Phones that a user who sees phones masked may search for in an hour.
    pub phone_searches: i64,
    /// How old counts by state, LADA and city get, and how late a suppression whose date has come is applied.
    pub refresh: Duration,
}

impl Config {
    /// What each part documents, `CONTACTS_PHONE_SEARCHES_PER_HOUR` (30) and `CONTACTS_REFRESH_SECONDS` (900). What is missing or wrong, `env` says.
    pub fn read(env: &mut Env, role: Role) -> Self {
        let port = match role {
            Role::Api => 3003,
            Role::Worker => 3013,
        };
        Self {
            common: ServiceSettings::read(env, SERVICE, port),
            imports: ImportSettings::read(env),
            lookups: LookupSettings::read(env),
            sms: SmsSettings::read(env),
            phone_searches: env.default("CONTACTS_PHONE_SEARCHES_PER_HOUR", 30, "a number of searches"),
            refresh: env.seconds("CONTACTS_REFRESH_SECONDS", Duration::from_secs(900)),
        }
    }
}

/// How contacts are imported.
#[derive(Clone, Debug)]
pub struct ImportSettings {
    /// Rows a batch, one transaction each.
    pub batch_rows: i64,
    /// Batches at once.
    pub workers: usize,
    /// Indexes built at once after a load.
    pub index_builders: usize,
    /// How long a lease lasts without a sign of life. A dead worker's import waits so long for the next.
    pub lease: Duration,
    /// Attempts without progress before an import fails.
    pub max_attempts: i32,
    /// How long one delivery may work on an import.
    pub deadline: Duration,
    /// The largest file that is taken over HTTP, in bytes.
    pub max_bytes: u64,
    /// How long a file stays in the bucket after its import has ended.
    pub keep_files: Duration,
    /// Where a worker keeps the file that it reads.
    pub spool: PathBuf,
}

impl ImportSettings {
    /// `CONTACTS_BATCH_ROWS` (50,000), `CONTACTS_WORKERS` (3), `CONTACTS_INDEX_BUILDERS` (2), `CONTACTS_LEASE_SECONDS` (30),
    /// `CONTACTS_MAX_ATTEMPTS` (10), `CONTACTS_DEADLINE_SECONDS` (21,600), `CONTACTS_MAX_MB` (16,384),
    /// `CONTACTS_KEEP_FILES_HOURS` (24), `SPOOL_DIR` (the system's temporary directory).
    pub fn read(env: &mut Env) -> Self {
        let batch_rows = env.default("CONTACTS_BATCH_ROWS", 50_000, "a number of rows");
        if !(1_000..=1_000_000).contains(&batch_rows) {
            env.reject("CONTACTS_BATCH_ROWS", "is out of range, expected 1000 to 1000000");
        }
        let mut several = |name: &str, default: usize| {
            let number = env.default(name, default, "a number from 1");
            if number == 0 {
                env.reject(name, "is 0, expected 1 or more");
            }
            number
        };
        let (workers, index_builders) =
            (several("CONTACTS_WORKERS", 3), several("CONTACTS_INDEX_BUILDERS", 2));
        Self {
            batch_rows,
            workers,
            index_builders,
            lease: env.seconds("CONTACTS_LEASE_SECONDS", Duration::from_secs(30)),
            max_attempts: env.default("CONTACTS_MAX_ATTEMPTS", 10, "a number of attempts"),
            deadline: env.seconds("CONTACTS_DEADLINE_SECONDS", Duration::from_secs(6 * 60 * 60)),
            max_bytes: env.default("CONTACTS_MAX_MB", 16_384_u64, "a number of megabytes") << 20,
            keep_files: Duration::from_secs(
                60 * 60 * u64::from(env.default("CONTACTS_KEEP_FILES_HOURS", 24_u32, "a number of hours")),
            ),
            spool: env.default("SPOOL_DIR", std::env::temp_dir(), "a folder"),
        }
    }
}

/// How a provider is asked about numbers.
#[derive(Clone, Debug)]
pub struct LookupSettings {
    /// None where there is no account.
    pub telnyx: Option<TelnyxSettings>,
    /// Look-ups a second, of all workers together.
    pub per_second: NonZeroU32,
    /// Look-ups at once.
    pub at_once: usize,
    /// The first pause before a look-up is tried again; each further one is longer.
    pub pause: Duration,
    /// How long a lease lasts without a sign of life.
    pub lease: Duration,
    /// Attempts without progress before a validation fails.
    pub max_attempts: i32,
    /// How long one delivery may work on a validation.
    pub deadline: Duration,
}

impl LookupSettings {
    /// `TELNYX_API_KEY`, `TELNYX_URL` (https://api.telnyx.com/v2), `LOOKUPS_PER_SECOND` (10), `LOOKUPS_AT_ONCE` (8),
    /// `LOOKUP_PAUSE_MS` (500), `LOOKUP_LEASE_SECONDS` (30), `LOOKUP_MAX_ATTEMPTS` (10), `LOOKUP_DEADLINE_SECONDS` (86,400).
    pub fn read(env: &mut Env) -> Self {
        let url = env.optional_url("TELNYX_URL", &["http", "https"]);
        let url = url.map_or_else(|| "https://api.telnyx.com/v2".to_owned(), |url| url.expose().clone());
        let at_once: usize = env.default("LOOKUPS_AT_ONCE", 8, "a number from 1");
        if at_once == 0 {
            env.reject("LOOKUPS_AT_ONCE", "is 0, expected 1 or more");
        }
        let ten = NonZeroU32::MIN.saturating_add(9);
        Self {
            telnyx: env.optional_secret("TELNYX_API_KEY").map(|key| TelnyxSettings { url, key }),
            per_second: env.default("LOOKUPS_PER_SECOND", ten, "a number from 1"),
            at_once,
            pause: Duration::from_millis(env.default("LOOKUP_PAUSE_MS", 500, "a number of milliseconds")),
            lease: env.seconds("LOOKUP_LEASE_SECONDS", Duration::from_secs(30)),
            max_attempts: env.default("LOOKUP_MAX_ATTEMPTS", 10, "a number of attempts"),
            deadline: env.seconds("LOOKUP_DEADLINE_SECONDS", Duration::from_secs(24 * 60 * 60)),
        }
    }
}

/// How campaigns are sent.
#[derive(Clone, Debug)]
pub struct SmsSettings {
    /// Requests in flight for one slice.
    pub in_flight: i64,
    /// Slices that one worker sends at once.
    pub slices_at_once: usize,
    /// Single messages that one worker sends at once.
    pub singles_at_once: usize,
    /// Which part of every rate is kept for single messages.
    pub singles_share: f64,
    /// How long a slice's lease lasts without a sign of life.
    pub lease: Duration,
    /// Where providers reach our webhooks: scheme, host, and what stands before `/webhooks`.
    pub public_url: String,
    /// When recipients may be written to, by their own clocks; none: at any time. Only tests send at night.
    pub hours: Option<Hours>,
    /// Whether messages may go to the log in a provider's place.
    pub log: bool,
    /// Parts a second that the account of each may send.
    pub log_per_second: f64,
    pub telnyx_per_second: f64,
    pub twilio_per_second: f64,
    /// None where there is no account for messages.
    pub telnyx: Option<TelnyxMessaging>,
    pub twilio: Option<TwilioSettings>,
    /// Recipients above which somebody else than the last editor approves.
    pub approve_above: i64,
    /// What a campaign may cost without that at the worst, in units of its senders' currency.
    pub approve_above_cost: i64,
    /// Questions a second about messages that nothing was heard of.
    pub records_per_second: f64,
    /// How long a webhook may still come before records are asked: about messages of which nobody knows whether they went
    /// out, and about those that a provider has.
    pub unknown_patience: Duration,
    pub accepted_patience: Duration,
    /// Between two questions about the same message.
    pub records_again: Duration,
    /// A campaign pauses by itself when more than so many percent of its last 500 ended messages failed.
    pub pause_above_percent: u8,
    /// What AYUDA is answered with; none: it is not answered.
    pub help_text: Option<String>,
    /// The largest file whose people are an audience, in bytes, and the rows that one may have.
    pub audience_most_bytes: u64,
    pub audience_most_rows: i64,
    /// How long it is known who was sent what, and who wrote what.
    pub keep: Keep,
}

/// For how many days things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Messages, with all that belongs to them; and what a phone was sent last.
    pub ledger_days: u32,
    /// What people wrote to us, and who asked for help.
    pub inbound_days: u32,
    /// Reports of providers that could not be applied.
    pub reports_days: u32,
    /// Jobs of campaigns and single messages that have ended.
    pub jobs_days: u32,
    /// The people of files that are audiences.
    pub audiences_days: u32,
}

impl Keep {
    /// `SMS_KEEP_MESSAGES_DAYS` (730), `SMS_KEEP_INBOUND_DAYS` (730), `SMS_KEEP_REPORTS_DAYS` (90), `SMS_KEEP_JOBS_DAYS` (30),
    /// `SMS_KEEP_AUDIENCES_DAYS` (30).
    fn read(env: &mut Env) -> Self {
        // The cap of marketing looks back a week, and answers are those of campaigns of 90 days.
        let mut days = |name: &str, default: u32, least: u32| {
            let days = env.default(name, default, "a number of days");
            if !(least..=36_500).contains(&days) {
                env.reject(name, format!("is out of range, expected {least} to 36500"));
            }
            days
        };
        Self {
            ledger_days: days("SMS_KEEP_MESSAGES_DAYS", 730, 90),
            inbound_days: days("SMS_KEEP_INBOUND_DAYS", 730, 1),
            reports_days: days("SMS_KEEP_REPORTS_DAYS", 90, 1),
            jobs_days: days("SMS_KEEP_JOBS_DAYS", 30, 1),
            audiences_days: days("SMS_KEEP_AUDIENCES_DAYS", 30, 1),
        }
    }
}

impl SmsSettings {
    /// `SMS_IN_FLIGHT` (64), `SMS_SLICES_AT_ONCE` (4), `SMS_SINGLES_AT_ONCE` (4), `SMS_SINGLES_SHARE` (0.1),
    /// `SMS_LEASE_SECONDS` (15), `SMS_PUBLIC_URL` (required with an account),
    /// `SMS_QUIET_HOURS` (true), `SMS_LOG_PROVIDER` (false), `SMS_LOG_PARTS_PER_SECOND` (1000), `SMS_APPROVE_ABOVE` (10,000),
    /// `SMS_APPROVE_ABOVE_COST` (1,000),
    /// `TELNYX_PARTS_PER_SECOND` (50), `TWILIO_PARTS_PER_SECOND` (10), `SMS_RECORDS_PER_SECOND` (5),
    /// `SMS_UNKNOWN_PATIENCE_SECONDS` (300), `SMS_ACCEPTED_PATIENCE_SECONDS` (3,600), `SMS_RECORDS_AGAIN_SECONDS` (1,800),
    /// `SMS_PAUSE_ABOVE_PERCENT` (30), `SMS_HELP_TEXT`, `SMS_AUDIENCE_MAX_MB` (1,024), `SMS_AUDIENCE_MAX_ROWS` (5,000,000), and what [`Keep`], [`TelnyxMessaging`] and Twilio's account are.
    pub fn read(env: &mut Env) -> Self {
        let in_flight = env.default("SMS_IN_FLIGHT", 64, "a number of requests");
        if !(1..=500).contains(&in_flight) {
            env.reject("SMS_IN_FLIGHT", "is out of range, expected 1 to 500");
        }
        let slices_at_once: usize = env.default("SMS_SLICES_AT_ONCE", 4, "a number from 1");
        if slices_at_once == 0 {
            env.reject("SMS_SLICES_AT_ONCE", "is 0, expected 1 or more");
        }
        let singles_at_once: usize = env.default("SMS_SINGLES_AT_ONCE", 4, "a number from 1");
        if singles_at_once == 0 {
            env.reject("SMS_SINGLES_AT_ONCE", "is 0, expected 1 or more");
        }
        let singles_share = env.default("SMS_SINGLES_SHARE", 0.1, "a part of 1");
        if !(0.01..=0.9).contains(&singles_share) {
            env.reject("SMS_SINGLES_SHARE", "is out of range, expected 0.01 to 0.9");
        }
        let (telnyx, twilio) = (TelnyxMessaging::read(env), twilio(env));
        // A default would lead a real account's reports, and its opt-outs, nowhere.
        let url = match telnyx.is_some() || twilio.is_some() {
            true => Some(env.url("SMS_PUBLIC_URL", &["http", "https"])),
            false => env.optional_url("SMS_PUBLIC_URL", &["http", "https"]),
        };
        let url = url.map_or_else(|| "http://localhost:8080".to_owned(), |url| url.expose().clone());
        let mut rate = |name: &str, default: f64| {
            let rate = env.default(name, default, "parts a second");
            if !(rate.is_finite() && rate > 0.0) {
                env.reject(name, "is out of range, expected more than 0");
            }
            rate
        };
        let (log_per_second, telnyx_per_second, twilio_per_second, records_per_second) = (
            rate("SMS_LOG_PARTS_PER_SECOND", 1_000.0),
            rate("TELNYX_PARTS_PER_SECOND", 50.0),
            rate("TWILIO_PARTS_PER_SECOND", 10.0),
            rate("SMS_RECORDS_PER_SECOND", 5.0),
        );
        let pause_above_percent = env.default("SMS_PAUSE_ABOVE_PERCENT", 30, "a percentage");
        if !(1..=100).contains(&pause_above_percent) {
            env.reject("SMS_PAUSE_ABOVE_PERCENT", "is out of range, expected 1 to 100");
        }
        Self {
            in_flight,
            slices_at_once,
            singles_at_once,
            singles_share,
            lease: env.seconds("SMS_LEASE_SECONDS", Duration::from_secs(15)),
            public_url: url.trim_end_matches('/').to_owned(),
            hours: env.flag("SMS_QUIET_HOURS", true).then(Hours::default),
            log: env.flag("SMS_LOG_PROVIDER", false),
            log_per_second,
            telnyx_per_second,
            twilio_per_second,
            telnyx,
            twilio,
            approve_above: env.default("SMS_APPROVE_ABOVE", 10_000, "a number of recipients"),
            approve_above_cost: env.default("SMS_APPROVE_ABOVE_COST", 1_000, "an amount of money"),
            records_per_second,
            unknown_patience: env.seconds("SMS_UNKNOWN_PATIENCE_SECONDS", Duration::from_secs(300)),
            accepted_patience: env.seconds("SMS_ACCEPTED_PATIENCE_SECONDS", Duration::from_secs(3_600)),
            records_again: env.seconds("SMS_RECORDS_AGAIN_SECONDS", Duration::from_secs(1_800)),
            pause_above_percent,
            help_text: env.optional("SMS_HELP_TEXT", "a text"),
            audience_most_bytes: env.default("SMS_AUDIENCE_MAX_MB", 1_024_u64, "a number of megabytes") << 20,
            audience_most_rows: env.default("SMS_AUDIENCE_MAX_ROWS", 5_000_000, "a number of rows"),
            keep: Keep::read(env),
        }
    }

    /// Parts a second that the account at a provider may send.
    pub fn per_second(&self, provider: ProviderName) -> f64 {
        match provider {
            ProviderName::Log => self.log_per_second,
            ProviderName::Telnyx => self.telnyx_per_second,
            ProviderName::Twilio => self.twilio_per_second,
        }
    }

    /// When recipients of a zone may be written to next: `now` where they may.
    pub fn opens_at(&self, zone: i16, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let clocks = Clocks::from_code(zone).unwrap_or(Clocks::Anywhere);
        match self.hours {
            Some(hours) => clocks.opens(hours, now),
            None => Some(now),
        }
    }

    /// When recipients of a zone that may be written to now may not any more; none where they always may.
    pub fn closes_at(&self, zone: i16, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let clocks = Clocks::from_code(zone).unwrap_or(Clocks::Anywhere);
        self.hours.and_then(|hours| clocks.closes(hours, now))
    }
}

/// Telnyx, as messages go through it.
#[derive(Clone, Debug)]
pub struct TelnyxMessaging {
    pub api: TelnyxSettings,
    /// The messaging profile; none where each sender has its own.
    pub profile: Option<String>,
    /// What webhooks are signed with.
    pub public_key: PublicKey,
}

impl TelnyxMessaging {
    /// `TELNYX_PUBLIC_KEY`, without which no message goes through Telnyx, for nothing would be known of it afterwards;
    /// `TELNYX_API_KEY`, `TELNYX_URL`, `TELNYX_PROFILE_ID`.
    fn read(env: &mut Env) -> Option<Self> {
        let key = env.optional_secret("TELNYX_PUBLIC_KEY")?;
        let Some(public_key) = PublicKey::parse(key.expose()) else {
            env.reject("TELNYX_PUBLIC_KEY", "is not a key of 32 bytes in base64");
            return None;
        };
        let url = env.optional_url("TELNYX_URL", &["http", "https"]);
        let url = url.map_or_else(|| "https://api.telnyx.com/v2".to_owned(), |url| url.expose().clone());
        let key = env.secret("TELNYX_API_KEY", "the account's API key");
        let profile = env.optional("TELNYX_PROFILE_ID", "the id of a messaging profile");
        Some(Self { api: TelnyxSettings { url, key }, profile, public_key })
    }
}

/// `TWILIO_ACCOUNT_SID`, `TWILIO_AUTH_TOKEN`, `TWILIO_URL` (https://api.twilio.com/2010-04-01).
fn twilio(env: &mut Env) -> Option<TwilioSettings> {
    let account_sid: String = env.optional("TWILIO_ACCOUNT_SID", "the account's SID")?;
    let url = env.optional_url("TWILIO_URL", &["http", "https"]);
    let url = url.map_or_else(|| "https://api.twilio.com/2010-04-01".to_owned(), |url| url.expose().clone());
    let auth_token = env.secret("TWILIO_AUTH_TOKEN", "the account's token");
    Some(TwilioSettings { url, account_sid, auth_token })
}

/// What the command line needs.
///
/// # Errors
/// Every variable that is missing or wrong, at once.
pub fn command_line() -> anyhow::Result<(DatabaseSettings, ImportSettings)> {
    Ok(from_process(|env| (DatabaseSettings::read(env), ImportSettings::read(env)))?)
}
