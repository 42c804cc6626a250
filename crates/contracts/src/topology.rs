//! Who sends what where. Every publisher declares this topology at start, so that an event waits for
//! a consumer that was never started yet.

/// The topic exchange that all events go to.
pub const EVENTS_EXCHANGE: &str = "lote.events";

/// What carries a queue. Handlers don't know which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// RabbitMQ.
    Amqp,
    /// Amazon SQS, or LocalStack in development.
    Sqs,
    /// In this process, for unit tests.
    Memory,
}

impl Transport {
    /// The name used in configuration, metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Sqs => "sqs",
            Self::Memory => "memory",
        }
    }
}

impl std::str::FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "amqp" => Ok(Self::Amqp),
            "sqs" => Ok(Self::Sqs),
            "memory" => Ok(Self::Memory),
            other => Err(format!("unknown transport {other:?}, expected amqp, sqs or memory")),
        }
    }
}

/// A work queue (one or a few kinds of jobs) or a service's queue of events.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Queue {
    /// The logical name, `<service>.<what>`. A transport derives its own from it.
    pub name: &'static str,
    /// What carries it unless configuration says otherwise. A queue with bindings needs `Amqp`.
    pub transport: Transport,
    /// The events it is bound to, by routing key. Empty for a queue of commands.
    pub events: &'static [&'static str],
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To one queue.
    Command(&'static Queue),
    /// To `lote.events` under this routing key, `<service>.<event>.v<n>`.
    Event(&'static str),
}

/// Every queue of the platform.
pub mod queues {
    use super::{Queue, Transport};

    /// Imports of supplier catalogs, and what takes them back. Its users run it on SQS.
    pub const CATALOG_IMPORTS: Queue =
        Queue { name: "catalog.imports", transport: Transport::Sqs, events: &[] };

    /// Files that people ask for and wait for: they don't stand in line behind imports.
    pub const CATALOG_REPORTS: Queue =
        Queue { name: "catalog.reports", transport: Transport::Amqp, events: &[] };

    /// What the gateway shows live to the people it concerns.
    pub const GATEWAY_EVENTS: Queue = Queue {
        name: "gateway.events",
        transport: Transport::Amqp,
        events: &[
            "catalog.import_completed.v1",
            "catalog.import_failed.v1",
            "catalog.import_undone.v1",
            "report.report_ready.v1",
            "report.report_failed.v1",
            "etl.sync_completed.v1",
            "etl.sync_failed.v1",
            "etl.dashboard_refreshed.v1",
            "sms.campaign_created.v1",
            "sms.campaign_started.v1",
            "sms.campaign_paused.v1",
            "sms.campaign_resumed.v1",
            "sms.campaign_completed.v1",
            "sms.contact_opted_out.v1",
        ],
    };

    /// What reports learn of SMS campaigns and their messages.
    pub const REPORT_EVENTS: Queue = Queue {
        name: "report.events",
        transport: Transport::Amqp,
        events: &["sms.messages_settled.v1", "sms.campaign_started.v1", "sms.campaign_completed.v1"],
    };

    /// Runs of reports that are to begin: they don't stand in line behind another run's files.
    pub const REPORT_RUNS: Queue = Queue { name: "report.runs", transport: Transport::Amqp, events: &[] };

    /// Files of reports, one a campaign.
    pub const REPORT_CAMPAIGNS: Queue =
        Queue { name: "report.campaigns", transport: Transport::Amqp, events: &[] };

    /// Runs of streams: a source's pages into the database that they are for, for minutes or hours.
    pub const ETL_RUNS: Queue = Queue { name: "etl.runs", transport: Transport::Amqp, events: &[] };

    /// Single resources that webhooks named: they don't stand in line behind runs.
    pub const ETL_WEBHOOKS: Queue = Queue { name: "etl.webhooks", transport: Transport::Amqp, events: &[] };

    /// Imports of contacts, millions of rows each.
    pub const SMS_IMPORTS: Queue = Queue { name: "sms.imports", transport: Transport::Amqp, events: &[] };

    /// Ledgers of campaigns: their recipients, millions each.
    pub const SMS_AUDIENCES: Queue = Queue { name: "sms.audiences", transport: Transport::Amqp, events: &[] };

    /// Slices of campaigns that may be sent now, some hundred messages each.
    pub const SMS_BULK: Queue = Queue { name: "sms.bulk", transport: Transport::Amqp, events: &[] };

    /// Single messages, which don't stand in line behind campaigns.
    pub const SMS_PRIORITY: Queue = Queue { name: "sms.priority", transport: Transport::Amqp, events: &[] };

    /// Look-ups of contacts' numbers at a provider, thousands each, at the provider's pace.
    pub const SMS_VALIDATIONS: Queue =
        Queue { name: "sms.validations", transport: Transport::Amqp, events: &[] };
}

/// Every queue of the platform, to declare and to list.
pub const QUEUES: &[&Queue] = &[
    &queues::CATALOG_IMPORTS,
    &queues::CATALOG_REPORTS,
    &queues::GATEWAY_EVENTS,
    &queues::REPORT_EVENTS,
    &queues::REPORT_RUNS,
    &queues::REPORT_CAMPAIGNS,
    &queues::ETL_RUNS,
    &queues::ETL_WEBHOOKS,
    &queues::SMS_AUDIENCES,
    &queues::SMS_BULK,
    &queues::SMS_IMPORTS,
    &queues::SMS_PRIORITY,
    &queues::SMS_VALIDATIONS,
];

/// The queues that receive an event. An event nobody subscribes to may go nowhere.
pub fn subscribers(routing_key: &str) -> impl Iterator<Item = &'static Queue> {
    QUEUES.iter().copied().filter(move |queue| queue.events.contains(&routing_key))
}
