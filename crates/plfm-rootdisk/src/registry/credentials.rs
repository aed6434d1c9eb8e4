//! Credentials of registries, from docker's configuration file.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use plfm_guest_protocol::Sensitive;
use serde::Deserialize;

use crate::reference::Reference;

const FILE_BYTES_MAX: u64 = 1 << 20;
/// The hub's name in the file.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// What is shown to a registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credentials {
    /// Nothing.
    #[default]
    Anonymous,
    /// A name and a password, or a token in its place.
    Password {
        /// The name.
        username: String,
        /// The password.
        password: Sensitive,
    },
}

/// Why there are no credentials to be had. No text shows any.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not docker's configuration.
    #[error("{path} is not a docker configuration")]
    Malformed {
        /// Which file.
        path: PathBuf,
    },
    /// The registry's credentials are in a helper program.
    #[error(
        "the credentials of {registry} are in the helper docker-credential-{helper}, which is not run; put them into \"auths\""
    )]
    Helper {
        /// Which registry.
        registry: String,
        /// Which helper.
        helper: String,
    },
    /// The registry's credentials are an identity token.
    #[error(
        "the credentials of {registry} are an identity token, which is not supported; log in with a password or an access token"
    )]
    IdentityToken {
        /// Which registry.
        registry: String,
    },
    /// What is there for the registry is not a name and a password.
    #[error("the credentials of {registry} are malformed")]
    Entry {
        /// Which registry.
        registry: String,
    },
}

impl CredentialsError {
    /// A stable word for what is wrong.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Malformed { .. } | Self::Entry { .. } => "credentials_malformed",
            Self::Helper { .. } | Self::IdentityToken { .. } => "credentials_unsupported",
        }
    }
}

/// `config.json` of docker, as far as registries go.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct DockerConfig {
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
    #[serde(rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: Option<Sensitive>,
    username: Option<String>,
    password: Option<Sensitive>,
    identitytoken: Option<Sensitive>,
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig")
            .field("registries", &self.auths.keys())
            .finish_non_exhaustive()
    }
}

impl DockerConfig {
    /// Reads a configuration. A file that does not exist has no credentials.
    ///
    /// # Errors
    /// [`CredentialsError`] if it cannot be read or is not one.
    pub fn load(path: &Path) -> Result<Self, CredentialsError> {
        let read = |source| CredentialsError::Read {
            path: path.to_owned(),
            source,
        };
        let file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(read(error)),
        };
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, FILE_BYTES_MAX), &mut bytes).map_err(read)?;
        // The parser's words could quote the file.
        serde_json::from_slice(&bytes).map_err(|_| CredentialsError::Malformed {
            path: path.to_owned(),
        })
    }

    /// Where docker looks for it: `$DOCKER_CONFIG/config.json`, else `$HOME/.docker/config.json`.
    pub fn path(docker_config: Option<&Path>, home: Option<&Path>) -> Option<PathBuf> {
        let directory = docker_config
            .map(Path::to_owned)
            .or_else(|| Some(home?.join(".docker")))?;
        Some(directory.join("config.json"))
    }

    /// The credentials for an image's registry.
    ///
    /// # Errors
    /// [`CredentialsError`] where there are some, and they are not here.
    pub fn credentials(&self, reference: &Reference) -> Result<Credentials, CredentialsError> {
        let registry = reference.registry();
        let helper = |helper: &String| CredentialsError::Helper {
            registry: registry.to_owned(),
            helper: helper.chars().take(80).collect(),
        };
        if let Some(name) = keys(registry).iter().find_map(|key| self.helpers.get(key)) {
            return Err(helper(name));
        }
        let Some(auth) = keys(registry).iter().find_map(|key| self.auths.get(key)) else {
            return Ok(Credentials::Anonymous);
        };
        if auth
            .identitytoken
            .as_ref()
            .is_some_and(|token| !token.reveal().is_empty())
        {
            return Err(CredentialsError::IdentityToken {
                registry: registry.to_owned(),
            });
        }
        match (auth.password(), &self.store) {
            (Some(credentials), _) => Ok(credentials),
            // An empty entry is how docker marks what it put into its store.
            (None, Some(name)) if auth.is_empty() => Err(helper(name)),
            (None, None) if auth.is_empty() => Ok(Credentials::Anonymous),
            (None, _) => Err(CredentialsError::Entry {
                registry: registry.to_owned(),
            }),
        }
    }
}

/// The names that a registry may have in the file.
fn keys(registry: &str) -> Vec<String> {
    let mut keys = vec![
        registry.to_owned(),
        format!("https://{registry}"),
        format!("http://{registry}"),
    ];
    keys.extend(["https", "http"].map(|scheme| format!("{scheme}://{registry}/v2/")));
    if registry == "docker.io" {
        keys.extend([HUB_KEY, "https://index.docker.io/v1", "index.docker.io"].map(str::to_owned));
    }
    keys
}

impl Auth {
    fn is_empty(&self) -> bool {
        self.auth.as_ref().is_none_or(|auth| auth.reveal().is_empty()) && self.username.is_none()
    }

    fn password(&self) -> Option<Credentials> {
        if let Some(auth) = self.auth.as_ref().filter(|auth| !auth.reveal().is_empty()) {
            let bytes = STANDARD.decode(auth.reveal().trim()).ok()?;
            let text = String::from_utf8(bytes).ok()?;
            let (username, password) = text.split_once(':')?;
            let password = Sensitive::new(password.trim_end_matches('\0'));
            return Some(Credentials::Password {
                username: username.to_owned(),
                password,
            });
        }
        let (username, password) = (self.username.clone()?, self.password.clone()?);
        Some(Credentials::Password { username, password })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DockerConfig {
        serde_json::from_str(text).unwrap()
    }

    fn credentials(config: &DockerConfig, image: &str) -> Result<Credentials, CredentialsError> {
        config.credentials(&image.parse().unwrap())
    }

    fn password(username: &str, password: &str) -> Credentials {
        Credentials::Password {
            username: username.to_owned(),
            password: Sensitive::new(password),
        }
    }

    #[test]
    fn inline_credentials_are_found_by_host_and_by_the_hubs_old_name() {
        let auth = STANDARD.encode("me:se:cret");
        let config = config(&format!(
            r#"{{"auths":{{"r.example:5000":{{"auth":"{auth}"}},"https://index.docker.io/v1/":{{"username":"u","password":"p"}}}}}}"#
        ));
        assert_eq!(
            credentials(&config, "r.example:5000/a").unwrap(),
            password("me", "se:cret")
        );
        assert_eq!(credentials(&config, "nginx").unwrap(), password("u", "p"));
        assert_eq!(
            credentials(&config, "other.example/a").unwrap(),
            Credentials::Anonymous
        );
    }

    #[test]
    fn helpers_stores_and_identity_tokens_are_refused_in_words() {
        let config = config(
            r#"{"auths":{"s.example":{},"t.example":{"identitytoken":"x"},"bad.example":{"auth":"!"}},
                "credsStore":"desktop","credHelpers":{"h.example":"ecr-login"}}"#,
        );
        let code = |image: &str| credentials(&config, image).unwrap_err().to_string();
        assert!(code("h.example/a").contains("docker-credential-ecr-login"));
        assert!(code("s.example/a").contains("docker-credential-desktop"));
        assert!(code("t.example/a").contains("identity token"));
        assert!(code("bad.example/a").contains("malformed"));
        assert_eq!(
            credentials(&config, "public.example/a").unwrap(),
            Credentials::Anonymous
        );
    }

    #[test]
    fn nothing_of_it_prints() {
        let config = config(r#"{"auths":{"r.example":{"username":"u","password":"hunter2"}}}"#);
        let credentials = credentials(&config, "r.example/a").unwrap();
        assert!(!format!("{config:?} {credentials:?}").contains("hunter2"));
    }
}
