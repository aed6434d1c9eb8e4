//! `plfm image list`.

use jiff::Timestamp;
use plfm_api::{Image, Items};

use super::{plain_names, short_digest};
use crate::agent::AgentClient;
use crate::output::{CliError, Output, render_size};
use crate::table::render_table;
use crate::times::render_age;

pub fn run(out: &Output, agent: &AgentClient) -> Result<(), CliError> {
    let list: Items<Image> = agent.block_on(async |client| client.get("/v1/images").await)?;
    out.result(&list, |list| render(&list.items, Timestamp::now()))
}

fn render(images: &[Image], now: Timestamp) -> String {
    let row = |image: &Image| {
        [
            short_digest(image.digest),
            image.format.clone(),
            render_size(image.disk_bytes),
            image.instances.to_string(),
            image
                .used_at
                .map(|at| render_age(now.duration_since(at)))
                .unwrap_or_default(),
            plain_names(&image.names).join(", "),
        ]
    };
    render_table(
        ["IMAGE", "DISK", "SIZE", "INSTANCES", "USED", "NAMES"],
        images.iter().map(row),
    )
}
