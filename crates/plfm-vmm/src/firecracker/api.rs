//! Firecracker's API: HTTP/1.1 over its Unix socket, one connection, one request at a time.
//!
//! Every wait has a bound and every answer a limit. A socket that does not exist yet, or does not listen yet, is
//! asked again: the VMM makes it a moment after it was started.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::calls::Call;

/// One call. All but `InstanceStart` are answered in under a millisecond; that one loads the kernel.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(10);
/// An error's body is one sentence in JSON.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// What of that sentence is passed on.
const FAULT_CHARS_MAX: usize = 512;
/// Headers and all. Firecracker's answers have under 300 bytes.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// The socket is there after some milliseconds, on a busy host after more.
const POLL: Duration = Duration::from_millis(1);
const POLL_MAX: Duration = Duration::from_millis(20);

/// A connection to the API. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Api {
    requests: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

/// Firecracker's API failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The socket can't be connected to.
    #[error("firecracker's api can't be connected to")]
    Connect {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The VMM refused a call.
    #[error("firecracker refused {call} with status {status}: {fault}")]
    Refused {
        /// What the call was about.
        call: String,
        /// HTTP's status.
        status: u16,
        /// Its `fault_message`, cut.
        fault: String,
    },
    /// A call was not answered in time.
    #[error("firecracker did not answer {call} in time")]
    Timeout {
        /// What the call was about.
        call: String,
    },
    /// The connection broke, or what came is no HTTP.
    #[error("firecracker's api broke at {call}")]
    Broken {
        /// What the call was about.
        call: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// An answer without an end.
    #[error("firecracker's answer to {call} has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong {
        /// What the call was about.
        call: String,
    },
}

impl ApiError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            ApiError::Refused { .. } => "firecracker_refused",
            ApiError::Timeout { .. } => "firecracker_timeout",
            ApiError::Connect { .. } | ApiError::Broken { .. } | ApiError::TooLong { .. } => {
                "firecracker_api_failed"
            }
        }
    }
}

impl Api {
    /// Connects as soon as the VMM listens. Does not end before that: the caller has the deadline, and an eye on the
    /// process.
    pub(crate) async fn connect(socket: &Path) -> Result<Api, ApiError> {
        let stream = stream(socket)
            .await
            .map_err(|source| ApiError::Connect { source })?;
        let (requests, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| broken("the connection", source))?;
        // How the connection ends is seen by whoever waits for an answer.
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Api { requests, connection })
    }

    /// Makes one call, answered at the latest at `deadline`.
    pub(crate) async fn put(&mut self, call: &Call, deadline: Instant) -> Result<(), ApiError> {
        let deadline = deadline.min(Instant::now() + CALL_MAX);
        timeout_at(deadline, self.exchange(call))
            .await
            .map_err(|_| ApiError::Timeout {
                call: call.what.clone(),
            })?
    }

    async fn exchange(&mut self, call: &Call) -> Result<(), ApiError> {
        let broken = |source| broken(&call.what, source);
        self.requests.ready().await.map_err(broken)?;
        let mut request = Request::new(Full::new(Bytes::from(call.body.to_string())));
        *request.method_mut() = Method::PUT;
        // Made by this crate of plain characters, so it parses; else the VMM refuses the root path in words.
        *request.uri_mut() = call.path.parse().unwrap_or_default();
        for (name, value) in [
            (HOST, "localhost"),
            (ACCEPT, "application/json"),
            (CONTENT_TYPE, "application/json"),
        ] {
            request
                .headers_mut()
                .insert(name, hyper::header::HeaderValue::from_static(value));
        }
        let answer = self.requests.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = match body.collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return Err(ApiError::TooLong {
                    call: call.what.clone(),
                });
            }
            // The status is an answer, whatever became of the words.
            Err(_) => Bytes::new(),
        };
        if status == StatusCode::NO_CONTENT || status == StatusCode::OK {
            return Ok(());
        }
        Err(ApiError::Refused {
            call: call.what.clone(),
            status: status.as_u16(),
            fault: fault(&body),
        })
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn broken(call: &str, source: hyper::Error) -> ApiError {
    ApiError::Broken {
        call: call.to_owned(),
        source,
    }
}

async fn stream(socket: &Path) -> io::Result<UnixStream> {
    let mut pause = POLL;
    loop {
        match UnixStream::connect(socket).await {
            Err(error) if is_early(&error) => sleep(pause).await,
            outcome => return outcome,
        }
        pause = (pause * 2).min(POLL_MAX);
    }
}

fn is_early(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}

/// The words of a refusal: `fault_message`, or whatever came instead, without control characters and cut.
fn fault(body: &[u8]) -> String {
    let said = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|body| Some(body.get("fault_message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let printable = said.chars().map(|c| if c.is_control() { ' ' } else { c });
    let cut: String = printable.take(FAULT_CHARS_MAX).collect();
    match cut.trim() {
        "" => "no reason".to_owned(),
        words => words.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_passed_on_in_bounded_words() {
        assert_eq!(fault(br#"{"fault_message":"no such file"}"#), "no such file");
        assert_eq!(fault(b""), "no reason");
        assert_eq!(fault(b"not json\x1b[2J"), "not json [2J");
        let long = format!("{{\"fault_message\":\"{}\"}}", "x".repeat(10_000));
        assert_eq!(fault(long.as_bytes()).len(), FAULT_CHARS_MAX);
    }

    #[test]
    fn only_a_socket_that_is_not_there_yet_is_asked_again() {
        assert!(is_early(&io::ErrorKind::NotFound.into()));
        assert!(is_early(&io::ErrorKind::ConnectionRefused.into()));
        assert!(!is_early(&io::ErrorKind::PermissionDenied.into()));
    }
}
