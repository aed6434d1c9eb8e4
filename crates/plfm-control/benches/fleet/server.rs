//! The control plane, in a process of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::seed::data_dir;

/// How long it may take to read a log of a fleet and be ready.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Server {
    process: Child,
    pub address: SocketAddr,
    pub metrics: SocketAddr,
    /// From its start to ready, in milliseconds: reading the log is in it.
    pub started_ms: u64,
}

impl Server {
    pub async fn start(dir: &Path, database: &str) -> anyhow::Result<Self> {
        let [address, metrics] = [free_address()?, free_address()?];
        let log = std::fs::File::create(dir.join("control.log"))?;
        let started = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_plfm-control"))
            .args(["serve", "--data-dir"])
            .arg(data_dir(dir))
            .args(["--database", database])
            .args([
                "--listen",
                &address.to_string(),
                "--metrics-listen",
                &metrics.to_string(),
            ])
            .env("PLFM_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot run plfm-control")?;
        let mut server = Self {
            process,
            address,
            metrics,
            started_ms: 0,
        };
        let http = reqwest::Client::new();
        let ready = format!("http://{metrics}/readyz");
        while !http
            .get(&ready)
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            if server.process.try_wait()?.is_some() || started.elapsed() > PATIENCE {
                bail!(
                    "the control plane did not start:\n{}",
                    std::fs::read_to_string(dir.join("control.log"))?
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server.started_ms = u64::try_from(started.elapsed().as_millis())?;
        Ok(server)
    }

    /// The sum of a counter's samples.
    pub async fn counter(&self, name: &str) -> anyhow::Result<f64> {
        let text = reqwest::get(format!("http://{}/metrics", self.metrics))
            .await?
            .text()
            .await?;
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        Ok(samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Its resident memory.
    pub fn rss_bytes(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        kib.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    }

    /// Processor time that it has used, in milliseconds (proc_pid_stat(5), fields 14 and 15).
    pub fn cpu_ms(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |at: usize| {
            fields
                .get(at)
                .and_then(|field| field.parse::<u64>().ok())
                .unwrap_or(0)
        };
        (ticks(11) + ticks(12)) * 1_000 / rustix::param::clock_ticks_per_second()
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        tokio::task::spawn_blocking(move || self.process.wait()).await??;
        Ok(())
    }
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
