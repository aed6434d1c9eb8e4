//! The agent's metrics, and the address that they are read at.
//!
//! No label has a value without a bound: releases are those that are installed or run, outcomes, stages and reasons come
//! from closed lists.

use std::collections::BTreeSet;
use std::time::Duration;

use plfm_api::BootReport;
use plfm_release::ReleaseId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct BootLabels {
    release: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct StageLabels {
    release: String,
    stage: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PullLabels {
    outcome: &'static str,
}

/// What is looked at when the metrics are read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Glance {
    pub cache_bytes: u64,
    pub images: u64,
    pub image_bytes: u64,
    pub generation: u64,
    pub is_connected: bool,
}

/// All metrics of one agent.
pub struct Metrics {
    registry: Registry,
    boots: Family<BootLabels, Counter>,
    boot_seconds: Family<StageLabels, Histogram>,
    downloaded: Counter,
    verify_seconds: Histogram,
    refusals: Family<ReasonLabels, Counter>,
    cache_bytes: Gauge,
    image_pulls: Family<PullLabels, Counter>,
    image_fetched: Counter,
    image_build_seconds: Histogram,
    images: Gauge,
    image_bytes: Gauge,
    generation: Gauge,
    connected: Gauge,
    /// Labels that have a release.
    known: std::sync::Mutex<BTreeSet<Known>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Boot(BootLabels),
    Stage(StageLabels),
}

/// From 5 ms, below which nothing boots, to a minute, after which it counts as failed.
fn seconds() -> Histogram {
    Histogram::new([
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    ])
}

/// From what a small image takes to what the largest that is allowed does.
fn build_seconds() -> Histogram {
    Histogram::new([
        0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    ])
}

impl Metrics {
    /// Metrics of an agent that has done nothing yet.
    pub fn new(version: semver::Version) -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("plfm_agent"),
            boots: Family::default(),
            boot_seconds: Family::new_with_constructor(seconds),
            downloaded: Counter::default(),
            verify_seconds: seconds(),
            refusals: Family::default(),
            cache_bytes: Gauge::default(),
            image_pulls: Family::default(),
            image_fetched: Counter::default(),
            image_build_seconds: build_seconds(),
            images: Gauge::default(),
            image_bytes: Gauge::default(),
            generation: Gauge::default(),
            connected: Gauge::default(),
            known: std::sync::Mutex::default(),
        };
        // There before the first: a rate needs to see it rise from nothing.
        for outcome in ["built", "present"] {
            drop(metrics.image_pulls.get_or_create(&PullLabels { outcome }));
        }
        metrics.registered(version)
    }

    fn registered(mut self, version: semver::Version) -> Self {
        let registry = &mut self.registry;
        registry.register("boots", "Boots, by how they ended", self.boots.clone());
        registry.register_with_unit(
            "boot",
            "What the stages of boots that became ready took",
            Unit::Seconds,
            self.boot_seconds.clone(),
        );
        registry.register_with_unit(
            "download",
            "Bytes fetched from the registry",
            Unit::Bytes,
            self.downloaded.clone(),
        );
        registry.register_with_unit(
            "verify",
            "What it took to verify a release's files before a boot",
            Unit::Seconds,
            self.verify_seconds.clone(),
        );
        registry.register(
            "verification_failures",
            "Releases that were refused, by why",
            self.refusals.clone(),
        );
        registry.register_with_unit(
            "cache",
            "Bytes that installed artifacts take",
            Unit::Bytes,
            self.cache_bytes.clone(),
        );
        registry.register(
            "generation",
            "The generation of the target that the host goes by",
            self.generation.clone(),
        );
        registry.register(
            "control_connected",
            "Whether the control plane answered last",
            self.connected.clone(),
        );
        self.register_images();
        let registry = &mut self.registry;
        let build = Info::new([("version", version.to_string())]);
        registry.register("build", "This agent", build);
        self
    }

    fn register_images(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "image_pulls",
            "Pulls of images, by what came of them",
            self.image_pulls.clone(),
        );
        registry.register_with_unit(
            "image_download",
            "Bytes of images fetched from their registries",
            Unit::Bytes,
            self.image_fetched.clone(),
        );
        registry.register_with_unit(
            "image_build",
            "What it took to make an image's disk",
            Unit::Seconds,
            self.image_build_seconds.clone(),
        );
        registry.register("images", "Images that are on the host", self.images.clone());
        registry.register_with_unit(
            "image_store",
            "Bytes that the images' disks take",
            Unit::Bytes,
            self.image_bytes.clone(),
        );
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<Known>> {
        self.known
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes a boot that is over, well or not.
    pub fn booted(&self, report: &BootReport) {
        let release = report.release.to_string();
        let labels = BootLabels {
            release: release.clone(),
            outcome: report.outcome.as_str(),
        };
        self.boots.get_or_create(&labels).inc();
        self.known().insert(Known::Boot(labels));
        for (stage, took) in stages(report) {
            let labels = StageLabels {
                release: release.clone(),
                stage,
            };
            self.boot_seconds
                .get_or_create(&labels)
                .observe(took.as_secs_f64());
            self.known().insert(Known::Stage(labels));
        }
    }

    /// Notes that a release's files were verified for a boot.
    pub fn verified(&self, took: Duration) {
        self.verify_seconds.observe(took.as_secs_f64());
    }

    /// Notes that a release was refused. Codes are the program's own, so there are only so many.
    pub fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// Notes bytes that came from the registry.
    pub fn downloaded(&self, bytes: u64) {
        self.downloaded.inc_by(bytes);
    }

    /// Notes a pull that is over. Outcomes are the program's own words, so there are only so many.
    pub fn image_pulled(&self, outcome: &'static str) {
        self.image_pulls.get_or_create(&PullLabels { outcome }).inc();
    }

    /// Notes bytes of an image that came from its registry.
    pub fn image_fetched(&self, bytes: u64) {
        self.image_fetched.inc_by(bytes);
    }

    /// Notes that an image's disk was made.
    pub fn image_built(&self, took: Duration) {
        self.image_build_seconds.observe(took.as_secs_f64());
    }

    /// Forgets the series of releases that are neither installed nor run.
    pub fn forget_all_but(&self, releases: &BTreeSet<ReleaseId>) {
        let releases: BTreeSet<String> = releases.iter().map(ToString::to_string).collect();
        self.known().retain(|known| {
            let release = match known {
                Known::Boot(labels) => &labels.release,
                Known::Stage(labels) => &labels.release,
            };
            let stays = releases.contains(release);
            match known {
                _ if stays => {}
                Known::Boot(labels) => {
                    self.boots.remove(labels);
                }
                Known::Stage(labels) => {
                    self.boot_seconds.remove(labels);
                }
            }
            stays
        });
    }

    /// All of it as Prometheus reads it.
    pub fn render(&self, glance: Glance) -> Result<String, std::fmt::Error> {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.cache_bytes.set(gauge(glance.cache_bytes));
        self.images.set(gauge(glance.images));
        self.image_bytes.set(gauge(glance.image_bytes));
        self.generation.set(gauge(glance.generation));
        self.connected.set(i64::from(glance.is_connected));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Guest init's stages by name, and `ready` for all of the boot, from the VM's start.
fn stages(report: &BootReport) -> Vec<(String, Duration)> {
    let Some(ready_ms) = report.ready_ms() else {
        return Vec::new();
    };
    let guest = report.stages.iter().map(|stage| {
        let took = stage.finished_us.saturating_sub(stage.started_us);
        (stage.stage.clone(), Duration::from_micros(took))
    });
    let all = ("ready".to_owned(), Duration::from_millis(ready_ms));
    guest.chain([all]).collect()
}

#[cfg(test)]
mod tests {
    use plfm_api::{BootOutcome, HostTimings, StageTiming};

    use super::*;

    fn report(n: usize) -> BootReport {
        BootReport {
            release: format!("6.1.{n}-a+guestinit-1.0.0-a").parse().unwrap(),
            release_reason: None,
            selection: None,
            outcome: BootOutcome::Ready,
            stage: None,
            reason: None,
            detail: None,
            errno: None,
            stages: vec![StageTiming {
                stage: "handshake".to_owned(),
                started_us: 10,
                finished_us: 1_010,
                cpu_us: 5,
            }],
            host: HostTimings {
                verified_us: 10_000,
                prepared_us: Some(20_000),
                started_us: Some(50_000),
                hello_us: Some(100_000),
                settled_us: Some(200_000),
            },
            guest_init_rss_bytes: None,
        }
    }

    fn metrics() -> Metrics {
        Metrics::new(semver::Version::new(1, 2, 3))
    }

    #[test]
    fn the_names_are_those_that_dashboards_and_alerts_go_by() {
        let metrics = metrics();
        metrics.booted(&report(1));
        metrics.downloaded(7);
        metrics.verified(Duration::from_millis(20));
        metrics.refused("key_revoked");
        metrics.image_pulled("image_not_found");
        metrics.image_fetched(8);
        metrics.image_built(Duration::from_millis(300));
        let text = metrics
            .render(Glance {
                cache_bytes: 5,
                images: 2,
                image_bytes: 6,
                generation: 9,
                is_connected: true,
            })
            .unwrap();
        for line in [
            "plfm_agent_boots_total{release=\"6.1.1-a+guestinit-1.0.0-a\",outcome=\"ready\"} 1",
            "plfm_agent_boot_seconds_sum{release=\"6.1.1-a+guestinit-1.0.0-a\",stage=\"ready\"} 0.15",
            "plfm_agent_boot_seconds_count{release=\"6.1.1-a+guestinit-1.0.0-a\",stage=\"handshake\"} 1",
            "plfm_agent_download_bytes_total 7",
            "plfm_agent_verify_seconds_count 1",
            "plfm_agent_verification_failures_total{reason=\"key_revoked\"} 1",
            "plfm_agent_cache_bytes 5",
            "plfm_agent_image_pulls_total{outcome=\"built\"} 0",
            "plfm_agent_image_pulls_total{outcome=\"image_not_found\"} 1",
            "plfm_agent_image_download_bytes_total 8",
            "plfm_agent_image_build_seconds_count 1",
            "plfm_agent_images 2",
            "plfm_agent_image_store_bytes 6",
            "plfm_agent_generation 9",
            "plfm_agent_control_connected 1",
            "plfm_agent_build_info{version=\"1.2.3\"} 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\nin\n{text}");
        }
    }

    #[test]
    fn a_release_that_is_gone_has_no_series() {
        let metrics = metrics();
        metrics.booted(&report(1));
        metrics.booted(&report(2));
        metrics.forget_all_but(&[report(2).release].into());
        let text = metrics.render(Glance::default()).unwrap();
        assert!(!text.contains("6.1.1-a") && text.contains("6.1.2-a"), "{text}");
    }
}
