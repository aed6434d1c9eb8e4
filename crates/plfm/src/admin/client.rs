//! A client of the control plane: HTTPS, and no certificate taken but those of the context's CA.

use std::time::Duration;

use plfm_api::control::{IDEMPOTENCY_KEY, PAGE_LIMIT_MAX, Page};
use reqwest::{Method, RequestBuilder, Url, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::Connection;
use super::send::send;
use crate::output::{Category, CliError};

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Pages of one list: more items than a fleet has hosts.
const PAGES_MAX: usize = 2_000;

/// A connected client. Every change that it asks for has an idempotency key, so that it is safe to send it again.
pub struct ControlClient {
    http: reqwest::Client,
    url: Url,
    authorization: reqwest::header::HeaderValue,
}

/// Runs `work` with a client.
pub fn block_on<T>(
    connection: Connection,
    work: impl AsyncFnOnce(&ControlClient) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let client = ControlClient::new(&connection)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::from_error(Category::Internal, "runtime_failed", &error))?;
    runtime.block_on(work(&client))
}

impl ControlClient {
    fn new(connection: &Connection) -> Result<Self, CliError> {
        let internal =
            |error: &reqwest::Error| CliError::from_error(Category::Internal, "client_failed", error);
        let certificates = reqwest::Certificate::from_pem_bundle(connection.ca.as_bytes())
            .map_err(|error| CliError::from_error(Category::Usage, "ca_malformed", &error))?;
        let http = reqwest::Client::builder()
            .tls_certs_only(certificates)
            .https_only(true)
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .user_agent(concat!("plfm/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| internal(&error))?;
        let bearer = zeroize::Zeroizing::new(format!("Bearer {}", connection.token.reveal()));
        let mut authorization = reqwest::header::HeaderValue::from_str(&bearer)
            .map_err(|error| CliError::from_error(Category::Usage, "token_malformed", &error))?;
        authorization.set_sensitive(true);
        Ok(Self {
            http,
            url: connection.url.clone(),
            authorization,
        })
    }

    /// `GET`, and the JSON of the answer.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, CliError> {
        self.get_within(ANSWER_MAX, path, query).await
    }

    /// `GET` of an answer that may be held back.
    pub async fn get_within<T: DeserializeOwned>(
        &self,
        answer_max: Duration,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, CliError> {
        let url = self.address(path, query)?;
        send(&self.url, || {
            self.request(Method::GET, url.clone()).timeout(answer_max)
        })
        .await
    }

    /// A change, and the JSON of the answer. However often it has to be sent, it is done once.
    pub async fn change<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let url = self.address(path, &[])?;
        let key = ulid::Ulid::generate().to_string();
        send(&self.url, || {
            self.request(method.clone(), url.clone())
                .timeout(ANSWER_MAX)
                .header(IDEMPOTENCY_KEY, &key)
                .json(body)
        })
        .await
    }

    /// A whole list, page by page.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> Result<Vec<T>, CliError> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = query.to_vec();
            query.push(("limit", PAGE_LIMIT_MAX.to_string()));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let page: Page<T> = self.get(path, &query).await?;
            items.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(items);
            }
        }
        let message = format!("the list did not end within {PAGES_MAX} pages");
        Err(CliError::new(Category::Internal, "list_endless", message))
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http
            .request(method, url)
            .header(reqwest::header::AUTHORIZATION, self.authorization.clone())
    }

    /// `/v1` and the segments, each escaped.
    fn address(&self, path: &[&str], query: &[(&str, String)]) -> Result<Url, CliError> {
        // These would lead to another place than the one meant.
        if let Some(name) = path.iter().find(|name| matches!(**name, "" | "." | "..")) {
            let message = format!("{name:?} is not a name");
            return Err(CliError::new(Category::Usage, "name_malformed", message));
        }
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| CliError::new(Category::Usage, "url_malformed", "the URL cannot have a path"))?
            .pop_if_empty()
            .push("v1")
            .extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }
}
