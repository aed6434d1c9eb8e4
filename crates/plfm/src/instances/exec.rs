//! `plfm exec`: another program in a running instance.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Args;
use plfm_api::EXEC_UPGRADE;
use plfm_guest_protocol::{
    ExecControl, ExecExit, ExecStart, FRAME_BYTES_MAX, FrameType, Sensitive, encode_frame,
};
use reqwest::{Method, header};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

use super::env::{self, EnvArg};
use super::frames::OutputSplitter;
use super::terminal::{self, RawTerminal};
use crate::agent::{AgentClient, Client};
use crate::output::{Category, CliError, Output};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// Arguments of `plfm exec`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: the program's own; 128 + n if signal n ended it; 125 if it did not run.")]
pub struct ExecArgs {
    /// The instance's id, or the end of it
    instance: String,
    /// Give the program a terminal
    #[arg(long, short)]
    tty: bool,
    /// Pass standard input on to the program
    #[arg(long, short)]
    interactive: bool,
    /// User, instead of the workload's
    #[arg(long)]
    user: Option<String>,
    /// An entry beside the workload's environment: KEY=VALUE, or KEY alone to pass on this command's own
    #[arg(long, value_name = "KEY[=VALUE]")]
    env: Vec<EnvArg>,
    /// Working directory, instead of the workload's
    #[arg(long, value_name = "DIR")]
    cwd: Option<String>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    argv: Vec<String>,
}

impl ExecArgs {
    /// Runs the verb; the exit code is the program's.
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<ExitCode, CliError> {
        let (rows, cols) = terminal::size().unwrap_or((24, 80));
        let env = env::resolve(self.env, |key| std::env::var(key).ok())?;
        let env = env.into_iter().map(|(key, value)| (key, Sensitive::new(value)));
        let env = env.collect();
        let start = ExecStart {
            argv: self.argv,
            env,
            cwd: self.cwd,
            user: self.user,
            tty: self.tty,
            rows,
            cols,
        };
        let raw = if self.tty && self.interactive && std::io::stdin().is_terminal() {
            let entered = RawTerminal::enter();
            Some(
                entered
                    .map_err(|error| CliError::from_error(Category::Failure, "terminal_failed", &error))?,
            )
        } else {
            None
        };
        let exit = agent.block_on(async |client| {
            let connection = connect(client, &self.instance).await?;
            converse(out, connection, &ExecControl::Start(start), self.interactive).await
        })?;
        drop(raw);
        if let Some(error) = exit.error {
            let detail = exit.detail.unwrap_or_else(|| "the session was ended".to_owned());
            return Err(CliError::new(Category::Failure, &error, detail));
        }
        let code = exit
            .exit_code
            .or(exit.signal.and_then(|signal| signal.checked_add(128)))
            .and_then(|code| u8::try_from(code).ok());
        Ok(ExitCode::from(code.unwrap_or(u8::MAX)))
    }
}

/// Opens a connection to the guest's exec service.
pub async fn connect(client: &Client, instance: &str) -> Result<reqwest::Upgraded, CliError> {
    let request = client
        .request(Method::POST, &format!("/v1/instances/{instance}/exec"))
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, EXEC_UPGRADE);
    let response = client.send(request).await?;
    response
        .upgrade()
        .await
        .map_err(|error| CliError::from_error(Category::Transient, "agent_lost", &error))
}

/// A control message as its one frame.
fn control(message: &ExecControl) -> Result<Vec<u8>, CliError> {
    // Text and numbers only: there is nothing that cannot be written.
    let payload = serde_json::to_vec(message).unwrap_or_default();
    if payload.len() >= FRAME_BYTES_MAX {
        let message = format!(
            "arguments and environment take {} bytes; a session's start has at most {}",
            payload.len(),
            FRAME_BYTES_MAX - 1
        );
        return Err(CliError::new(Category::Usage, "exec_too_long", message));
    }
    Ok(encode_frame(FrameType::Control, &payload))
}

/// Starts the session and serves it until its exit frame.
pub async fn converse(
    out: &Output,
    connection: impl AsyncRead + AsyncWrite,
    start: &ExecControl,
    interactive: bool,
) -> Result<ExecExit, CliError> {
    let (mut from, mut to) = tokio::io::split(connection);
    let lost = |error: std::io::Error| CliError::from_error(Category::Transient, "exec_lost", &error);
    to.write_all(&control(start)?).await.map_err(lost)?;
    if !interactive {
        to.write_all(&control(&ExecControl::CloseStdin)?)
            .await
            .map_err(lost)?;
    }
    let mut resized = signal(SignalKind::window_change()).map_err(lost)?;
    let mut splitter = OutputSplitter::new(out.json);
    let (mut stdin, mut stdin_open) = (tokio::io::stdin(), interactive);
    let (mut input, mut output) = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
    loop {
        tokio::select! {
            length = from.read(&mut output) => {
                let length = length.map_err(lost)?;
                if length == 0 {
                    return Err(CliError::new(Category::Transient, "exec_lost", "the guest closed the exec session"));
                }
                if let Some(exit) = splitter.push(output.get(..length).unwrap_or_default())? {
                    return Ok(exit);
                }
            }
            length = stdin.read(&mut input), if stdin_open => {
                let length = length.unwrap_or(0);
                let frames = match length {
                    0 => {
                        stdin_open = false;
                        control(&ExecControl::CloseStdin)?
                    }
                    _ => encode_frame(FrameType::Stdin, input.get(..length).unwrap_or_default()),
                };
                to.write_all(&frames).await.map_err(lost)?;
            }
            _ = resized.recv() => {
                if let Some((rows, cols)) = terminal::size() {
                    to.write_all(&control(&ExecControl::Resize { rows, cols })?).await.map_err(lost)?;
                }
            }
        }
    }
}
