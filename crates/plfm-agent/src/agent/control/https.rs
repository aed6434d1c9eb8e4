//! The control plane over HTTPS: only its own authority is trusted, and the host shows its certificate.

use std::fmt;
use std::time::Duration;

use plfm_api::Problem;
use plfm_api::control::{
    EnrollHost, EnrolledHost, Generation, Heartbeat, HeartbeatAnswer, HostId, RenewCertificate, Target,
};
use reqwest::{Certificate, Client, Identity, Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::transport::{TARGET_WAIT_SECONDS, Transport, TransportError};
use crate::problem::chain;

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a question may take from its beginning to the end of its answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same, of the question whose answer may be held back.
const TARGET_PATIENCE: Duration = Duration::from_secs(TARGET_WAIT_SECONDS + 15);
/// Largest answer, in bytes: a target with thousands of pins. And of a refusal.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// How much of a refusal's text is shown, in characters.
const TEXT_MAX: usize = 512;

/// Why there can be no client.
#[derive(Debug, thiserror::Error)]
#[error("cannot speak HTTPS to the control plane")]
pub struct ClientError(#[from] reqwest::Error);

/// The control plane at one address. With an identity: as that host.
pub struct HttpsControl {
    client: Client,
    url: Url,
}

impl fmt::Debug for HttpsControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpsControl({})", self.url)
    }
}

impl HttpsControl {
    /// `ca` is what signs the control plane's certificate, PEM; `identity` the host's key and certificate, PEM.
    pub fn new(url: &Url, ca: &[u8], identity: Option<&[u8]>) -> Result<Self, ClientError> {
        let mut builder = Client::builder()
            .tls_certs_only(Certificate::from_pem_bundle(ca)?)
            .https_only(true)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_PATIENCE)
            .tcp_keepalive(Duration::from_secs(30))
            .user_agent(concat!("plfm-agent/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = identity {
            builder = builder.identity(Identity::from_pem(pem)?);
        }
        Ok(Self {
            client: builder.build()?,
            url: url.clone(),
        })
    }

    /// Asks for an identity.
    pub async fn enroll(&self, request: &EnrollHost) -> Result<EnrolledHost, TransportError> {
        let body = self
            .request(Method::POST, &["v1", "hosts", "enroll"])?
            .json(request);
        read(self.send(body, PATIENCE).await?).await
    }

    /// Asks for another certificate.
    pub async fn renew(
        &self,
        host: &HostId,
        request: &RenewCertificate,
    ) -> Result<EnrolledHost, TransportError> {
        self.post(&["v1", "hosts", host.as_str(), "certificate"], request)
            .await
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<reqwest::RequestBuilder, TransportError> {
        let mut url = self.url.clone();
        match url.path_segments_mut() {
            Ok(mut segments) => segments.pop_if_empty().extend(path),
            Err(()) => return Err(TransportError::Unreachable(format!("{} is no base", self.url))),
        };
        Ok(self.client.request(method, url))
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, TransportError> {
        let request = self.request(Method::POST, path)?.json(body);
        read(self.send(request, PATIENCE).await?).await
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        patience: Duration,
    ) -> Result<Response, TransportError> {
        let answered = request.timeout(patience).send().await;
        // The address is known, and a query in an error's text helps nobody.
        let response = answered.map_err(|error| TransportError::Unreachable(chain(&error.without_url())))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = read_bounded(response, REFUSAL_BYTES_MAX)
            .await
            .unwrap_or_default();
        Err(refusal(status, &body))
    }
}

impl Transport for HttpsControl {
    async fn heartbeat(
        &self,
        host: &HostId,
        heartbeat: &Heartbeat,
    ) -> Result<HeartbeatAnswer, TransportError> {
        self.post(&["v1", "hosts", host.as_str(), "heartbeat"], heartbeat)
            .await
    }

    async fn target(&self, host: &HostId, after: Generation) -> Result<Option<Target>, TransportError> {
        let request = self
            .request(Method::GET, &["v1", "hosts", host.as_str(), "target"])?
            .query(&[("after", after.0), ("wait_seconds", TARGET_WAIT_SECONDS)]);
        let response = self.send(request, TARGET_PATIENCE).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        read(response).await.map(Some)
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, TransportError> {
    let body = read_bounded(response, ANSWER_BYTES_MAX).await?;
    serde_json::from_slice(&body).map_err(|error| TransportError::Malformed(error.to_string()))
}

async fn read_bounded(mut response: Response, bytes_max: usize) -> Result<Vec<u8>, TransportError> {
    let mut body = Vec::new();
    loop {
        let chunk = response.chunk().await;
        match chunk.map_err(|error| TransportError::Unreachable(chain(&error.without_url())))? {
            None => return Ok(body),
            Some(chunk) if body.len() + chunk.len() > bytes_max => {
                return Err(TransportError::Malformed(format!("more than {bytes_max} bytes")));
            }
            Some(chunk) => body.extend_from_slice(&chunk),
        }
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> TransportError {
    let status_code = status.as_u16();
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => TransportError::Refused {
            status: status_code,
            code: harmless(&problem.code),
            detail: harmless(&problem.detail),
            hint: problem.hint.as_deref().map(harmless),
        },
        Err(_) => TransportError::Refused {
            status: status_code,
            code: "control_refused".to_owned(),
            detail: format!("status {status}"),
            hint: None,
        },
    }
}

/// Somebody else's text, short and on one line.
fn harmless(text: &str) -> String {
    let shown = text.chars().filter(|c| !c.is_control()).take(TEXT_MAX);
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::super::transport::Standing;
    use super::*;

    #[test]
    fn refusals_say_what_they_mean_for_the_host() {
        let problem = |code: &str, status: u16| {
            let body = serde_json::json!({
                "type": "about:blank", "title": "", "status": status, "code": code,
                "detail": "de\u{1b}tail", "retryable": false, "request_id": "",
            });
            refusal(StatusCode::from_u16(status).unwrap(), body.to_string().as_bytes())
        };
        let expired = problem("certificate_expired", 401);
        assert_eq!(
            (expired.standing(), expired.code()),
            (Standing::Expired, "certificate_expired")
        );
        assert!(expired.to_string().ends_with(": detail"), "{expired}");
        assert_eq!(problem("host_revoked", 403).standing(), Standing::Rejected);
        assert_eq!(problem("overloaded", 503).standing(), Standing::Same);
        let nonsense = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(
            (nonsense.standing(), nonsense.code()),
            (Standing::Same, "control_refused")
        );
    }
}
