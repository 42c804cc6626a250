//! Bsale, after <https://docs.bsale.dev> and what its users have found: a shop of any size behind Bsale's own paths,
//! with its limits, its traps and its failures. What the shop holds is the truth that a sync must come to.
//!
//! Traps: pages of 50 at most whatever is asked for, newest first; `next` an absolute URL, absent on the last page;
//! expanded lists cut at 25 without a word; ids as numbers or as strings; 429 above 8 a second or 3,000 in 300 s.

mod answers;
mod json;
mod records;
mod serve;
mod shop;
pub mod truth;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::{App, HttpServer, dev::ServerHandle, web};
use anyhow::{Context, Result};

pub use records::{Client, Detail, Document, DocumentType, Money, Price, Product, Stock, Variant};
pub use shop::{Shop, Size};

/// An answer that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, with a body as Bsale's.
    Status(u16),
    /// 200, and nothing.
    Empty,
    /// 200, and half of the body.
    Broken,
    /// The right answer, so much later.
    Slow(Duration),
}

type Change = Box<dyn FnOnce(&mut Shop) + Send>;

struct State {
    shop: Shop,
    /// For the next requests, one each.
    faults: VecDeque<Fault>,
    /// Beside those, one request in so many fails, each time in another way; 0: none.
    one_in: u64,
    /// Whether more than 8 requests a second, or 3,000 in 300 s, are refused.
    limited: bool,
    requests: u64,
    refused: u64,
    /// Requests that are being answered, and the most that ever were.
    under_way: usize,
    most: usize,
    recent: VecDeque<Instant>,
    /// What happens to the shop right before the answer to so-manieth list from now.
    changes: Vec<(u64, Change)>,
    log: Vec<String>,
}

struct Shared {
    token: String,
    base: Mutex<String>,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A Bsale of its own. It ends when this is dropped.
pub struct Bsale {
    url: String,
    shared: Arc<Shared>,
    server: ServerHandle,
}

impl Bsale {
    /// Serves `shop` to who comes with `token`, with limits off, on a port of the system's choice.
    ///
    /// # Errors
    /// No port.
    pub fn start(shop: Shop, token: &str) -> Result<Self> {
        Self::start_at(shop, token, "127.0.0.1", 0)
    }

    /// The same at an address and a port of one's own.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start_at(shop: Shop, token: &str, host: &str, port: u16) -> Result<Self> {
        let state = State {
            shop,
            faults: VecDeque::new(),
            one_in: 0,
            limited: false,
            requests: 0,
            refused: 0,
            under_way: 0,
            most: 0,
            recent: VecDeque::new(),
            changes: Vec::new(),
            log: Vec::new(),
        };
        let shared =
            Arc::new(Shared { token: token.to_owned(), base: Mutex::default(), state: Mutex::new(state) });
        let data = web::Data::from(Arc::clone(&shared));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/truth.json", web::get().to(serve::truth))
                .route("/health/ready", web::get().to(actix_web::HttpResponse::Ok))
                .default_service(web::to(serve::serve))
        })
        .workers(1)
        .disable_signals()
        .bind((host, port))?;
        let address = server.addrs().first().copied().context("an address")?;
        let url = format!("http://{address}/v1");
        shared.base.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&url);
        let server = server.run();
        let handle = server.handle();
        tokio::spawn(server);
        Ok(Self { url, shared, server: handle })
    }

    /// What `BSALE_API_URL` is to be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Looks at the shop, or changes it.
    pub fn shop<T>(&self, look: impl FnOnce(&mut Shop) -> T) -> T {
        look(&mut self.shared.state().shop)
    }

    /// Lets the next requests fail.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.shared.state().faults.extend(faults);
    }

    /// Lets one request in so many fail, each time in another way; 0: none.
    pub fn fail_one_in(&self, one_in: u64) {
        self.shared.state().one_in = one_in;
    }

    /// Whether Bsale's limits hold.
    pub fn limit(&self, limited: bool) {
        self.shared.state().limited = limited;
    }

    /// Changes the shop right before the answer to the so-manieth list from now (1 is the next): in the middle of a
    /// reader's pages.
    pub fn change_at_list(&self, number: u64, change: impl FnOnce(&mut Shop) + Send + 'static) {
        self.shared.state().changes.push((number, Box::new(change)));
    }

    /// Requests of all kinds so far.
    pub fn requests(&self) -> u64 {
        self.shared.state().requests
    }

    /// Those of them that were refused for their number.
    pub fn refused(&self) -> u64 {
        self.shared.state().refused
    }

    /// The most requests that were answered at the same time. Only [`Fault::Slow`] makes that more than one.
    pub fn most_at_once(&self) -> usize {
        self.shared.state().most
    }

    /// Path and query of each request since this was last asked.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.state().log)
    }
}

impl Drop for Bsale {
    fn drop(&mut self) {
        // Stopping is a message to the server; nobody has to wait for it.
        drop(self.server.stop(false));
    }
}
