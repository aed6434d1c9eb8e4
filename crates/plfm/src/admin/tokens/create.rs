//! `plfm admin tokens create`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use plfm_api::control::{CreateToken, CreatedToken, Role};
use reqwest::Method;
use serde::Serialize;

use crate::admin::Control;
use crate::admin::secret_file::SecretFile;
use crate::admin::span::Span;
use crate::output::{CliError, render_fields};
use crate::times::render_time;

/// Arguments of `plfm admin tokens create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Whose it is, for the log
    name: String,
    /// What it may; each role may what those before it may
    #[arg(long)]
    role: RoleArg,
    /// How long it works
    #[arg(long, value_name = "SPAN", default_value = "90d")]
    valid: Span,
    /// Write the token to a new file instead of showing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Look
    Viewer,
    /// Change what the fleet boots, and enrol hosts
    Operator,
    /// Make tokens, and revoke hosts
    Admin,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Viewer => Self::Viewer,
            RoleArg::Operator => Self::Operator,
            RoleArg::Admin => Self::Admin,
        }
    }
}

/// What `plfm admin tokens create` prints.
#[derive(Serialize)]
struct CreateReport {
    id: String,
    name: String,
    role: Role,
    expires_at: Timestamp,
    /// The secret, unless it is in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The file that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

impl CreateArgs {
    pub fn run(self, control: &Control) -> Result<(), CliError> {
        let file = self.out.as_deref().map(SecretFile::create).transpose()?;
        let request = CreateToken {
            name: self.name,
            role: self.role.into(),
            valid_seconds: Some(self.valid.seconds()),
        };
        let created: CreatedToken =
            control.block_on(async |client| client.change(Method::POST, &["tokens"], &request).await)?;
        let kept = file.map(|file| file.keep(&created.token)).transpose()?;
        let report = CreateReport {
            id: created.id,
            name: created.name,
            role: created.role,
            expires_at: created.expires_at,
            token: kept.is_none().then_some(created.token),
            file: kept,
        };
        control.out.result(&report, render)
    }
}

fn render(report: &CreateReport) -> String {
    let mut fields = vec![
        ("id", report.id.clone()),
        ("role", report.role.as_str().to_owned()),
        ("expires", render_time(report.expires_at)),
    ];
    match (&report.token, &report.file) {
        (Some(token), _) => {
            fields.push(("token", token.clone()));
            fields.push(("note", "it is not shown again".to_owned()));
        }
        (None, file) => {
            let file = file.as_ref().map(|file| file.display().to_string());
            fields.push(("file", file.unwrap_or_default()));
        }
    }
    fields.push(("undo", format!("plfm admin tokens revoke {}", report.id)));
    format!("token for {}\n{}", report.name, render_fields(&fields))
}
