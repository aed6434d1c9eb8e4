//! `plfm registry serve`.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use plfm_registry::serve::{LISTEN_DEFAULT, router, serve};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::block_on;
use crate::output::{Category, CliError, Output};

/// Arguments of `plfm registry serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The registry's directory
    directory: PathBuf,
    /// Where to listen. There is no TLS: hosts trust signatures, but anybody on the way sees what they fetch
    #[arg(long, value_name = "ADDRESS", default_value = LISTEN_DEFAULT)]
    listen: SocketAddr,
}

/// What `plfm registry serve` prints when it listens.
#[derive(Debug, Serialize)]
struct ServeReport {
    url: String,
    directory: PathBuf,
}

impl ServeArgs {
    /// Runs the verb, until SIGINT or SIGTERM.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let failed = |what: String, error: &io::Error| {
            CliError::new(Category::Failure, "serve_failed", format!("{what}: {error}"))
        };
        if !self.directory.join("metadata").is_dir() {
            let message = format!("{} holds no registry", self.directory.display());
            return Err(CliError::new(Category::NotFound, "registry_missing", message)
                .with_hint(Some("make one with `plfm registry init`".to_owned())));
        }
        tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .init();
        block_on(async {
            let listener = TcpListener::bind(self.listen)
                .await
                .map_err(|error| failed(format!("cannot listen on {}", self.listen), &error))?;
            let mut terminate = signal(SignalKind::terminate())
                .map_err(|error| failed("cannot wait for signals".to_owned(), &error))?;
            let address = listener
                .local_addr()
                .map_err(|error| failed("the socket has no address".to_owned(), &error))?;
            let report = ServeReport {
                url: format!("http://{address}"),
                directory: self.directory.clone(),
            };
            out.result(&report, |report| {
                format!("serving {} at {}", report.directory.display(), report.url)
            })?;
            let stop = async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
            };
            serve(listener, router(&self.directory), stop)
                .await
                .map_err(|error| failed("the server failed".to_owned(), &error))
        })
    }
}
