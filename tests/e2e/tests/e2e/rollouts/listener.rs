//! Somebody who is told by webhook: a plain web server that keeps what was posted to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

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

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
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
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = "HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
    reader.get_mut().write_all(answer.as_bytes())?;
    Ok(serde_json::from_slice(&body)?)
}
