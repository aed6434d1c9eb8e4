//! `plfm instances diagnose`: all that is known about an instance, in one place.

use clap::Args;
use plfm_api::Instance;
use plfm_guest_protocol::{ExecControl, Frame, FrameDecoder, FrameType, encode_frame};
use reqwest::Method;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::exec::connect;
use super::report::{render_boot, render_exit};
use crate::agent::{AgentClient, Client};
use crate::output::{Category, CliError, Output};

/// Lines of console and log shown to people; JSON has all.
const LINES_MAX: usize = 40;

/// Arguments of `plfm instances diagnose`.
#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// The instance's id, or the end of it
    instance: String,
}

#[derive(Serialize)]
struct Diagnosis {
    instance: Instance,
    console: String,
    /// Guest init's own log, from inside: only while the instance runs.
    boot_log: Option<String>,
}

impl DiagnoseArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        let diagnosis = agent.block_on(async |client| {
            let instance: Instance = client.get(&format!("/v1/instances/{}", self.instance)).await?;
            let console = client
                .send(client.request(Method::GET, &format!("/v1/instances/{}/console", instance.id)))
                .await?;
            let console = console
                .bytes()
                .await
                .map_err(|error| CliError::from_error(Category::Transient, "agent_lost", &error))?;
            let console = String::from_utf8_lossy(&console).into_owned();
            let boot_log = if instance.state.is_over() {
                None
            } else {
                boot_log(client, &instance.id).await.ok()
            };
            Ok(Diagnosis {
                instance,
                console,
                boot_log,
            })
        })?;
        out.result(&diagnosis, render)
    }
}

async fn boot_log(client: &Client, instance: &str) -> Result<String, CliError> {
    let lost = |error: std::io::Error| CliError::from_error(Category::Transient, "exec_lost", &error);
    let mut connection = connect(client, instance).await?;
    let request = serde_json::to_vec(&ExecControl::BootLog).unwrap_or_default();
    connection
        .write_all(&encode_frame(FrameType::Control, &request))
        .await
        .map_err(lost)?;
    let (mut decoder, mut buffer, mut log) = (FrameDecoder::default(), vec![0; 16 * 1024], Vec::new());
    loop {
        let length = connection.read(&mut buffer).await.map_err(lost)?;
        if length == 0 {
            return Err(CliError::new(
                Category::Transient,
                "exec_lost",
                "the guest closed the connection",
            ));
        }
        decoder.push(buffer.get(..length).unwrap_or_default());
        while let Ok(Some(Frame { kind, payload })) = decoder.next_frame() {
            match kind {
                FrameType::Stdout => log.extend(payload),
                FrameType::Exit => return Ok(String::from_utf8_lossy(&log).into_owned()),
                FrameType::Stdin | FrameType::Stderr | FrameType::Control => {}
            }
        }
    }
}

fn render(diagnosis: &Diagnosis) -> String {
    let Diagnosis {
        instance,
        console,
        boot_log,
    } = diagnosis;
    let mut text = format!(
        "instance {}: {} {}\n",
        instance.id,
        instance.state.as_str(),
        render_exit(instance)
    );
    if let Some(image) = &instance.image {
        text.push_str(&format!(
            "image {} ({}), root disk {}\n",
            image.name, image.digest, image.disk_digest
        ));
    }
    if let Some(boot) = &instance.boot {
        text.push_str(&render_boot(boot));
    }
    for (title, lines) in [
        ("console", Some(console)),
        ("guest init's log", boot_log.as_ref()),
    ] {
        if let Some(lines) = lines {
            text.push_str(&format!("--- {title}\n"));
            text.push_str(&last_lines(lines));
        }
    }
    text
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let skipped = lines.len().saturating_sub(LINES_MAX);
    let mut shown = if skipped > 0 {
        format!("({skipped} lines before; --output json has all)\n")
    } else {
        String::new()
    };
    for line in lines.into_iter().skip(skipped) {
        let clean: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        shown.push_str(clean.trim_end());
        shown.push('\n');
    }
    shown
}
