//! What operators and Prometheus ask, and how long they wait for it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use plfm_api::control::{Kernel, Page};
use serde::Serialize;

use crate::seed::Fleet;
use crate::server::Server;
use crate::spread::{Spread, us};

/// Between two questions. The control plane counts its numbers at most once a second: sooner, the second answer costs nothing.
const PAUSE: Duration = Duration::from_millis(1_100);
/// How often each is asked when nothing else goes on.
const TIMES: usize = 5;
/// Between two questions while heartbeats come.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// As often as `monitoring/prometheus.yml` has it.
const SCRAPE_EVERY: Duration = Duration::from_secs(15);

/// The middle of several, and the longest, in milliseconds.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Took {
    pub median_ms: f64,
    pub max_ms: f64,
    pub times: usize,
}

impl Took {
    fn of(us: Vec<u32>) -> Self {
        let spread = Spread::of(us);
        Self {
            median_ms: spread.p50,
            max_ms: spread.max,
            times: spread.count,
        }
    }

    pub fn render(&self) -> String {
        format!(
            "{:.1} ms, {:.1} ms at most of {}",
            self.median_ms, self.max_ms, self.times
        )
    }
}

/// An operator who asks one server.
pub struct Operator<'a> {
    http: reqwest::Client,
    fleet: &'a Fleet,
    server: std::net::SocketAddr,
}

impl<'a> Operator<'a> {
    pub fn new(fleet: &'a Fleet, server: &Server) -> anyhow::Result<Self> {
        let ca = reqwest::Certificate::from_pem(&std::fs::read(&fleet.ca)?)?;
        Ok(Self {
            http: reqwest::Client::builder().tls_certs_only([ca]).build()?,
            fleet,
            server: server.address,
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.port())
    }

    pub fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(self.url(path)).bearer_auth(&self.fleet.token)
    }

    pub async fn kernels(&self) -> anyhow::Result<Page<Kernel>> {
        let asked = self
            .http
            .get(self.url("/v1/kernels"))
            .bearer_auth(&self.fleet.token);
        Ok(asked.send().await?.error_for_status()?.json().await?)
    }

    /// `GET /v1/kernels`, while nothing else goes on.
    pub async fn time_kernels(&self) -> anyhow::Result<Took> {
        let mut took = Vec::new();
        for _ in 0..TIMES {
            tokio::time::sleep(PAUSE).await;
            let asked = Instant::now();
            self.kernels().await?;
            took.push(us(asked.elapsed()));
        }
        Ok(Took::of(took))
    }

    /// The same while heartbeats come.
    pub async fn time_kernels_until(&self, end: Instant) -> anyhow::Result<Spread> {
        let mut took = Vec::new();
        while Instant::now() + LIST_EVERY < end {
            tokio::time::sleep(LIST_EVERY).await;
            let asked = Instant::now();
            self.kernels().await?;
            took.push(us(asked.elapsed()));
        }
        Ok(Spread::of(took))
    }

    /// The whole `plfm admin kernels list`: from its start to its end.
    pub async fn time_command(&self, plfm: &Path, dir: &Path) -> anyhow::Result<Took> {
        let mut took = Vec::new();
        for _ in 0..TIMES {
            tokio::time::sleep(PAUSE).await;
            let mut command = Command::new(plfm);
            command
                .args(["admin", "kernels", "list"])
                .env("PLFM_CONTROL_URL", self.url(""))
                .env("PLFM_CONTROL_CA", &self.fleet.ca)
                .env("PLFM_CONTROL_TOKEN", &self.fleet.token)
                .env("XDG_CONFIG_HOME", dir.join("config"));
            let began = Instant::now();
            let output = tokio::task::spawn_blocking(move || command.output()).await??;
            took.push(us(began.elapsed()));
            ensure!(
                output.status.success(),
                "plfm admin kernels list failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(Took::of(took))
    }
}

/// The `plfm` that was named, or the one that was built beside the control plane.
pub fn plfm(named: Option<&PathBuf>) -> anyhow::Result<Option<PathBuf>> {
    if let Some(named) = named {
        return Ok(Some(std::path::absolute(named)?));
    }
    let control = Path::new(env!("CARGO_BIN_EXE_plfm-control"));
    let beside = control.parent().context("plfm-control is in no directory")?;
    Ok(Some(beside.join("plfm")).filter(|plfm| plfm.exists()))
}

/// Reads every server's metrics, as Prometheus does, until then.
pub async fn scrape_until(servers: &[Server], end: Instant) -> anyhow::Result<Spread> {
    let mut took = Vec::new();
    while Instant::now() + SCRAPE_EVERY < end {
        tokio::time::sleep(SCRAPE_EVERY).await;
        for server in servers {
            let asked = Instant::now();
            server.metrics().await?;
            took.push(us(asked.elapsed()));
        }
    }
    Ok(Spread::of(took))
}
