//! A web server on loopback that serves a repository, and can be told to be evil.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plfm_registry::fetch::Mirror;
use plfm_release::Sha256Digest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::fetch_fixtures::FileMap;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub path: String,
    /// The first byte of `Range: bytes=<first>-`.
    pub range: Option<u64>,
    pub if_range: Option<String>,
    pub accept_encoding: Option<String>,
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// What a good server does.
    Good,
    /// As a good server, but the connection breaks after this many bytes of the body.
    Cut(usize),
    /// These bytes, and the connection is closed.
    Raw(Vec<u8>),
    /// Status 200 and the whole file, whatever part was asked for.
    Whole,
    /// A good head and then this byte again and again, as long as somebody reads.
    Endless,
    /// A good head and nothing more, as long as somebody waits.
    Silent,
    /// A good head and a byte every so often.
    Trickle(Duration),
    /// As a good server, with these bytes in the file's place.
    Instead(Vec<u8>),
    /// As a good server, with another header line.
    Header(&'static str),
}

type Behaviour = Box<dyn Fn(&Request) -> Reply + Send>;

struct Shared {
    files: FileMap,
    behaviour: Behaviour,
    requests: Vec<Request>,
    body_bytes_sent: u64,
}

/// The server; it ends with the value.
pub struct Server {
    shared: Arc<Mutex<Shared>>,
    address: std::net::SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn serve(files: &FileMap) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            files: files.clone(),
            behaviour: Box::new(|_| Reply::Good),
            requests: Vec::new(),
            body_bytes_sent: 0,
        }));
        let served = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&served);
                // The client may go at any moment.
                tokio::spawn(async move { drop(answer(stream, &shared).await) });
            }
        });
        Self {
            shared,
            address,
            task,
        }
    }

    pub async fn evil(files: &FileMap, behaviour: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        let server = Self::serve(files).await;
        server.behave(behaviour);
        server
    }

    pub fn behave(&self, behaviour: impl Fn(&Request) -> Reply + Send + 'static) {
        self.shared.lock().unwrap().behaviour = Box::new(behaviour);
    }

    pub fn publish(&self, files: &FileMap) {
        self.shared.lock().unwrap().files = files.clone();
    }

    pub fn mirror(&self) -> Mirror {
        format!("http://{}/", self.address).parse().unwrap()
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().unwrap().requests.clone()
    }

    pub fn requests_for(&self, path: &str) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.path == path);
        requests
    }

    pub fn body_bytes_sent(&self) -> u64 {
        self.shared.lock().unwrap().body_bytes_sent
    }
}

async fn read_request(stream: &mut TcpStream) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
        assert!(head.len() < 10_000, "a long request");
    }
    let head = String::from_utf8(head).unwrap();
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let range = header("range").map(|range| {
        let first = range
            .strip_prefix("bytes=")
            .unwrap()
            .strip_suffix('-')
            .unwrap()
            .parse();
        first.unwrap()
    });
    Ok(Request {
        path: head.split(' ').nth(1).unwrap().trim_start_matches('/').to_owned(),
        range,
        if_range: header("if-range"),
        accept_encoding: header("accept-encoding"),
    })
}

async fn answer(mut stream: TcpStream, shared: &Mutex<Shared>) -> io::Result<()> {
    let request = read_request(&mut stream).await?;
    let (reply, file) = {
        let mut shared = shared.lock().unwrap();
        shared.requests.push(request.clone());
        (
            (shared.behaviour)(&request),
            shared.files.get(&request.path).cloned(),
        )
    };
    let (mut head, mut body) = match &reply {
        Reply::Raw(bytes) => return send(&mut stream, shared, bytes).await,
        Reply::Instead(bytes) => good(&request, Some(bytes)),
        Reply::Whole => good(
            &Request {
                range: None,
                ..request
            },
            file.as_ref(),
        ),
        _ => good(&request, file.as_ref()),
    };
    match &reply {
        Reply::Endless => head = "HTTP/1.1 200 OK\r\n".to_owned(),
        Reply::Header(line) => head = format!("{head}{line}\r\n"),
        Reply::Cut(at) => body.truncate(*at),
        _ => {}
    }
    stream
        .write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())
        .await?;
    match reply {
        Reply::Endless => loop {
            send(&mut stream, shared, &[b'x'; 1024]).await?;
        },
        Reply::Silent => stream.read_u8().await.map(drop),
        Reply::Trickle(every) => {
            for byte in body {
                send(&mut stream, shared, &[byte]).await?;
                tokio::time::sleep(every).await;
            }
            Ok(())
        }
        _ => send(&mut stream, shared, &body).await,
    }
}

async fn send(stream: &mut TcpStream, shared: &Mutex<Shared>, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    shared.lock().unwrap().body_bytes_sent += bytes.len() as u64;
    stream.flush().await
}

/// The head without its end, and the body.
fn good(request: &Request, file: Option<&Vec<u8>>) -> (String, Vec<u8>) {
    let Some(file) = file else {
        return (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n".to_owned(),
            Vec::new(),
        );
    };
    let etag = format!("\"{}\"", Sha256Digest::of(file));
    let asked = request
        .range
        .filter(|_| request.if_range.as_ref().is_none_or(|wanted| *wanted == etag));
    let Some(first) = asked else {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: {etag}\r\n",
            file.len()
        );
        return (head, file.clone());
    };
    let first = usize::try_from(first).unwrap();
    if first >= file.len() {
        let head = format!(
            "HTTP/1.1 416 No\r\nContent-Length: 0\r\nContent-Range: bytes */{}\r\n",
            file.len()
        );
        return (head, Vec::new());
    }
    let (rest, last) = (file[first..].to_vec(), file.len() - 1);
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\nETag: {etag}\r\n",
        rest.len(),
        file.len(),
    );
    (head, rest)
}
