//! What is counted, for Prometheus. Names are in `docs/metrics.md`.
//!
//! Invariant: no label has a value that a client chose: routes are templates, releases are those that the registry listed.

mod fleet;

pub use fleet::{FleetNumbers, ReleaseNumbers};

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// From a cached answer to one that was waited for.
const REQUEST_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 60.0,
];
/// From one heartbeat to a full batch.
const BATCH_HOSTS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    method: &'static str,
    route: String,
    /// `2xx`, `4xx`, …
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// What is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Family<RouteLabels, Histogram>,
    heartbeats: Counter,
    heartbeats_with_news: Counter,
    batch_hosts: Histogram,
    batch_seconds: Histogram,
    connections: Gauge,
    long_polls: Gauge,
    authentication_failures: Family<ReasonLabels, Counter>,
    generation: Gauge<u64, AtomicU64>,
    log_position: Gauge<u64, AtomicU64>,
    registry_updates: Family<ReasonLabels, Counter>,
    webhook_deliveries: Family<OutcomeLabels, Counter>,
    fleet: Arc<RwLock<FleetNumbers>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("plfm"),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(REQUEST_SECONDS)),
            heartbeats: Counter::default(),
            heartbeats_with_news: Counter::default(),
            batch_hosts: Histogram::new(BATCH_HOSTS),
            batch_seconds: Histogram::new(REQUEST_SECONDS),
            connections: Gauge::default(),
            long_polls: Gauge::default(),
            authentication_failures: Family::default(),
            generation: Gauge::default(),
            log_position: Gauge::default(),
            registry_updates: Family::default(),
            webhook_deliveries: Family::default(),
            fleet: Arc::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("control_build", "What runs here", Info::new(version));
        registry.register(
            "control_requests",
            "Requests that were answered",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "control_request",
            "Time from a request's head to its answer",
            Unit::Seconds,
            self.request_seconds.clone(),
        );
        registry.register(
            "control_heartbeats",
            "Heartbeats that were kept",
            self.heartbeats.clone(),
        );
        registry.register(
            "control_heartbeats_with_news",
            "Heartbeats whose news were new",
            self.heartbeats_with_news.clone(),
        );
        registry.register(
            "control_heartbeat_batch_hosts",
            "Heartbeats of one transaction",
            self.batch_hosts.clone(),
        );
        registry.register_with_unit(
            "control_heartbeat_batch",
            "Time that the transaction took",
            Unit::Seconds,
            self.batch_seconds.clone(),
        );
        registry.register(
            "control_connections",
            "Connections that are open",
            self.connections.clone(),
        );
        registry.register(
            "control_long_polls",
            "Requests that are held until there is news",
            self.long_polls.clone(),
        );
        registry.register(
            "control_authentication_failures",
            "Requests that nobody known asked",
            self.authentication_failures.clone(),
        );
        registry.register(
            "control_generation",
            "The generation of the target",
            self.generation.clone(),
        );
        registry.register(
            "control_log_position",
            "The last event that is followed",
            self.log_position.clone(),
        );
        registry.register(
            "control_registry_updates",
            "Times that the registry was asked, by what came of it",
            self.registry_updates.clone(),
        );
        registry.register(
            "webhook_deliveries",
            "Notices to the webhook, by what came of each try",
            self.webhook_deliveries.clone(),
        );
        for outcome in ["delivered", "failed", "given_up"] {
            drop(self.webhook_deliveries.get_or_create(&OutcomeLabels { outcome }));
        }
        registry.register_collector(Box::new(fleet::Collector(Arc::clone(&self.fleet))));
    }

    /// A request was answered.
    pub fn request(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let labels = RequestLabels {
            method,
            route: route.to_owned(),
            status: status_class(status),
        };
        self.requests.get_or_create(&labels).inc();
        let labels = RouteLabels {
            method,
            route: route.to_owned(),
        };
        self.request_seconds
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }

    /// A heartbeat was kept.
    pub fn heartbeat(&self, had_news: bool) {
        self.heartbeats.inc();
        if had_news {
            self.heartbeats_with_news.inc();
        }
    }

    /// Heartbeats were kept together.
    pub fn batch(&self, hosts: usize, took: Duration) {
        self.batch_hosts
            .observe(f64::from(u32::try_from(hosts).unwrap_or(u32::MAX)));
        self.batch_seconds.observe(took.as_secs_f64());
    }

    /// Connections that are open.
    pub fn connections(&self) -> &Gauge {
        &self.connections
    }

    /// Requests that are held until there is news.
    pub fn long_polls(&self) -> &Gauge {
        &self.long_polls
    }

    /// Nobody known asked.
    pub fn authentication_failure(&self, reason: &'static str) {
        self.authentication_failures
            .get_or_create(&ReasonLabels { reason })
            .inc();
    }

    /// The registry was asked.
    pub fn registry_update(&self, result: &'static str) {
        self.registry_updates
            .get_or_create(&ReasonLabels { reason: result })
            .inc();
    }

    /// The webhook was told something, or not.
    pub fn webhook_delivery(&self, outcome: &'static str) {
        self.webhook_deliveries
            .get_or_create(&OutcomeLabels { outcome })
            .inc();
    }

    /// All of it, in the text format of OpenMetrics.
    pub fn render(
        &self,
        generation: u64,
        position: u64,
        fleet: Option<FleetNumbers>,
    ) -> Result<String, std::fmt::Error> {
        self.generation.set(generation);
        self.log_position.set(position);
        if let Some(fleet) = fleet {
            *self.fleet.write().unwrap_or_else(PoisonError::into_inner) = fleet;
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn status_class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}
