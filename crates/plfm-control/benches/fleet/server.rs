//! The control plane, as processes of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::seed::data_dir;

/// How long it may take to read a log of a fleet and be ready.
const PATIENCE: Duration = Duration::from_secs(300);
/// Connections of a server that are not hosts'.
const CONNECTIONS_BESIDE: usize = 64;

/// One replica. Is killed when it is dropped.
pub struct Server {
    process: Child,
    log: PathBuf,
    pub address: SocketAddr,
    metrics: SocketAddr,
}

impl Server {
    /// Starts a replica for so many hosts, over a database that others may have open too.
    pub fn start(dir: &Path, number: usize, database: &str, hosts: usize) -> anyhow::Result<Self> {
        let [address, metrics] = [free_address()?, free_address()?];
        let log = dir.join(format!("control-{number}.log"));
        let process = Command::new(env!("CARGO_BIN_EXE_plfm-control"))
            .args(["serve", "--data-dir"])
            .arg(data_dir(dir))
            .args(["--database", database])
            .args(["--listen", &address.to_string()])
            .args(["--metrics-listen", &metrics.to_string()])
            .args(["--connections-max", &(hosts + CONNECTIONS_BESIDE).to_string()])
            .env("PLFM_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .context("cannot run plfm-control")?;
        Ok(Self {
            process,
            log,
            address,
            metrics,
        })
    }

    /// Waits until it has read the log and serves.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let http = reqwest::Client::new();
        let ready = format!("http://{}/readyz", self.metrics);
        while !http
            .get(&ready)
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            if self.process.try_wait()?.is_some() || began.elapsed() > PATIENCE {
                bail!("a control plane did not start:\n{}", self.said());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// What it warned of.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// `GET /metrics`, as Prometheus does.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/metrics", self.metrics);
        Ok(reqwest::get(url).await?.error_for_status()?.text().await?)
    }

    /// The sum of a counter's samples.
    pub async fn counter(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.metrics().await?;
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        Ok(samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        tokio::task::spawn_blocking(move || self.process.wait()).await??;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The sum of a counter over replicas.
pub async fn counter(servers: &[Server], name: &str) -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for server in servers {
        sum += server.counter(name).await?;
    }
    Ok(sum)
}

/// The process ids of several.
pub fn pids(servers: &[Server]) -> Vec<u32> {
    servers.iter().map(Server::pid).collect()
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
