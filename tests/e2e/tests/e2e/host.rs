//! A host: an agent of the test's own, in a directory of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::lab;

pub struct Host {
    pub dir: tempfile::TempDir,
    agent: Option<Child>,
    log: PathBuf,
    options: Vec<String>,
}

/// What a command printed and how it ended.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn from(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        Self {
            code: output
                .status
                .code()
                .unwrap_or_else(|| 1000 + output.status.signal().unwrap_or(0)),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

impl Host {
    /// A host with no release installed.
    pub fn empty() -> Self {
        Self::with_keyring(&lab::keyring())
    }

    /// A host that trusts the keys of `keyring`.
    pub fn with_keyring(keyring: &Path) -> Self {
        Self::start(keyring, &[])
    }

    /// A host with no release installed that takes those which fail on purpose, and does not wait long for a hello.
    pub fn for_faults() -> Self {
        let options = ["--channel", "lab", "--hello-seconds", "20", "--no-network"];
        Self::start(&lab::faulty_keyring(), &options)
    }

    /// A host without a keyring of its own: it is given a mirror and root metadata, and looks every second.
    pub fn with_registry(mirror: &str, root: &Path) -> Self {
        let mut host = Self::unstarted(&["--registry", mirror, "--registry-poll-seconds", "1"]);
        host.bring_root(root);
        host.start_agent();
        host
    }

    /// Brings root metadata to the host, as somebody who goes there would.
    pub fn bring_root(&self, root: &Path) {
        std::fs::copy(root, self.path("root.json")).unwrap();
    }

    /// As [`Host::ready`], its agent with more options.
    pub fn ready_with(options: &[&str]) -> Self {
        let host = Self::start(&lab::keyring(), options);
        host.install();
        host
    }

    /// A host with no release installed that follows a registry with these mirrors.
    pub fn of_registry(root: &Path, mirrors: &[&str]) -> Self {
        let urls = mirrors.join(",");
        let mut host = Self::unstarted(&["--registry", &urls, "--no-network"]);
        std::fs::copy(lab::keyring(), host.path("keyring.json")).unwrap();
        host.bring_root(root);
        host.start_agent();
        host
    }

    /// A host without a keyring of its own, with root metadata and more options.
    pub fn of_fleet(root: &Path, options: &[&str]) -> Self {
        let mut host = Self::unstarted(options);
        host.bring_root(root);
        host.start_agent();
        host
    }

    fn start(keyring: &Path, options: &[&str]) -> Self {
        let mut host = Self::unstarted(options);
        std::fs::copy(keyring, host.path("keyring.json")).unwrap();
        host.start_agent();
        host
    }

    fn unstarted(options: &[&str]) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plfm-e2e-")
            .tempdir_in("/tmp")
            .unwrap();
        let log = dir.path().join("agent.log");
        Self {
            dir,
            agent: None,
            log,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        }
    }

    /// A host with the lab's release installed and current.
    pub fn ready() -> Self {
        Self::ready_with(&[])
    }

    fn install(&self) {
        let release = lab::release();
        self.plfm(["release", "install", "--current", release.to_str().unwrap()])
            .ok();
    }

    /// Starts the agent and waits for its line in the log: the socket is there then.
    pub fn start_agent(&mut self) {
        let mut command = Command::new(lab::program("plfm-agent"));
        command
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--run-dir")
            .arg(self.path("run"));
        command
            .arg("--keyring")
            .arg(self.path("keyring.json"))
            .arg("--registry-root")
            .arg(self.path("root.json"))
            .args(&self.options)
            .env("NO_COLOR", "1");
        let mut agent = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(agent.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("ready") {
            let length = lines.read_line(&mut seen).unwrap();
            assert!(length > 0, "the agent did not start: {seen}");
        }
        let mut log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        std::io::Write::write_all(&mut log, seen.as_bytes()).unwrap();
        std::thread::spawn(move || std::io::copy(&mut lines, &mut log));
        self.agent = Some(agent);
    }

    /// Ends the agent as a power cut would.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    /// Ends the agent as an operator would, and waits for its end.
    pub fn stop_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        Command::new("kill").arg(agent.id().to_string()).status().unwrap();
        agent.wait().unwrap();
    }

    /// Sends the agent a signal and waits until its log has `answer`.
    pub fn signal_agent(&self, signal: &str, answer: &str) {
        let agent = self.agent.as_ref().unwrap().id().to_string();
        Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(agent)
            .status()
            .unwrap();
        self.log_until(answer);
    }

    /// Waits until the agent's log has `words`.
    #[track_caller]
    pub fn log_until(&self, words: &str) {
        for _ in 0..3000 {
            if self.log().contains(words) {
                return;
            }
            self.plfm(["host"]);
        }
        panic!("the agent's log has no {words:?}: {}", self.log());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = Command::new(lab::program("plfm"));
        command
            .arg("--agent")
            .arg(self.path("run/agent.sock"))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    pub fn plfm<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Ran {
        Ran::from(self.command(args).output().unwrap())
    }

    pub fn json<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Value {
        self.plfm(["--output", "json"].into_iter().chain(args))
            .ok()
            .json()
    }

    /// `plfm run` of a shell script in the lab's root disk, without network.
    pub fn run_script(&self, script: &str) -> Ran {
        self.run_with(&[], script)
    }

    pub fn run_with(&self, options: &[&str], script: &str) -> Ran {
        let disk = lab::root_disk();
        let mut args = vec![
            "run",
            "--quiet",
            "--no-network",
            "--rootdisk",
            disk.to_str().unwrap(),
        ];
        args.extend(options);
        args.extend(["--", "/bin/sh", "-c", script]);
        self.plfm(args)
    }

    /// Starts a shell script and gives the instance, which is running then.
    pub fn start_script(&self, options: &[&str], script: &str) -> Value {
        let disk = lab::root_disk();
        let mut args = vec!["run", "--detach", "--rootdisk", disk.to_str().unwrap()];
        args.extend(options);
        args.extend(["--", "/bin/sh", "-c", script]);
        self.json(args)
    }

    /// Starts a shell script and waits until it has printed the line `up`.
    pub fn start_until_up(&self, options: &[&str], script: &str) -> Value {
        let instance = self.start_script(options, script);
        self.output_until(instance["id"].as_str().unwrap(), "up");
        instance
    }

    /// Waits until an instance's program has printed a line with `words`.
    #[track_caller]
    pub fn output_until(&self, id: &str, words: &str) {
        let mut command = self.command(["logs", "--follow", id]);
        let both = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut logs = both.spawn().unwrap();
        let (tell, lines) = std::sync::mpsc::channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] = [
            Box::new(logs.stdout.take().unwrap()),
            Box::new(logs.stderr.take().unwrap()),
        ];
        for stream in streams {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let lines = BufReader::new(stream).lines().map_while(Result::ok);
                lines
                    .take_while(|line| tell.send(line.clone()).is_ok())
                    .for_each(drop);
            });
        }
        drop(tell);
        let mut seen = Vec::new();
        let found = lines.iter().any(|line| {
            seen.push(line);
            seen.last().unwrap().contains(words)
        });
        logs.kill().unwrap();
        logs.wait().unwrap();
        assert!(found, "the program ended without {words:?}: {}", seen.join("\n"));
    }

    /// The newest instance.
    pub fn last_instance(&self) -> Value {
        let list = self.json(["ps", "--all"]);
        list["items"].as_array().unwrap().last().unwrap().clone()
    }

    /// All names in the cache's directory, hidden ones aside.
    pub fn installed_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path("state/kernels")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.agent.is_some() {
            self.stop_agent();
        }
        if std::thread::panicking() {
            eprintln!("--- agent's log\n{}", self.log());
        }
    }
}

/// Runs a program that checks our work.
#[track_caller]
pub fn tool(program: &str, args: &[&str]) -> Ran {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program)
        .args(args)
        .env("PATH", path)
        .stdin(Stdio::null())
        .output();
    Ran::from(output.unwrap_or_else(|error| panic!("cannot run {program}: {error}")))
}
