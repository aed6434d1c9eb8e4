//! One registry, one repository: requests with the authentication that it asks for.

use std::time::Duration;

use plfm_release::Sha256Digest;
use reqwest::header::{ACCEPT, CONTENT_TYPE, RANGE, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response, StatusCode};
use url::Url;

use crate::oci::accepted_types;
use crate::reference::Reference;
use crate::registry::auth::{Challenge, TokenAnswer, parse_challenge};
use crate::registry::credentials::Credentials;
use crate::registry::error::FetchError;

/// Bytes of a token server's answer; the tokens of the large registries have a few thousand.
const TOKEN_BYTES_MAX: u64 = 64 << 10;
/// A document's whole transfer, not only its silences: it is small.
const DOCUMENT_SECONDS_MAX: u64 = 60;

/// How the next request shows who asks.
#[derive(Clone)]
enum Shown {
    Nothing,
    Password,
    Token(String),
}

pub(super) struct Client<'a> {
    http: &'a reqwest::Client,
    reference: &'a Reference,
    credentials: &'a Credentials,
    base: Url,
    shown: Shown,
    silence_max: Duration,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        http: &'a reqwest::Client,
        reference: &'a Reference,
        credentials: &'a Credentials,
        is_plaintext: bool,
        silence_max: Duration,
    ) -> Result<Self, FetchError> {
        let scheme = if is_plaintext { "http" } else { "https" };
        let base = Url::parse(&format!(
            "{scheme}://{}/v2/{}/",
            reference.host(),
            reference.repository()
        ));
        let base = base.map_err(|_| FetchError::Protocol {
            registry: reference.registry().to_owned(),
            reason: "its name makes no address",
        })?;
        Ok(Self {
            http,
            reference,
            credentials,
            base,
            shown: Shown::Nothing,
            silence_max,
        })
    }

    pub(super) fn registry(&self) -> &str {
        self.reference.registry()
    }

    /// An index or a manifest by tag or digest, with what the registry calls it.
    pub(super) async fn manifest(
        &mut self,
        name: &str,
        bytes_max: u64,
    ) -> Result<(Vec<u8>, String), FetchError> {
        let what = format!("{}:{name}", self.reference.repository());
        let url = self.url(&format!("manifests/{name}"))?;
        let accept = accepted_types().collect::<Vec<_>>().join(", ");
        let registry = self.registry().to_owned();
        let get = async {
            let response = self
                .get(&url, &what, &|request| request.header(ACCEPT, &accept))
                .await?;
            let response = self.check(response, &what)?;
            let media_type = response
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|value| value.to_str().ok());
            let media_type = media_type
                .and_then(|text| text.split(';').next())
                .unwrap_or_default()
                .trim()
                .to_owned();
            Ok((self.read(response, bytes_max).await?, media_type))
        };
        match tokio::time::timeout(Duration::from_secs(DOCUMENT_SECONDS_MAX), get).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::Timeout { registry, what }),
        }
    }

    /// A blob from `offset` on; whether the registry did begin there is in the status.
    pub(super) async fn blob(&mut self, digest: Sha256Digest, offset: u64) -> Result<Response, FetchError> {
        let what = format!("sha256:{digest}");
        let url = self.url(&format!("blobs/{what}"))?;
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let with_range = |request: RequestBuilder| match &range {
            Some(range) => request.header(RANGE, range),
            None => request,
        };
        let response = self.get(&url, &what, &with_range).await?;
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        self.check(response, &what)
    }

    fn url(&self, path: &str) -> Result<Url, FetchError> {
        self.base
            .join(path)
            .map_err(|_| self.protocol("a name makes no address"))
    }

    fn protocol(&self, reason: &'static str) -> FetchError {
        FetchError::Protocol {
            registry: self.registry().to_owned(),
            reason,
        }
    }

    /// One request, and a second one with what the registry asks for when it says 401.
    async fn get(
        &mut self,
        url: &Url,
        what: &str,
        with: &(dyn Fn(RequestBuilder) -> RequestBuilder + Sync),
    ) -> Result<Response, FetchError> {
        let response = self.send(with(self.http.get(url.clone())), what).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenge = headers
            .filter_map(|header| header.to_str().ok())
            .find_map(parse_challenge);
        self.shown = match challenge {
            Some(Challenge::Bearer { realm, service }) => {
                Shown::Token(self.token(&realm, service.as_deref()).await?)
            }
            Some(Challenge::Basic) if *self.credentials != Credentials::Anonymous => Shown::Password,
            _ => return Ok(response),
        };
        self.send(with(self.http.get(url.clone())), what).await
    }

    async fn send(&self, request: RequestBuilder, what: &str) -> Result<Response, FetchError> {
        let request = match (&self.shown, self.credentials) {
            (Shown::Token(token), _) => request.bearer_auth(token),
            (Shown::Password, Credentials::Password { username, password }) => {
                request.basic_auth(username, Some(password.reveal()))
            }
            (Shown::Password, Credentials::Anonymous) | (Shown::Nothing, _) => request,
        };
        match tokio::time::timeout(self.silence_max, request.send()).await {
            Ok(result) => result.map_err(|source| FetchError::request(self.registry(), source)),
            Err(_) => Err(FetchError::Timeout {
                registry: self.registry().to_owned(),
                what: what.to_owned(),
            }),
        }
    }

    /// A token for reading this repository. The password goes to nobody but who the registry, over TLS, names.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, FetchError> {
        let mut url = Url::parse(realm).map_err(|_| self.protocol("its token server has no address"))?;
        if url.scheme() != self.base.scheme() && url.scheme() != "https" {
            return Err(self.protocol("its token server is not reached by TLS"));
        }
        url.query_pairs_mut().append_pair(
            "scope",
            &format!("repository:{}:pull", self.reference.repository()),
        );
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let request = self.http.get(url);
        let request = match self.credentials {
            Credentials::Password { username, password } => {
                request.basic_auth(username, Some(password.reveal()))
            }
            Credentials::Anonymous => request,
        };
        let what = "a token";
        let get = async {
            let response = request
                .send()
                .await
                .map_err(|source| FetchError::request(self.registry(), source))?;
            self.read(self.check(response, what)?, TOKEN_BYTES_MAX).await
        };
        let bytes = match tokio::time::timeout(Duration::from_secs(DOCUMENT_SECONDS_MAX), get).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(FetchError::Timeout {
                    registry: self.registry().to_owned(),
                    what: what.to_owned(),
                });
            }
        };
        let answer: Option<TokenAnswer> = serde_json::from_slice(&bytes).ok();
        answer
            .and_then(TokenAnswer::into_token)
            .ok_or_else(|| self.protocol("its token server gives no token"))
    }

    fn check(&self, response: Response, what: &str) -> Result<Response, FetchError> {
        let (registry, what) = (self.registry().to_owned(), what.to_owned());
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(FetchError::Unauthorized { registry, what })
            }
            StatusCode::NOT_FOUND => Err(FetchError::NotFound { registry, what }),
            status => Err(FetchError::Status {
                registry,
                status: status.as_u16(),
                what,
            }),
        }
    }

    async fn read(&self, mut response: Response, bytes_max: u64) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| FetchError::request(self.registry(), source))?
        {
            if bytes.len().saturating_add(chunk.len()) as u64 > bytes_max {
                return Err(self.protocol("an answer is larger than is taken"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
