//! `plfm admin hosts enroll-token`.

use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use plfm_api::control::{CreateEnrollmentToken, CreatedEnrollmentToken};
use reqwest::Method;
use serde::Serialize;

use crate::admin::Control;
use crate::admin::quote::quote;
use crate::admin::secret_file::SecretFile;
use crate::admin::span::Span;
use crate::output::{CliError, render_fields};
use crate::times::render_time;

/// Arguments of `plfm admin hosts enroll-token`.
#[derive(Debug, Args)]
pub struct EnrollTokenArgs {
    /// How long it may be used
    #[arg(long, value_name = "SPAN", default_value = "1h")]
    valid: Span,
    /// The one host name that may use it; any without it
    #[arg(long, value_name = "NAME")]
    host_name: Option<String>,
    /// Write the token to a new file instead of showing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What `plfm admin hosts enroll-token` prints.
#[derive(Serialize)]
struct EnrollTokenReport {
    id: String,
    expires_at: Timestamp,
    /// The secret, unless it is in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The file that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    /// What the host runs.
    agent_command: String,
}

impl EnrollTokenArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let file = self.out.as_deref().map(SecretFile::create).transpose()?;
        let url = control.connection()?.url.to_string();
        let request = CreateEnrollmentToken {
            valid_seconds: Some(self.valid.seconds()),
            host_name: self.host_name.clone(),
        };
        let created: CreatedEnrollmentToken = control.block_on(async |client| {
            client
                .change(Method::POST, &["enrollment-tokens"], &request)
                .await
        })?;
        let kept = file.map(|file| file.keep(&created.token)).transpose()?;
        let agent_command = agent_command(&url, kept.as_deref(), self.host_name.as_deref());
        let report = EnrollTokenReport {
            id: created.id,
            expires_at: created.expires_at,
            token: kept.is_none().then_some(created.token),
            file: kept,
            agent_command,
        };
        control.out.result(&report, render)
    }
}

/// The token is in a file there: other users can read a command line.
fn agent_command(url: &str, token_file: Option<&Path>, host_name: Option<&str>) -> String {
    let url = url.trim_end_matches('/');
    let token_file = token_file
        .and_then(Path::to_str)
        .map_or_else(|| "TOKEN".to_owned(), quote);
    let mut command =
        format!("plfm-agent --control {url} --control-ca CA.pem --enroll-token-file {token_file}");
    if let Some(name) = host_name {
        command += &format!(" --host-name {}", quote(name));
    }
    command
}

fn render(report: &EnrollTokenReport) -> String {
    let mut fields = vec![
        ("id", report.id.clone()),
        ("expires", render_time(report.expires_at)),
    ];
    match (&report.token, &report.file) {
        (Some(token), _) => {
            fields.push(("token", token.clone()));
            fields.push(("note", "it works once, and is not shown again".to_owned()));
        }
        (None, file) => {
            let file = file.as_ref().map(|file| file.display().to_string());
            fields.push(("file", file.unwrap_or_default()));
        }
    }
    fields.push(("on the host", report.agent_command.clone()));
    fields.push(("watch", "plfm admin hosts list --state enrolled".to_owned()));
    fields.push((
        "undo",
        format!("plfm admin hosts enroll-tokens revoke {}", report.id),
    ));
    format!("a host may enrol\n{}", render_fields(&fields))
}
