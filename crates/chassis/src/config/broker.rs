use std::{collections::HashMap, time::Duration};

use contracts::{QUEUES, Transport, queues};
use messaging::{BrokerConfig, SqsConfig};

use super::{Env, settings::aws_region};

/// What the process's broker connects to: `AMQP_URL` (required), `QUEUE_PREFIX` (empty),
/// `QUEUE_TRANSPORTS` (`catalog.imports=amqp`, comma separated), and for queues on SQS
/// `AWS_ENDPOINT_URL`, `AWS_DEFAULT_REGION` or `AWS_REGION` (us-east-1), `SQS_QUEUE_NAME` (medisupply-bulk-upload-queue),
/// `SQS_VISIBILITY_TIMEOUT` (300 s), `SQS_MESSAGE_RETENTION` (86400 s), `SQS_WAIT_SECONDS` (20),
/// `SQS_CREATE_QUEUES` (false).
pub fn broker_config(service: &str, env: &mut Env) -> BrokerConfig {
    let transports = transports(env);
    let on_sqs = QUEUES
        .iter()
        .any(|queue| transports.get(queue.name).copied().unwrap_or(queue.transport) == Transport::Sqs);
    BrokerConfig {
        service: service.to_owned(),
        amqp_url: Some(env.url("AMQP_URL", &["amqp", "amqps"]).expose().clone()),
        sqs: on_sqs.then(|| sqs(env)),
        prefix: env.default("QUEUE_PREFIX", String::new(), "a prefix"),
        transports,
    }
}

fn transports(env: &mut Env) -> HashMap<String, Transport> {
    const NAME: &str = "QUEUE_TRANSPORTS";
    let text: String = env.default(NAME, String::new(), "a list as catalog.imports=amqp,…");
    let mut transports = HashMap::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let Some((queue, transport)) = entry.split_once('=') else {
            env.reject(NAME, format!("has the entry {entry:?}, expected <queue>=<transport>"));
            continue;
        };
        let known = QUEUES.iter().find(|known| known.name == queue.trim());
        match (known, transport.trim().parse::<Transport>()) {
            (None, _) => env.reject(NAME, format!("names the queue {queue:?}, which does not exist")),
            (_, Err(problem)) => env.reject(NAME, format!("has {entry:?}: {problem}")),
            (Some(known), Ok(transport)) if transport != Transport::Amqp && !known.events.is_empty() => {
                env.reject(NAME, format!("has {entry:?}, but a queue of events needs amqp"));
            }
            (Some(known), Ok(transport)) => {
                transports.insert(known.name.to_owned(), transport);
            }
        }
    }
    transports
}

fn sqs(env: &mut Env) -> SqsConfig {
    let imports = env.default("SQS_QUEUE_NAME", "medisupply-bulk-upload-queue".to_owned(), "a queue's name");
    // The bounds are SQS's own (SetQueueAttributes, ReceiveMessage).
    SqsConfig {
        endpoint: env.optional_url("AWS_ENDPOINT_URL", &["http", "https"]).map(|url| url.expose().clone()),
        region: aws_region(env),
        names: HashMap::from([(queues::CATALOG_IMPORTS.name.to_owned(), imports)]),
        create: env.flag("SQS_CREATE_QUEUES", false),
        visibility: bounded(env, "SQS_VISIBILITY_TIMEOUT", 300, 1, 43_200),
        retention: bounded(env, "SQS_MESSAGE_RETENTION", 86_400, 60, 1_209_600),
        wait: bounded(env, "SQS_WAIT_SECONDS", 20, 0, 20),
    }
}

fn bounded(env: &mut Env, name: &str, default: u64, least: u64, most: u64) -> Duration {
    let value = env.seconds(name, Duration::from_secs(default));
    if !(least..=most).contains(&value.as_secs()) {
        env.reject(name, format!("is {}, expected {least} to {most} seconds", value.as_secs()));
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_moves_to_the_transport_that_was_asked_for() {
        let mut env = Env::from_map([
            ("AMQP_URL", "amqp://guest:guest@localhost:5672/%2f"),
            ("QUEUE_TRANSPORTS", " catalog.imports = amqp ,"),
        ]);
        let config = broker_config("catalog-upload", &mut env);
        assert_eq!(config.transports.get("catalog.imports"), Some(&Transport::Amqp));
        assert_eq!(env.finish(), Ok(()));
    }

    #[test]
    fn imports_ride_sqs_under_the_name_their_users_know() {
        let mut env = Env::from_map([("AMQP_URL", "amqp://localhost")]);
        let sqs = broker_config("catalog-upload", &mut env).sqs.expect("catalog.imports is on SQS");
        assert_eq!(sqs.names["catalog.imports"], "medisupply-bulk-upload-queue");
        assert_eq!((sqs.visibility.as_secs(), sqs.retention.as_secs(), sqs.create), (300, 86_400, false));
    }

    #[test]
    fn what_no_broker_can_do_is_refused() {
        let mut env = Env::from_map([
            ("AMQP_URL", "amqp://localhost"),
            ("QUEUE_TRANSPORTS", "catalog.import=sqs,gateway.events=sqs,catalog.imports=kafka,nonsense"),
            ("SQS_VISIBILITY_TIMEOUT", "50000"),
        ]);
        broker_config("catalog-upload", &mut env);
        let problems = env.finish().expect_err("five problems").0;
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(problems[0].contains("\"catalog.import\""), "{problems:?}");
        assert!(problems[1].contains("needs amqp"), "{problems:?}");
        assert!(problems[2].contains("kafka"), "{problems:?}");
        assert!(problems[3].contains("nonsense"), "{problems:?}");
        assert!(problems[4].contains("SQS_VISIBILITY_TIMEOUT is 50000"), "{problems:?}");
    }
}
