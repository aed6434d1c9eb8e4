//! The program, as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use reqwest::{Client, Response};
use rustix::process::Signal;
use serde_json::Value;

/// How often, and for how long, a log is looked at: a minute.
const LOOKS_MAX: usize = 1_200;
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plfm-control"));
    command
        .env_remove("PLFM_LOG")
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null());
    command
}

pub fn output(args: &[&str]) -> Output {
    command().args(args).output().unwrap()
}

/// Makes a control plane in a directory. The first admin's token.
pub fn init(dir: &Path) -> String {
    init_with(dir, &[])
}

/// The same with more options.
pub fn init_with(dir: &Path, options: &[&str]) -> String {
    let names = ["--name", "localhost", "--name", "127.0.0.1"];
    let dir = ["init", "--data-dir", dir.to_str().unwrap()];
    let made = output(&[&dir[..], &names, options].concat());
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// A control plane that runs, and what it logged so far.
pub struct Program {
    pub process: Child,
    pub address: SocketAddr,
    pub log: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Program {
    pub fn start(dir: &Path) -> Self {
        Self::start_with(dir, |_| {})
    }

    pub fn start_with(dir: &Path, change: impl FnOnce(&mut Command)) -> Self {
        let mut serve = command();
        serve.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--metrics-listen",
            "127.0.0.1:0",
            "--log-json",
            "--data-dir",
        ]);
        serve.arg(dir).stdout(Stdio::null()).stderr(Stdio::piped());
        change(&mut serve);
        let mut process = serve.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let log = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let mut address = None;
        for line in lines.by_ref() {
            let line = line.unwrap();
            log.lock().unwrap().push_str(&format!("{line}\n"));
            let said: serde_json::Value = serde_json::from_str(&line).unwrap();
            if said["fields"]["message"] == "ready" {
                address = said["fields"]["address"]
                    .as_str()
                    .map(|text| text.parse().unwrap());
                break;
            }
        }
        let kept = std::sync::Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let address = address.unwrap_or_else(|| panic!("it did not start: {}", log.lock().unwrap()));
        Self {
            process,
            address,
            log,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Tells it that files were replaced.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until its log has these words.
    pub async fn says(&self, words: &str) {
        self.says_times(words, 1).await;
    }

    /// Waits until its log has these words so often.
    pub async fn says_times(&self, words: &str, times: usize) {
        for _ in 0..LOOKS_MAX {
            if self.log.lock().unwrap().matches(words).count() >= times {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        panic!(
            "its log has not {times} times {words:?}: {}",
            self.log.lock().unwrap()
        );
    }

    /// A change by an operator.
    pub async fn post(
        &self,
        client: &Client,
        token: &str,
        key: &str,
        path: &str,
        body: &Value,
    ) -> reqwest::Result<Response> {
        let request = client.post(self.url(path)).bearer_auth(token);
        request.header("idempotency-key", key).json(body).send().await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
