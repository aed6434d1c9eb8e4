//! What the control plane is told: flags, environment, file; and what comes of it.
//!
//! ```text
//! flags and environment ─┐
//!                        ├─> Given ──check──> Settings
//! <data-dir>/control.toml ┘
//! ```

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plfm_registry::fetch::Mirror;
use plfm_release::Channel;
use serde::{Deserialize, Serialize};

use crate::authority::{CA_CERTIFICATE_FILE, CA_KEY_FILE};
use crate::clock::Clock;
use crate::control::{Pace, SECRET_KEY_FILE};
use crate::server::limits::{CONNECTIONS_MAX_DEFAULT, POLLS_MAX_DEFAULT};

/// The file in the data directory.
pub const CONFIG_FILE: &str = "control.toml";
/// Where the data directory is, unless told otherwise.
pub const DATA_DIR_DEFAULT: &str = "/var/lib/plfm-control";
/// The SQLite database in the data directory.
const DATABASE_FILE: &str = "control.db";
/// Where hosts and operators connect, unless told otherwise.
const LISTEN_DEFAULT: &str = "[::]:9443";
/// Where whatever watches the server connects, unless told otherwise.
const METRICS_LISTEN_DEFAULT: &str = "127.0.0.1:9640";
/// How often the registry is asked, in seconds, unless told otherwise.
const REGISTRY_SECONDS_DEFAULT: u64 = 30;

/// What was given, by flags, environment or file. The file's members are named as the flags, with `_`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
pub struct Given {
    /// Where hosts and operators connect.
    #[arg(long, value_name = "ADDRESS:PORT", env = "PLFM_CONTROL_LISTEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Where Prometheus and probes connect, over plain HTTP.
    #[arg(long, value_name = "ADDRESS:PORT", env = "PLFM_CONTROL_METRICS_LISTEN")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics_listen: Option<SocketAddr>,
    /// The database: `sqlite:PATH` or `postgres://…`. Has no place on a command line if it has a password.
    #[arg(
        long,
        value_name = "URL",
        env = "PLFM_CONTROL_DATABASE",
        hide_env_values = true
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The names and addresses that the control plane is reached by, for its own certificate.
    #[arg(long = "name", value_name = "HOSTNAME")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The certificate of the authority that issues hosts' certificates, PEM, with what it is issued by after it.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_key: Option<PathBuf>,
    /// The control plane's own certificate, PEM; made by the authority unless given.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    /// The key that tokens are derived with; the same on all replicas.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<PathBuf>,
    /// The registry: a URL or an absolute path. May be given several times.
    #[arg(long, value_name = "URL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub registry: Vec<String>,
    /// The registry's root metadata, as operators got it by a way that they trust.
    #[arg(long, value_name = "FILE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_root: Option<PathBuf>,
    /// How often the registry is asked, in seconds.
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry_poll_seconds: Option<u64>,
    /// The channel whose releases count.
    #[arg(long, value_name = "CHANNEL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The time between two heartbeats of a host, in seconds: 1 to 600.
    #[arg(long, value_name = "SECONDS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_seconds: Option<u64>,
    /// Heartbeats of the whole fleet in a second, at most.
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeats_per_second_max: Option<u32>,
    /// Connections at once.
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<usize>,
    /// Requests that wait for news at once.
    #[arg(long, value_name = "COUNT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub polls_max: Option<usize>,
    /// Logs as JSON.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", env = "PLFM_CONTROL_LOG_JSON")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_json: Option<bool>,
    /// Who is told of rollouts. In the file only: the address may have a token in it.
    #[arg(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookGiven>,
}

/// `[webhook]`.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookGiven {
    /// Where notices are posted to.
    pub url: String,
    /// The file with the secret that they are signed with.
    pub secret_file: PathBuf,
}

impl std::fmt::Debug for WebhookGiven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebhookGiven")
            .field("secret_file", &self.secret_file)
            .finish_non_exhaustive()
    }
}

/// Who is told of rollouts. Has no `Debug`: the address may have a token in it.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where notices are posted to.
    pub url: reqwest::Url,
    /// The file with the secret that they are signed with.
    pub secret_file: PathBuf,
}

/// Where the control plane's own certificate is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// Its authority makes it, for these names.
    Issued(Vec<String>),
    /// The operator's files.
    Files {
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// The registry to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrySettings {
    /// Copies of it.
    pub mirrors: Vec<Mirror>,
    /// Its root metadata.
    pub root: PathBuf,
    /// How often it is asked.
    pub every: Duration,
    /// The channel whose releases count.
    pub channel: Channel,
    /// Where what was trusted is kept.
    pub state_dir: PathBuf,
}

/// What the control plane is told, checked. Has no `Debug`: the database's address may have a password.
#[derive(Clone)]
pub struct Settings {
    /// Where hosts and operators connect.
    pub listen: SocketAddr,
    /// Where whatever watches the server connects; nowhere if it is `None`.
    pub metrics_listen: Option<SocketAddr>,
    /// The database.
    pub database: String,
    /// The authority's certificate.
    pub ca_cert: PathBuf,
    /// Its key.
    pub ca_key: PathBuf,
    /// The control plane's own certificate.
    pub tls: TlsSource,
    /// The key that tokens are derived with.
    pub secret_key: PathBuf,
    /// The registry, if there is one to follow.
    pub registry: Option<RegistrySettings>,
    /// How often hosts come.
    pub pace: Pace,
    /// Connections at once.
    pub connections_max: usize,
    /// Requests that wait for news at once.
    pub polls_max: usize,
    /// Logs as JSON.
    pub log_json: bool,
    /// Who is told of rollouts.
    pub webhook: Option<WebhookSettings>,
    /// What time it is.
    pub clock: Clock,
}

/// What is wrong with what was given.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    /// The file is not what it should be.
    #[error("{} is not a configuration: {}", .0.display(), .1.message())]
    Malformed(PathBuf, Box<toml::de::Error>),
    /// One without the other.
    #[error("{0} and {1} go together")]
    Pair(&'static str, &'static str),
    /// A value that cannot be.
    #[error("{0} cannot be {1}: {2}")]
    Value(&'static str, String, &'static str),
    /// Something is missing.
    #[error("{0} is missing: {1}")]
    Missing(&'static str, &'static str),
    /// Not a mirror.
    #[error("--registry cannot be used")]
    Mirror(#[from] plfm_registry::fetch::MirrorError),
}

impl Given {
    /// Reads the file. One that nobody named need not be there.
    pub fn load(named: Option<&Path>, data_dir: &Path) -> Result<Self, SettingsError> {
        let path = named.map_or_else(|| data_dir.join(CONFIG_FILE), Path::to_owned);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).map_err(|error| SettingsError::Malformed(path, Box::new(error)))
            }
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                Ok(Self::default())
            }
            Err(error) => Err(SettingsError::Read(path, error)),
        }
    }

    /// What is given here, else what is given there.
    #[must_use]
    pub fn or(self, file: Self) -> Self {
        let list = |here: Vec<String>, there| if here.is_empty() { there } else { here };
        Self {
            listen: self.listen.or(file.listen),
            metrics_listen: self.metrics_listen.or(file.metrics_listen),
            database: self.database.or(file.database),
            names: list(self.names, file.names),
            ca_cert: self.ca_cert.or(file.ca_cert),
            ca_key: self.ca_key.or(file.ca_key),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            secret_key: self.secret_key.or(file.secret_key),
            registry: list(self.registry, file.registry),
            registry_root: self.registry_root.or(file.registry_root),
            registry_poll_seconds: self.registry_poll_seconds.or(file.registry_poll_seconds),
            channel: self.channel.or(file.channel),
            heartbeat_seconds: self.heartbeat_seconds.or(file.heartbeat_seconds),
            heartbeats_per_second_max: self.heartbeats_per_second_max.or(file.heartbeats_per_second_max),
            connections_max: self.connections_max.or(file.connections_max),
            polls_max: self.polls_max.or(file.polls_max),
            log_json: self.log_json.or(file.log_json),
            webhook: self.webhook.or(file.webhook),
        }
    }

    /// Settings, if all of it can be.
    pub fn check(self, data_dir: &Path) -> Result<Settings, SettingsError> {
        let (ca_cert, ca_key) = pair(self.ca_cert.clone(), self.ca_key.clone(), "--ca-cert", "--ca-key")?
            .unwrap_or_else(|| (data_dir.join(CA_CERTIFICATE_FILE), data_dir.join(CA_KEY_FILE)));
        let seconds = self
            .heartbeat_seconds
            .unwrap_or(Pace::default().interval.as_secs());
        if !(1..=600).contains(&seconds) {
            return Err(SettingsError::Value(
                "--heartbeat-seconds",
                seconds.to_string(),
                "it is 1 to 600",
            ));
        }
        let per_second_max = self
            .heartbeats_per_second_max
            .unwrap_or(Pace::default().per_second_max);
        let connections_max = self.connections_max.unwrap_or(CONNECTIONS_MAX_DEFAULT);
        let at_least_one = |name, value: usize| match value {
            0 => Err(SettingsError::Value(name, "0".to_owned(), "it is at least 1")),
            value => Ok(value),
        };
        at_least_one(
            "--heartbeats-per-second-max",
            per_second_max.try_into().unwrap_or(usize::MAX),
        )?;
        Ok(Settings {
            listen: self.listen.map_or_else(|| address(LISTEN_DEFAULT), Ok)?,
            metrics_listen: Some(
                self.metrics_listen
                    .map_or_else(|| address(METRICS_LISTEN_DEFAULT), Ok)?,
            ),
            database: self
                .database
                .clone()
                .unwrap_or_else(|| format!("sqlite:{}", data_dir.join(DATABASE_FILE).display())),
            tls: self.tls()?,
            secret_key: self
                .secret_key
                .clone()
                .unwrap_or_else(|| data_dir.join(SECRET_KEY_FILE)),
            registry: self.registry(data_dir)?,
            pace: Pace {
                interval: Duration::from_secs(seconds),
                per_second_max,
            },
            connections_max: at_least_one("--connections-max", connections_max)?,
            polls_max: self.polls_max.unwrap_or(POLLS_MAX_DEFAULT),
            log_json: self.log_json.unwrap_or(false),
            webhook: self.webhook.as_ref().map(WebhookGiven::check).transpose()?,
            clock: Clock::default(),
            ca_cert,
            ca_key,
        })
    }

    fn tls(&self) -> Result<TlsSource, SettingsError> {
        if let Some((certificate, key)) = pair(
            self.tls_cert.clone(),
            self.tls_key.clone(),
            "--tls-cert",
            "--tls-key",
        )? {
            return Ok(TlsSource::Files { certificate, key });
        }
        if self.names.is_empty() {
            let why = "the control plane's own certificate is for the names that it is reached by";
            return Err(SettingsError::Missing("--name", why));
        }
        Ok(TlsSource::Issued(self.names.clone()))
    }

    fn registry(&self, data_dir: &Path) -> Result<Option<RegistrySettings>, SettingsError> {
        if self.registry.is_empty() {
            return Ok(None);
        }
        let root = self.registry_root.clone().ok_or(SettingsError::Missing(
            "--registry-root",
            "a registry is trusted by the root metadata that operators have",
        ))?;
        let every = self.registry_poll_seconds.unwrap_or(REGISTRY_SECONDS_DEFAULT);
        if every == 0 {
            return Err(SettingsError::Value(
                "--registry-poll-seconds",
                "0".to_owned(),
                "it is at least 1",
            ));
        }
        let channel = match &self.channel {
            None => Channel::production(),
            Some(text) => text
                .parse()
                .map_err(|_| SettingsError::Value("--channel", text.clone(), "it is not a channel's name"))?,
        };
        Ok(Some(RegistrySettings {
            mirrors: self
                .registry
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, _>>()?,
            root,
            every: Duration::from_secs(every),
            channel,
            state_dir: data_dir.join("registry"),
        }))
    }
}

impl WebhookGiven {
    fn check(&self) -> Result<WebhookSettings, SettingsError> {
        // The address itself is not shown.
        let wrong = |why| SettingsError::Value("webhook.url", "used".to_owned(), why);
        let url: reqwest::Url = self.url.parse().map_err(|_| wrong("it is not a URL"))?;
        if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
            return Err(wrong("it is to be https:// or http://"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "it has a user name or password in it: notices are signed instead",
            ));
        }
        Ok(WebhookSettings {
            url,
            secret_file: self.secret_file.clone(),
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, SettingsError> {
    text.parse()
        .map_err(|_| SettingsError::Value("--listen", text.to_owned(), "it is no address"))
}

fn pair(
    one: Option<PathBuf>,
    other: Option<PathBuf>,
    one_name: &'static str,
    other_name: &'static str,
) -> Result<Option<(PathBuf, PathBuf)>, SettingsError> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(SettingsError::Pair(one_name, other_name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Given {
        toml::from_str(text).unwrap()
    }

    fn error(text: &str) -> String {
        given(text).check(Path::new("/data")).err().unwrap().to_string()
    }

    #[test]
    fn a_name_is_all_that_has_to_be_given() {
        let settings = given("names = ['control.example']")
            .check(Path::new("/data"))
            .unwrap();
        assert_eq!(settings.database, "sqlite:/data/control.db");
        assert_eq!(settings.ca_key, Path::new("/data/ca.key"));
        assert_eq!(
            settings.tls,
            TlsSource::Issued(vec!["control.example".to_owned()])
        );
        assert_eq!(settings.pace, Pace::default());
        assert_eq!(settings.registry, None);
    }

    #[test]
    fn flags_come_before_the_file() {
        let file = given("names = ['a']\nlisten = '127.0.0.1:1'\nchannel = 'staging'");
        let flags = given("names = ['b']\nlisten = '127.0.0.1:2'");
        let merged = flags.or(file);
        assert_eq!(merged.names, ["b"]);
        assert_eq!(merged.listen.unwrap().port(), 2);
        assert_eq!(merged.channel.as_deref(), Some("staging"));
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(
            error("ca_cert = 'x'\nnames = ['a']"),
            "--ca-cert and --ca-key go together"
        );
        assert_eq!(error("tls_key = 'x'"), "--tls-cert and --tls-key go together");
        assert!(error("").starts_with("--name is missing"));
        assert!(error("names = ['a']\nregistry = ['/r']").starts_with("--registry-root is missing"));
        assert!(error("names = ['a']\nheartbeat_seconds = 0").starts_with("--heartbeat-seconds cannot be 0"));
        for url in ["ftp://a", "no", "https://me:secret@a/b"] {
            let shown = error(&format!(
                "names = ['a']\n[webhook]\nurl = '{url}'\nsecret_file = 's'"
            ));
            assert!(shown.starts_with("webhook.url cannot be used") && !shown.contains("secret@"));
        }
        assert!(error("names = ['a']\nconnections_max = 0").starts_with("--connections-max cannot be 0"));
        assert!(
            error("names = ['a']\nregistry = ['ftp://x']\nregistry_root = 'r'").starts_with("--registry")
        );
    }

    #[test]
    fn an_unknown_member_of_the_file_is_refused() {
        assert!(toml::from_str::<Given>("lisen = '127.0.0.1:1'").is_err());
    }
}
