use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use lapin::{Channel, Connection, ConnectionProperties, uri::AMQPUri};
use tokio::sync::Mutex;

/// How long a connection may take to be made.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// After a failure, who asks within this time gets the same failure: many callers make one attempt.
const ATTEMPT_EVERY: Duration = Duration::from_millis(100);
/// A dead peer is noticed within twice this, in seconds.
const HEARTBEAT: u16 = 10;

/// One connection, made when it is needed and again when it has failed.
pub(crate) struct Link {
    uri: AMQPUri,
    name: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    connection: Option<Arc<Connection>>,
    failed: Option<(Instant, String)>,
}

impl Link {
    pub fn new(url: &str, name: &str) -> anyhow::Result<Self> {
        // The address holds a password: it is not repeated.
        let mut uri: AMQPUri =
            url.parse().map_err(|error: String| anyhow!("the address of RabbitMQ is none: {error}"))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT);
        Ok(Self { uri, name: name.to_owned(), state: Mutex::default() })
    }

    pub async fn connection(&self) -> anyhow::Result<Arc<Connection>> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &state.connection
            && connection.status().connected()
        {
            return Ok(connection.clone());
        }
        state.connection = None;
        if let Some((at, error)) = &state.failed
            && at.elapsed() < ATTEMPT_EVERY
        {
            return Err(anyhow!(error.clone()));
        }
        let properties =
            ConnectionProperties::default().with_connection_name(self.name.clone().into_bytes().into());
        let connecting = Connection::connect_uri(self.uri.clone(), properties);
        let connected = match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
            Ok(connected) => connected.context("RabbitMQ can't be reached"),
            Err(_) => Err(anyhow!("RabbitMQ did not answer within {} s", CONNECT_WITHIN.as_secs())),
        };
        match connected {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *state = State { connection: Some(connection.clone()), failed: None };
                Ok(connection)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), format!("{error:#}")));
                Err(error)
            }
        }
    }

    /// Gives a connection up that does not answer.
    pub async fn discard(&self) {
        let connection = self.state.lock().await.connection.take();
        if let Some(connection) = connection {
            tokio::spawn(async move {
                let closing = connection.close(200, "does not answer".into());
                let _ = tokio::time::timeout(CONNECT_WITHIN, closing).await;
            });
        }
    }
}

/// A consumer's channel, which closes when it is dropped. lapin's own does not once it has a consumer: the
/// broker would go on keeping its deliveries for us.
pub(crate) struct OwnChannel(Channel);

impl OwnChannel {
    pub fn new(channel: Channel) -> Self {
        Self(channel)
    }
}

impl std::ops::Deref for OwnChannel {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.0
    }
}

impl Drop for OwnChannel {
    fn drop(&mut self) {
        if self.0.status().connected()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let channel = self.0.clone();
            runtime.spawn(async move { leave(&channel).await });
        }
    }
}

/// Closes a channel. That it had failed already is no news by now.
pub(crate) async fn leave(channel: &Channel) {
    let _ = tokio::time::timeout(CONNECT_WITHIN, channel.close(200, "done".into())).await;
}
