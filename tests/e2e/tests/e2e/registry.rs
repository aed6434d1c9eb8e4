//! A registry of the test's own, made and kept by the real command, as `docs/registry.md` has it.
//!
//! ```text
//! store/          the registry; served, or read as a directory
//! online/         targets.key snapshot.key timestamp.key root.json
//! root/           root-1.key root-2.key root-3.key
//! release-keys/   keys that sign releases, beside the lab's
//! releases/       releases that they signed
//! ```

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use plfm_release::SigningKey;
use serde_json::{Value, json};

use crate::boot::{initramfs_of, kernel_of};
use crate::host::{Host, Ran, tool};
use crate::lab;

/// How often, and for how long, an agent is asked whether it has seen what it is to see: two minutes.
const LOOKS_MAX: usize = 1200;
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub struct Registry {
    dir: tempfile::TempDir,
}

impl Registry {
    /// A registry without releases that trusts the lab's key.
    pub fn new() -> Self {
        let registry = Self::unmade();
        let keyring = lab::keyring();
        registry.init(&keyring);
        registry
    }

    /// A registry without releases for those that fail on purpose.
    pub fn for_faults() -> Self {
        let registry = Self::unmade();
        registry.init(&lab::faulty_keyring());
        registry
    }

    fn unmade() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("plfm-e2e-registry-")
            .tempdir_in("/tmp")
            .unwrap();
        Self { dir }
    }

    /// Makes the registry and its keys, anew.
    pub fn init(&self, keyring: &Path) {
        for dir in ["store", "online", "root"] {
            let _ = std::fs::remove_dir_all(self.path(dir));
        }
        let root = self.root_keys();
        self.registry(&["init", "--root-keys", text(&root), "--keyring", text(keyring)])
            .ok();
    }

    /// All that there is, registry and keys, as a thief would carry it away.
    pub fn copy(&self) -> Self {
        let copy = Self::unmade();
        let from = self.path(".");
        tool("cp", &["-a", text(&from), text(copy.dir.path())]).ok();
        copy
    }

    /// Forgets the keys of the roles that are not named.
    pub fn keep_online_keys(&self, roles: &[&str]) {
        for role in ["targets", "snapshot", "timestamp"] {
            if !roles.contains(&role) {
                std::fs::remove_file(self.path(&format!("online/{role}.key"))).unwrap();
            }
        }
    }

    /// Puts the metadata of `other` in the place of this one's, as whoever can write the store could.
    pub fn put_metadata_of(&self, other: &Self) {
        let (from, to) = (other.path("store/metadata/."), self.path("store/metadata"));
        tool("cp", &["-a", text(&from), text(&to)]).ok();
    }

    /// The same with targets.
    pub fn put_targets_of(&self, other: &Self) {
        let (from, to) = (other.path("store/targets/."), self.path("store/targets"));
        tool("cp", &["-a", text(&from), text(&to)]).ok();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The registry's directory, which is a mirror too.
    pub fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// The first root: what hosts are given.
    pub fn root(&self) -> PathBuf {
        self.path("online/root.json")
    }

    /// The directory with the first root keys.
    pub fn root_keys(&self) -> PathBuf {
        self.path("root")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(lab::program("plfm"));
        command
            .args(args)
            .env("PLFM_REGISTRY", self.store())
            .env("PLFM_REGISTRY_KEYS", self.path("online"))
            .stdin(Stdio::null());
        command
    }

    /// `plfm registry …`, its result as JSON.
    pub fn registry(&self, args: &[&str]) -> Ran {
        let args = [&["--output", "json", "registry"], args].concat();
        Ran::from(self.command(&args).output().unwrap())
    }

    /// `plfm release publish`.
    pub fn publish(&self, release: &Path) -> Ran {
        let args = ["--output", "json", "release", "publish", text(release)];
        Ran::from(self.command(&args).output().unwrap())
    }

    /// Makes a release key, and gives its id.
    pub fn make_release_key(&self, name: &str) -> String {
        let out = self.path("release-keys");
        let args = ["--output", "json", "release", "keys", "generate", "--out"];
        let args = [
            &args[..],
            &[text(&out), "--name", name, "--channel", "production"],
        ]
        .concat();
        let made = Ran::from(self.command(&args).output().unwrap()).ok().json();
        made["key_id"].as_str().unwrap().to_owned()
    }

    /// Makes a release key and has hosts trust it.
    pub fn trust_new_key(&self, name: &str, root_keys: &Path) -> String {
        let id = self.make_release_key(name);
        self.trust(name, root_keys).ok();
        id
    }

    pub fn trust(&self, name: &str, root_keys: &Path) -> Ran {
        let public = self.path(&format!("release-keys/{name}.pub.pem"));
        let args = ["trust", text(&public), "--channel", "production", "--root-keys"];
        self.registry(&[&args[..], &[text(root_keys)]].concat())
    }

    pub fn revoke(&self, id: &str, root_keys: &Path) -> Ran {
        let args = ["revoke", id, "--reason", "stolen", "--root-keys"];
        self.registry(&[&args[..], &[text(root_keys)]].concat())
    }

    pub fn rotate_key(&self, role: &str, root_keys: &Path) -> Ran {
        self.registry(&["rotate-key", role, "--root-keys", text(root_keys)])
    }

    /// Replaces the root's keys by new ones in `name`, which is returned.
    pub fn rotate_root(&self, old: &[&Path], name: &str) -> PathBuf {
        let new = self.path(name);
        let mut args = vec!["rotate-root", "--new-root-keys", text(&new), "--threshold", "2"];
        for path in old {
            args.extend(["--root-keys", text(path)]);
        }
        self.registry(&args).ok();
        new
    }

    /// Signs timestamp, snapshot and targets anew, as far as their keys are here; the timestamp for `days`.
    pub fn refresh(&self, days: &str) -> Ran {
        self.registry(&["refresh", "--force", "--timestamp-days", days])
    }

    /// The lab's release under another build id, signed with a key of [`Registry::make_release_key`].
    pub fn release(&self, key: &str, build_id: &str) -> PathBuf {
        self.release_by(&self.path(&format!("release-keys/{key}.key")), build_id)
    }

    /// The lab's release under another build id, signed with the key in a file.
    pub fn release_by(&self, key: &Path, build_id: &str) -> PathBuf {
        self.release_for(key, build_id, "production")
    }

    /// The same, for another channel.
    pub fn release_for(&self, key: &Path, build_id: &str, channel: &str) -> PathBuf {
        let dir = self.path(&format!("releases/{build_id}"));
        std::fs::create_dir_all(&dir).unwrap();
        for file in [kernel_of(&lab::release()), initramfs_of(&lab::release())] {
            let name = file.file_name().unwrap().to_str().unwrap();
            std::fs::copy(&file, dir.join(name.replace("20260101a", build_id))).unwrap();
        }
        let manifest = std::fs::read(lab::release().join("manifest.json")).unwrap();
        let mut manifest: Value = serde_json::from_slice(&manifest).unwrap();
        manifest["channel"] = json!(channel);
        for artifact in ["kernel", "initramfs"] {
            manifest[artifact]["build_id"] = json!(build_id);
        }
        let key = std::fs::read_to_string(key).unwrap();
        let signed = plfm_release::sign(manifest, &SigningKey::from_pem(&key).unwrap()).unwrap();
        std::fs::write(dir.join("manifest.json"), signed.to_string()).unwrap();
        dir
    }

    /// Serves the registry on a free port of loopback.
    pub fn serve(&self) -> Server {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        Server::start(&self.store(), port)
    }
}

/// `plfm registry serve`, until it is dropped.
pub struct Server {
    store: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Server {
    fn start(store: &Path, port: u16) -> Self {
        let mut server = Self {
            store: store.to_owned(),
            port,
            process: None,
        };
        server.again();
        server
    }

    /// Serves again where it served before.
    pub fn again(&mut self) {
        let mut process = Command::new(lab::program("plfm"))
            .args(["registry", "serve", text(&self.store), "--listen"])
            .arg(format!("127.0.0.1:{}", self.port))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert!(line.starts_with("serving "), "the server did not start: {line}");
        self.process = Some(process);
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Host {
    /// What the agent says of the registry. Asked over its socket, and not by `plfm release available`, which would have
    /// it look anew: here it has to look by itself.
    pub fn registry(&self) -> Value {
        let mut stream = UnixStream::connect(self.path("run/agent.sock")).unwrap();
        let request = "GET /v1/registry HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Waits until the agent, left to itself, has seen what `wanted` looks for.
    #[track_caller]
    pub fn wait_registry(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..LOOKS_MAX {
            let seen = self.registry();
            if wanted(&seen) {
                return seen;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        panic!("the agent never saw {what}: {:#}", self.registry());
    }

    /// Waits until the agent goes by this version of the keyring.
    #[track_caller]
    pub fn wait_keyring(&self, version: &Value) {
        self.wait_registry(&format!("keyring {version}"), |seen| {
            seen["keyring_version"] == *version && seen["problem"].is_null()
        });
        self.wait_look();
    }

    #[track_caller]
    pub fn wait_offered(&self, build_id: &str) {
        self.wait_registry(&format!("{build_id} on offer"), |seen| offers(seen, build_id));
    }

    #[track_caller]
    pub fn wait_not_offered(&self, build_id: &str) {
        self.wait_registry(&format!("{build_id} withdrawn"), |seen| {
            seen["problem"].is_null() && !offers(seen, build_id)
        });
    }

    #[track_caller]
    pub fn wait_problem(&self, code: &str) -> Value {
        self.wait_registry(&format!("the problem {code}"), |seen| {
            seen["problem"]["code"] == code
        })
    }

    /// Waits until a look that began after this call has ended: what is there now has been seen, and acted on. The agent
    /// notes an update before it acts on it, so the end of one is the note of the next.
    #[track_caller]
    pub fn wait_look(&self) {
        for _ in 0..3 {
            let before = self.registry()["updated_at"].clone();
            self.wait_registry(&format!("an update after {before}"), |seen| {
                seen["updated_at"] != before
            });
        }
    }

    pub fn fetch_current(&self, build_id: &str) -> Ran {
        self.plfm(["--output", "json", "release", "fetch", "--current", build_id])
    }
}

/// Whether the registry, as the agent saw it, has a release with this build id.
pub fn offers(seen: &Value, build_id: &str) -> bool {
    let releases = seen["releases"].as_array().into_iter().flatten();
    let mut ids = releases.filter_map(|release| release["id"].as_str());
    ids.any(|id| id.contains(build_id))
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
