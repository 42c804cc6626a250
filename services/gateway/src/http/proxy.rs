//! Passes requests on to the services. Bodies are streamed in both directions and never collected; each
//! side feels the other's pace.

mod headers;

use std::{
    io,
    time::{Duration, Instant},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{Method, StatusCode, header},
    web,
};
use bytes::Bytes;
use chassis::{ApiResult, Problem, http::method_not_allowed};
use futures::{Stream, StreamExt as _};
use reqwest::{Body, RequestBuilder, Response};
use tokio::{sync::mpsc, time::timeout};

use super::{access, backends::Target, places::Place, problems, routes};
use crate::{App, config::Settings};

/// Pieces of a body under way between the two connections; each is at most some tens of kilobytes.
const IN_FLIGHT: usize = 4;

/// The largest body of a webhook or a page, in bytes: whoever sends it is not known yet.
const WEBHOOK_LIMIT: u64 = 64 << 10;

/// How long the rest of a body is read and thrown away after its answer.
const LINGER: Duration = Duration::from_secs(5);

/// Serves every row of the route table.
pub async fn proxy(request: HttpRequest, mut payload: web::Payload, app: web::Data<App>) -> ApiResult {
    match forward(&request, &mut payload, &app).await {
        Ok((response, Sent::Whole)) => Ok(response),
        Ok((response, Sent::Part)) => {
            discard(payload);
            Ok(response)
        }
        Err(problem) => {
            discard(payload);
            Err(problem)
        }
    }
}

/// How much of a request's body was passed on before its answer began.
enum Sent {
    Whole,
    Part,
}

/// Reads on for a moment after an answer that came before the body's end: many clients look at the answer only
/// when they have sent all. Whoever is not done by then has the connection closed.
fn discard(mut payload: web::Payload) {
    actix_web::rt::spawn(timeout(LINGER, async move { while let Some(Ok(_)) = payload.next().await {} }));
}

async fn forward(
    request: &HttpRequest,
    payload: &mut web::Payload,
    app: &App,
) -> Result<(HttpResponse, Sent), Problem> {
    let (method, path) = (request.method(), request.path());
    let unknown = || Problem::of(StatusCode::NOT_FOUND);
    if routes::climbs(path) {
        return Err(unknown());
    }
    let route = match routes::find(method, path) {
        Some(route) => route,
        // Vendors' webhooks and pages have no other methods, and nobody else has business there.
        None => match routes::find(&Method::POST, path).and_then(routes::Route::only_methods) {
            Some(methods) => return Ok((method_not_allowed(method, methods), Sent::Part)),
            None => return Err(unknown()),
        },
    };
    let target = app.backends.get(route.backend).ok_or_else(unknown)?;
    let token =
        if route.is_public() { None } else { Some(access::authorise(request, route.roles(method))?.1) };
    let caller = access::account(request, &app.settings);
    let place = call_place(app, route, &caller)?;
    let body = Incoming::new(request, payload, route, &app.settings)?;
    let upload = match &body {
        Some(_) if access::is_upload(request) => Some(upload_place(app, &caller)?),
        _ => None,
    };
    target.admit().map_err(|rest| problems::unreachable(route.backend, rest))?;

    let mut url = target.url(&route.rewrite(path));
    if !request.query_string().is_empty() {
        url = format!("{url}?{}", request.query_string());
    }
    let outgoing_method = reqwest::Method::from_bytes(method.as_str().as_bytes())
        .map_err(|_| Problem::of(StatusCode::METHOD_NOT_ALLOWED))?;
    let headers = headers::forwarded(request, route, &app.settings);
    let mut outgoing = app.backends.client.request(outgoing_method, url).headers(headers);
    if let Some(token) = token {
        outgoing = outgoing.bearer_auth(token);
    }
    let is_upload = upload.is_some();
    let call = Call { target, settings: &app.settings, caller, is_upload, started: Instant::now() };
    let (response, unsent) = match body {
        Some(body) => call.with_body(outgoing, body).await?,
        None => (call.without_body(outgoing, method).await?, None),
    };
    drop(upload);
    let sent = if unsent.is_some() { Sent::Part } else { Sent::Whole };
    let held = Held { _unsent: unsent, _place: place };
    Ok((answer(method, response, held, app.settings.backend_timeout), sent))
}

/// A caller's place for a request that is passed on. People who open links and vendors who report come by the thousand from
/// few addresses, and their answers are short: they need none.
fn call_place(app: &App, route: &routes::Route, caller: &str) -> Result<Option<Place>, Problem> {
    if route.webhook || route.page {
        return Ok(None);
    }
    let cap = app.settings.caller_connections;
    let place = app.calls.enter(caller, cap);
    place.map(Some).ok_or_else(|| problems::too_many_at_once("peticiones", cap))
}

/// A caller's place for a file that is being sent.
fn upload_place(app: &App, caller: &str) -> Result<Place, Problem> {
    let cap = app.settings.upload_connections;
    app.uploads.enter(caller, cap).ok_or_else(|| problems::too_many_at_once("cargas", cap))
}

/// How often a request that only reads is sent again.
const READ_AGAIN: u32 = 3;

/// A request under way to a backend.
struct Call<'a> {
    target: &'a Target,
    settings: &'a Settings,
    /// Whose it is.
    caller: String,
    /// Whether it brings a file.
    is_upload: bool,
    started: Instant,
}

impl Call<'_> {
    async fn without_body(&self, request: RequestBuilder, method: &Method) -> Result<Response, Problem> {
        // A connection that did not come about, or that broke before an answer: reading twice changes nothing, and
        // nothing else is ever repeated. A backend that died leaves the connections that it had, and under load some
        // time passes until the pool knows that they are dead.
        let mut request = request;
        let mut left = if matches!(*method, Method::GET | Method::HEAD) { READ_AGAIN } else { 0 };
        loop {
            let again = if left > 0 { request.try_clone() } else { None };
            match (timeout(self.settings.backend_timeout, request.send()).await, again) {
                (Ok(Err(error)), Some(again)) if !error.is_timeout() => {
                    left = if error.is_connect() { left.min(1) - 1 } else { left - 1 };
                    request = again;
                }
                (outcome, _) => return self.judge(outcome),
            }
        }
    }

    async fn with_body(
        &self,
        request: RequestBuilder,
        body: Incoming<'_>,
    ) -> Result<(Response, Option<Unsent>), Problem> {
        let (sender, mut receiver) = mpsc::channel::<Piece>(IN_FLIGHT);
        let mut ended = false;
        let stream = futures::stream::poll_fn(move |context| {
            if ended {
                return None.into();
            }
            receiver.poll_recv(context).map(|piece| match piece {
                Some(Piece::Data(bytes)) => Some(Ok(bytes)),
                Some(Piece::End) => {
                    ended = true;
                    None
                }
                // The sender is gone without an end: the client left, or sent too much. The backend must
                // not take what it has for the whole.
                None => {
                    ended = true;
                    Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the client broke off")))
                }
            })
        });
        let request = match body.length {
            Some(length) => request.header(reqwest::header::CONTENT_LENGTH, length),
            None => request,
        };
        let mut response = std::pin::pin!(request.body(Body::wrap_stream(stream)).send());
        let unsent = sender.clone();
        let pump = self.pump(body, sender);
        tokio::select! {
            // An answer before the whole body was sent: a refusal, for instance.
            answered = &mut response => Ok((self.judge(Ok(answered))?, Some(unsent))),
            // Leaving here on an error drops the call: the connection to the backend is closed.
            pumped = pump => {
                pumped?;
                Ok((self.judge(timeout(self.settings.backend_timeout, response).await)?, None))
            }
        }
    }

    /// Moves the client's body into the call, piece by piece.
    async fn pump(&self, body: Incoming<'_>, sender: mpsc::Sender<Piece>) -> Result<(), Problem> {
        let mut received = 0_u64;
        // What the client was waited for: a backend that takes its time makes nobody slow.
        let mut waited = Duration::ZERO;
        let mut pace = Pace::new(self.settings);
        let patience = self.settings.client_timeout;
        loop {
            let asked = Instant::now();
            let piece = match timeout(patience, body.payload.next()).await {
                Err(_) => return Err(problems::slow_client(patience)),
                Ok(None) => Piece::End,
                Ok(Some(Err(error))) => return Err(problems::broken_body(anyhow::anyhow!("{error}"))),
                Ok(Some(Ok(bytes))) => {
                    received += bytes.len() as u64;
                    if received > body.limit {
                        return Err(problems::too_large(body.limit));
                    }
                    Piece::Data(bytes)
                }
            };
            let pause = asked.elapsed();
            waited += pause;
            if let Piece::Data(bytes) = &piece {
                pace.count(self.settings, bytes.len(), pause)?;
                if waited > self.settings.client_deadline {
                    return Err(problems::slow_client(waited));
                }
            }
            let last = matches!(piece, Piece::End);
            match timeout(self.settings.backend_timeout, sender.send(piece)).await {
                // The backend takes nothing.
                Err(_) => return Err(self.silent()),
                // It takes no more: it has answered, or is gone. The call itself knows which.
                Ok(Err(_)) => return Ok(()),
                Ok(Ok(())) if last => return Ok(()),
                Ok(Ok(())) => {}
            }
        }
    }

    /// What a call came to.
    fn judge(
        &self,
        outcome: Result<reqwest::Result<Response>, tokio::time::error::Elapsed>,
    ) -> Result<Response, Problem> {
        match outcome {
            Err(_) => Err(self.silent()),
            // Files have room, disk and store of their own: that there is none of them says nothing of other requests.
            Ok(Ok(response))
                if self.is_upload && response.status() == reqwest::StatusCode::SERVICE_UNAVAILABLE =>
            {
                self.target.takes_no_file(self.started);
                Ok(response)
            }
            Ok(Ok(response)) => {
                self.target.answered(self.started, response.status(), &self.caller);
                Ok(response)
            }
            Ok(Err(error)) if error.is_connect() => {
                self.target.unreachable(self.started);
                let rest = self.settings.breaker_pause;
                Err(problems::not_connected(self.target.backend, rest, error))
            }
            Ok(Err(error)) => {
                self.target.broke_off(self.started);
                Err(problems::broke_off(self.target.backend, error))
            }
        }
    }

    fn silent(&self) -> Problem {
        self.target.failed(self.started, "silent", &self.caller);
        problems::silent(self.target.backend, self.settings.backend_timeout)
    }
}

/// How far ahead of its least rate a client is, in seconds: one that trickles would hold a connection, and a backend's, for
/// ever. What it has sent fast counts for no longer than it may be silent.
struct Pace(f64);

impl Pace {
    fn new(settings: &Settings) -> Self {
        Self(settings.client_timeout.as_secs_f64())
    }

    /// So many bytes came after a pause.
    fn count(&mut self, settings: &Settings, bytes: usize, pause: Duration) -> Result<(), Problem> {
        let earned = bytes as f64 / settings.client_min_rate as f64;
        self.0 = (self.0 - pause.as_secs_f64() + earned).min(settings.client_timeout.as_secs_f64());
        match self.0 < 0.0 {
            true => Err(problems::too_slow(settings.client_min_rate)),
            false => Ok(()),
        }
    }
}

/// A piece of a body. Its end is said, never concluded from silence.
enum Piece {
    Data(Bytes),
    End,
}

/// The open end of a body that its backend has answered before it was sent. Closing it breaks the connection,
/// so it stays open until the answer is through.
type Unsent = mpsc::Sender<Piece>;

/// What is held until an answer is through.
struct Held {
    _unsent: Option<Unsent>,
    _place: Option<Place>,
}

/// A client's body.
struct Incoming<'a> {
    payload: &'a mut web::Payload,
    /// As announced, in bytes; a chunked body announces none.
    length: Option<u64>,
    /// Bytes that are passed on at most.
    limit: u64,
}

impl<'a> Incoming<'a> {
    /// The body, if the request has one.
    fn new(
        request: &HttpRequest,
        payload: &'a mut web::Payload,
        route: &routes::Route,
        settings: &Settings,
    ) -> Result<Option<Self>, Problem> {
        let limit = if route.webhook || route.page {
            WEBHOOK_LIMIT
        } else if access::is_upload(request) {
            settings.files_limit(route.files)
        } else {
            settings.body_limit
        };
        let length = match request.headers().get(header::CONTENT_LENGTH) {
            Some(value) => Some(
                value
                    .to_str()
                    .ok()
                    .and_then(|text| text.parse::<u64>().ok())
                    .ok_or_else(|| Problem::of(StatusCode::BAD_REQUEST))?,
            ),
            None => None,
        };
        if length.is_some_and(|length| length > limit) {
            return Err(problems::too_large(limit));
        }
        let has_body = length.is_some_and(|length| length > 0)
            || request.headers().contains_key(header::TRANSFER_ENCODING);
        Ok(has_body.then_some(Self { payload, length, limit }))
    }
}

/// A backend's answer, streamed.
fn answer(method: &Method, response: Response, held: Held, patience: Duration) -> HttpResponse {
    let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut answer = HttpResponse::build(status);
    headers::copy_answer(&response, &mut answer);
    let bodiless =
        matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) || status.is_informational();
    if bodiless || (response.content_length() == Some(0) && *method != Method::HEAD) {
        return answer.finish();
    }
    // Reqwest says 0 for the body of an answer to HEAD; the header says what GET would bring.
    let announced = response
        .headers()
        .get(reqwest::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let Some(length) = announced {
        answer.no_chunking(length);
    }
    answer.streaming(patient(response.bytes_stream(), held, patience))
}

/// The stream, with an error where its source is silent for too long: a backend that dies in the middle of
/// an answer must not hold the client.
fn patient(
    stream: impl Stream<Item = reqwest::Result<Bytes>> + Unpin,
    held: Held,
    patience: Duration,
) -> impl Stream<Item = io::Result<Bytes>> {
    futures::stream::unfold(Some((stream, held)), move |source| async move {
        let (mut stream, held) = source?;
        match timeout(patience, stream.next()).await {
            Ok(None) => None,
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some((stream, held)))),
            Ok(Some(Err(error))) => Some((Err(io::Error::other(error.without_url())), None)),
            Err(_) => Some((Err(io::Error::new(io::ErrorKind::TimedOut, "the backend fell silent")), None)),
        }
    })
}
