//! What a process tells of itself, in `prometheus::default_registry()`: which build it is, and how full its pools are.
//! (`process_*` come from the `prometheus` crate.)

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex, Once, PoisonError},
};

use prometheus::{
    IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
    register_int_gauge_vec,
};

use crate::VERSION;

/// The commit that was built, where whoever built it said so.
const REVISION: &str = match option_env!("LOTE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

static BUILD: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "lote_build_info",
        "1, with what this process is.",
        &["version", "revision", "service", "role"]
    )
    .expect("registered once, with a valid name")
});

/// Says which build this process is, of which service, and what it runs as.
pub fn build_info(service: &str, role: &str) {
    BUILD.with_label_values(&[VERSION, REVISION, service, role]).set(1);
}

/// The connections of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connections {
    pub open: usize,
    /// Of those, how many nobody uses.
    pub idle: usize,
    /// How many there may be.
    pub max: usize,
}

type Look = Box<dyn Fn() -> Connections + Send>;

static POOLS: Mutex<BTreeMap<&'static str, Look>> = Mutex::new(BTreeMap::new());

/// Shows the process's pool of this name, as it is when somebody asks for the metrics. A later one of the same name
/// takes its place: a process has one.
pub(crate) fn show_pool(name: &'static str, look: impl Fn() -> Connections + Send + 'static) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let register = || prometheus::default_registry().register(Box::new(Pools::new()?));
        register().expect("registered once, with valid names");
    });
    POOLS.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Box::new(look));
}

/// Looks at the pools when it is asked.
struct Pools {
    connections: IntGaugeVec,
    max: IntGaugeVec,
}

impl Pools {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            connections: IntGaugeVec::new(
                Opts::new("lote_pool_connections", "Open connections, by state: in_use, idle."),
                &["pool", "state"],
            )?,
            max: IntGaugeVec::new(
                Opts::new("lote_pool_connections_max", "Connections that a pool may have."),
                &["pool"],
            )?,
        })
    }
}

impl Collector for Pools {
    fn desc(&self) -> Vec<&Desc> {
        [self.connections.desc(), self.max.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (name, look) in &*POOLS.lock().unwrap_or_else(PoisonError::into_inner) {
            let Connections { open, idle, max } = look();
            let set = |gauge: &IntGaugeVec, labels: &[&str], value: usize| {
                gauge.with_label_values(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&self.connections, &[name, "in_use"], open.saturating_sub(idle));
            set(&self.connections, &[name, "idle"], idle);
            set(&self.max, &[name], max);
        }
        [self.connections.collect(), self.max.collect()].concat()
    }
}
