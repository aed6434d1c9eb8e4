//! A control plane begins: its authority, its key, its database, and the first admin's token.

use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use plfm_api::control::{Actor, Role};

use crate::authority::{Authority, AuthorityFileError, write_new};
use crate::control::new_events;
use crate::control::{MadeToken, SecretKey, SecretKeyError, TokenKind};
use crate::fleet::{Command, Context, FleetState, Refusal};
use crate::settings::{CONFIG_FILE, Given, SettingsError};
use crate::store::{AppendError, Store, StoreError};

/// How long the first admin's token works, in seconds: time enough to make others.
const FIRST_TOKEN_SECONDS: u64 = 30 * 86_400;

/// What was made. Has no `Debug`: the token is a secret.
pub struct Initialized {
    /// The first admin's token. It is not kept anywhere.
    pub admin_token: String,
    /// When it ends.
    pub expires_at: Timestamp,
    /// What clients are to trust.
    pub ca_certificate: PathBuf,
    /// The configuration.
    pub config: PathBuf,
}

/// The control plane cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The directory.
    #[error("cannot make the directory {}", .0.display())]
    Dir(PathBuf, #[source] std::io::Error),
    /// There is a control plane.
    #[error("the database has a log already: there is a control plane")]
    LogExists,
    /// What was given cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The configuration cannot be written.
    #[error("the configuration cannot be written as TOML")]
    Render(#[source] toml::ser::Error),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityFileError),
    /// The key.
    #[error(transparent)]
    SecretKey(#[from] SecretKeyError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log.
    #[error("cannot write the first event")]
    Append(#[from] AppendError),
    /// The first token.
    #[error("cannot make the first token")]
    Token(#[from] Refusal),
}

/// Makes everything that [`serve`](crate::serve) needs, in a directory of the control plane's own. Does nothing where there
/// is a log already.
pub async fn init(data_dir: &Path, given: Given, now: Timestamp) -> Result<Initialized, InitError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut dirs = std::fs::DirBuilder::new();
    let made = dirs.recursive(true).mode(0o700).create(data_dir);
    made.map_err(|error| InitError::Dir(data_dir.to_owned(), error))?;
    let settings = given.clone().check(data_dir)?;
    let store = Store::open(&settings.database).await?;
    if store.head().await? != 0 {
        return Err(InitError::LogExists);
    }
    if given.ca_cert.is_none() {
        Authority::create(data_dir, now)?;
    }
    if given.secret_key.is_none() {
        SecretKey::create(data_dir)?;
    }
    // May have the database's password.
    let config = data_dir.join(CONFIG_FILE);
    let text = toml::to_string(&given).map_err(InitError::Render)?;
    write_new(&config, text.as_bytes(), 0o600)?;
    // Last: a log with an event is a control plane that is complete.
    let (admin_token, expires_at) = first_token(&store, now).await?;
    store.close().await;
    Ok(Initialized {
        admin_token,
        expires_at,
        ca_certificate: settings.ca_cert,
        config,
    })
}

async fn first_token(store: &Store, now: Timestamp) -> Result<(String, Timestamp), InitError> {
    let id = ulid::Ulid::generate().to_string();
    let made = MadeToken::random(TokenKind::Operator, &id)?;
    let command = Command::CreateToken {
        id,
        name: "first admin".to_owned(),
        role: Role::Admin,
        secret_sha256: made.secret_sha256,
        created_by: "init".to_owned(),
        valid_seconds: Some(FIRST_TOKEN_SECONDS),
    };
    let decision = FleetState::default().decide(&command, &Context::at(now))?;
    store
        .append(0, &new_events(&decision, &system("init"), now), None)
        .await?;
    let life = SignedDuration::from_secs(i64::try_from(FIRST_TOKEN_SECONDS).unwrap_or(0));
    Ok((made.text, now.checked_add(life).unwrap_or(now)))
}

/// A part of the control plane, for the log.
pub(crate) fn system(part: &str) -> Actor {
    Actor {
        kind: "system".to_owned(),
        id: part.to_owned(),
        name: part.to_owned(),
        address: None,
        request_id: None,
    }
}
