//! The kernel command line, as far as guest init reads it: `plfm.instance_id=<id>` and nothing else.

/// Longest instance id, in bytes.
const INSTANCE_ID_BYTES_MAX: usize = 64;

/// Why a command line was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CmdlineError {
    /// There is no `plfm.instance_id=`.
    #[error("the kernel command line has no plfm.instance_id")]
    NoInstanceId,
    /// The id is malformed.
    #[error(
        "plfm.instance_id on the kernel command line is not 1 to 64 letters, digits, dashes or underscores"
    )]
    BadInstanceId,
}

/// What the command line says to guest init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmdline {
    /// The instance that this VM is.
    pub instance_id: String,
}

impl Cmdline {
    /// Reads a command line (`/proc/cmdline`). The last occurrence wins, as with the kernel's own parameters.
    ///
    /// # Errors
    /// [`CmdlineError`] when the instance id is absent or malformed.
    pub fn parse(text: &str) -> Result<Self, CmdlineError> {
        let mut ids = text
            .split_ascii_whitespace()
            .filter_map(|word| word.strip_prefix("plfm.instance_id="));
        let id = ids.next_back().ok_or(CmdlineError::NoInstanceId)?;
        if is_instance_id(id) {
            Ok(Self {
                instance_id: id.to_owned(),
            })
        } else {
            Err(CmdlineError::BadInstanceId)
        }
    }
}

/// Whether `text` can name an instance: it is a file name, a host name and part of a command line.
pub(crate) fn is_instance_id(text: &str) -> bool {
    (1..=INSTANCE_ID_BYTES_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_among_other_words() {
        let line = "quiet console=ttyS0 plfm.instance_id=01JD-a_b reboot=k\n";
        assert_eq!(Cmdline::parse(line).unwrap().instance_id, "01JD-a_b");
    }

    #[test]
    fn absent_and_malformed_ids_are_told_apart() {
        assert_eq!(Cmdline::parse("quiet"), Err(CmdlineError::NoInstanceId));
        for bad in ["", "a/b", "ä", &"x".repeat(65)] {
            assert_eq!(
                Cmdline::parse(&format!("plfm.instance_id={bad}")),
                Err(CmdlineError::BadInstanceId),
                "{bad}"
            );
        }
    }
}
