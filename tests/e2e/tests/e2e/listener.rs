//! Somebody who is told by webhook: a plain web server that keeps what was posted to it, if it is signed with their secret.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

/// The secret that notices are signed with, of this test alone.
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// How often, and for how long, it is looked whether a notice came: half a minute.
const LOOKS_MAX: usize = 300;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// It listens until the test ends.
pub struct Listener {
    address: SocketAddr,
    notices: Arc<Mutex<Vec<Value>>>,
}

impl Listener {
    pub fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let notices = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&notices);
        std::thread::spawn(move || {
            for connection in socket.incoming().flatten() {
                if let Ok(notice) = take(connection) {
                    kept.lock().unwrap().push(notice);
                }
            }
        });
        Self { address, notices }
    }

    /// What a control plane is told of it, with the secret in a new file.
    pub fn config(&self, secret_file: &Path) -> String {
        let mut file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(secret_file)
            .unwrap();
        file.write_all(SECRET.as_bytes()).unwrap();
        let (address, secret_file) = (self.address, secret_file.display());
        format!("\n[webhook]\nurl = \"http://{address}/\"\nsecret_file = \"{secret_file}\"\n")
    }

    /// Waits for a notice.
    #[track_caller]
    pub fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..LOOKS_MAX {
            if let Some(notice) = self.notices.lock().unwrap().iter().find(|notice| wanted(notice)) {
                return notice.clone();
            }
            std::thread::sleep(LOOK_EVERY);
        }
        panic!("no such notice among {:#?}", self.notices.lock().unwrap());
    }
}

/// One request, answered.
fn take(connection: TcpStream) -> std::io::Result<Value> {
    connection.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new(connection);
    let (mut length, mut signature) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap_or(0);
            }
            Some((name, value)) if name.eq_ignore_ascii_case("plfm-signature") => {
                value.clone_into(&mut signature)
            }
            Some(_) | None => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let is_theirs = signature == sign(&body)?;
    let status = if is_theirs {
        "204 No Content"
    } else {
        "403 Forbidden"
    };
    let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
    reader.get_mut().write_all(answer.as_bytes())?;
    match is_theirs {
        true => Ok(serde_json::from_slice(&body)?),
        false => Err(std::io::ErrorKind::PermissionDenied.into()),
    }
}

/// The signature that a body must have, by another's program.
fn sign(body: &[u8]) -> std::io::Result<String> {
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-r", "-hmac", SECRET])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = openssl.stdin.take() {
        input.write_all(body)?;
    }
    let said = String::from_utf8_lossy(&openssl.wait_with_output()?.stdout).into_owned();
    let hex = said.split_whitespace().next().unwrap_or_default();
    Ok(format!("sha256={hex}"))
}
