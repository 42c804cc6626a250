//! BigQuery's REST API, as far as reading tables needs it: tokens, jobs, pages, and what goes wrong. There is no SQL
//! engine: a query is answered by the table that it names and by its parameters `desde` and `hasta`, which bound the
//! column that it compares with them.
//!
//! <https://cloud.google.com/bigquery/docs/reference/rest>

pub mod demo;
mod serve;
pub mod truth;

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix_web::{App, HttpServer, dev::ServerHandle, web};
use anyhow::Result;
use serde_json::{Map, Value, json};

/// A column.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: &'static str,
    /// `STRING`, `INTEGER`, `NUMERIC`, `FLOAT`, `BOOLEAN`, `DATE`, `DATETIME`, `TIMESTAMP`, `RECORD`.
    pub kind: &'static str,
    pub repeated: bool,
    /// Of a record.
    pub fields: Vec<Self>,
}

impl Field {
    pub fn new(name: &'static str, kind: &'static str) -> Self {
        Self { name, kind, repeated: false, fields: Vec::new() }
    }
}

/// A row: text, lists, objects and nulls by column. A TIMESTAMP is an integer, microseconds since 1970.
pub type Row = Map<String, Value>;

/// Makes a row of its number.
pub type Make = fn(usize) -> Row;

/// A table: what the source has now. Tests change it at will.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub fields: Vec<Field>,
    pub rows: Vec<Row>,
    /// Instead of `rows`, of tables that are too large to be held: how many there are, and each by its number. Every
    /// query gets all of them, whatever its bounds.
    pub made: Option<(usize, Make)>,
}

impl Table {
    pub fn new(fields: Vec<Field>, rows: Vec<Row>) -> Self {
        Self { fields, rows, made: None }
    }
}

/// What a query has found: the snapshot that all of its pages are of.
enum Found {
    Held(Vec<Row>),
    Made(usize, fn(usize) -> Row),
}

impl Found {
    fn len(&self) -> usize {
        match self {
            Self::Held(rows) => rows.len(),
            Self::Made(rows, _) => *rows,
        }
    }

    fn get(&self, number: usize) -> Cow<'_, Row> {
        match self {
            Self::Held(rows) => Cow::Borrowed(&rows[number]),
            Self::Made(_, make) => Cow::Owned(make(number)),
        }
    }
}

/// What happens to one of the next requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// 403 with this reason: `rateLimitExceeded`, `quotaExceeded`, `accessDenied`.
    Forbidden(&'static str),
    /// 503 with a page of HTML.
    Unavailable,
    /// 200 with an empty body, which is no page.
    Empty,
    /// Half of a page of results, then nothing more.
    Cut,
    /// The token is not valid any more.
    Unauthorized,
    /// The job ends with this reason instead of results.
    JobError(&'static str),
    /// The job is not complete the next so many times.
    Incomplete(u32),
    /// The results have expired: 404, for good.
    Expired,
    /// A page of results that says how many rows there are, and has none of them, and no token.
    NoRows,
}

impl Fault {
    /// Whether it strikes requests for results, not those that begin a job.
    fn of_results(&self) -> bool {
        matches!(self, Self::Cut | Self::Incomplete(_) | Self::Expired | Self::NoRows)
    }
}

struct Job {
    fields: Vec<Field>,
    rows: Found,
    error: Option<&'static str>,
    incomplete: u32,
    expired: bool,
}

struct State {
    tables: HashMap<String, Table>,
    jobs: HashMap<String, Job>,
    faults: VecDeque<Fault>,
    /// Of every so-manieth request for results, whatever else is to happen; 0: of none.
    one_in: u64,
    /// How long a page takes.
    delay: Duration,
    /// Where the tables are, and so where jobs run.
    location: &'static str,
    /// Rows a page.
    page: usize,
    /// Valid tokens; none: anonymous callers are let in.
    tokens: Option<Vec<String>>,
    assertions: Vec<String>,
    /// Queries that were begun, results that were asked for.
    inserted: u64,
    pages: u64,
}

/// A BigQuery that runs until it is dropped.
pub struct BigQuery {
    state: Arc<Mutex<State>>,
    url: String,
    handle: ServerHandle,
}

impl BigQuery {
    /// Starts one on a free port, with no tables.
    ///
    /// # Errors
    /// No port.
    pub fn start() -> Result<Self> {
        Self::start_at("127.0.0.1", 0)
    }

    /// Starts one at an address and a port.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start_at(host: &str, port: u16) -> Result<Self> {
        let state = Arc::new(Mutex::new(State {
            tables: HashMap::new(),
            jobs: HashMap::new(),
            faults: VecDeque::new(),
            one_in: 0,
            delay: Duration::ZERO,
            location: "US",
            page: 1_000,
            tokens: None,
            assertions: Vec::new(),
            inserted: 0,
            pages: 0,
        }));
        let listener = TcpListener::bind((host, port))?;
        let url = format!("http://{}", listener.local_addr()?);
        let data = web::Data::from(state.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .app_data(web::JsonConfig::default().limit(1 << 22))
                .configure(serve::configure)
        })
        .workers(1)
        .disable_signals()
        .listen(listener)?
        .run();
        let handle = server.handle();
        std::thread::spawn(move || actix_web::rt::System::new().block_on(server));
        Ok(Self { state, url, handle })
    }

    /// The base of all paths.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Puts a table in the place of the one of its name, or makes it: the truth from now on.
    pub fn set(&self, name: &str, table: Table) {
        self.lock().tables.insert(name.to_owned(), table);
    }

    /// Changes a table.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Table)) {
        change(self.lock().tables.entry(name.to_owned()).or_default());
    }

    /// A table as it is now.
    pub fn table(&self, name: &str) -> Option<Table> {
        self.lock().tables.get(name).cloned()
    }

    /// How long every page of results takes.
    pub fn slow_down(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Lets one request for results in so many fail, each time in another way; 0: none.
    pub fn fail_one_in(&self, one_in: u64) {
        self.lock().one_in = one_in;
    }

    /// What will go wrong, in this order.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// How many of the faults have not struck yet.
    pub fn faults_left(&self) -> usize {
        self.lock().faults.len()
    }

    /// Rows a page, where the caller does not ask for fewer.
    pub fn page_size(&self, rows: usize) {
        self.lock().page = rows;
    }

    /// Where the tables are: outside of `US` and `EU`, who asks for a job's results must say where it runs.
    pub fn locate(&self, location: &'static str) {
        self.lock().location = location;
    }

    /// Anonymous callers are refused from now on.
    pub fn require_tokens(&self) {
        self.lock().tokens = Some(Vec::new());
    }

    /// All tokens that were given are not valid any more.
    pub fn expire_tokens(&self) {
        if let Some(tokens) = &mut self.lock().tokens {
            tokens.clear();
        }
    }

    /// The assertions that tokens were asked for with.
    pub fn assertions(&self) -> Vec<String> {
        self.lock().assertions.clone()
    }

    /// Queries that were begun, pages that were asked for.
    pub fn asked(&self) -> (u64, u64) {
        let state = self.lock();
        (state.inserted, state.pages)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BigQuery {
    fn drop(&mut self) {
        // Only sent: the thread ends with it.
        drop(self.handle.stop(false));
    }
}

/// A column as schemas have it.
fn schema(field: &Field) -> Value {
    let mode = if field.repeated { "REPEATED" } else { "NULLABLE" };
    let mut value = json!({ "name": field.name, "type": field.kind, "mode": mode });
    if !field.fields.is_empty() {
        value["fields"] = field.fields.iter().map(schema).collect();
    }
    value
}

/// A cell as results have it: text, null, `[{"v": …}]`, or `{"f": […]}`.
fn cell(field: &Field, value: &Value, micros: bool) -> Value {
    if field.repeated {
        let one = Field { repeated: false, ..field.clone() };
        let values = value.as_array().into_iter().flatten();
        return values.map(|value| json!({ "v": cell(&one, value, micros) })).collect();
    }
    match (field.kind, value) {
        (_, Value::Null) => Value::Null,
        ("RECORD", value) => {
            let cells =
                field.fields.iter().map(|field| json!({ "v": cell(field, &value[field.name], micros) }));
            json!({ "f": cells.collect::<Vec<_>>() })
        }
        ("TIMESTAMP", Value::Number(at)) => {
            let at = at.as_i64().unwrap_or_default();
            if micros {
                return at.to_string().into();
            }
            // Seconds as a float is written: round ones with an exponent.
            let (seconds, rest) = (at.div_euclid(1_000_000), at.rem_euclid(1_000_000));
            if rest == 0 && seconds % 100_000 == 0 {
                let digits = seconds.to_string();
                let (first, others) = digits.split_at(1);
                let others = others.trim_end_matches('0');
                let others = if others.is_empty() { "0" } else { others };
                return format!("{first}.{others}E{}", digits.len() - 1).into();
            }
            format!("{seconds}.{rest:06}").into()
        }
        (_, Value::String(text)) => text.clone().into(),
        (_, other) => other.to_string().into(),
    }
}
