//! Requests taken apart: bodies, paths and queries, each refused with a [`Problem`](plfm_api::Problem).

use std::str::FromStr;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use futures_util::StreamExt as _;
use plfm_api::control::{IDEMPOTENCY_KEY, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::limits::BODY_TIMEOUT;
use super::{Allowed, ApiError};
use crate::control::Request as Repeatable;

/// Longest idempotency key, in characters: a UUID has 36.
const KEY_CHARS_MAX: usize = 128;

/// A JSON body of at most so many bytes.
pub struct JsonBody<T, const BYTES_MAX: usize> {
    /// What it says.
    pub value: T,
    /// How it says it.
    pub bytes: Bytes,
}

impl<S: Send + Sync, T: DeserializeOwned + Serialize, const BYTES_MAX: usize> FromRequest<S>
    for JsonBody<T, BYTES_MAX>
{
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let bytes = read_body(request.into_body(), BYTES_MAX).await?;
        let value = parse_json(&bytes)?;
        Ok(Self { value, bytes })
    }
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = given
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "content_type_unsupported",
        "the body has to be application/json",
    ))
}

/// The body, bounded in size and time.
async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        let detail = format!("the body is larger than {bytes_max} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    };
    let told = body.size_hint().lower();
    if usize::try_from(told).map_or(true, |told| told > bytes_max) {
        return Err(too_large());
    }
    let read = async {
        let mut bytes = Vec::with_capacity(usize::try_from(told).unwrap_or(0));
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| ApiError::malformed("body_incomplete", "the body ended early"))?;
            if bytes.len() + chunk.len() > bytes_max {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Bytes::from(bytes))
    };
    tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_| {
        let detail = format!("the body did not come within {} s", BODY_TIMEOUT.as_secs());
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", detail)
    })?
}

fn parse_json<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, ApiError> {
    let read: T = serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => ApiError::invalid(
            "json_unexpected",
            format!("the body is not what this takes: {error}"),
        ),
        serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof
        | serde_json::error::Category::Io => {
            ApiError::malformed("json_malformed", format!("the body is not JSON: {error}"))
        }
    })?;
    let given: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let understood = serde_json::to_value(&read).unwrap_or_default();
    if has_list_for_object(&given, &understood) {
        return Err(ApiError::invalid(
            "json_unexpected",
            "the body has a list where there is to be an object",
        ));
    }
    Ok(read)
}

/// serde takes a list for an object, its items for the members in their order: `[]` would be a rollback, and
/// `{"policy": []}` the default policy.
fn has_list_for_object(given: &Value, understood: &Value) -> bool {
    match (given, understood) {
        (Value::Array(_), Value::Object(_)) => true,
        (Value::Array(given), Value::Array(understood)) => given
            .iter()
            .zip(understood)
            .any(|(given, understood)| has_list_for_object(given, understood)),
        (Value::Object(given), Value::Object(understood)) => given
            .iter()
            .filter_map(|(name, given)| Some((given, understood.get(name)?)))
            .any(|(given, understood)| has_list_for_object(given, understood)),
        _ => false,
    }
}

/// A change by an operator, which may be sent again.
pub struct Change<T, const BYTES_MAX: usize = { super::limits::OPERATOR_BODY_BYTES_MAX }> {
    /// What it says.
    pub value: T,
    key: String,
    method: String,
    path: String,
    bytes: Bytes,
}

impl<T, const BYTES_MAX: usize> Change<T, BYTES_MAX> {
    /// The request, as another one is compared with it.
    pub fn request<R>(&self, who: &Allowed<R>) -> Repeatable {
        Repeatable::new(&self.key, &who.whoami.id, &self.method, &self.path, &self.bytes)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Serialize, const BYTES_MAX: usize> FromRequest<S>
    for Change<T, BYTES_MAX>
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let key = idempotency_key(request.headers())?;
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let JsonBody { value, bytes } = JsonBody::<T, BYTES_MAX>::from_request(request, state).await?;
        Ok(Self {
            value,
            key,
            method,
            path,
            bytes,
        })
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = given.next() else {
        return Err(ApiError::malformed(
            "idempotency_key_missing",
            "a change needs an Idempotency-Key header",
        )
        .hint("send a UUID; send the same one if the answer was lost"));
    };
    let text = key.to_str().unwrap_or_default();
    let is_key =
        (1..=KEY_CHARS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_key && given.next().is_none() {
        Ok(text.to_owned())
    } else {
        let detail =
            format!("an Idempotency-Key is one header of 1 to {KEY_CHARS_MAX} visible ASCII characters");
        Err(ApiError::malformed("idempotency_key_malformed", detail))
    }
}

/// The one parameter of a path.
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for Named<T>
where
    T::Err: std::fmt::Display,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let malformed = |detail: String| ApiError::malformed("path_malformed", detail);
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| malformed("the path is not UTF-8".to_owned()))?;
        text.parse()
            .map(Self)
            .map_err(|error: T::Err| malformed(error.to_string()))
    }
}

/// The query's parameters.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(value) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|rejection| ApiError::malformed("query_malformed", rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// How many items a page has.
pub fn page_limit(asked: Option<usize>) -> Result<usize, ApiError> {
    match asked.unwrap_or(PAGE_LIMIT_DEFAULT) {
        limit if (1..=PAGE_LIMIT_MAX).contains(&limit) => Ok(limit),
        limit => Err(ApiError::invalid(
            "limit_invalid",
            format!("a page has 1 to {PAGE_LIMIT_MAX} items, not {limit}"),
        )),
    }
}

/// A reason is for people who read the log.
pub fn check_reason(reason: Option<&str>) -> Result<(), ApiError> {
    /// Longest reason, in characters.
    const CHARS_MAX: usize = 512;
    let is_reason = |text: &str| text.chars().count() <= CHARS_MAX && !text.chars().any(char::is_control);
    if reason.is_none_or(is_reason) {
        Ok(())
    } else {
        let detail = format!("a reason has at most {CHARS_MAX} characters, none of them a control character");
        Err(ApiError::invalid("reason_invalid", detail))
    }
}
