//! The processes that hosts are simulated in, as they are seen from outside.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::part::{Order, Part};

/// A process that simulates a part of the fleet. Ends when it is dropped.
pub struct Loader {
    process: Child,
    orders: ChildStdin,
    words: Lines<BufReader<ChildStdout>>,
}

impl Loader {
    /// Starts one; `file` is where it is told its part.
    pub fn start(part: &Part, file: &Path) -> anyhow::Result<Self> {
        std::fs::write(file, serde_json::to_vec(part)?)?;
        let mut process = Command::new(std::env::current_exe()?)
            .args(["--bench", "--part"])
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run a loader")?;
        let orders = process.stdin.take().context("a loader has no standard input")?;
        let words = process.stdout.take().context("a loader has no standard output")?;
        Ok(Self {
            process,
            orders,
            words: BufReader::new(words).lines(),
        })
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    pub async fn order(&mut self, order: &Order) -> anyhow::Result<()> {
        let line = serde_json::to_string(order)? + "\n";
        self.orders
            .write_all(line.as_bytes())
            .await
            .context("a loader does not listen")
    }

    /// What it says next.
    pub async fn word<T: DeserializeOwned>(&mut self, patience: Duration) -> anyhow::Result<T> {
        let line = tokio::time::timeout(patience, self.words.next_line())
            .await
            .with_context(|| format!("a loader said nothing for {} s", patience.as_secs()))??;
        match line {
            Some(line) => Ok(serde_json::from_str(&line)?),
            None => bail!("a loader ended early: {}", self.process.wait().await?),
        }
    }

    pub async fn end(mut self) -> anyhow::Result<()> {
        self.order(&Order::End).await?;
        self.process.wait().await?;
        Ok(())
    }
}

/// The process ids of several.
pub fn pids(loaders: &[Loader]) -> Vec<u32> {
    loaders.iter().filter_map(Loader::pid).collect()
}
