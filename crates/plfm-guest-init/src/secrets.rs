//! The secrets file: on tmpfs only, never readable by others, whole or not there.

use plfm_guest_protocol::{Reason, Secrets, SecretsFile};

use crate::failure::StageError;
use crate::fs::{Replace, create_dir, open_dir, replace_file};

/// Writes the secrets, if there are any.
pub fn write(secrets: Option<&Secrets>) -> Result<(), StageError> {
    let Some(secrets) = secrets else { return Ok(()) };
    let Some(data) = &secrets.data else {
        return if secrets.required {
            Err(StageError::new(
                Reason::SecretsMissing,
                "secrets are required and the config has none",
            ))
        } else {
            Ok(())
        };
    };
    let content = data.reveal().as_bytes();
    SecretsFile::parse(content)
        .map_err(|error| StageError::new(Reason::SecretsWriteFailed, error.to_string()))?;
    let path = &secrets.path;
    let fail = |error: std::io::Error| {
        StageError::os(
            Reason::SecretsWriteFailed,
            format_args!("cannot write {path}"),
            error,
        )
    };
    // The config's check has the path under /run and the mode one of two; /run is a tmpfs of ours.
    let below_run = path.strip_prefix("/run/").unwrap_or(path);
    let (parent, name) = below_run.rsplit_once('/').unwrap_or(("", below_run));
    let run = open_dir("/run").map_err(|errno| fail(errno.into()))?;
    let dir = create_dir(run, parent, Replace::Forbidden).map_err(|errno| fail(errno.into()))?;
    let owner = Some((secrets.owner_uid, secrets.owner_gid));
    replace_file(&dir, name, content, secrets.mode_bits().unwrap_or(0o400), owner).map_err(fail)
}
