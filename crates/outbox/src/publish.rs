use contracts::{Message, Queue, Routed};
use messaging::{Context, Destination, Envelope, Outgoing, trace};
use sea_orm::sqlx::{self, PgConnection};
use uuid::Uuid;

use crate::{Error, hint, storable};

/// What an envelope says about a message besides the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// What it is about: a job's or an entity's id.
    pub subject: Option<String>,
    /// The request or schedule that all began with.
    pub correlation_id: Option<String>,
    /// The message whose handler sends this one.
    pub causation_id: Option<Uuid>,
}

impl Meta {
    /// About `subject`: a job's or an entity's id.
    pub fn about(subject: impl ToString) -> Self {
        Self { subject: Some(subject.to_string()), ..Self::default() }
    }

    /// Sent by the handler of the message in `context`.
    #[must_use]
    pub fn caused_by(mut self, context: &Context) -> Self {
        self.correlation_id.clone_from(&context.correlation_id);
        self.causation_id = Some(context.id);
        self
    }

    /// Part of what began with this request or schedule.
    #[must_use]
    pub fn correlated(mut self, correlation_id: Option<String>) -> Self {
        self.correlation_id = correlation_id;
        self
    }
}

/// Writes a message of `service` into the outbox, in the caller's transaction: it is published at least
/// once if that commits, and never if it does not. Returns the envelope's id.
///
/// # Errors
/// A message without JSON form; the database.
pub async fn publish<M: Routed>(
    conn: &mut PgConnection,
    service: &str,
    message: &M,
    meta: Meta,
) -> Result<Uuid, Error> {
    let outgoing = wrap(service, &M::ROUTE.into(), message, meta)?;
    let id = outgoing.id;
    enqueue(conn, &[outgoing]).await?;
    Ok(id)
}

/// [`publish`] for many, in one statement. Returns the envelopes' ids, in the order of the messages.
///
/// # Errors
/// A message without JSON form; the database.
pub async fn publish_all<M: Routed>(
    conn: &mut PgConnection,
    service: &str,
    messages: Vec<(M, Meta)>,
) -> Result<Vec<Uuid>, Error> {
    write_all(conn, service, &M::ROUTE.into(), messages).await
}

/// [`publish_all`] to a queue of the caller's choice, for messages that have no place of their own.
///
/// # Errors
/// A message without JSON form; the database.
pub async fn publish_to<M: Message>(
    conn: &mut PgConnection,
    service: &str,
    queue: &Queue,
    messages: Vec<(M, Meta)>,
) -> Result<Vec<Uuid>, Error> {
    write_all(conn, service, &queue.into(), messages).await
}

async fn write_all<M: Message>(
    conn: &mut PgConnection,
    service: &str,
    destination: &Destination,
    messages: Vec<(M, Meta)>,
) -> Result<Vec<Uuid>, Error> {
    let outgoing = messages
        .into_iter()
        .map(|(message, meta)| wrap(service, destination, &message, meta))
        .collect::<Result<Vec<_>, _>>()?;
    enqueue(conn, &outgoing).await?;
    Ok(outgoing.iter().map(|message| message.id).collect())
}

fn wrap<M: Message>(
    service: &str,
    destination: &Destination,
    message: &M,
    meta: Meta,
) -> Result<Outgoing, Error> {
    let mut envelope = Envelope::new(service, message)?;
    envelope.subject = meta.subject;
    envelope.correlation_id = meta.correlation_id;
    envelope.causation_id = meta.causation_id;
    envelope.traceparent = trace::traceparent();
    Ok(Outgoing::to(destination.clone(), &envelope)?)
}

const INSERT: &str = "INSERT INTO outbox (destination, message_id, kind, body)
    SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::text[], $4::text[])";

const INSERT_AND_HINT: &str = "WITH written AS (INSERT INTO outbox (destination, message_id, kind, body)
    SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::text[], $4::text[]))
    SELECT pg_notify('outbox_' || current_schema(), '')";

/// Writes messages that are in their envelopes already (replays) into the outbox, in the caller's
/// transaction. A NUL in a type becomes U+FFFD: it is there for headers and metrics.
///
/// # Errors
/// The database; a body or a destination that PostgreSQL's text can't hold: not UTF-8, or with a NUL.
pub async fn enqueue(conn: &mut PgConnection, messages: &[Outgoing]) -> Result<(), Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let mut destinations = Vec::with_capacity(messages.len());
    let mut ids = Vec::with_capacity(messages.len());
    let mut kinds = Vec::with_capacity(messages.len());
    let mut bodies = Vec::with_capacity(messages.len());
    for message in messages {
        let unstorable = |reason: String| Error::Unstorable { id: message.id, reason };
        let destination = message.destination.to_string();
        let body = std::str::from_utf8(&message.body);
        let body = body.map_err(|error| unstorable(format!("its body is not UTF-8: {error}")))?;
        for (name, text) in [("destination", destination.as_str()), ("body", body)] {
            if text.contains('\0') {
                return Err(unstorable(format!("its {name} holds a NUL")));
            }
        }
        destinations.push(destination);
        ids.push(message.id);
        kinds.push(storable::text(&message.kind));
        bodies.push(body);
    }
    let statement = if hint::is_due() { INSERT_AND_HINT } else { INSERT };
    sqlx::query(statement).bind(&destinations).bind(&ids).bind(&kinds).bind(&bodies).execute(conn).await?;
    Ok(())
}
