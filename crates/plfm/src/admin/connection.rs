//! Which control plane a command speaks to, and as whom: the environment before the file.
//!
//! Invariant: a context's token goes to that context's URL only. Whoever can set `PLFM_CONTROL_URL` alone gets no token.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use reqwest::Url;

use super::config::{Config, Context, Token};
use crate::output::{Category, CliError};

/// Where the control plane is.
const URL: &str = "PLFM_CONTROL_URL";
/// The file with the certificates that its own may be issued by.
const CA: &str = "PLFM_CONTROL_CA";
/// Who this is.
const TOKEN: &str = "PLFM_CONTROL_TOKEN";

/// What the environment says. A variable that is empty is not there.
#[derive(Debug, Default)]
pub struct Environment {
    pub url: Option<String>,
    pub ca: Option<PathBuf>,
    pub token: Option<Token>,
    pub config_home: Option<PathBuf>,
    pub home: Option<PathBuf>,
    /// There is a token, and it is none.
    pub token_is_malformed: bool,
}

impl Environment {
    /// The process's own.
    pub fn read() -> Self {
        Self::from_vars(|name| std::env::var_os(name))
    }

    fn from_vars(var: impl Fn(&str) -> Option<OsString>) -> Self {
        let var = |name| var(name).filter(|value| !value.is_empty());
        let text = |name| var(name).map(|value| value.to_string_lossy().into_owned());
        let token = text(TOKEN).map(|text| Token::parse(&text));
        Self {
            url: text(URL),
            ca: var(CA).map(PathBuf::from),
            token_is_malformed: matches!(token, Some(Err(_))),
            token: token.and_then(Result::ok),
            // The specification of these directories: a relative path is ignored.
            config_home: var("XDG_CONFIG_HOME")
                .map(PathBuf::from)
                .filter(|path| path.is_absolute()),
            home: var("HOME").map(PathBuf::from),
        }
    }

    /// The file with the contexts.
    pub fn config_path(&self) -> Result<PathBuf, CliError> {
        let config_home = match (&self.config_home, &self.home) {
            (Some(dir), _) => dir.clone(),
            (None, Some(home)) => home.join(".config"),
            (None, None) => {
                let message = "neither XDG_CONFIG_HOME nor HOME says where contexts are kept";
                return Err(CliError::new(Category::Usage, "no_home", message));
            }
        };
        Ok(config_home.join("plfm").join("config.toml"))
    }
}

/// All that is needed to speak to a control plane.
#[derive(Debug)]
pub struct Connection {
    pub url: Url,
    /// Certificates, PEM.
    pub ca: String,
    pub token: Token,
}

impl Connection {
    /// The one that the environment and the contexts say; `name` is a context's.
    pub fn find(name: Option<&str>, environment: &Environment) -> Result<Self, CliError> {
        if environment.token_is_malformed {
            let message = format!("{TOKEN} is not a token, which is one word such as plfm_op_…");
            return Err(CliError::new(Category::Usage, "token_malformed", message));
        }
        if let Some(url) = &environment.url {
            return Self::from_environment(url, name, environment);
        }
        let path = environment.config_path()?;
        let context = find_context(Config::load(&path)?, name)?;
        let ca = match &environment.ca {
            Some(path) => load_ca(path)?,
            None => context.ca,
        };
        Ok(Self {
            url: parse_url(&context.url)?,
            ca,
            token: environment.token.clone().unwrap_or(context.token),
        })
    }

    /// With a URL from the environment no token is taken from a context.
    fn from_environment(url: &str, name: Option<&str>, environment: &Environment) -> Result<Self, CliError> {
        let Some(token) = environment.token.clone() else {
            let message =
                format!("{URL} is set and {TOKEN} is not: a context's token is sent to its own URL only");
            let error = CliError::new(Category::Usage, "token_missing", message);
            return Err(error.with_hint(Some(format!("set {TOKEN} too, or unset {URL}"))));
        };
        let ca = match &environment.ca {
            Some(path) => load_ca(path)?,
            None => {
                find_context(Config::load(&environment.config_path()?)?, name)
                    .map_err(|error| {
                        error.with_hint(Some(format!("{CA} names the file with the CA's certificate")))
                    })?
                    .ca
            }
        };
        Ok(Self {
            url: parse_url(url)?,
            ca,
            token,
        })
    }
}

fn find_context(mut config: Config, name: Option<&str>) -> Result<Context, CliError> {
    let name = match name.filter(|name| !name.is_empty()).or(config.current.as_deref()) {
        Some(name) => name.to_owned(),
        None => {
            let hint = match config.contexts.is_empty() {
                true => "`plfm admin context add` makes one",
                false => "`plfm admin context use` chooses one",
            };
            let error = CliError::new(Category::Usage, "no_context", "no control plane is chosen");
            return Err(error.with_hint(Some(hint.to_owned())));
        }
    };
    config
        .contexts
        .remove(&name)
        .ok_or_else(|| no_such_context(&name))
}

/// That there is no context of that name.
pub fn no_such_context(name: &str) -> CliError {
    let message = format!("there is no context {name:?}");
    CliError::new(Category::NotFound, "no_such_context", message)
        .with_hint(Some("look at them with `plfm admin context list`".to_owned()))
}

/// The URL of a control plane: HTTPS, and nothing that would be sent elsewhere than it seems.
pub fn parse_url(text: &str) -> Result<Url, CliError> {
    let malformed = || {
        // There may be a password in it.
        let message = match text.contains('@') {
            true => "that is not a control plane's URL".to_owned(),
            false => format!("{text:?} is not a control plane's URL"),
        };
        CliError::new(Category::Usage, "url_malformed", message)
            .with_hint(Some("such as https://control.example:8443".to_owned()))
    };
    let url = Url::parse(text).map_err(|_| malformed())?;
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    match url.scheme() == "https" && url.has_host() && is_plain {
        true => Ok(url),
        false => Err(malformed()),
    }
}

/// Certificates from a file: one at least.
pub fn load_ca(path: &Path) -> Result<String, CliError> {
    let pem = fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read the CA's certificate {}: {error}", path.display());
        CliError::new(Category::Failure, "ca_unreadable", message)
    })?;
    match reqwest::Certificate::from_pem_bundle(pem.as_bytes()) {
        Ok(certificates) if !certificates.is_empty() && !pem.contains("PRIVATE KEY") => Ok(pem),
        _ => {
            let message = format!("{} is not a certificate in PEM", path.display());
            Err(CliError::new(Category::Usage, "ca_malformed", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(vars: &[(&str, &str)]) -> Environment {
        Environment::from_vars(|name| {
            vars.iter()
                .find(|(var, _)| *var == name)
                .map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_file_is_where_the_environment_says() {
        let path = |vars: &[(&str, &str)]| environment(vars).config_path().ok();
        let expected = Some(PathBuf::from("/c/plfm/config.toml"));
        assert_eq!(path(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]), expected);
        let expected = Some(PathBuf::from("/h/.config/plfm/config.toml"));
        assert_eq!(path(&[("XDG_CONFIG_HOME", ""), ("HOME", "/h")]), expected);
        assert_eq!(path(&[("XDG_CONFIG_HOME", "c"), ("HOME", "/h")]), expected);
        assert_eq!(path(&[]), None);
    }

    #[test]
    fn a_contexts_token_is_not_sent_to_another_url() {
        let error = Connection::find(None, &environment(&[(URL, "https://evil"), ("HOME", "/h")]));
        assert_eq!(error.unwrap_err().code, "token_missing");
    }

    #[test]
    fn a_url_is_https_and_says_where_it_goes() {
        for url in [
            "",
            "control",
            "http://c",
            "https://",
            "https://a@c",
            "https://a:b@c",
            "https://c/?x=1",
            "https://c#x",
        ] {
            assert_eq!(parse_url(url).unwrap_err().code, "url_malformed", "{url}");
        }
        assert_eq!(parse_url("https://c:8443").unwrap().as_str(), "https://c:8443/");
    }
}
