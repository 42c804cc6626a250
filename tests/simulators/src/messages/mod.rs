//! Providers of messages, Telnyx and Twilio: they take messages as the vendors do, count their parts, report by signed
//! webhooks, keep records, and misbehave on demand. What they accepted, and when, is the truth of a test.
//!
//! Beside the vendors' own paths: `GET`/`PUT /control/faults`, `POST /control/{order,fates,write}`, `GET /truth.json`,
//! `GET`/`DELETE /truth/accepted`.

mod control;
mod faults;
mod parts;
mod state;
mod telnyx;
mod truth;
mod twilio;
mod webhooks;

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, dev::Extensions, dev::ServerHandle, http::StatusCode, rt, web,
};
use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use uuid::Uuid;

pub use faults::{Fate, Faults};
use state::{Interruption, Refused, State, Wanted, digits};
pub use telnyx::PROFILE;
pub use truth::{Accepted, Answer, Summary};
pub use webhooks::telnyx_headers;
use webhooks::{Dispatcher, Notice};

/// Whose API it is, and its secrets.
enum Vendor {
    Telnyx { key: String, key_pair: Ed25519KeyPair },
    Twilio { account_sid: String, auth_token: String },
}

struct Shared {
    vendor: Vendor,
    state: Mutex<State>,
    webhooks: Dispatcher,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that can be cut.
struct Connection(Option<TcpStream>);

/// Where providers listen unless told.
const LOOPBACK: &str = "127.0.0.1";

/// A provider of its own. It ends when this is dropped.
pub struct Messages {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
    server: ServerHandle,
}

impl Messages {
    /// Telnyx, for who comes with `key`; on a port of the system's choice where it is 0.
    ///
    /// # Errors
    /// The port is taken.
    pub fn telnyx(key: &str, port: u16) -> Result<Self> {
        Self::telnyx_at(LOOPBACK, key, port)
    }

    /// The same at an address of this machine.
    ///
    /// # Errors
    /// The port is taken.
    pub fn telnyx_at(host: &str, key: &str, port: u16) -> Result<Self> {
        Self::start(Vendor::Telnyx { key: key.to_owned(), key_pair: webhooks::key_pair()? }, host, port)
    }

    /// Twilio, for one account.
    ///
    /// # Errors
    /// The port is taken.
    pub fn twilio(account_sid: &str, auth_token: &str, port: u16) -> Result<Self> {
        Self::twilio_at(LOOPBACK, account_sid, auth_token, port)
    }

    /// The same at an address of this machine.
    ///
    /// # Errors
    /// The port is taken.
    pub fn twilio_at(host: &str, account_sid: &str, auth_token: &str, port: u16) -> Result<Self> {
        let (account_sid, auth_token) = (account_sid.to_owned(), auth_token.to_owned());
        Self::start(Vendor::Twilio { account_sid, auth_token }, host, port)
    }

    fn start(vendor: Vendor, host: &str, port: u16) -> Result<Self> {
        let webhooks = Dispatcher::new()?;
        let look_ups = match &vendor {
            Vendor::Telnyx { key, .. } => Some(web::Data::new(crate::telnyx::Shared::new(key))),
            Vendor::Twilio { .. } => None,
        };
        let shared = Arc::new(Shared { vendor, state: Mutex::new(State::new()), webhooks });
        let served = Arc::clone(&shared);
        let server = HttpServer::new(move || {
            let app = App::new()
                .app_data(control::data(&served))
                .app_data(web::JsonConfig::default().limit(64 << 20))
                .route("/health/ready", web::get().to(HttpResponse::Ok))
                .route("/control/faults", web::get().to(control::faults))
                .route("/control/faults", web::put().to(control::set_faults))
                .route("/control/order", web::post().to(control::order))
                .route("/control/fates", web::post().to(control::fates))
                .route("/control/write", web::post().to(control::write))
                .route("/truth.json", web::get().to(control::summary))
                .route("/truth/accepted", web::get().to(control::accepted))
                .route("/truth/accepted", web::delete().to(control::forget));
            match &look_ups {
                Some(look_ups) => app
                    .app_data(look_ups.clone())
                    .route("/v2/number_lookup/{phone}", web::get().to(crate::telnyx::look_up))
                    .route("/v2/messages", web::post().to(telnyx::send))
                    .route("/v2/messages/{id}", web::get().to(telnyx::one))
                    .route("/v2/detail_records", web::get().to(telnyx::records))
                    .route("/v2/balance", web::get().to(telnyx::balance))
                    .route("/v2/messaging_optouts", web::get().to(telnyx::opt_outs))
                    .default_service(web::to(async || {
                        telnyx::refusal(
                            404,
                            10005,
                            "Resource not found",
                            "The requested resource or URL could not be found.",
                        )
                    })),
                None => app
                    .route("/2010-04-01/Accounts/{account}/Messages.json", web::post().to(twilio::send))
                    .route("/2010-04-01/Accounts/{account}/Messages.json", web::get().to(twilio::list))
                    .route("/2010-04-01/Accounts/{account}/Messages/{sid}.json", web::get().to(twilio::one))
                    .route("/2010-04-01/Accounts/{account}/Balance.json", web::get().to(twilio::balance))
                    .default_service(web::to(async || {
                        twilio::refusal(404, 20404, "The requested resource was not found")
                    })),
            }
        })
        .on_connect(|connection, extensions: &mut Extensions| {
            let stream = connection.downcast_ref::<rt::net::TcpStream>();
            let twin =
                stream.and_then(|stream| stream.as_fd().try_clone_to_owned().ok()).map(TcpStream::from);
            extensions.insert(Connection(twin));
        })
        // As load balancers do: a connection that ends under a request leaves nobody knowing whether it arrived, and clients
        // end theirs before. Nor is a client refused that was stopped, or that has to share its machine.
        .keep_alive(Duration::from_secs(75))
        .client_request_timeout(Duration::from_secs(75))
        .workers(1)
        .disable_signals()
        .bind((host, port))?;
        let address = server.addrs().first().copied().context("an address")?;
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { address, shared, server: handle })
    }

    /// What the client's base address is to be: `TELNYX_URL`, or Twilio's.
    pub fn url(&self) -> String {
        match self.shared.vendor {
            Vendor::Telnyx { .. } => format!("http://{}/v2", self.address),
            Vendor::Twilio { .. } => format!("http://{}/2010-04-01", self.address),
        }
    }

    /// Where it is told to misbehave, and asked: `http://127.0.0.1:…`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The key that Telnyx's webhooks are verified with, in base64; none of Twilio, which signs with the token.
    pub fn public_key(&self) -> Option<String> {
        match &self.shared.vendor {
            Vendor::Telnyx { key_pair, .. } => Some(STANDARD.encode(key_pair.public_key().as_ref())),
            Vendor::Twilio { .. } => None,
        }
    }

    /// Lets it misbehave from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.shared.state().set_faults(faults);
    }

    /// Status and code of the next submissions, one each.
    pub fn order(&self, answers: impl IntoIterator<Item = (u16, u32)>) {
        self.shared.state().ordered.extend(answers);
    }

    /// What becomes of messages to a phone (`+52…`).
    pub fn fate(&self, phone: &str, fate: Fate) {
        if let Some(phone) = digits(phone) {
            self.shared.state().fates.insert(phone, fate);
        }
    }

    /// Someone writes to one of our numbers; the same id is the same message again.
    pub fn write(&self, from: &str, to: &str, text: &str, url: &str, id: Uuid) {
        inbound(&self.shared, from.to_owned(), to.to_owned(), text.to_owned(), url.to_owned(), id);
    }

    /// What was accepted, in order.
    pub fn accepted(&self) -> Vec<Accepted> {
        control::accepted_from(&self.shared, 0, usize::MAX)
    }

    pub fn summary(&self) -> Summary {
        self.shared.state().summary()
    }

    /// Forgets all messages and opt-outs; faults stay.
    pub fn forget(&self) {
        control::forget_all(&self.shared);
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        // Stopping is a message to the server; nobody has to wait for it.
        drop(self.server.stop(false));
    }
}

/// The words that both vendors act on by themselves.
fn inbound(shared: &Arc<Shared>, from: String, to: String, text: String, url: String, id: Uuid) {
    let word = text.trim().to_uppercase();
    if let Some(phone) = digits(&from) {
        match word.as_str() {
            "STOP" | "STOPALL" | "UNSUBSCRIBE" | "CANCEL" | "END" | "QUIT" => {
                shared.state().opt_out(phone, &to, &word);
            }
            "START" | "UNSTOP" => shared.state().opt_in(phone),
            _ => (),
        }
    }
    let shared = Arc::clone(shared);
    tokio::spawn(
        async move { webhooks::deliver(&shared, Notice::Inbound { from, to, text, url, id }).await },
    );
}

/// How a vendor says what became of a submission.
trait Answered {
    /// Whether a landline is refused at once, or reported later.
    const LANDLINES_REFUSED: bool;
    fn receipt(&self, message: &Accepted) -> HttpResponse;
    fn refusal(&self, refused: Refused) -> HttpResponse;
    fn ordered(&self, status: u16, code: u32) -> HttpResponse;
}

/// Takes a message whose form is right, and answers or not.
async fn submit<A: Answered>(
    request: &HttpRequest,
    shared: &web::Data<Shared>,
    wanted: &Wanted<'_>,
    words: &A,
) -> HttpResponse {
    let (interruption, delay) = {
        let mut state = shared.state();
        (state.interruption(), Duration::from_millis(state.faults.answer_ms))
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match interruption {
        Some(Interruption::Cut) => return cut(request),
        Some(Interruption::Unavailable) => return HttpResponse::ServiceUnavailable().finish(),
        Some(Interruption::Throttled) => return words.refusal(Refused::Throttled),
        Some(Interruption::Ordered(status, code)) => return words.ordered(status, code),
        None => (),
    }
    let (receipt, message) = {
        let mut state = shared.state();
        let receipt = match state.accept(wanted, A::LANDLINES_REFUSED) {
            Ok(receipt) => receipt,
            Err(refused) => return words.refusal(refused),
        };
        let mut message = state.read(receipt.number);
        // An answer has the text even where nothing remembers it.
        if let Some(message) = &mut message {
            message.text.get_or_insert_with(|| wanted.text.to_owned());
        }
        (receipt, message)
    };
    if !receipt.repeated {
        webhooks::report(&Arc::clone(shared), receipt.number);
    }
    if receipt.early {
        // Long enough for the reports to come first.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let Some(message) = message else { return HttpResponse::InternalServerError().finish() };
    match receipt.answer {
        Answer::Whole => words.receipt(&message),
        Answer::Lost => cut(request),
        Answer::Broken => HttpResponse::Ok().content_type("application/json").body("{\"data\":{\"id\":\""),
        Answer::Error => HttpResponse::build(StatusCode::INTERNAL_SERVER_ERROR).finish(),
    }
}

/// Ends the connection under the request: no byte of an answer leaves.
fn cut(request: &HttpRequest) -> HttpResponse {
    if let Some(Connection(Some(stream))) = request.conn_data::<Connection>() {
        // An Err means that it is gone already.
        let _gone = stream.shutdown(Shutdown::Both);
    }
    HttpResponse::InternalServerError().finish()
}
