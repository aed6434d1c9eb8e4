//! `plfm image show`.

use clap::Args;
use plfm_api::Image;
use reqwest::Method;

use crate::agent::{AgentClient, read};
use crate::output::{CliError, Output, render_fields, render_size};

/// Arguments of `plfm image show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// A name that it was pulled by, its digest, or the beginning of it
    image: String,
}

impl ShowArgs {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        let wanted = absolute(self.image)?;
        let image: Image = agent.block_on(async |client| {
            let get = client.request(Method::GET, "/v1/images/show");
            read(client.send(get.query(&[("image", &wanted)])).await?).await
        })?;
        out.result(&image, render)
    }
}

/// A local image was pulled by its whole path.
fn absolute(text: String) -> Result<String, CliError> {
    match text.parse::<super::ImageArg>() {
        Ok(name) if text.contains(':') && !text.starts_with("sha256:") => name.for_agent(),
        Ok(_) | Err(_) => Ok(text),
    }
}

fn render(image: &Image) -> String {
    let program = &image.program;
    let words = |list: &[String]| match list.is_empty() {
        true => "none".to_owned(),
        // Quoted, so that one argument with spaces is not two.
        false => list
            .iter()
            .map(|word| format!("{word:?}"))
            .collect::<Vec<_>>()
            .join(" "),
    };
    let mut fields = vec![
        ("image", image.digest.to_string()),
        (
            "root disk",
            format!("{}, {}", image.format, render_size(image.disk_bytes)),
        ),
        ("disk's digest", image.disk_digest.to_string()),
        ("instances", image.instances.to_string()),
    ];
    fields.extend(image.names.iter().map(|name| ("name", name.clone())));
    if image.dropped_xattrs > 0 {
        fields.push(("dropped attributes", image.dropped_xattrs.to_string()));
    }
    fields.extend([
        ("entrypoint", words(&program.entrypoint)),
        ("command", words(&program.cmd)),
        (
            "environment",
            match program.env.is_empty() {
                true => "none".to_owned(),
                false => program.env.join(", "),
            },
        ),
    ]);
    let told = [
        ("directory", &program.working_dir),
        ("user", &program.user),
        ("stop signal", &program.stop_signal),
    ];
    fields.extend(
        told.into_iter()
            .filter_map(|(label, value)| Some((label, value.clone()?))),
    );
    fields.extend(
        program
            .exposed_ports
            .iter()
            .map(|port| ("listens on", port.clone())),
    );
    fields.extend(
        program
            .volumes
            .iter()
            .map(|volume| ("keeps data in", volume.clone())),
    );
    render_fields(&fields)
}
