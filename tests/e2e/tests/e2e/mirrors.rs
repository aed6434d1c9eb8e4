//! A registry behind plain web servers: Debian's nginx, configured as `docs/registry.md` says.

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::host::Host;
use crate::lab;
use crate::publisher::Registry;

crate::facts![
    a_plain_web_server_with_the_documented_configuration_is_a_registry,
    the_documented_configuration_caches_what_never_changes_and_nothing_else,
    a_dead_mirror_is_passed_over,
    a_mirror_that_answers_everything_with_garbage_is_passed_over,
    a_mirror_with_other_artifacts_under_good_metadata_is_passed_over,
    garbage_alone_installs_nothing,
];

/// How often something is done that depends on which mirror is drawn. One of two mirrors is missed so often once in a
/// thousand million times.
const DRAWS_MAX: usize = 30;
/// How many ports are tried: another process may take one between our look and nginx's.
const PORTS_MAX: usize = 10;
/// A privileged port of a service that nobody has: connections are refused.
const NOBODY: &str = "http://127.0.0.1:1";
/// An answer to everything.
const GARBAGE: &str = r#"server { listen 443 ssl; location / { return 200 "garbage"; } }"#;

/// nginx in the foreground, in a directory of its own.
struct WebServer {
    process: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl WebServer {
    /// Serves `files` as the documentation says.
    fn documented(files: &Path) -> Self {
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/registry.md");
        let manual = std::fs::read_to_string(manual).unwrap();
        let (_, rest) = manual.split_once("```nginx\n").unwrap();
        let (server, _) = rest.split_once("```").unwrap();
        assert!(server.contains("root /srv/plfm;"), "{server}");
        Self::start(&server.replace("root /srv/plfm;", &format!("root {};", files.display())))
    }

    /// Runs with one `server` block, on a port of its own and without TLS.
    fn start(server: &str) -> Self {
        assert!(server.contains("listen 443 ssl;"), "{server}");
        for _ in 0..PORTS_MAX {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let server = server.replace("listen 443 ssl;", &format!("listen 127.0.0.1:{port};"));
            if let Some(running) = Self::try_start(&server, port) {
                return running;
            }
        }
        panic!("nginx did not start on any of {PORTS_MAX} ports");
    }

    fn try_start(server: &str, port: u16) -> Option<Self> {
        let dir = tempfile::Builder::new()
            .prefix("plfm-e2e-")
            .tempdir_in("/tmp")
            .unwrap();
        // One process, which stays who we are: what the test made is readable for nobody else.
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr notice; events {{}} \
             http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; \
             uwsgi_temp_path uwsgi; scgi_temp_path scgi; {server} }}"
        );
        std::fs::write(dir.path().join("nginx.conf"), configuration).unwrap();
        let mut process = Command::new(lab::nginx().unwrap())
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap());
        let mut seen = String::new();
        // It says so after it has bound its port.
        while !seen.contains("event method") {
            if lines.read_line(&mut seen).unwrap() == 0 {
                process.wait().unwrap();
                assert!(seen.contains("Address already in use"), "{seen}");
                return None;
            }
        }
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Some(Self {
            process,
            port,
            _dir: dir,
        })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The head of the answer to a GET.
    fn head_of(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).to_ascii_lowercase();
        answer.split("\r\n\r\n").next().unwrap().to_owned()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The lab's release is on the host, byte for byte, and current.
#[track_caller]
pub fn assert_lab_release_is_current(host: &Host) {
    let names = ["vmlinuz-plfm-", "initramfs-plfm-"];
    let installed = host.installed_files();
    for prefix in names {
        let artifact = |name: &&String| name.starts_with(prefix) && !name.ends_with(".sha256");
        let name = installed.iter().find(artifact).unwrap();
        let here = std::fs::read(host.path("state/kernels").join(name)).unwrap();
        let published = std::fs::read(lab::release().join(name)).unwrap();
        assert!(here == published, "{name} is not what was published");
    }
    let list = host.json(["release", "list"]);
    assert_eq!(list["items"][0]["state"], "current", "{list}");
}

fn fetch(host: &Host) {
    host.plfm(["release", "fetch", "20260101a", "--current"]).ok();
}

/// Looks at the registry until the agent has passed a mirror over, which one draw in two brings.
#[track_caller]
fn look_until_one_is_passed_over(host: &Host) {
    for _ in 0..DRAWS_MAX {
        host.plfm(["release", "available"]).ok();
        if host.log().contains("a mirror of the registry was passed over") {
            return;
        }
    }
    panic!("the bad mirror was never drawn: {}", host.log());
}

fn a_plain_web_server_with_the_documented_configuration_is_a_registry() {
    let registry = Registry::in_directory();
    let server = WebServer::documented(&registry.files());
    let host = Host::of_registry(&registry.root(), &[&server.url()]);
    fetch(&host);
    assert_lab_release_is_current(&host);
}

fn the_documented_configuration_caches_what_never_changes_and_nothing_else() {
    let registry = Registry::in_directory();
    let server = WebServer::documented(&registry.files());
    let timestamp = server.head_of("/metadata/timestamp.json");
    assert!(timestamp.contains("cache-control: no-cache"), "{timestamp}");
    let root = server.head_of("/metadata/1.root.json");
    assert!(
        root.contains("cache-control: public, max-age=31536000, immutable"),
        "{root}"
    );
    for missing in [
        "/metadata/99.root.json",
        "/targets/nothing",
        "/",
        "/../keys/root.json",
    ] {
        let answer = server.head_of(missing);
        assert!(!answer.contains(" 200 "), "{missing}: {answer}");
        assert!(!answer.contains("immutable"), "{missing}: {answer}");
    }
}

fn a_dead_mirror_is_passed_over() {
    let registry = Registry::in_directory();
    let server = WebServer::documented(&registry.files());
    let host = Host::of_registry(&registry.root(), &[NOBODY, &server.url()]);
    look_until_one_is_passed_over(&host);
    fetch(&host);
    assert_lab_release_is_current(&host);
}

fn a_mirror_that_answers_everything_with_garbage_is_passed_over() {
    let registry = Registry::in_directory();
    let (evil, good) = (
        WebServer::start(GARBAGE),
        WebServer::documented(&registry.files()),
    );
    let host = Host::of_registry(&registry.root(), &[&evil.url(), &good.url()]);
    look_until_one_is_passed_over(&host);
    fetch(&host);
    assert_lab_release_is_current(&host);
}

fn a_mirror_with_other_artifacts_under_good_metadata_is_passed_over() {
    let registry = Registry::in_directory();
    let copy = tempfile::tempdir_in("/tmp").unwrap();
    copy_with_other_targets(&registry.files(), copy.path());
    let good = WebServer::documented(&registry.files());
    let evil = WebServer::documented(copy.path());
    for _ in 0..DRAWS_MAX {
        let host = Host::of_registry(&registry.root(), &[&evil.url(), &good.url()]);
        fetch(&host);
        assert_lab_release_is_current(&host);
        if host.log().contains("artifact_wrong_digest") {
            return;
        }
    }
    panic!("the evil mirror was never asked for an artifact");
}

/// The same names and lengths, and other bytes.
fn copy_with_other_targets(from: &Path, to: &Path) {
    for dir in ["metadata", "targets"] {
        std::fs::create_dir(to.join(dir)).unwrap();
        for entry in std::fs::read_dir(from.join(dir)).unwrap() {
            let name = entry.unwrap().file_name();
            let mut bytes = std::fs::read(from.join(dir).join(&name)).unwrap();
            if dir == "targets" {
                let last = bytes.last_mut().unwrap();
                *last = !*last;
            }
            std::fs::write(to.join(dir).join(&name), bytes).unwrap();
        }
    }
}

fn garbage_alone_installs_nothing() {
    let registry = Registry::in_directory();
    let evil = WebServer::start(GARBAGE);
    let host = Host::of_registry(&registry.root(), &[&evil.url()]);
    let ran = host.plfm(["release", "fetch", "20260101a", "--current"]);
    assert_ne!(ran.code, 0, "{}", ran.stdout);
    assert_eq!(host.installed_files(), Vec::<String>::new());
}
