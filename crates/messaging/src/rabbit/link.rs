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
/// How long a broker that is well may take to open a channel. One that is busy with its queues still does.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
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
            url.parse().map_err(|error: String| anyhow!("the address of RabbitMQ is not valid: {error}"))?;
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

    /// Something took too long on `connection`. If not even a channel opens on it, it is given up, and who asks
    /// next gets a new one. A broker that is only slow keeps it, and so does one that has blocked it: closing a
    /// blocked connection hangs, and what was written to it would be published beside its repetition. Returns whether
    /// nothing more will come of it.
    pub async fn suspect(&self, connection: &Arc<Connection>) -> bool {
        if connection.status().blocked() {
            return false;
        }
        match tokio::time::timeout(ANSWER_WITHIN, connection.create_channel()).await {
            Ok(Ok(channel)) => {
                leave(&channel).await;
                false
            }
            // It has failed by itself.
            Ok(Err(_)) => !connection.status().connected(),
            Err(_) if connection.status().blocked() => false,
            Err(_) => {
                self.give_up(connection).await;
                true
            }
        }
    }

    /// Gives up this very connection: by now another may be in its place, and others at work on that.
    async fn give_up(&self, connection: &Arc<Connection>) {
        let mut state = self.state.lock().await;
        if !state.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            return;
        }
        state.connection = None;
        drop(state);
        tracing::warn!(connection = self.name, "RabbitMQ does not answer on a connection, which is given up");
        let connection = connection.clone();
        tokio::spawn(async move {
            let closing = connection.close(200, "does not answer".into());
            let _ = tokio::time::timeout(CONNECT_WITHIN, closing).await;
        });
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

#[cfg(test)]
mod tests {
    use stack::{Namespace, proxy::Proxy};

    use super::*;

    async fn behind_proxy() -> anyhow::Result<(Namespace, Proxy, Link)> {
        stack::install_tls();
        let namespace = Namespace::create("link").await?;
        let (proxy, url) = Proxy::before(&namespace.servers().amqp_url).await?;
        Ok((namespace, proxy, Link::new(&url, "test")?))
    }

    #[tokio::test]
    async fn a_connection_that_answers_is_kept() -> anyhow::Result<()> {
        let (_namespace, _proxy, link) = behind_proxy().await?;
        let connection = link.connection().await?;
        link.suspect(&connection).await;
        assert!(Arc::ptr_eq(&connection, &link.connection().await?));
        Ok(())
    }

    #[tokio::test]
    async fn who_comes_late_does_not_give_up_the_connection_of_others() -> anyhow::Result<()> {
        let (_namespace, proxy, link) = behind_proxy().await?;
        let stalled = link.connection().await?;
        proxy.stall().await;
        link.suspect(&stalled).await;
        proxy.heal().await;
        let fresh = link.connection().await?;
        assert!(!Arc::ptr_eq(&stalled, &fresh));
        link.give_up(&stalled).await;
        assert!(Arc::ptr_eq(&fresh, &link.connection().await?));
        assert!(fresh.status().connected());
        Ok(())
    }
}
