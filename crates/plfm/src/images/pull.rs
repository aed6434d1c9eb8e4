//! `plfm image pull`, and the pull before a `plfm run`.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use plfm_api::{PullEvent, PullImage, PullPolicy, PullProgress, PullStep, PulledImage};
use reqwest::{Method, StatusCode};

use super::{ImageArg, short_digest};
use crate::agent::{AgentClient, Client};
use crate::output::{Category, CliError, Output, render_size};
use crate::problem::{Peer, problem_error};

/// How often a line without a length moves.
const TICK: Duration = Duration::from_millis(120);
/// Longest line of the agent's answer, in bytes: an image with all its names.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Arguments of `plfm image pull`.
#[derive(Debug, Args)]
pub struct PullArgs {
    /// The image: REGISTRY/NAME[:TAG][@DIGEST], oci:DIR[:NAME] or docker-archive:FILE[:NAME]
    image: ImageArg,
}

impl PullArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        let request = PullImage {
            image: self.image.for_agent()?,
            pull: PullPolicy::Always,
        };
        let shows_progress = !out.json;
        let pulled = agent.block_on(async |client| pull_image(client, &request, shows_progress).await)?;
        out.result(&pulled, render)
    }
}

fn render(pulled: &PulledImage) -> String {
    let image = &pulled.image;
    let digest = short_digest(image.digest);
    let disk = format!("{digest}: root disk of {}", render_size(image.disk_bytes));
    match (pulled.built, pulled.fetched_bytes) {
        (false, _) => format!("{digest}: it was here already"),
        (true, 0) => disk,
        (true, fetched) => format!("{disk}, fetched {}", render_size(fetched)),
    }
}

/// Has the agent bring an image here, and waits until it has.
pub async fn pull_image(
    client: &Client,
    request: &PullImage,
    shows_progress: bool,
) -> Result<PulledImage, CliError> {
    let post = client.request(Method::POST, "/v1/images/pull").json(request);
    let mut response = client.send(post).await?;
    let line = (shows_progress && std::io::stderr().is_terminal()).then(Line::new);
    let mut buffer = Vec::new();
    loop {
        let chunk = response
            .chunk()
            .await
            .map_err(|error| CliError::from_error(Category::Transient, "agent_lost", &error))?;
        let Some(chunk) = chunk else { return Err(cut_off()) };
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let rest = buffer.split_off(end + 1);
            let event = parse(&std::mem::replace(&mut buffer, rest))?;
            match event {
                PullEvent::Progress(progress) => {
                    if let Some(line) = &line {
                        line.show(&progress);
                    }
                }
                PullEvent::Done(pulled) => return Ok(*pulled),
                PullEvent::Failed(problem) => {
                    let status = StatusCode::from_u16(problem.status);
                    let body = serde_json::to_vec(&problem).unwrap_or_default();
                    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    return Err(problem_error(Peer::Agent, status, &body));
                }
            }
        }
        if buffer.len() > LINE_BYTES_MAX {
            return Err(cut_off());
        }
    }
}

fn parse(line: &[u8]) -> Result<PullEvent, CliError> {
    serde_json::from_slice(line).map_err(|error| {
        CliError::from_error(Category::Internal, "answer_unreadable", &error)
            .with_hint(Some("agent and command may be of different versions".to_owned()))
    })
}

fn cut_off() -> CliError {
    CliError::new(
        Category::Transient,
        "agent_lost",
        "the agent's answer ended before the pull did",
    )
    .with_hint(Some("pull again: what came by then is kept".to_owned()))
}

/// The moving line on a terminal; gone with the value.
struct Line {
    bar: ProgressBar,
    counted: ProgressStyle,
    plain: ProgressStyle,
}

impl Line {
    fn new() -> Self {
        let style = |template: &str| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
        };
        let (counted, plain) = (
            style("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}"),
            style("{spinner} {msg} ({elapsed})"),
        );
        let bar = ProgressBar::new_spinner().with_style(plain.clone());
        bar.enable_steady_tick(TICK);
        Self { bar, counted, plain }
    }

    fn show(&self, progress: &PullProgress) {
        self.bar.set_message(words(progress));
        if progress.bytes_total > 0 {
            self.bar.set_style(self.counted.clone());
            self.bar.set_length(progress.bytes_total);
            self.bar.set_position(progress.bytes_done);
        } else {
            self.bar.set_style(self.plain.clone());
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn words(progress: &PullProgress) -> String {
    let what = match progress.step {
        PullStep::Waiting => "waiting",
        PullStep::Resolving => "looking the image up",
        PullStep::Fetching => "fetching",
        PullStep::Unpacking => "unpacking",
        PullStep::Writing => "writing the root disk",
    };
    match (progress.layer, progress.layers) {
        (0, _) | (_, 0) => what.to_owned(),
        (layer, layers) => format!("{what} layer {layer}/{layers}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_its_layer_where_it_has_one() {
        let mut progress = PullProgress {
            step: PullStep::Fetching,
            layer: 2,
            layers: 3,
            bytes_done: 0,
            bytes_total: 1,
        };
        assert_eq!(words(&progress), "fetching layer 2/3");
        progress.layer = 0;
        assert_eq!(words(&progress), "fetching");
    }
}
