//! A control plane of the test's own, on SQLite, and hosts that belong to its fleet.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::host::{Host, Ran};
use crate::lab;
use crate::listener::Listener;
use crate::registry::Registry;

/// How often, and for how long, somebody is asked whether they have seen what they are to see: two minutes.
const LOOKS_MAX: usize = 1200;
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub struct ControlPlane {
    dir: tempfile::TempDir,
    process: Option<Child>,
    port: u16,
    metrics_port: u16,
    registry: (PathBuf, PathBuf),
    token: String,
    options: Vec<String>,
}

/// A `plfm admin …` that runs.
pub struct Running(Child);

impl Running {
    /// Waits for its end.
    pub fn wait(self) -> Ran {
        Ran::from(self.0.wait_with_output().unwrap())
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

impl ControlPlane {
    /// Makes one that follows a registry, and waits until it is ready.
    pub fn of(registry: &Registry) -> Self {
        let mut control = Self::made(registry, &[]);
        control.start();
        control
    }

    /// One that tells a webhook, with more options.
    pub fn telling(webhook: &Listener, registry: &Registry, options: &[&str]) -> Self {
        let mut control = Self::made(registry, options);
        let config = control.path("data/control.toml");
        let mut text = std::fs::read_to_string(&config).unwrap();
        text += &webhook.config(&control.path("webhook.secret"));
        std::fs::write(config, text).unwrap();
        control.start();
        control
    }

    /// Makes one that follows a registry, and starts nothing.
    fn made(registry: &Registry, options: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plfm-e2e-control-")
            .tempdir_in("/tmp")
            .unwrap();
        let mut control = Self {
            dir,
            process: None,
            port: free_port(),
            metrics_port: free_port(),
            registry: (registry.store(), registry.root()),
            token: String::new(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        let mut init = Command::new(lab::program("plfm-control"));
        init.args(["init", "--name", "localhost", "--name", "127.0.0.1", "--data-dir"])
            .arg(control.path("data"));
        let made = Ran::from(init.stdin(Stdio::null()).output().unwrap()).ok();
        let token = made
            .stdout
            .split_whitespace()
            .find(|word| word.starts_with("plfm_op_"));
        control.token = token
            .unwrap_or_else(|| panic!("init printed no token: {}", made.stdout))
            .to_owned();
        control
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    pub fn metrics_address(&self) -> String {
        format!("127.0.0.1:{}", self.metrics_port)
    }

    pub fn ca(&self) -> PathBuf {
        self.path("data/ca.crt")
    }

    /// Starts it and waits until it says that it is ready.
    pub fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path("control.log"))
            .unwrap();
        let (store, root) = &self.registry;
        let process = Command::new(lab::program("plfm-control"))
            .args(["serve", "--data-dir"])
            .arg(self.path("data"))
            .args(["--listen", &format!("127.0.0.1:{}", self.port)])
            .args(["--metrics-listen", &format!("127.0.0.1:{}", self.metrics_port)])
            .arg("--registry")
            .arg(store)
            .arg("--registry-root")
            .arg(root)
            .args(["--registry-poll-seconds", "1", "--heartbeat-seconds", "1"])
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        self.wait_for("the control plane is ready", |control| {
            control.admin(&["whoami"]).code == 0
        });
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// `plfm admin …` as the first admin.
    pub fn admin(&self, args: &[&str]) -> Ran {
        self.admin_as(&self.token, args)
    }

    /// `plfm admin …` with another token.
    pub fn admin_as(&self, token: &str, args: &[&str]) -> Ran {
        Ran::from(self.command(token, args).output().unwrap())
    }

    /// `plfm admin …` as the first admin, which goes on.
    pub fn spawn_admin(&self, args: &[&str]) -> Running {
        let mut command = self.command(&self.token, args);
        Running(
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap(),
        )
    }

    fn command(&self, token: &str, args: &[&str]) -> Command {
        let mut command = Command::new(lab::program("plfm"));
        command
            .args(["--output", "json", "admin"])
            .args(args)
            .env("PLFM_CONTROL_URL", self.url())
            .env("PLFM_CONTROL_CA", self.ca())
            .env("PLFM_CONTROL_TOKEN", token)
            .env("XDG_CONFIG_HOME", self.path("config"))
            .stdin(Stdio::null());
        command
    }

    pub fn json(&self, args: &[&str]) -> Value {
        self.admin(args).ok().json()
    }

    /// A host that enrolled, named `name`, that follows the same registry.
    pub fn host(&self, name: &str) -> Host {
        self.host_with(name, &[])
    }

    /// The same, its agent with more options.
    pub fn host_with(&self, name: &str, options: &[&str]) -> Host {
        let token = self.path(&format!("{name}.token"));
        let token = token.to_str().unwrap();
        self.admin(&["hosts", "enroll-token", "--host-name", name, "--out", token])
            .ok();
        let (store, root) = &self.registry;
        let url = self.url();
        let ca = self.ca();
        let host = Host::of_fleet(
            root,
            &[
                &[
                    "--registry",
                    store.to_str().unwrap(),
                    "--no-network",
                    "--control",
                    &url,
                    "--control-ca",
                    ca.to_str().unwrap(),
                    "--enroll-token-file",
                    token,
                    "--host-name",
                    name,
                ],
                options,
            ]
            .concat(),
        );
        self.wait_for("the host is active", |control| {
            let hosts = control.json(&["hosts", "list"]);
            let mut items = hosts["items"].as_array().unwrap().iter();
            items.any(|host| host["name"] == name && host["state"] == "active")
        });
        host
    }

    /// Looks until it is so.
    #[track_caller]
    pub fn wait_for(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..LOOKS_MAX {
            if is_so(self) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        panic!("waited in vain: {what}");
    }

    /// The line of the release with this build id.
    pub fn kernel(&self, build: &str) -> Value {
        let list = self.json(&["kernels", "list"]);
        let items = list["items"].as_array().unwrap().iter();
        let mut matching =
            items.filter(|item| item["release"].as_str().unwrap().ends_with(&format!("-{build}")));
        matching.next().cloned().unwrap_or_default()
    }

    /// Waits until it knows the releases with these build ids.
    pub fn knows(&self, builds: &[&str]) {
        for build in builds {
            self.wait_for("the release is found", |control| {
                control.kernel(build)["release"].is_string()
            });
        }
    }

    /// Makes a release the default and waits until all hosts boot it.
    pub fn set_default(&self, build: &str) -> Value {
        self.json(&["kernels", "set-default", build, "--wait"])
    }

    /// Waits until so many boots of a release are counted; afterwards there must not be more.
    #[track_caller]
    pub fn counts(&self, build: &str, boots: u64) {
        self.wait_for("the boots are counted", |control| {
            control.kernel(build)["boots"].as_u64().unwrap() >= boots
        });
        assert_eq!(self.kernel(build)["boots"], boots, "{}", self.kernel(build));
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("control.log")).unwrap_or_default()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
        if std::thread::panicking() {
            eprintln!("--- control plane's log\n{}", self.log());
        }
    }
}
