//! What is left of a request's body when it was answered before all of it was read: a refusal needs no body.
//!
//! HTTP/1.1 has one answer after the other on a connection. A server that answers and closes while the client still sends
//! may take the answer away with it, and a client that keeps the connection for its next request finds it closed. So the
//! rest is read and thrown away beside the answer, up to a bound.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::{HeaderMap, header};
use hyper::body::{Frame, Incoming, SizeHint};

use super::limits::POLICY_BODY_BYTES_MAX;

/// What is read and thrown away, in bytes: what no endpoint would take goes no further.
const BYTES_MAX: usize = 2 * POLICY_BODY_BYTES_MAX;
/// How long that may take.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Where the rest of a body is put.
#[derive(Debug, Clone, Default)]
pub struct Leftover(Arc<Mutex<Option<Incoming>>>);

impl Leftover {
    /// A body whose rest is put here when it is dropped. Not of a client that waits to be told to send it.
    pub fn watch(&self, headers: &HeaderMap, body: Incoming) -> Body {
        if headers.contains_key(header::EXPECT) {
            return Body::new(body);
        }
        Body::new(Watched {
            body: Some(body),
            leftover: self.clone(),
        })
    }

    /// Whether there is a rest.
    pub fn is_some(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Reads the rest, as far as that is bounded.
    pub async fn drain(self) {
        let rest = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut rest) = rest else { return };
        let read = async {
            let mut left = BYTES_MAX;
            while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await {
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(still) => left = still,
                    None => return,
                }
            }
        };
        // What is longer or slower ends the connection.
        let _ = tokio::time::timeout(TIME_MAX, read).await;
    }
}

struct Watched {
    body: Option<Incoming>,
    leftover: Leftover,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, Incoming::size_hint)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) {
            *self.leftover.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}
