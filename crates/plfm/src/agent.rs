//! The local agent, over its Unix socket.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::{Method, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::output::{Category, CliError, render_chain};
use crate::problem::{Peer, problem_error};

/// How long an answer may take to begin, but for requests that wait for an instance.
const PATIENCE: Duration = Duration::from_secs(600);

/// A client. Its calls run on a small runtime of their own: commands are otherwise synchronous.
pub struct AgentClient {
    socket: PathBuf,
}

impl AgentClient {
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Runs `work` with a connected client.
    pub fn block_on<T>(&self, work: impl AsyncFnOnce(&Client) -> Result<T, CliError>) -> Result<T, CliError> {
        let internal = |error: &(dyn std::error::Error + 'static)| {
            CliError::from_error(Category::Internal, "runtime_failed", error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| internal(&error))?;
        let http = reqwest::Client::builder()
            .unix_socket(self.socket.as_path())
            .build()
            .map_err(|error| internal(&error))?;
        let client = Client {
            http,
            socket: self.socket.clone(),
        };
        let result = runtime.block_on(work(&client));
        // A read of the terminal may be under way in a thread that cannot be stopped.
        runtime.shutdown_background();
        result
    }
}

/// A connected client.
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    /// A request, to be sent with [`Client::send`].
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("http://agent{path}"))
    }

    /// Sends a request; an answer that is a problem is an error.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        Err(problem_error(
            Peer::Agent,
            status,
            &response.bytes().await.unwrap_or_default(),
        ))
    }

    /// `GET`, and the JSON of the answer.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        read(self.send(self.request(Method::GET, path)).await?).await
    }

    /// `POST` of JSON, and the JSON of the answer.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, CliError> {
        read(
            self.send(self.request(Method::POST, path).timeout(PATIENCE).json(body))
                .await?,
        )
        .await
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let message = format!(
            "cannot reach the agent at {}: {}",
            self.socket.display(),
            render_chain(error)
        );
        CliError::new(Category::Transient, "agent_unreachable", message).with_hint(Some(
            "is plfm-agent running? --agent or PLFM_AGENT_SOCKET names its socket".to_owned(),
        ))
    }
}

/// The JSON of an answer.
pub async fn read<T: DeserializeOwned>(response: Response) -> Result<T, CliError> {
    response.json().await.map_err(|error| {
        CliError::from_error(Category::Internal, "answer_unreadable", &error)
            .with_hint(Some("agent and command may be of different versions".to_owned()))
    })
}
