//! The demo: from source, over a registry and a control plane, to a page out of a microVM, forward and back.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::lab::{self, Lab};
use crate::setup;
use crate::shell::{read, step, timed};

/// The build ids of the lab's releases.
const FIRST: &str = "20260101a";
const SECOND: &str = "20260102b";
/// The web server's start: the page is made in the guest, so it can have come from nowhere else.
const START: &str = r#"
cat > /srv/www/index.html <<PAGE
<!doctype html><title>plfm</title>
<h1>Hello from a microVM</h1>
<p>instance $(hostname), kernel $(uname -r), up $(cut -d' ' -f1 /proc/uptime) s</p>
PAGE
echo "serving on port 80"
exec httpd -f -p '[::]:80' -h /srv/www
"#;
/// How long the guest's server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the demo.
pub fn run(json_file: Option<&Path>, no_network: bool) -> anyhow::Result<()> {
    setup::ensure()?;
    let lab = lab::ensure(lab::Show::Releases)?;
    let start = Instant::now();

    step("verifying the release");
    let (verified, verify_ms) = timed(|| {
        let mut verify = lab.plfm();
        read(
            verify
                .args(["--output", "json", "release", "verify"])
                .arg(lab.release())
                .arg("--keyring")
                .arg(lab.keyring()),
        )
    })?;
    let _: Value = serde_json::from_str(&verified)?;

    step(
        "a fleet on this machine: a registry with two releases, a control plane and two agents (plfm dev up)",
    );
    let fleet = Fleet::up(&lab, no_network)?;
    println!("{}", fleet.show(&lab, 1, &["admin", "kernels", "list"])?);

    step("the fleet's default becomes the first release: hosts fetch and verify it");
    let set_default = ["admin", "kernels", "set-default", FIRST, "--wait"];
    let (_, fetch_ms) = timed(|| {
        fleet
            .show(&lab, 1, &set_default)
            .map(|receipt| println!("{receipt}"))
    })?;

    step("booting a microVM with a web server in it, from a customer's OCI image");
    let image = lab.image();
    let boot = ["run", "--detach", &image, "--"];
    let instance = fleet.json(&lab, 1, &[&boot[..], &["sh", "-c", START]].concat())?;
    let id = instance["id"].as_str().context("the instance has no id")?;
    expect_release(&instance, FIRST)?;
    println!("{}", fleet.show(&lab, 1, &["image", "list"])?);
    let (page, fetched_over) = fleet.page(&lab, &instance)?;
    println!("{page}");
    if !page.contains(&id.to_ascii_lowercase()) {
        bail!("the page did not come out of instance {id}");
    }

    step("the second release becomes the default: new instances boot it, the web server runs on");
    println!(
        "{}",
        fleet.show(&lab, 1, &["admin", "kernels", "set-default", SECOND, "--wait"])?
    );
    for agent in [1, 2] {
        let new = fleet.json(&lab, agent, &[&boot[..], &["sleep", "600"]].concat())?;
        expect_release(&new, SECOND)?;
        println!("{}", fleet.show(&lab, agent, &["ps"])?);
    }
    let (page_now, _) = fleet.page(&lab, &instance)?;
    if page_now != page {
        bail!("the web server did not run on: {page_now}");
    }

    step("and back: the last known good release");
    println!(
        "{}",
        fleet.show(
            &lab,
            1,
            &["admin", "kernels", "rollback", "--reason", "the demo", "--wait"]
        )?
    );
    let back = fleet.json(&lab, 2, &[&boot[..], &["sleep", "600"]].concat())?;
    expect_release(&back, FIRST)?;
    println!("{}", fleet.show(&lab, 1, &["admin", "kernels", "list"])?);
    println!(
        "{}",
        fleet.show(&lab, 1, &["admin", "events", "list", "--aggregate", "fleet"])?
    );

    step("stopping the web server gracefully");
    let (stopped, stop_ms) = timed(|| fleet.json(&lab, 1, &["stop", id]))?;
    if stopped["state"] != "stopped" || stopped["exit"]["reason"] == "killed" {
        bail!("the instance did not stop gracefully: {stopped}");
    }

    let summary = summarize(
        &lab,
        &instance,
        &[
            ("verify_ms", verify_ms),
            ("fleet_ready_ms", fleet.ready_ms),
            ("fetch_ms", fetch_ms),
            ("stop_ms", stop_ms),
            (
                "demo_ms",
                u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            ),
        ],
        fetched_over,
    )?;
    println!("{}", render(&summary));
    if let Some(file) = json_file {
        std::fs::write(file, serde_json::to_string_pretty(&summary)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    step("done");
    Ok(())
}

/// The instance boots the release with this build id.
fn expect_release(instance: &Value, build: &str) -> anyhow::Result<()> {
    let release = instance["release"].as_str().unwrap_or_default();
    if !release.ends_with(&format!("-{build}")) {
        bail!("the instance boots {release}, not the release of build {build}");
    }
    Ok(())
}

/// `plfm dev up`, until it is dropped.
struct Fleet {
    process: Child,
    dir: tempfile::TempDir,
    agents: Vec<String>,
    /// What its env file exports.
    env: Vec<(String, String)>,
    ready_ms: u64,
}

impl Fleet {
    fn up(lab: &Lab, no_network: bool) -> anyhow::Result<Self> {
        // Sockets are in it: its path must be short.
        let dir = tempfile::Builder::new().prefix("plfm-demo-").tempdir_in("/tmp")?;
        let mut command = lab.plfm();
        command
            .args(["--output", "json", "dev", "up", "--agents", "2", "--dir"])
            .arg(dir.path());
        command.arg("--keyring").arg(lab.keyring());
        for release in ["release", "release-b"] {
            command.arg("--release").arg(lab.dir.join(release));
        }
        command.args(no_network.then_some("--no-network"));
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start plfm dev up")?;
        let mut told = BufReader::new(process.stdout.take().context("a pipe is there")?);
        let mut document = String::new();
        while !document.ends_with("\n}\n") {
            if told.read_line(&mut document)? == 0 {
                let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
                bail!("plfm dev up ended: {document}\n{log}");
            }
        }
        let report: Value = serde_json::from_str(&document)?;
        let agents = report["agents"].as_array().cloned().unwrap_or_default();
        let env = std::fs::read_to_string(dir.path().join("env"))?;
        let export = |line: &str| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        };
        Ok(Self {
            process,
            agents: agents
                .iter()
                .filter_map(|socket| socket.as_str().map(str::to_owned))
                .collect(),
            env: env.lines().filter_map(export).collect(),
            ready_ms: report["ready_ms"].as_u64().unwrap_or(0),
            dir,
        })
    }

    /// `plfm`, with this fleet's control plane and one of its agents.
    fn plfm(&self, lab: &Lab, agent: usize) -> anyhow::Result<Command> {
        let socket = self.agents.get(agent - 1).context("there is no such agent")?;
        let mut command = lab.plfm();
        command.envs(self.env.clone()).env("PLFM_AGENT_SOCKET", socket);
        Ok(command)
    }

    fn show(&self, lab: &Lab, agent: usize, args: &[&str]) -> anyhow::Result<String> {
        read(self.plfm(lab, agent)?.args(args)).with_context(|| self.log())
    }

    fn json(&self, lab: &Lab, agent: usize, args: &[&str]) -> anyhow::Result<Value> {
        let text =
            read(self.plfm(lab, agent)?.args(["--output", "json"]).args(args)).with_context(|| self.log())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The page that the instance on the first agent serves, and how it came.
    fn page(&self, lab: &Lab, instance: &Value) -> anyhow::Result<(String, &'static str)> {
        if let Some(address) = instance["address"].as_str() {
            step(&format!("fetching http://[{address}]/ from the guest"));
            return Ok((fetch(address.parse()?)?, "tap"));
        }
        let why = instance["no_network"].as_str().unwrap_or("unknown");
        step(&format!(
            "this host gives the instance no network ({why}): fetching the page over exec"
        ));
        let get =
            "for n in $(seq 100); do wget -q -O - http://[::1]/ 2>/dev/null && exit; sleep 0.1; done; exit 1";
        let id = instance["id"].as_str().context("the instance has no id")?;
        Ok((self.show(lab, 1, &["exec", id, "--", "sh", "-c", get])?, "exec"))
    }

    /// The end of its log, for an error.
    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        format!("the fleet's log ends with:\n{}", end.join("\n"))
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // SIGTERM lets it stop its instances; it is our own child.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

/// One GET, as a browser on this host would do it.
fn fetch(address: Ipv6Addr) -> anyhow::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match TcpStream::connect_timeout(&SocketAddr::from((address, 80)), Duration::from_secs(5)) {
            Ok(stream) => break stream,
            // The program runs, but its server may not listen yet.
            Err(error)
                if Instant::now() < deadline && error.kind() == std::io::ErrorKind::ConnectionRefused =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            Err(error) => return Err(error).context("cannot reach the guest's web server"),
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, page) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    if !head.starts_with("HTTP/1.") || !head.contains(" 200 ") {
        bail!("the guest's web server answered: {head}");
    }
    Ok(page.trim_end().to_owned())
}

fn summarize(lab: &Lab, instance: &Value, took: &[(&str, u64)], fetched_over: &str) -> anyhow::Result<Value> {
    let manifest: Value = serde_json::from_slice(&std::fs::read(lab.release().join("manifest.json"))?)?;
    let guest_init = lab::target_dir().join("guest/x86_64-unknown-linux-gnu/guest/guest-init");
    let boot = &instance["boot"];
    let mut summary = json!({
        "release": instance["release"],
        "page_fetched_over": fetched_over,
        "sizes": {
            "guest_init_bytes": std::fs::metadata(guest_init).map(|meta| meta.len()).ok(),
            "initramfs_bytes": manifest["initramfs"]["size_bytes"],
            "kernel_bytes": manifest["kernel"]["size_bytes"],
        },
        "guest_init_rss_bytes": boot["guest_init_rss_bytes"],
        "boot": { "host": boot["host"], "guest_stages": boot["stages"] },
        "took": {},
    });
    let number = |key: &str| boot["host"][key].as_u64().unwrap_or(0);
    let ready_us = number("settled_us").saturating_sub(number("prepared_us"));
    summary["took"]["boot_to_ready_ms"] = json!(ready_us / 1_000);
    for (name, ms) in took {
        summary["took"][*name] = json!(ms);
    }
    Ok(summary)
}

fn render(summary: &Value) -> String {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let sizes = &summary["sizes"];
    let took = &summary["took"];
    let mut text = format!(
        "\nsizes    guest init {} KiB, initramfs {} KiB, kernel {} KiB\n",
        number(&sizes["guest_init_bytes"]) / 1024,
        number(&sizes["initramfs_bytes"]) / 1024,
        number(&sizes["kernel_bytes"]) / 1024
    );
    text += &format!(
        "took     verify {} ms, fleet ready {} ms, default set and fetched by both hosts {} ms, VM start to ready {} ms, stop {} ms, demo {} ms\n",
        took["verify_ms"],
        took["fleet_ready_ms"],
        took["fetch_ms"],
        took["boot_to_ready_ms"],
        took["stop_ms"],
        took["demo_ms"]
    );
    let stages = summary["boot"]["guest_stages"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let stage = |stage: &Value| {
        let us = number(&stage["finished_us"]).saturating_sub(number(&stage["started_us"]));
        format!(
            "{} {}.{} ms",
            stage["stage"].as_str().unwrap_or("?"),
            us / 1_000,
            us % 1_000 / 100
        )
    };
    text += &format!(
        "guest    {}\n",
        stages.iter().map(stage).collect::<Vec<_>>().join(", ")
    );
    text
}
