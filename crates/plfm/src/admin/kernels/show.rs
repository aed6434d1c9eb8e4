//! `plfm admin kernels show`.

use clap::Args;
use plfm_api::control::{Generation, KernelDetail};

use super::state::{render_boots, render_state};
use crate::admin::Control;
use crate::output::{CliError, render_fields};
use crate::table::render_table;
use crate::times::render_time;

/// Arguments of `plfm admin kernels show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The release's id, a label, or a build id that only one release has
    release: String,
}

impl ShowArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let detail: KernelDetail =
            control.block_on(async |client| client.get(&["kernels", &self.release], &[]).await)?;
        control.out.result(&detail, render)
    }
}

fn render(detail: &KernelDetail) -> String {
    let kernel = &detail.kernel;
    let list = |items: Vec<String>| match items.is_empty() {
        true => "none".to_owned(),
        false => items.join(", "),
    };
    let outcomes = detail
        .outcomes
        .iter()
        .map(|(outcome, count)| format!("{count} {outcome}"));
    let protocols = detail.supported_protocols.iter().map(ToString::to_string);
    let boots = match render_boots(kernel) {
        none if none.is_empty() => "none".to_owned(),
        boots => format!("{boots} ready"),
    };
    let fields = [
        ("state", render_state(&kernel.state)),
        ("kernel", kernel.kernel.to_string()),
        ("initramfs", kernel.initramfs.to_string()),
        ("guest init", kernel.guest_init_version.to_string()),
        (
            "protocol",
            format!("{}, works with {}", kernel.protocol, list(protocols.collect())),
        ),
        ("agent", format!("{} at least", detail.min_agent_version)),
        (
            "hosts",
            format!("{} of {} active have it", kernel.hosts, kernel.hosts_active),
        ),
        ("instances", kernel.instances.to_string()),
        ("boots", boots),
        ("outcomes", list(outcomes.collect())),
        ("default in", render_generations(&detail.default_in)),
        ("found", render_time(kernel.found_at)),
        ("manifest", format!("sha256:{}", detail.manifest_sha256)),
        ("key", detail.key_id.clone()),
    ];
    format!(
        "{}\n{}{}",
        kernel.release,
        render_fields(&fields),
        render_unable(detail)
    )
}

fn render_generations(generations: &[Generation]) -> String {
    let numbers: Vec<String> = generations.iter().map(ToString::to_string).collect();
    match numbers.len() {
        0 => "none".to_owned(),
        1 => format!("generation {}", numbers.join("")),
        _ => format!("generations {}", numbers.join(", ")),
    }
}

/// The hosts that could not run it.
fn render_unable(detail: &KernelDetail) -> String {
    if detail.unable_total == 0 {
        return String::new();
    }
    let rows = detail
        .unable
        .iter()
        .map(|host| [host.host.to_string(), host.name.clone(), host.reason.clone()]);
    let table = render_table(["HOST", "NAME", "WHY NOT"], rows);
    let shown = u64::try_from(detail.unable.len()).unwrap_or(u64::MAX);
    let more = match detail.unable_total.saturating_sub(shown) {
        0 => String::new(),
        more => format!("and {more} more\n"),
    };
    let hosts = if detail.unable_total == 1 { "host" } else { "hosts" };
    format!(
        "\n{} {hosts} could not run it\n\n{table}{more}",
        detail.unable_total
    )
}
