//! Telnyx: number look-ups, after <https://developers.telnyx.com/api-reference/number-lookup/lookup-phone-number-data>.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, http::StatusCode, web};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the simulator knows about a phone; it follows from its digits, so that a test knows it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A carrier's.
    Known { operator: &'static str, line_type: &'static str },
    /// No phone of this number can be: `valid_number` is false.
    Invalid,
    /// The look-up is refused for this number: 422.
    Refused,
}

/// What is known about `+52` and ten digits.
pub fn line(phone: &str) -> Line {
    let digits = phone.trim_start_matches('+');
    let sum: u32 = digits.bytes().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0')).sum();
    match (digits.ends_with("99"), sum % 10) {
        (true, _) => Line::Refused,
        (_, 0..=2) => Line::Known { operator: "RADIOMOVIL DIPSA SA DE CV", line_type: "mobile" },
        (_, 3 | 4) => Line::Known { operator: "AT&T COMERCIALIZACION MOVIL", line_type: "mobile" },
        (_, 5) => Line::Known { operator: "PEGASO PCS", line_type: "mobile" },
        (_, 6 | 7) => Line::Known { operator: "TELEFONOS DE MEXICO", line_type: "fixed line" },
        (_, 8) => Line::Known { operator: "MAXCOM TELECOMUNICACIONES", line_type: "voip" },
        _ => Line::Invalid,
    }
}

/// A Telnyx of its own. It ends when this is dropped.
pub struct Telnyx {
    url: String,
    shared: Arc<Shared>,
    server: ServerHandle,
}

pub(crate) struct Shared {
    key: String,
    state: Mutex<State>,
}

struct State {
    /// Look-ups answered, by phone: each is billed.
    billed: HashMap<String, u32>,
    /// Requests of all kinds.
    requests: u64,
    /// Answers to come that are no look-up's: a status each.
    failures: Vec<u16>,
    per_second: u32,
    window: (Instant, u32),
    delay: Duration,
}

impl Shared {
    pub(crate) fn new(key: &str) -> Self {
        let state = State {
            billed: HashMap::new(),
            requests: 0,
            failures: Vec::new(),
            per_second: 50,
            window: (Instant::now(), 0),
            delay: Duration::ZERO,
        };
        Self { key: key.to_owned(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Telnyx {
    /// Serves who comes with `key`, up to 50 requests a second.
    ///
    /// # Errors
    /// No port.
    pub fn start(key: &str) -> Result<Self> {
        let shared = Arc::new(Shared::new(key));
        let data = web::Data::from(Arc::clone(&shared));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/v2/number_lookup/{phone}", web::get().to(look_up))
                .default_service(web::to(async || {
                    let detail = "The requested resource or URL could not be found.";
                    refusal(StatusCode::NOT_FOUND, "10005", "Resource not found", detail)
                }))
        })
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))?;
        let address = server.addrs().first().copied().context("an address")?;
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { url: format!("http://{address}/v2"), shared, server: handle })
    }

    /// What `TELNYX_URL` is to be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Look-ups that were answered, and so are billed, by phone.
    pub fn billed(&self) -> HashMap<String, u32> {
        self.shared.state().billed.clone()
    }

    /// Requests of all kinds so far.
    pub fn requests(&self) -> u64 {
        self.shared.state().requests
    }

    /// Lets the next requests fail, with these statuses; 200 is an answer that breaks off, and is billed.
    pub fn fail_next(&self, statuses: &[u16]) {
        self.shared.state().failures = statuses.iter().rev().copied().collect();
    }

    /// How many requests a second are served; what is above is told to come back later.
    pub fn limit(&self, per_second: u32) {
        self.shared.state().per_second = per_second;
    }

    /// How long each answer takes.
    pub fn delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }
}

impl Drop for Telnyx {
    fn drop(&mut self) {
        // Stopping is a message to the server; nobody has to wait for it.
        drop(self.server.stop(false));
    }
}

#[derive(Deserialize)]
pub(crate) struct Wanted {
    #[serde(rename = "type")]
    kind: Option<String>,
}

pub(crate) async fn look_up(
    request: HttpRequest,
    phone: web::Path<String>,
    wanted: web::Query<Wanted>,
    shared: web::Data<Shared>,
) -> HttpResponse {
    let (failure, limited, headers, delay) = {
        let mut state = shared.state();
        state.requests += 1;
        if state.window.0.elapsed() >= Duration::from_secs(1) {
            state.window = (Instant::now(), 0);
        }
        let limited = state.window.1 >= state.per_second;
        state.window.1 += u32::from(!limited);
        let headers = [
            ("x-ratelimit-limit", state.per_second.to_string()),
            ("x-ratelimit-remaining", (state.per_second - state.window.1.min(state.per_second)).to_string()),
            ("x-ratelimit-reset", "1".to_owned()),
        ];
        (state.failures.pop(), limited, headers, state.delay)
    };
    tokio::time::sleep(delay).await;
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let mut response = if authorization != Some(&format!("Bearer {}", shared.key)) {
        let detail =
            "The required authentication headers were either invalid or not included in the request.";
        refusal(StatusCode::UNAUTHORIZED, "10009", "Authentication failed", detail)
    } else if limited {
        let detail = "You have exceeded the maximum number of allowed requests.";
        refusal(StatusCode::TOO_MANY_REQUESTS, "10011", "Too many requests", detail)
    } else if failure == Some(200) {
        *shared.state().billed.entry(phone.to_string()).or_default() += 1;
        HttpResponse::Ok().content_type("application/json").body("{\"data\":{")
    } else if let Some(status) = failure {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        refusal(status, "10007", "Unexpected error", "An unexpected error occurred.")
    } else {
        answer(&shared, &phone, wanted.kind.as_deref())
    };
    for (name, value) in headers {
        let name = actix_web::http::header::HeaderName::from_static(name);
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn answer(shared: &Shared, phone: &str, kind: Option<&str>) -> HttpResponse {
    let national = phone.strip_prefix("+52").filter(|digits| digits.len() == 10);
    let Some(national) = national.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit())) else {
        let detail = format!("'{phone}' is not a valid E.164 formatted phone number.");
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "10027", "Unprocessable entity", &detail);
    };
    let line = line(phone);
    if line == Line::Refused {
        let detail = format!("{phone} can't be looked up.");
        return refusal(StatusCode::UNPROCESSABLE_ENTITY, "10027", "Unprocessable entity", &detail);
    }
    *shared.state().billed.entry(phone.to_owned()).or_default() += 1;
    let carrier = match (kind, line) {
        (Some("carrier"), Line::Known { operator, line_type }) => json!({
            "name": operator, "type": line_type, "normalized_carrier": null, "error_code": null,
            "mobile_country_code": (line_type == "mobile").then_some("334"),
            "mobile_network_code": (line_type == "mobile").then_some("020"),
        }),
        _ => Value::Null,
    };
    HttpResponse::Ok().json(json!({ "data": {
        "record_type": "number_lookup",
        "phone_number": phone,
        "country_code": "MX",
        "national_format": format!("{} {} {}", &national[..3], &national[3..6], &national[6..]),
        "valid_number": line != Line::Invalid,
        "fraud": null,
        "caller_name": null,
        "carrier": carrier,
        // Only numbers of North America's plan have it.
        "portability": null,
    }}))
}

pub(crate) fn refusal(status: StatusCode, code: &str, title: &str, detail: &str) -> HttpResponse {
    let url = format!("https://developers.telnyx.com/docs/overview/errors/{code}");
    HttpResponse::build(status).json(
        json!({ "errors": [{ "code": code, "title": title, "detail": detail, "meta": { "url": url } }] }),
    )
}
