//! The demo: from source, over a registry, to a page out of a microVM.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::lab::{self, Lab};
use crate::registry::Registry;
use crate::setup;
use crate::shell::{read, step, timed};

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
/// How long the agent may take to be ready, and the server to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// An agent of this task's own; ended when dropped.
pub struct Agent {
    process: Child,
    dir: tempfile::TempDir,
}

impl Agent {
    /// Starts it, in a directory of its own, with the lab's keyring.
    pub fn start(lab: &Lab, no_network: bool) -> anyhow::Result<Self> {
        let keyring = lab.keyring();
        let options = ["--keyring".as_ref(), keyring.as_os_str()];
        let off = no_network.then_some("--no-network".as_ref());
        Self::start_with(lab, options.into_iter().chain(off))
    }

    /// Starts it, in a directory of its own.
    pub fn start_with<'a>(lab: &Lab, options: impl IntoIterator<Item = &'a OsStr>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("plfm-demo-").tempdir()?;
        let log = std::fs::File::create(dir.path().join("agent.log"))?;
        let mut command = Command::new(lab.bin.join("plfm-agent"));
        command
            .arg("--state-dir")
            .arg(dir.path().join("state"))
            .arg("--run-dir")
            .arg(dir.path().join("run"));
        command.args(options);
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start plfm-agent")?;
        let mut agent = Self { process, dir };
        let deadline = Instant::now() + PATIENCE;
        while !agent
            .plfm(lab)
            .arg("host")
            .output()
            .is_ok_and(|output| output.status.success())
        {
            if agent.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!(
                    "the agent did not start:\n{}",
                    std::fs::read_to_string(agent.dir.path().join("agent.log"))?
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(agent)
    }

    fn plfm(&self, lab: &Lab) -> Command {
        let mut command = lab.plfm();
        command.arg("--agent").arg(self.dir.path().join("run/agent.sock"));
        command
    }

    /// Runs `plfm` against it and reads the JSON that it prints.
    pub fn json(&self, lab: &Lab, args: &[&str]) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&read(
            self.plfm(lab).args(["--output", "json"]).args(args),
        )?)?)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // SIGTERM lets it stop its instances; it is our own child.
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

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

    step("making a registry and publishing two releases to it");
    let registry = Registry::serve(&lab)?;
    println!("{}", registry.list(&lab)?);

    step("starting an agent that knows the registry's root, and fetching a release");
    let (root, url) = (registry.root(), registry.url());
    let options: [&OsStr; 6] = [
        "--registry".as_ref(),
        url.as_ref(),
        "--registry-root".as_ref(),
        root.as_os_str(),
        "--keyring".as_ref(),
        "/nonexistent/keyring.json".as_ref(),
    ];
    let off = no_network.then_some("--no-network".as_ref());
    let agent = Agent::start_with(&lab, options.into_iter().chain(off))?;
    println!("{}", read(agent.plfm(&lab).args(["release", "available"]))?);
    let (release, fetch_ms) = timed(|| agent.json(&lab, &["release", "fetch", "--current", "20260101a"]))?;
    println!("{}", read(agent.plfm(&lab).args(["release", "list"]))?);

    step("booting a microVM with a web server in it");
    let root_disk = lab.root_disk();
    let root_disk = root_disk.to_str().context("the lab's path is not UTF-8")?;
    let args = [
        "run",
        "--detach",
        "--rootdisk",
        root_disk,
        "--env",
        "PATH=/bin",
        "--",
        "sh",
        "-c",
        START,
    ];
    let instance = agent.json(&lab, &args)?;
    let id = instance["id"].as_str().context("the instance has no id")?;
    println!("{}", read(agent.plfm(&lab).args(["ps"]))?);

    let (page, fetched_over) = match instance["address"].as_str() {
        Some(address) => {
            step(&format!("fetching http://[{address}]/ from the guest"));
            (fetch(address.parse()?)?, "tap")
        }
        None => {
            let why = instance["no_network"].as_str().unwrap_or("unknown");
            step(&format!(
                "this host gives the instance no network ({why}): fetching the page over exec"
            ));
            let args = [
                "exec",
                id,
                "--",
                "sh",
                "-c",
                "for n in $(seq 100); do wget -q -O - http://[::1]/ 2>/dev/null && exit; sleep 0.1; done; exit 1",
            ];
            (read(agent.plfm(&lab).args(args))?, "exec")
        }
    };
    println!("{page}");
    if !page.contains(&id.to_ascii_lowercase()) {
        bail!("the page did not come out of instance {id}");
    }

    step("stopping it gracefully");
    let (stopped, stop_ms) = timed(|| agent.json(&lab, &["stop", id]))?;
    println!("{}", read(agent.plfm(&lab).args(["ps", "--all"]))?);
    if stopped["state"] != "stopped" || stopped["exit"]["reason"] == "killed" {
        bail!("the instance did not stop gracefully: {stopped}");
    }

    let summary = summarize(
        &lab,
        &release,
        &instance,
        &[
            ("verify_ms", verify_ms),
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

fn summarize(
    lab: &Lab,
    release: &Value,
    instance: &Value,
    took: &[(&str, u64)],
    fetched_over: &str,
) -> anyhow::Result<Value> {
    let manifest: Value = serde_json::from_slice(&std::fs::read(lab.release().join("manifest.json"))?)?;
    let guest_init = lab::target_dir().join("guest/x86_64-unknown-linux-gnu/guest/guest-init");
    let boot = &instance["boot"];
    let mut summary = json!({
        "release": release["id"],
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
        "took     verify {} ms, fetch and install {} ms, VM start to ready {} ms, stop {} ms, demo {} ms\n",
        took["verify_ms"], took["fetch_ms"], took["boot_to_ready_ms"], took["stop_ms"], took["demo_ms"]
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
