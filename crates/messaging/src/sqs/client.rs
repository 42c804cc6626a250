use std::time::Duration;

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sqs::Client;
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use crate::SqsConfig;

/// How long a call may take that does not wait for messages.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

pub(super) async fn make(config: &SqsConfig) -> Client {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(config.region.clone()))
        .http_client(http)
        // Consumers and the outbox try again by themselves; here it only hides what happens.
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        .timeout_config(timeouts(ANSWER_WITHIN));
    if let Some(endpoint) = &config.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    Client::new(&loader.load().await)
}

/// For a receive, which waits at the broker.
pub(super) fn receiving(config: &SqsConfig) -> aws_sdk_sqs::config::Builder {
    aws_sdk_sqs::Config::builder()
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts(config.wait + ANSWER_WITHIN))
}

fn timeouts(attempt: Duration) -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .read_timeout(attempt)
        .operation_attempt_timeout(attempt)
        .build()
}
