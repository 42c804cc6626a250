//! Amazon SQS, and LocalStack in development.

mod client;
mod letters;
mod publisher;
mod settler;
mod source;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use aws_sdk_sqs::{
    Client,
    error::SdkError,
    types::QueueAttributeName::{
        self, ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible, MaximumMessageSize,
        MessageRetentionPeriod, QueueArn, ReceiveMessageWaitTimeSeconds, RedrivePolicy, VisibilityTimeout,
    },
};
use tokio::sync::OnceCell;

pub(crate) use letters::LetterSource;
pub(crate) use publisher::Failed;
pub(crate) use source::{Source, Token};

use crate::{Depth, SqsConfig, metrics};

/// Receives after which SQS itself moves a message to the dead letters: a backstop, above any policy's attempts
/// (receives also count what was only given back).
const MAX_RECEIVES: u32 = 50;
/// The longest there is: a letter keeps the time at which its message was first sent.
const DEAD_RETENTION: Duration = Duration::from_secs(14 * 24 * 3600);
/// What AWS takes since 2025, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;

/// The queues of one account and region.
#[derive(Clone)]
pub(crate) struct Sqs {
    shared: Arc<Shared>,
}

struct Shared {
    config: SqsConfig,
    prefix: String,
    client: OnceCell<Client>,
    /// By physical name.
    urls: Mutex<HashMap<String, String>>,
}

/// A logical queue's two queues.
struct Names {
    work: String,
    dead: String,
}

/// There is no such queue, and it is not ours to make.
#[derive(Debug, thiserror::Error)]
#[error("queue {0} does not exist")]
struct MissingQueue(String);

impl Sqs {
    pub fn new(config: SqsConfig, prefix: &str) -> Self {
        let shared =
            Shared { config, prefix: prefix.to_owned(), client: OnceCell::new(), urls: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    fn config(&self) -> &SqsConfig {
        &self.shared.config
    }

    fn names(&self, queue: &str) -> Names {
        let work = match self.config().names.get(queue) {
            Some(name) => name.clone(),
            // Names take letters, digits, hyphens and underscores.
            None => format!("{}{queue}", self.shared.prefix).replace('.', "-"),
        };
        Names { dead: format!("{work}-dlq"), work }
    }

    async fn client(&self) -> &Client {
        self.shared.client.get_or_init(|| client::make(self.config())).await
    }

    /// The address of a physical queue of `queue`; asked once, and forgotten by [`Sqs::forget`].
    async fn url(&self, queue: &'static str, name: &str) -> anyhow::Result<String> {
        if let Some(url) = self.known(name) {
            return Ok(url);
        }
        match self.find(queue, name).await? {
            Some(url) => Ok(url),
            None if self.config().create => {
                self.make(queue).await?;
                self.known(name).with_context(|| format!("queue {name} was made and is not there"))
            }
            None => Err(MissingQueue(name.to_owned()).into()),
        }
    }

    fn known(&self, name: &str) -> Option<String> {
        self.shared.urls.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Asks the broker for a queue's address.
    async fn find(&self, queue: &str, name: &str) -> anyhow::Result<Option<String>> {
        metrics::sqs_call(queue, "get_url");
        match self.client().await.get_queue_url().queue_name(name).send().await {
            Ok(found) => {
                let url = found.queue_url.with_context(|| format!("queue {name} has no address"))?;
                Ok(Some(self.remember(name, &url)))
            }
            Err(error) if error.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => Ok(None),
            Err(error) => Err(explain(error).context(format!("queue {name} can't be looked up"))),
        }
    }

    fn remember(&self, name: &str, url: &str) -> String {
        let url = self.reachable(url);
        let mut urls = self.shared.urls.lock().unwrap_or_else(PoisonError::into_inner);
        urls.insert(name.to_owned(), url.clone());
        url
    }

    /// LocalStack names a host of its own in a queue's address, which may not resolve: its path behind our
    /// endpoint is the same queue.
    fn reachable(&self, url: &str) -> String {
        let Some(endpoint) = &self.config().endpoint else { return url.to_owned() };
        let path =
            url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        format!("{}/{path}", endpoint.trim_end_matches('/'))
    }

    /// Forgets a queue's addresses: it does not exist any more.
    fn forget(&self, queue: &str) {
        let names = self.names(queue);
        let mut urls = self.shared.urls.lock().unwrap_or_else(PoisonError::into_inner);
        urls.remove(&names.work);
        urls.remove(&names.dead);
    }

    /// Whether queues that are missing are ours to make.
    pub fn makes_queues(&self) -> bool {
        self.config().create
    }

    /// Makes sure that a queue and its dead-letter queue are there.
    pub async fn declare(&self, queue: &'static str) -> anyhow::Result<()> {
        if self.config().create {
            return self.make(queue).await;
        }
        let names = self.names(queue);
        self.url(queue, &names.work).await?;
        self.url(queue, &names.dead).await?;
        Ok(())
    }

    async fn make(&self, queue: &'static str) -> anyhow::Result<()> {
        let config = self.config();
        let names = self.names(queue);
        let seconds = |time: Duration| time.as_secs().max(1).to_string();
        let common = |retention: Duration| {
            vec![
                (MessageRetentionPeriod, seconds(retention)),
                (MaximumMessageSize, MAX_MESSAGE.to_string()),
                (VisibilityTimeout, seconds(config.visibility)),
                (ReceiveMessageWaitTimeSeconds, config.wait.as_secs().min(20).to_string()),
            ]
        };
        let dead = self.ensure(queue, &names.dead, common(DEAD_RETENTION)).await?;
        let dead = self.attributes(queue, &dead, &[QueueArn]).await?;
        let dead = dead.get(&QueueArn).context("the dead-letter queue has no ARN")?;
        let policy = serde_json::json!({"deadLetterTargetArn": dead, "maxReceiveCount": MAX_RECEIVES});
        let mut attributes = common(config.retention);
        attributes.push((RedrivePolicy, policy.to_string()));
        self.ensure(queue, &names.work, attributes).await?;
        Ok(())
    }

    /// Creates a queue, or gives the one that exists these attributes.
    async fn ensure(
        &self,
        queue: &str,
        name: &str,
        attributes: Vec<(QueueAttributeName, String)>,
    ) -> anyhow::Result<String> {
        let client = self.client().await;
        if let Some(url) = self.find(queue, name).await? {
            metrics::sqs_call(queue, "set_attributes");
            let set = client.set_queue_attributes().queue_url(&url);
            let set = set.set_attributes(Some(attributes.into_iter().collect())).send().await;
            set.map_err(|error| explain(error).context(format!("queue {name} can't be changed")))?;
            return Ok(url);
        }
        metrics::sqs_call(queue, "create");
        let create = client.create_queue().queue_name(name);
        let created = create.set_attributes(Some(attributes.into_iter().collect())).send().await;
        let created =
            created.map_err(|error| explain(error).context(format!("queue {name} can't be made")))?;
        tracing::info!(queue = name, "queue made");
        Ok(self.remember(name, &created.queue_url.with_context(|| format!("queue {name} has no address"))?))
    }

    async fn attributes(
        &self,
        queue: &str,
        url: &str,
        names: &[QueueAttributeName],
    ) -> anyhow::Result<HashMap<QueueAttributeName, String>> {
        metrics::sqs_call(queue, "get_attributes");
        let asked = self.client().await.get_queue_attributes().queue_url(url);
        let asked = asked.set_attribute_names(Some(names.to_vec())).send().await.map_err(explain)?;
        Ok(asked.attributes.unwrap_or_default())
    }

    pub async fn depth(&self, queue: &'static str) -> anyhow::Result<Depth> {
        let names = self.names(queue);
        let asked = [ApproximateNumberOfMessages, ApproximateNumberOfMessagesNotVisible];
        let result = async {
            let work = self.attributes(queue, &self.url(queue, &names.work).await?, &asked).await?;
            let dead = self.attributes(queue, &self.url(queue, &names.dead).await?, &asked).await?;
            let count =
                |of: &HashMap<_, String>, name| of.get(&name).and_then(|n| n.parse().ok()).unwrap_or(0);
            Ok(Depth {
                ready: count(&work, ApproximateNumberOfMessages),
                in_flight: count(&work, ApproximateNumberOfMessagesNotVisible),
                dead: count(&dead, ApproximateNumberOfMessages)
                    + count(&dead, ApproximateNumberOfMessagesNotVisible),
                oldest_age: None,
            })
        };
        let result = result.await;
        if result.is_err() {
            self.forget(queue);
        }
        result
    }

    /// Any answer will do, also that there is no such queue.
    pub async fn ping(&self) -> anyhow::Result<()> {
        metrics::sqs_call("", "get_url");
        match self.client().await.get_queue_url().queue_name("lote-ping").send().await {
            Err(SdkError::ServiceError(answer)) if answer.raw().status().as_u16() < 500 => Ok(()),
            Err(error) => Err(explain(error)),
            Ok(_) => Ok(()),
        }
    }
}

/// An SDK error with its causes; by itself it says only `service error`.
fn explain<E, R>(error: SdkError<E, R>) -> anyhow::Error
where
    E: std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    anyhow::anyhow!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sqs(endpoint: Option<&str>) -> Sqs {
        let names = HashMap::from([("catalog.imports".to_owned(), "medisupply".to_owned())]);
        let endpoint = endpoint.map(str::to_owned);
        Sqs::new(SqsConfig { endpoint, names, ..Default::default() }, "t1.")
    }

    #[test]
    fn names_are_configured_or_derived() {
        let names = sqs(None).names("catalog.imports");
        assert_eq!((names.work.as_str(), names.dead.as_str()), ("medisupply", "medisupply-dlq"));
        let names = sqs(None).names("report.runs");
        assert_eq!((names.work.as_str(), names.dead.as_str()), ("t1-report-runs", "t1-report-runs-dlq"));
    }

    #[test]
    fn addresses_are_behind_the_endpoint_we_know() {
        let theirs = "http://sqs.us-east-1.localhost.localstack.cloud:4566/000000000000/q";
        assert_eq!(sqs(Some("http://127.0.0.1:1/")).reachable(theirs), "http://127.0.0.1:1/000000000000/q");
        assert_eq!(
            sqs(None).reachable("https://sqs.eu-west-1.amazonaws.com/1/q"),
            "https://sqs.eu-west-1.amazonaws.com/1/q"
        );
    }
}
