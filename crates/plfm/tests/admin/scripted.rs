//! A server that does what a control plane never should, or only in trouble: the part of the network that a real one
//! cannot play.

use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::operator::Operator;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method and path.
    pub line: String,
    /// Names in small letters.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What is answered.
pub enum Answer {
    /// The connection ends.
    Nothing,
    /// A status, more headers, a body.
    Http(u16, &'static str, String),
}

impl Answer {
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self::Http(status, "content-type: application/json\r\n", body.into())
    }

    pub fn problem(status: u16, code: &str) -> Self {
        let body = serde_json::json!({"type": "about:blank", "title": "T", "status": status, "code": code,
            "detail": "it is so", "hint": "look", "retryable": false, "request_id": "01REQUEST"});
        Self::json(status, body.to_string())
    }
}

/// A server and what it got.
pub struct Scripted {
    pub address: SocketAddr,
    /// Its CA's certificate.
    pub ca: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Scripted {
    /// Answers each request, one connection at a time, until the test ends.
    pub fn start(mut answer: impl FnMut(&Request, usize) -> Answer + Send + 'static) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let config = Arc::new(tls(certificate.der().clone(), &key));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = serve(stream.unwrap(), &config, &seen, &mut answer);
            }
        });
        Self {
            address,
            ca: certificate.pem(),
            requests,
        }
    }

    /// An operator who means this server.
    pub fn operator(&self) -> Operator {
        let operator = Operator::new();
        operator.write("ca.pem", &self.ca);
        operator.write("token", "plfm_op_secret");
        let url = format!("https://{}", self.address);
        let add = [
            "context",
            "add",
            "it",
            "--url",
            &url,
            "--ca",
            "ca.pem",
            "--token-file",
            "token",
        ];
        operator.admin(&add).ok();
        operator
    }

    /// What it got so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn tls(certificate: CertificateDer<'static>, key: &rcgen::KeyPair) -> rustls::ServerConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap()
}

fn serve(
    mut tcp: TcpStream,
    config: &Arc<rustls::ServerConfig>,
    seen: &Mutex<Vec<Request>>,
    answer: &mut impl FnMut(&Request, usize) -> Answer,
) -> std::io::Result<()> {
    let mut connection = rustls::ServerConnection::new(Arc::clone(config)).map_err(std::io::Error::other)?;
    let mut tls = rustls::Stream::new(&mut connection, &mut tcp);
    let request = read(&mut BufReader::new(&mut tls))?;
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    if let Answer::Http(status, headers, body) = answer(&request, number) {
        let length = body.len();
        write!(
            tls,
            "HTTP/1.1 {status} S\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )?;
        tls.flush()?;
        connection.send_close_notify();
        while connection.wants_write() {
            connection.write_tls(&mut tcp)?;
        }
    }
    Ok(())
}

fn read(stream: &mut impl std::io::BufRead) -> std::io::Result<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, value)| value.parse().unwrap())];
    stream.read_exact(&mut body)?;
    Ok(Request {
        line: lines[0].trim_end_matches(" HTTP/1.1").to_owned(),
        headers,
        body: String::from_utf8(body).unwrap(),
    })
}
