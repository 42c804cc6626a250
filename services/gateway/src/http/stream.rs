//! Server-sent events: what happens, as it happens, to those who may see it.
//! The format and `Last-Event-ID`: WHATWG HTML, section 9.2.

use std::{convert::Infallible, time::Duration};

use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, http::header, web};
use bytes::Bytes;
use chassis::{ApiResult, Clock, Problem, auth::Caller, http::Query};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use tracing::debug;
use uuid::Uuid;

use super::{access, places::Place};
use crate::{
    App,
    events::payloads::StreamEvent,
    identity::{Authenticated, Credential},
    live::{Entry, StreamId},
};

/// The pause between comments that keep proxies from closing an idle stream.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How often a place is looked for where the caller has as many streams as it may, and the pause after each look: longer than
/// the way to a client and back.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Where to start.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct From {
    /// El id del último evento visto, para clientes que no pueden enviar el encabezado `Last-Event-ID`.
    last_event_id: Option<String>,
}

/// Progress and domain events, live. Each event's `id` can be sent back as `Last-Event-ID`, to any replica.
/// Besides the domain's, there are the events `reset` (events were missed: read the current state) and
/// `expired` (the token or its session ended, and with it the stream; `reason` is `token_expired` or `session_ended`).
#[utoipa::path(
    operation_id = "events_stream", summary = "Seguir los eventos en vivo",
    description = "Avances y hechos, según ocurren (server-sent events). El `id` de cada evento se puede devolver como `Last-Event-ID`, a cualquier réplica. Además de los del dominio hay `reset` (se perdieron eventos: lea el estado actual) y `expired` (terminó el token o su sesión, y con ella la conexión; `reason` es `token_expired` o `session_ended`).",
    get, path = "/api/v1/stream", tag = "stream", params(From),
    responses(
        (status = 200, description = "Los eventos que el usuario puede ver", body = StreamEvent, content_type = "text/event-stream"),
        (status = 401, description = "Sin credenciales válidas"),
        (status = 429, description = "Demasiadas conexiones abiertas de este usuario"),
        (status = 503, description = "El canal de eventos no está disponible"),
    ),
)]
pub async fn stream(request: HttpRequest, app: web::Data<App>, from: Query<From>) -> ApiResult {
    let caller = access::caller(&request)?;
    caller.require_scope("stream:read")?;
    let only = caller.sees_only()?.map(str::to_owned);
    if !app.feed.connected() {
        return Err(Problem::unavailable(
            "stream_unavailable",
            anyhow::anyhow!("the live stream has no Redis"),
        )
        .with_details("No hay conexión con el canal de eventos (redis)"));
    }
    let place = place(&app, &access::account(&request, &app.settings)).await?;
    let asked = request
        .headers()
        .get("last-event-id")
        .and_then(|value| value.to_str().ok().map(str::to_owned))
        .or(from.into_inner().last_event_id)
        .filter(|id| !id.is_empty());

    let (sender, mut receiver) = mpsc::channel(16);
    let key = match request.extensions().get::<Authenticated>().map(|known| known.credential) {
        Some(Credential::ApiKey(key)) => Some(key),
        _ => None,
    };
    let (session, expires) = (caller.claims().sid, expires(&caller));
    let watcher = Watcher { app, expires, session, key, only, sender, place };
    actix_web::rt::spawn(async move {
        let ended = watcher.run(asked).await;
        debug!(?ended, "a live stream ended");
    });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream; charset=utf-8")
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // nginx would otherwise collect events before it passes them on.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(futures::stream::poll_fn(move |context| receiver.poll_recv(context))))
}

/// A place for a stream. Where the caller has as many as it may, those whose clients have left are found out first, so that a
/// page that is loaded again is let in: all of them write something at each look. The server takes no notice of a client that
/// closes, until it writes to it, and the second time fails. (`h1_allow_half_closed(false)` would tell it, and would take their
/// answers from clients that close their own direction, and from those that send a byte too many.)
async fn place(app: &App, account: &str) -> Result<Place, Problem> {
    let cap = app.settings.stream_connections;
    for _ in 0..LOOKS {
        if let Some(place) = app.watchers.enter(account, cap) {
            return Ok(place);
        }
        sleep(PAUSE).await;
    }
    app.watchers.enter(account, cap).ok_or_else(|| {
        Problem::too_many(HEARTBEAT).with_details(format!("Máximo {cap} conexiones de eventos por usuario"))
    })
}

/// When the caller's token ends.
fn expires(caller: &Caller) -> Instant {
    let left = caller.claims().exp.saturating_sub(Clock::System.now().timestamp());
    Instant::now() + Duration::from_secs(u64::try_from(left).unwrap_or(0))
}

struct Watcher {
    app: web::Data<App>,
    expires: Instant,
    /// The login that opened it, if one did: the stream ends with it.
    session: Option<Uuid>,
    /// The API key that opened it, if one did: asked about at each heartbeat.
    key: Option<Uuid>,
    /// The supplier whose events alone the caller may see.
    only: Option<String>,
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
    place: Place,
}

/// Why a stream ended.
#[derive(Debug)]
enum Ended {
    ClientLeft,
    Expired,
    LoggedOut,
    Reset,
    /// While the past was read; the client comes back with the last id that it has.
    RedisLeft,
    Shutdown,
}

impl Watcher {
    /// Tells what happens until the first of its ends, whatever it is about to send then: a client that reads slowly is
    /// told nothing more once it may not know.
    async fn run(&self, asked: Option<String>) -> Ended {
        let ended = tokio::select! {
            biased;
            ended = self.end() => ended,
            told = self.tell(asked) => match told {
                Ok(never) => match never {},
                Err(ended) => ended,
            },
        };
        match ended {
            Ended::LoggedOut => self.say_why("session_ended").await,
            Ended::Expired => self.say_why("token_expired").await,
            _ => {}
        }
        ended
    }

    /// Waits for what ends the stream from outside.
    async fn end(&self) -> Ended {
        tokio::select! {
            () = self.session_ended() => Ended::LoggedOut,
            () = self.key_ended() => Ended::LoggedOut,
            () = sleep_until(self.expires) => Ended::Expired,
            () = self.app.shutdown.cancelled() => Ended::Shutdown,
            () = self.sender.closed() => Ended::ClientLeft,
        }
    }

    async fn session_ended(&self) {
        match self.session {
            Some(session) => self.app.identity.session_ended(session).await,
            None => std::future::pending().await,
        }
    }

    async fn key_ended(&self) {
        let Some(key) = self.key else { return std::future::pending().await };
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            if let Ok(false) = self.app.identity.key_stands(key).await {
                return;
            }
        }
    }

    async fn tell(&self, asked: Option<String>) -> Result<Infallible, Ended> {
        // Subscribed before the past is read: an entry in between comes twice, and its id says so.
        let (mut live, now) = self.app.feed.subscribe();
        let mut seen = match asked {
            None => now,
            Some(asked) => match asked.parse() {
                Ok(id) => self.catch_up(id).await?,
                Err(_) => {
                    self.reset("unknown_id", now).await?;
                    now
                }
            },
        };
        // A client that has seen nothing yet also knows where to go on from. (No data: not an event.)
        self.send(format!("retry: 2000\nid: {seen}\n\n")).await?;

        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut catching_up = true;
        loop {
            tokio::select! {
                entry = live.recv() => match entry {
                    // The past that was read went further than the start of the subscription.
                    Ok(entry) if catching_up && entry.id <= seen => {}
                    Ok(entry) => {
                        catching_up = false;
                        seen = entry.id;
                        self.show(&entry).await?;
                    }
                    Err(RecvError::Lagged(_)) => {
                        self.reset("lagged", seen).await?;
                        return Err(Ended::Reset);
                    }
                    Err(RecvError::Closed) => return Err(Ended::Shutdown),
                },
                _ = heartbeat.tick() => self.beat().await?,
                () = self.place.wanted() => self.beat().await?,
            }
        }
    }

    /// Sends what came after `id`; returns the id of the last entry looked at.
    async fn catch_up(&self, id: StreamId) -> Result<StreamId, Ended> {
        let mut position = id;
        loop {
            // At each page again: one that is read slowly is trimmed under its reader.
            if self.app.feed.lost_since(position).await.map_err(|_| Ended::RedisLeft)? {
                // Not simply from the newest entry: a stream that was wiped may have started over below `id`.
                let (_, now) = self.app.feed.subscribe();
                self.reset("trimmed", now).await?;
                return Ok(now);
            }
            let page = self.app.feed.after(position).await.map_err(|_| Ended::RedisLeft)?;
            position = page.position;
            for entry in &page.entries {
                self.show(entry).await?;
            }
            if page.last {
                return Ok(position);
            }
        }
    }

    async fn show(&self, entry: &Entry) -> Result<(), Ended> {
        // What belongs to no supplier is for those who see all of them.
        if self.only.is_some() && self.only != entry.event.proveedor_id {
            return Ok(());
        }
        // Serialised JSON has no line breaks, so it is one data line.
        let data = json!({
            "service": entry.event.service,
            "proveedor_id": entry.event.proveedor_id,
            "data": entry.event.data,
        });
        self.send(format!("id: {}\nevent: {}\ndata: {data}\n\n", entry.id, one_line(&entry.event.kind))).await
    }

    async fn reset(&self, reason: &str, id: StreamId) -> Result<(), Ended> {
        self.send(format!("id: {id}\nevent: reset\ndata: {{\"reason\":\"{reason}\"}}\n\n")).await
    }

    async fn beat(&self) -> Result<(), Ended> {
        self.send(": latido\n\n".into()).await
    }

    /// Sends a last event, unless the client is not reading.
    async fn say_why(&self, reason: &str) {
        let farewell = format!("event: expired\ndata: {{\"reason\":\"{reason}\"}}\n\n");
        let sent = self.sender.send_timeout(Ok(Bytes::from(farewell)), Duration::from_secs(1)).await;
        // It learns it when it comes back.
        drop(sent);
    }

    /// Whoever takes nothing for so long is gone, whatever its connection says.
    async fn send(&self, text: String) -> Result<(), Ended> {
        let sent = self.sender.send_timeout(Ok(Bytes::from(text)), 2 * HEARTBEAT).await;
        sent.map_err(|_| Ended::ClientLeft)
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}
