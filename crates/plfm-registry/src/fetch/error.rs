//! Why one file could not be read from one mirror.

use std::error::Error;
use std::io;
use std::time::Duration;

/// Why one file could not be read from one mirror.
#[derive(Debug, thiserror::Error)]
pub enum ReadFault {
    /// The mirror does not have the file.
    #[error("the mirror does not have it")]
    NotThere,
    /// The server answered with a status that holds no file. Redirects are not followed.
    #[error("the server answered with status {0}")]
    Refused(u16),
    /// No connection, or no answer.
    #[error("the server cannot be reached: {}", chain(.0))]
    Unreachable(#[source] reqwest::Error),
    /// The connection broke within the file.
    #[error("the connection was cut: {}", chain(.0))]
    Cut(#[source] reqwest::Error),
    /// Nothing came for too long.
    #[error("the server was silent for {} ms", .0.as_millis())]
    Silent(Duration),
    /// Less came than the minimum rate.
    #[error("the server sent {bytes} bytes in {} ms, less than the {bytes_min} that it has to", .window.as_millis())]
    TooSlow {
        /// How much came.
        bytes: u64,
        /// How much had to come.
        bytes_min: u64,
        /// In this time.
        window: Duration,
    },
    /// The bytes were encoded, although that was not asked for. Nothing is unpacked here.
    #[error("the server sent it with content encoding {0:?}, which was not asked for")]
    Encoded(String),
    /// The answer holds another part than was asked for.
    #[error("the server sent the range {found:?} where {asked:?} was asked for")]
    WrongRange {
        /// What was asked for.
        asked: String,
        /// What came.
        found: String,
    },
    /// A mirror that is a directory failed.
    #[error("the mirror's directory cannot be read: {0}")]
    Directory(#[source] io::Error),
}

impl ReadFault {
    /// The stable code of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotThere => "registry_file_missing",
            Self::TooSlow { .. } | Self::Silent(_) => "registry_too_slow",
            Self::Encoded(_) => "registry_encoded",
            Self::WrongRange { .. } => "registry_wrong_range",
            Self::Refused(_) | Self::Unreachable(_) | Self::Cut(_) | Self::Directory(_) => {
                "registry_unreachable"
            }
        }
    }

    /// Whether the mirror broke the protocol, which waiting does not mend.
    pub(crate) fn is_deceit(&self) -> bool {
        matches!(self, Self::Encoded(_) | Self::WrongRange { .. })
    }
}

/// The innermost reason, which is the one that tells something: the client library's own texts are general.
fn chain(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
