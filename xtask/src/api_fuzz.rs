//! The control plane's API against requests that nobody would send, made from its own OpenAPI document.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::lab::{build_programs, target_dir};
use crate::pypi;
use crate::shell::{read, root, run, step};

const SCHEMATHESIS: pypi::Program = pypi::Program {
    requirement: "schemathesis",
    version: "4.32.5",
    program: "schemathesis",
};
/// What must hold of every answer. Left out: requests without a token, as the control plane counts them and soon answers
/// 429, which the tool takes for a fault (plfm-control's own tests have them); checks that ask whether what the document allows is accepted, since whether
/// a release is there or a host is not a matter of shape.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,unsupported_method";
/// What is tried is the same each time, as far as the time reaches.
const SEED: &str = "20260101";
/// Longer than any answer takes: what waits for news waits for a second here.
const REQUEST_SECONDS: &str = "20";
/// How long the control plane may take to be there.
const PATIENCE: Duration = Duration::from_secs(30);

/// Fuzzes for so many seconds.
pub fn run_for(seconds: u64) -> anyhow::Result<()> {
    let Some(bin) = SCHEMATHESIS.ensure("the API is not fuzzed:")? else {
        return Ok(());
    };
    let control = ControlPlane::start()?;
    step(&format!(
        "the control plane's API, against requests from its schema, for {seconds} s"
    ));
    let mut fuzz = Command::new(bin.join("schemathesis"));
    fuzz.arg("run")
        .arg(root().join("docs/openapi.json"))
        .args(["--url", &control.url(), "--tls-verify"])
        .arg(control.dir.path().join("data/ca.crt"))
        .args(["--header", &format!("Authorization: Bearer {}", control.token)])
        .args(["--checks", CHECKS, "--max-time", &seconds.to_string()])
        .args([
            "--phases",
            "coverage,fuzzing",
            "--request-timeout",
            REQUEST_SECONDS,
            // With several, the order is another one each time, and Python's parser sometimes fails under the tool.
            "--workers",
            "1",
        ])
        .args(["--seed", SEED, "--generation-database", "none"])
        // It would take away the token that it goes by.
        .args(["--exclude-path", "/v1/tokens/{id}/revoke"])
        .args(["--warnings", "off", "--no-color"])
        .env(
            "SCHEMATHESIS_HOOKS",
            root().join("xtask/src/api_fuzz/short_waits.py"),
        )
        .current_dir(target_dir());
    let fuzzed = run(&mut fuzz);
    control.end().context("the control plane did not outlive it")?;
    fuzzed
}

/// A control plane of this task's own, on SQLite.
struct ControlPlane {
    dir: tempfile::TempDir,
    process: Child,
    address: SocketAddr,
    token: String,
}

impl ControlPlane {
    fn start() -> anyhow::Result<Self> {
        let program: PathBuf = build_programs()?.join("plfm-control");
        let dir = tempfile::Builder::new().prefix("plfm-api-").tempdir()?;
        let data = dir.path().join("data");
        let made = read(
            Command::new(&program)
                .args(["init", "--name", "127.0.0.1", "--data-dir"])
                .arg(&data),
        )?;
        let token = made.split_whitespace().find(|word| word.starts_with("plfm_op_"));
        let token = token.context("init printed no token")?.to_owned();
        let address = free_address()?;
        let metrics = free_address()?;
        let process = Command::new(&program)
            .args(["serve", "--data-dir"])
            .arg(&data)
            .args([
                "--listen",
                &address.to_string(),
                "--metrics-listen",
                &metrics.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log"))?)
            .spawn()
            .context("cannot start plfm-control")?;
        let mut control = Self {
            dir,
            process,
            address,
            token,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if control.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("the control plane did not start:\n{}", control.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(control)
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// It is still there, and nothing in it panicked.
    fn end(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.try_wait()? {
            bail!("it ended with {status}:\n{}", self.log());
        }
        let log = std::fs::File::open(self.dir.path().join("log"))?;
        let panicked = BufReader::new(log)
            .lines()
            .map_while(Result::ok)
            .find(|line| line.contains("panicked"));
        match panicked {
            Some(line) => bail!("something in it panicked: {line}"),
            None => Ok(()),
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address that was free a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
