//! What a webhook's receiver gets, and clients that talk to simulators.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use anyhow::{Context as _, Result, bail};
use chassis::{Clock, config::Secret};
use chrono::{TimeDelta, Utc};
use simulators::messages::{Faults, Messages};
use sms_dispatch::domain::{callback::Callback, normalise, webhooks};
use sms_dispatch::providers::{
    messaging::{Encoding, Messaging, OutgoingMessage, ProviderName, Sender, SenderKind, Sought},
    telnyx::TelnyxSettings,
    telnyx_messages::TelnyxMessages,
    twilio_messages::{TwilioMessages, TwilioSettings},
};
use uuid::Uuid;

pub const KEY: &str = "KEY-of-a-test";
pub const ACCOUNT: &str = "AC00000000000000000000000000000001";
pub const TOKEN: &str = "token-of-a-test";
pub const SENDER: &str = "+525550001234";

/// A simulator, and the client of it.
pub struct Provider {
    pub name: ProviderName,
    pub simulator: Messages,
    pub client: Arc<dyn Messaging>,
}

pub fn both() -> Result<[Provider; 2]> {
    Ok([telnyx()?, twilio()?])
}

pub fn telnyx() -> Result<Provider> {
    let simulator = Messages::telnyx(KEY, 0)?;
    let settings = TelnyxSettings { url: simulator.url(), key: Secret::new(KEY.to_owned()) };
    let client = Arc::new(TelnyxMessages::new(settings, Some("profile".to_owned()), Clock::System));
    Ok(Provider { name: ProviderName::Telnyx, simulator, client })
}

pub fn twilio() -> Result<Provider> {
    let simulator = Messages::twilio(ACCOUNT, TOKEN, 0)?;
    let settings = TwilioSettings {
        url: simulator.url(),
        account_sid: ACCOUNT.to_owned(),
        auth_token: Secret::new(TOKEN.to_owned()),
    };
    Ok(Provider { name: ProviderName::Twilio, simulator, client: Arc::new(TwilioMessages::new(settings)) })
}

/// No webhooks, and final at once.
pub fn instant() -> Faults {
    Faults { webhooks: false, sent_ms: 0, final_ms: 0, ..Faults::default() }
}

/// A message whose reports go to `base`.
pub fn message(provider: ProviderName, base: &str, index: u32) -> OutgoingMessage {
    let id = Uuid::now_v7();
    let phone = normalise(format!("612100{index:04}").as_bytes()).expect("a number").phone;
    OutgoingMessage {
        id,
        attempt: 1,
        to: phone,
        from: Sender { kind: SenderKind::LongCode, value: SENDER.to_owned() },
        text: "Su pago vence mañana. ¿Dudas? Responda AYUDA".to_owned(),
        encoding: Encoding::Gsm7,
        validity: None,
        callback_url: Callback { message: id, attempt: 1 }.url(base, provider),
    }
}

pub fn sought(message: &OutgoingMessage) -> Sought {
    let now = Utc::now();
    Sought { message: message.clone(), from: now - TimeDelta::minutes(1), until: now + TimeDelta::minutes(1) }
}

/// Waits until `found` has something.
pub async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if let Some(found) = found() {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("{what} did not come")
}

/// A webhook as it came.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub signature: Option<String>,
    pub timestamp: Option<String>,
    pub body: Vec<u8>,
}

/// An address that webhooks come to.
pub struct Receiver {
    pub url: String,
    received: Arc<Mutex<Vec<Received>>>,
    server: ServerHandle,
}

impl Receiver {
    /// Answers the first so many requests with 503.
    pub fn start(refusing: usize) -> Result<Self> {
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let data = web::Data::new((Arc::clone(&received), refusing));
        let server =
            HttpServer::new(move || App::new().app_data(data.clone()).default_service(web::to(take)))
                .workers(1)
                .disable_signals()
                .bind(("127.0.0.1", 0))?;
        let address = server.addrs().first().copied().context("an address")?;
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { url: format!("http://{address}"), received, server: handle })
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first so many, once they are there.
    pub async fn wait_for(&self, count: usize) -> Result<Vec<Received>> {
        until("a webhook", || Some(self.received()).filter(|received| received.len() >= count)).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // Stopping is a message to the server; nobody has to wait for it.
        drop(self.server.stop(false));
    }
}

type Taken = (Arc<Mutex<Vec<Received>>>, usize);

async fn take(request: HttpRequest, body: web::Bytes, data: web::Data<Taken>) -> HttpResponse {
    let (received, refusing) = data.as_ref();
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut received = received.lock().unwrap_or_else(PoisonError::into_inner);
    received.push(Received {
        path: request.uri().to_string(),
        signature: header(webhooks::telnyx::SIGNATURE).or_else(|| header(webhooks::twilio::SIGNATURE)),
        timestamp: header(webhooks::telnyx::TIMESTAMP),
        body: body.to_vec(),
    });
    if received.len() <= *refusing {
        HttpResponse::ServiceUnavailable().finish()
    } else {
        HttpResponse::Ok().finish()
    }
}
