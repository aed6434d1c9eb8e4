//! Sends a request until it is answered, a bounded number of times.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;

use crate::output::{Category, CliError, render_chain};
use crate::problem::{Peer, is_transient, problem_error};

/// How often a request is sent: what a restart of the control plane takes, not what an outage does.
const TRIES_MAX: u32 = 4;
/// How long to wait before the second try; each further wait is twice as long.
const WAIT_FIRST: Duration = Duration::from_millis(250);
/// Longest wait that the control plane may ask for.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Largest answer: a page of hosts with all that they have, several times over.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A request that was not answered as it should be.
struct Failed {
    error: CliError,
    /// Whether the same again may succeed, and when.
    again: Option<Duration>,
}

/// Sends what `build` makes, which must be safe to be sent again, and reads the JSON of the answer.
pub async fn send<T: DeserializeOwned>(url: &Url, build: impl Fn() -> RequestBuilder) -> Result<T, CliError> {
    let mut wait = WAIT_FIRST;
    for _ in 1..TRIES_MAX {
        match send_once(url, build()).await {
            Ok(answer) => return Ok(answer),
            Err(Failed { error, again: None }) => return Err(error),
            Err(Failed {
                again: Some(asked), ..
            }) => tokio::time::sleep(wait.max(asked).min(WAIT_MAX)).await,
        }
        wait *= 2;
    }
    send_once(url, build()).await.map_err(|failed| failed.error)
}

async fn send_once<T: DeserializeOwned>(url: &Url, request: RequestBuilder) -> Result<T, Failed> {
    let response = request.send().await.map_err(|error| unreachable(url, &error))?;
    let status = response.status();
    let asked = retry_after(&response);
    let body = read(url, response).await?;
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| Failed {
            error: CliError::from_error(Category::Internal, "answer_unreadable", &error).with_hint(Some(
                "control plane and command may be of different versions".to_owned(),
            )),
            again: None,
        });
    }
    Err(Failed {
        error: problem_error(Peer::ControlPlane, status, &body),
        again: is_transient(status).then_some(asked),
    })
}

fn retry_after(response: &Response) -> Duration {
    let header = response.headers().get(RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

async fn read(url: &Url, mut response: Response) -> Result<Vec<u8>, Failed> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(|error| unreachable(url, &error))? {
        if body.len() + bytes.len() > ANSWER_BYTES_MAX {
            let message = format!("the control plane's answer is larger than {ANSWER_BYTES_MAX} bytes");
            return Err(Failed {
                error: CliError::new(Category::Internal, "answer_too_large", message),
                again: None,
            });
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

fn unreachable(url: &Url, error: &reqwest::Error) -> Failed {
    // The innermost cause says it; the layers above repeat the URL.
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let why = match error.is_timeout() {
        true => "it did not answer in time".to_owned(),
        false => render_chain(cause),
    };
    if error.source().is_some() && why.contains("certificate") {
        let message = format!("{url} is not the control plane that the context means: {why}");
        let hint = "its certificate must be issued by the context's CA, for the host name in the URL";
        return Failed {
            error: CliError::new(Category::Auth, "control_untrusted", message)
                .with_hint(Some(hint.to_owned())),
            again: None,
        };
    }
    let message = format!("cannot reach the control plane at {url}: {why}");
    let hint = "is it running? `plfm admin context list` shows the URLs";
    Failed {
        error: CliError::new(Category::Transient, "control_unreachable", message)
            .with_hint(Some(hint.to_owned())),
        again: Some(Duration::ZERO),
    }
}
