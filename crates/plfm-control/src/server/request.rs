//! What is the same for every request: its id, its end in time, its line in the log, its place in the metrics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::FutureExt as _;
use plfm_api::control::WAIT_SECONDS_MAX;
use tower::ServiceExt as _;
use tracing::{debug, error, info};

use super::limits::REQUEST_TIMEOUT;
use super::{ApiError, Peer, Principal};
use crate::metrics::Metrics;

/// Names the request in the answer, in the log of the control plane and in the log of changes.
static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Names a request.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// The template of the path that a request was for.
#[derive(Debug, Clone)]
struct Route(String);

/// Lets the answer say which route it is of.
pub async fn note_route(request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| Route(path.as_str().to_owned()));
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// Answers a request, whatever happens.
pub async fn serve(
    router: Router,
    metrics: Arc<Metrics>,
    peer: Arc<Peer>,
    mut request: Request<Body>,
) -> Response {
    let began = Instant::now();
    let id = ulid::Ulid::generate().to_string();
    let principal = Principal::default();
    let (method, path) = (known_method(request.method()), request.uri().path().to_owned());
    let time = allowed_time(&request);
    let extensions = request.extensions_mut();
    extensions.insert(RequestId(id.clone()));
    extensions.insert(Arc::clone(&peer));
    extensions.insert(principal.clone());
    let answered = AssertUnwindSafe(tokio::time::timeout(time, router.oneshot(request)))
        .catch_unwind()
        .await;
    let mut response = match answered {
        Ok(Ok(Ok(response))) => response,
        Ok(Ok(Err(never))) => match never {},
        Ok(Err(_)) => {
            refused(ApiError::unavailable("request_timeout", "the request took too long").retry_after(1))
        }
        Err(_) => {
            error!(request_id = %id, route = path, "a handler panicked");
            refused(ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the control plane failed to answer; its log says why",
            ))
        }
    };
    let route = response
        .extensions_mut()
        .remove::<Route>()
        .map_or("unmatched".to_owned(), |route| route.0);
    let problem = response.extensions_mut().remove::<ApiError>();
    if let Some(problem) = &problem {
        let allow = response.headers_mut().remove(header::ALLOW);
        response = problem.to_response(&id);
        if let Some(allow) = allow {
            response.headers_mut().insert(header::ALLOW, allow);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    // Answers are about this moment and for this caller.
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let took = began.elapsed();
    metrics.request(method, &route, response.status().as_u16(), took);
    log(&Line {
        id: &id,
        method,
        route: &route,
        principal: principal.0.get().map_or("-", String::as_str),
        address: peer.address.ip().to_canonical(),
        status: response.status(),
        code: problem.map_or("-", |problem| problem.code),
        took,
    });
    response
}

fn refused(error: ApiError) -> Response {
    axum::response::IntoResponse::into_response(error)
}

/// A method as a label: what clients make up is not one.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// What waits for news may wait.
fn allowed_time(request: &Request<Body>) -> Duration {
    let waits = request
        .uri()
        .query()
        .is_some_and(|query| query.contains("wait_seconds="));
    if waits {
        REQUEST_TIMEOUT + Duration::from_secs(WAIT_SECONDS_MAX)
    } else {
        REQUEST_TIMEOUT
    }
}

/// A line of the access log. Has neither path nor query: routes are templates, and what is in them is no business of a log.
struct Line<'a> {
    id: &'a str,
    method: &'static str,
    route: &'a str,
    principal: &'a str,
    address: std::net::IpAddr,
    status: StatusCode,
    code: &'static str,
    took: Duration,
}

fn log(line: &Line<'_>) {
    let (status, ms) = (
        line.status.as_u16(),
        (line.took.as_secs_f64() * 1e6).round() / 1e3,
    );
    macro_rules! write_line {
        ($level:ident) => {
            $level!(
                target: "plfm_control::access",
                request_id = line.id,
                method = line.method,
                route = line.route,
                principal = line.principal,
                address = %line.address,
                status,
                code = line.code,
                ms,
                "request"
            )
        };
    }
    // Hosts come by the thousand a second: only what went wrong with them is said.
    let is_routine = line.route.starts_with("/v1/hosts/{id}/")
        && line.status.is_success()
        && line.principal.starts_with("host/");
    if is_routine {
        write_line!(debug);
    } else {
        write_line!(info);
    }
}
