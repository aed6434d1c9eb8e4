//! `plfm dev up`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, Parser as _};
use jiff::Timestamp;
use plfm_api::control::{CreateEnrollmentToken, CreatedEnrollmentToken, IDEMPOTENCY_KEY};
use plfm_control::settings::Given;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::files::Layout;
use crate::output::{Category, CliError, Output, render_fields};

/// Agents, at most: each has its own cache and its own VMs.
const AGENTS_MAX: u16 = 16;

/// Arguments of `plfm dev up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Where everything is kept; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "plfm-dev")]
    dir: PathBuf,
    /// How many agents
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=i64::from(AGENTS_MAX)))]
    agents: u16,
    /// A release's directory, to be published; may be given several times
    #[arg(long, value_name = "DIR")]
    release: Vec<PathBuf>,
    /// Who may sign releases, when the registry is made; the key in DIR/keys, if none is given
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,
    /// Give instances no network interface
    #[arg(long)]
    no_network: bool,
    /// Seconds between two heartbeats of an agent
    #[arg(long, value_name = "N", default_value_t = 2)]
    heartbeat_seconds: u64,
}

/// What runs where.
#[derive(Debug, Serialize)]
struct UpReport {
    directory: PathBuf,
    registry: String,
    control: String,
    metrics: String,
    agents: Vec<PathBuf>,
    env: PathBuf,
    ready_ms: u64,
}

impl UpArgs {
    /// Runs it until SIGINT or SIGTERM.
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let started = Instant::now();
        let layout = Layout::make(&self.dir)?;
        layout.make_registry(self.keyring.as_deref())?;
        for release in &self.release {
            layout.publish(release)?;
        }
        start_log(&layout)?;
        plfm_agent::forbid_core_files().map_err(|error| failed("cannot forbid core files", &error))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed("cannot start the runtime", &error))?;
        runtime.block_on(self.up(&layout, started, out))
    }

    async fn up(&self, layout: &Layout, started: Instant, out: &Output) -> Result<(), CliError> {
        let signals = Signals::listen()?;
        let stop = CancellationToken::new();
        let (registry, serving) = serve_registry(layout, stop.clone()).await?;
        let control = self.start_control(layout, &registry, stop.clone()).await?;
        let url = format!("https://localhost:{}", control.address.port());
        let token = layout.read_private("token")?;

        let agents_stop = CancellationToken::new();
        let mut agents = JoinSet::new();
        let mut sockets = Vec::new();
        for number in 1..=usize::from(self.agents) {
            let settings = self
                .agent_settings(layout, number, &registry, &url, &control.ca_certificate, &token)
                .await?;
            sockets.push(settings.socket());
            let told = plfm_agent::Signals {
                shutdown: agents_stop.clone(),
                ..plfm_agent::Signals::default()
            };
            let ready = told.ready.clone();
            agents.spawn(plfm_agent::run(settings, told));
            tokio::select! {
                () = ready.cancelled() => {}
                ended = agents.join_next() => return Err(agent_ended(ended)),
            }
        }
        let env = write_env(layout, &url, &control.ca_certificate, &token, sockets.first())?;
        let report = UpReport {
            directory: layout.path(""),
            registry,
            control: url,
            metrics: control
                .metrics_address
                .map(|address| format!("http://{address}/metrics"))
                .unwrap_or_default(),
            agents: sockets,
            env,
            ready_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        out.result(&report, render)?;

        let outcome = tokio::select! {
            () = signals.wait() => Ok(()),
            ended = agents.join_next() => Err(agent_ended(ended)),
        };
        out.note("stopping: the agents' instances first");
        agents_stop.cancel();
        while agents.join_next().await.is_some() {}
        stop.cancel();
        control.ended().await;
        let _ = serving.await;
        outcome
    }

    async fn start_control(
        &self,
        layout: &Layout,
        registry: &str,
        stop: CancellationToken,
    ) -> Result<plfm_control::Running, CliError> {
        let dir = layout.path("control");
        let local: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let given = Given {
            listen: Some(local),
            metrics_listen: Some(local),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            registry: vec![registry.to_owned()],
            registry_root: Some(layout.registry_root()),
            registry_poll_seconds: Some(2),
            heartbeat_seconds: Some(self.heartbeat_seconds),
            ..Given::default()
        };
        if !layout.path("token").exists() {
            // An earlier start that was cut off left half of it.
            let _ = std::fs::remove_dir_all(&dir);
            let made = plfm_control::init(&dir, given.clone(), Timestamp::now()).await;
            let made =
                made.map_err(|error| CliError::from_error(Category::Failure, "control_not_made", &error))?;
            layout.write_private("token", &made.admin_token)?;
        }
        let settings = given.check(&dir);
        let settings =
            settings.map_err(|error| CliError::from_error(Category::Failure, "control_settings", &error))?;
        let running = plfm_control::serve(settings, stop).await;
        running.map_err(|error| CliError::from_error(Category::Failure, "control_not_started", &error))
    }

    async fn agent_settings(
        &self,
        layout: &Layout,
        number: usize,
        registry: &str,
        control: &str,
        ca: &std::path::Path,
        token: &str,
    ) -> Result<plfm_agent::Settings, CliError> {
        let dir = layout.agent(number);
        let (name, state) = (format!("host-{number}"), dir.join("state"));
        let enrollment = format!("agents/{number}.token");
        if !state.join("control/certificate.pem").exists() {
            let made = enrollment_token(control, ca, token, &name).await?;
            std::fs::create_dir_all(layout.path("agents"))
                .map_err(|error| failed("cannot make agents/", &error))?;
            layout.write_private(&enrollment, &made.token)?;
        }
        let text = |path: PathBuf| path.display().to_string();
        let mut args = vec![
            "plfm-agent".to_owned(),
            format!("--state-dir={}", text(state)),
            format!("--run-dir={}", text(dir.join("run"))),
            format!("--keyring={}", text(layout.path("no-keyring.json"))),
            format!("--registry={registry}"),
            format!("--registry-root={}", text(layout.registry_root())),
            "--registry-poll-seconds=2".to_owned(),
            format!("--control={control}"),
            format!("--control-ca={}", ca.display()),
            format!("--enroll-token-file={}", text(layout.path(&enrollment))),
            format!("--host-name={name}"),
        ];
        args.extend(self.no_network.then(|| "--no-network".to_owned()));
        plfm_agent::Settings::try_parse_from(args)
            .map_err(|error| CliError::from_error(Category::Internal, "agent_settings", &error))
    }
}

async fn serve_registry(
    layout: &Layout,
    stop: CancellationToken,
) -> Result<(String, tokio::task::JoinHandle<()>), CliError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.map_err(|error| failed("cannot listen on loopback", &error))?;
    let address = listener
        .local_addr()
        .map_err(|error| failed("the socket has no address", &error))?;
    let router = plfm_registry::serve::router(layout.registry_files());
    let serving = tokio::spawn(async move {
        let _ = plfm_registry::serve::serve(listener, router, stop.cancelled_owned()).await;
    });
    Ok((format!("http://{address}"), serving))
}

/// Over the API, as an operator would.
async fn enrollment_token(
    control: &str,
    ca: &std::path::Path,
    token: &str,
    host: &str,
) -> Result<CreatedEnrollmentToken, CliError> {
    let refused = |error: &(dyn std::error::Error + 'static)| {
        CliError::from_error(Category::Failure, "agent_not_enrolled", error)
    };
    let pem = std::fs::read(ca).map_err(|error| refused(&error))?;
    let ca = reqwest::Certificate::from_pem(&pem).map_err(|error| refused(&error))?;
    let client = reqwest::Client::builder()
        .tls_certs_only([ca])
        .build()
        .map_err(|error| refused(&error))?;
    let request = CreateEnrollmentToken {
        valid_seconds: None,
        host_name: Some(host.to_owned()),
    };
    let answer = client
        .post(format!("{control}/v1/enrollment-tokens"))
        .bearer_auth(token)
        .header(
            IDEMPOTENCY_KEY,
            format!("dev-up-{}-{host}", Timestamp::now().as_nanosecond()),
        )
        .json(&request)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| refused(&error))?;
    answer.json().await.map_err(|error| refused(&error))
}

fn write_env(
    layout: &Layout,
    url: &str,
    ca: &std::path::Path,
    token: &str,
    socket: Option<&PathBuf>,
) -> Result<PathBuf, CliError> {
    let socket = socket
        .map(|socket| socket.display().to_string())
        .unwrap_or_default();
    let text = format!(
        "export PLFM_CONTROL_URL='{url}'\nexport PLFM_CONTROL_CA='{}'\nexport PLFM_CONTROL_TOKEN='{token}'\n\
         export PLFM_AGENT_SOCKET='{socket}'\n",
        ca.display()
    );
    layout.write_private("env", &text)
}

fn render(report: &UpReport) -> String {
    let mut fields = vec![
        ("registry", report.registry.clone()),
        ("control plane", report.control.clone()),
        ("metrics", report.metrics.clone()),
    ];
    fields.extend(
        report
            .agents
            .iter()
            .map(|socket| ("agent", socket.display().to_string())),
    );
    fields.push((
        "next",
        format!(". {}   # then: plfm admin kernels list", report.env.display()),
    ));
    fields.push(("log", report.directory.join("log").display().to_string()));
    format!(
        "a fleet is up after {} ms; Ctrl-C ends it\n{}",
        report.ready_ms,
        render_fields(&fields)
    )
}

/// Everything's log, in one file.
fn start_log(layout: &Layout) -> Result<(), CliError> {
    let path = layout.path("log");
    let file = std::fs::File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| failed("cannot open the log", &error))?;
    let filter = tracing_subscriber::EnvFilter::try_from_env("PLFM_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(file)
        .init();
    Ok(())
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self, CliError> {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = signal(SignalKind::terminate());
        Ok(Self {
            terminate: terminate.map_err(|error| failed("cannot wait for signals", &error))?,
        })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
}

fn agent_ended(ended: Option<Result<anyhow::Result<()>, tokio::task::JoinError>>) -> CliError {
    let why = match ended {
        Some(Ok(Err(error))) => format!("{error:#}"),
        Some(Ok(Ok(()))) | None => "it was told to".to_owned(),
        Some(Err(error)) => error.to_string(),
    };
    CliError::new(Category::Failure, "agent_ended", format!("an agent ended: {why}"))
}

fn failed(what: &str, error: &std::io::Error) -> CliError {
    CliError::new(Category::Failure, "dev_failed", format!("{what}: {error}"))
}
