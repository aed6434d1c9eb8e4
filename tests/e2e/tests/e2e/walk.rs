//! What a person does who has `docs/operations.md`: a control plane on PostgreSQL, two hosts, the fleet forward and back,
//! seen in Prometheus. The commands are the document's; below a directory instead of `/`, and without systemd.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::control_plane::free_port;
use crate::facts;
use crate::fleet::{get, registry_with};
use crate::host::{Ran, tool};
use crate::lab;

facts![two_hosts_on_postgresql_go_forward_and_back_and_prometheus_sees_it];

/// How often, and for how long, something is looked at: four minutes.
const LOOKS_MAX: usize = 2_400;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The user whom Debian's PostgreSQL is run as here: it refuses root.
const NOBODY: u32 = 65_534;
const POSTGRES: &str = "/usr/lib/postgresql/15/bin";

/// Whether this machine has a PostgreSQL and a Prometheus.
pub fn can_be_walked() -> bool {
    lab::prometheus().is_some() && Path::new(POSTGRES).exists() && lab::is_root()
}

/// A program that runs until this is dropped.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS_MAX {
        if is_so() {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    panic!("waited in vain: {what}");
}

/// The directory that stands for `/`, and what runs in it.
struct Root {
    daemons: Vec<Daemon>,
    dir: tempfile::TempDir,
}

impl Drop for Root {
    fn drop(&mut self) {
        // What uses another one ends before it.
        while let Some(last) = self.daemons.pop() {
            drop(last);
        }
    }
}

impl Root {
    fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plfm-walk-")
            .tempdir_in("/tmp")
            .unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in [
            "etc/plfm",
            "etc/prometheus",
            "var/lib",
            "var/log",
            "run/postgresql",
            "root",
        ] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        Self {
            daemons: Vec::new(),
            dir,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Starts a program that runs on, and logs to a file of its name.
    fn start(&mut self, name: &str, command: &mut Command) {
        let log = std::fs::File::create(self.path(&format!("var/log/{name}"))).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.daemons.push(Daemon(command.spawn().unwrap()));
    }

    /// A cluster as the Debian package makes one, its socket in `/run/postgresql`.
    fn postgresql(&mut self) {
        let (data, socket) = (self.path("var/lib/postgresql"), self.path("run/postgresql"));
        std::fs::create_dir(&data).unwrap();
        for dir in [&data, &socket] {
            chown(dir, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let by_postgres = |program: &str| {
            let mut command = Command::new(format!("{POSTGRES}/{program}"));
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
            command
                .env("PGHOST", &socket)
                .env("PGUSER", "postgres")
                .stdin(Stdio::null());
            command
        };
        let mut initdb = by_postgres("initdb");
        initdb
            .args(["--auth=trust", "--username=postgres", "--no-sync", "-D"])
            .arg(&data);
        Ran::from(initdb.output().unwrap()).ok();
        let mut postgres = by_postgres("postgres");
        postgres.arg("-D").arg(&data).arg("-k").arg(&socket);
        postgres.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        self.start("postgresql", &mut postgres);
        wait_until("PostgreSQL accepts connections", || {
            by_postgres("pg_isready").output().unwrap().status.success()
        });
        Ran::from(by_postgres("createuser").arg("plfm-control").output().unwrap()).ok();
        let mut createdb = by_postgres("createdb");
        createdb.args(["--owner", "plfm-control", "plfm"]);
        Ran::from(createdb.output().unwrap()).ok();
    }

    fn control(&self) -> Command {
        let mut command = Command::new(lab::program("plfm-control"));
        command.stdin(Stdio::null());
        // The unit has no variables; its directory is where it is without a prefix.
        command.env("PLFM_CONTROL_DATA_DIR", self.path("var/lib/plfm-control"));
        command
    }

    fn plfm(&self) -> Command {
        let mut command = Command::new(lab::program("plfm"));
        command.current_dir(self.path("root")).stdin(Stdio::null());
        command
            .env("HOME", self.path("root"))
            .env_remove("XDG_CONFIG_HOME");
        command
    }

    /// `plfm admin …`, at the operator's machine, from his directory.
    #[track_caller]
    fn admin(&self, words: &str) -> Ran {
        let mut command = self.plfm();
        command.args(["--output", "json", "admin"]).args(words.split(' '));
        Ran::from(command.output().unwrap()).ok()
    }

    /// Enrols a host as the document has it: a token, three files, `agent.env`. Returns where its agent listens.
    fn enrol(&mut self, name: &str, control: &str, registry: &str) -> (PathBuf, String) {
        self.admin(&format!(
            "hosts enroll-token --host-name {name} --out {name}.token"
        ));
        let (etc, metrics) = (format!("{name}/etc/plfm"), format!("127.0.0.1:{}", free_port()));
        std::fs::create_dir_all(self.path(&etc)).unwrap();
        let bring = |from: &str, to: &str| {
            std::fs::copy(self.path(from), self.path(&format!("{etc}/{to}"))).unwrap();
        };
        bring("var/lib/plfm-control/ca.crt", "control-ca.crt");
        bring("etc/plfm/root.json", "root.json");
        bring(&format!("root/{name}.token"), "enroll.token");
        let run = self.text(&format!("{name}/run"));
        let settings = [
            ("PLFM_CONTROL", control.to_owned()),
            ("PLFM_CONTROL_CA", self.text(&format!("{etc}/control-ca.crt"))),
            (
                "PLFM_ENROLL_TOKEN_FILE",
                self.text(&format!("{etc}/enroll.token")),
            ),
            ("PLFM_REGISTRY", registry.to_owned()),
            ("PLFM_METRICS_LISTEN", metrics.clone()),
            ("PLFM_HOST_NAME", name.to_owned()),
            // What is at its place by default.
            ("PLFM_REGISTRY_ROOT", self.text(&format!("{etc}/root.json"))),
            ("PLFM_KEYRING", self.text(&format!("{etc}/keyring.json"))),
            ("PLFM_STATE_DIR", self.text(&format!("{name}/var/lib/plfm-agent"))),
            ("PLFM_RUN_DIR", run.clone()),
            ("PLFM_NO_NETWORK", "true".to_owned()),
        ];
        std::fs::create_dir_all(self.path(&format!("{name}/var/lib"))).unwrap();
        let mut agent = Command::new(lab::program("plfm-agent"));
        agent.envs(settings.iter().map(|(name, value)| (*name, value)));
        self.start(name, &mut agent);
        (PathBuf::from(run).join("agent.sock"), metrics)
    }

    /// Boots an instance that stays. The build that it boots.
    fn boot(&self, agent: &Path) -> String {
        let mut run = self.plfm();
        run.env("PLFM_AGENT_SOCKET", agent)
            .args(["--output", "json", "run", "--detach"]);
        run.arg("--rootdisk").arg(lab::root_disk());
        run.args(["--env", "PATH=/bin", "--", "/bin/sleep", "600"]);
        let instance = Ran::from(run.output().unwrap()).ok().json();
        instance["release"].as_str().unwrap().to_owned()
    }

    /// Prometheus with what is shipped for it, its addresses replaced, looking more often. Where it answers.
    fn prometheus(&mut self, control: &str, agents: &[&str]) -> String {
        let shipped = include_str!("../../../../monitoring/prometheus.yml");
        let agents: Vec<String> = agents.iter().map(|address| format!("'{address}'")).collect();
        let config = shipped
            .replace("'127.0.0.1:9640'", &format!("'{control}'"))
            .replace("'127.0.0.1:9641'", &agents.join(", "))
            .replace("scrape_interval: 15s", "scrape_interval: 1s");
        assert!(
            config.contains(control) && config.contains("scrape_interval: 1s"),
            "{config}"
        );
        std::fs::write(self.path("etc/prometheus/prometheus.yml"), config).unwrap();
        let alerts = include_str!("../../../../monitoring/alerts.yml");
        std::fs::write(self.path("etc/prometheus/alerts.yml"), alerts).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let mut prometheus = Command::new(lab::prometheus().unwrap());
        prometheus
            .arg(format!(
                "--config.file={}",
                self.text("etc/prometheus/prometheus.yml")
            ))
            .arg(format!("--storage.tsdb.path={}", self.text("var/lib/prometheus")))
            .arg(format!("--web.listen-address={listen}"));
        self.start("prometheus", &mut prometheus);
        wait_until("Prometheus is ready", || is_well(&format!("{listen}/-/ready")));
        listen
    }
}

/// `curl --fail`.
fn is_well(address: &str) -> bool {
    tool("curl", &["--silent", "--fail", &format!("http://{address}")]).code == 0
}

/// The one value that a query has at this moment, if it has one.
fn value_of(prometheus: &str, query: &str) -> Option<f64> {
    let escaped: String = query
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || byte == b'_' {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect();
    let answer = get(&format!("{prometheus}/api/v1/query?query={escaped}"));
    let answer: Value = serde_json::from_str(answer.trim()).ok()?;
    answer["data"]["result"][0]["value"][1].as_str()?.parse().ok()
}

#[track_caller]
fn sees(prometheus: &str, query: &str, value: f64) {
    wait_until(&format!("{query} is {value}"), || {
        value_of(prometheus, query) == Some(value)
    });
}

fn two_hosts_on_postgresql_go_forward_and_back_and_prometheus_sees_it() {
    let registry = registry_with(&["r1", "r2"]);
    let mut root = Root::new();
    let store = registry.store().to_str().unwrap().to_owned();
    std::fs::copy(registry.root(), root.path("etc/plfm/root.json")).unwrap();
    root.postgresql();

    // "The control plane": init, then the unit's two commands.
    let [listen, metrics] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
    let database = format!(
        "postgres://plfm-control@localhost/plfm?host={}",
        root.text("run/postgresql")
    );
    let mut init = root.control();
    init.args([
        "init",
        "--name",
        "localhost",
        "--registry",
        &store,
        "--registry-root",
    ])
    .arg(root.path("etc/plfm/root.json"))
    .args([
        "--database",
        &database,
        "--listen",
        &listen,
        "--metrics-listen",
        &metrics,
    ])
    .args(["--registry-poll-seconds", "1"]);
    let made = Ran::from(init.output().unwrap()).ok();
    std::fs::write(root.path("root/token"), &made.stdout).unwrap();
    Ran::from(root.control().arg("check-config").output().unwrap()).ok();
    let mut serve = root.control();
    root.start("plfm-control", serve.arg("serve"));
    wait_until("curl --fail http://…/readyz", || {
        let ready = tool(
            "curl",
            &["--silent", "--fail", &format!("http://{metrics}/readyz")],
        );
        ready.code == 0
    });

    // "The operator's machine".
    std::fs::copy(root.path("var/lib/plfm-control/ca.crt"), root.path("root/ca.crt")).unwrap();
    let control = format!("https://localhost:{}", listen.rsplit_once(':').unwrap().1);
    root.admin(&format!(
        "context add production --url {control} --ca ca.crt --token-file token"
    ));
    assert_eq!(root.admin("whoami").json()["role"], "admin");

    // "Enrol a host", twice.
    let hosts = ["rack-4", "rack-5"].map(|name| root.enrol(name, &control, &store));
    wait_until("both hosts are active", || {
        root.admin("fleet").json()["hosts"]["active"] == 2
    });
    let agents = hosts.each_ref().map(|(_, metrics)| metrics.as_str());
    let prometheus = root.prometheus(&metrics, &agents);
    sees(&prometheus, "count(up == 1)", 3.0);

    // "Move the fleet forward".
    let release_of = |build: &str| {
        let mut found = None;
        wait_until("the registry's release is known", || {
            let list = root.admin("kernels list").json();
            let mut ids = list["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| &item["release"]);
            let id = ids.find(|id| id.as_str().unwrap().ends_with(&format!("-{build}")));
            found = id.map(|id| id.as_str().unwrap().to_owned());
            found.is_some()
        });
        found.unwrap()
    };
    let [first, second] = ["r1", "r2"].map(release_of);
    let current = |release: &str| format!("plfm_fleet_hosts{{release=\"{release}\",state=\"current\"}}");
    let instances = |release: &str| format!("plfm_fleet_instances{{release=\"{release}\"}}");
    root.admin(&format!("kernels set-default {first} --wait"));
    for (agent, _) in &hosts {
        assert_eq!(root.boot(agent), first);
    }
    sees(&prometheus, &current(&first), 2.0);
    sees(&prometheus, &instances(&first), 2.0);
    root.admin(&format!("policy prefetch add {second}"));
    root.admin(&format!("kernels set-default {second} --wait"));
    assert_eq!(root.boot(&hosts[0].0), second);
    sees(&prometheus, &current(&second), 2.0);
    sees(&prometheus, &current(&first), 0.0);
    sees(&prometheus, &instances(&second), 1.0);
    sees(&prometheus, &instances(&first), 2.0);

    // "And back".
    root.admin("kernels rollback --reason slow --wait --yes");
    assert_eq!(root.boot(&hosts[1].0), first);
    sees(&prometheus, &current(&first), 2.0);
    sees(&prometheus, &current(&second), 0.0);
    sees(&prometheus, &instances(&first), 3.0);
    sees(&prometheus, "plfm_rollbacks_total{trigger=\"operator\"}", 1.0);
}
