//! Tokens: `plfm_op_<id>_<secret>` for operators, `plfm_enroll_<id>_<secret>` for hosts.
//!
//! Invariant: a secret is in its owner's hands only. The log has its SHA-256. An answer that had one can be given again
//! because the secret is derived from what was asked and a key that is in a file, not in the database.

use std::path::{Path, PathBuf};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use plfm_release::Sha256Digest;

/// The key's file in the data directory.
pub const SECRET_KEY_FILE: &str = "secret.key";
/// Bytes of a secret, and of the key.
const SECRET_BYTES: usize = 32;
/// Characters of a ULID.
const ID_CHARS: usize = 26;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Operators' requests.
    Operator,
    /// Enrolment of a host.
    Enrollment,
}

impl TokenKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Operator => "plfm_op_",
            Self::Enrollment => "plfm_enroll_",
        }
    }
}

/// What a token claims: an id, and a secret of which only the digest is kept. Has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimedToken {
    /// The token's id.
    pub id: String,
    /// SHA-256 of the secret.
    pub secret_sha256: Sha256Digest,
}

impl ClaimedToken {
    /// Takes a token apart. `None` for what was never one.
    pub fn parse(kind: TokenKind, text: &str) -> Option<Self> {
        let rest = text.strip_prefix(kind.prefix())?;
        // By place: a secret may have an underscore.
        let (id, secret) = rest.split_at_checked(ID_CHARS)?;
        let secret = secret.strip_prefix('_')?;
        let is_id = id
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        let decoded = URL_SAFE_NO_PAD.decode(secret).ok()?;
        (is_id && decoded.len() == SECRET_BYTES).then(|| Self {
            id: id.to_owned(),
            secret_sha256: Sha256Digest::of(secret.as_bytes()),
        })
    }

    /// Whether it has the secret with that digest. Takes the same time whatever the answer is.
    pub fn has_secret(&self, secret_sha256: &Sha256Digest) -> bool {
        verify_slices_are_equal(self.secret_sha256.as_bytes(), secret_sha256.as_bytes()).is_ok()
    }
}

/// A token that was made just now. Has no `Debug`.
pub struct MadeToken {
    /// All of it.
    pub text: String,
    /// SHA-256 of its secret.
    pub secret_sha256: Sha256Digest,
}

impl MadeToken {
    fn of(kind: TokenKind, id: &str, secret: &[u8]) -> Self {
        let secret = URL_SAFE_NO_PAD.encode(secret);
        Self {
            secret_sha256: Sha256Digest::of(secret.as_bytes()),
            text: format!("{}{id}_{secret}", kind.prefix()),
        }
    }

    /// A token with a random secret, which nobody can be told again.
    pub fn random(kind: TokenKind, id: &str) -> Result<Self, SecretKeyError> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(|_| SecretKeyError::Random)?;
        Ok(Self::of(kind, id, &secret))
    }
}

/// The key that tokens' secrets are derived with. Has no `Debug`.
pub struct SecretKey(hmac::Key);

/// The key cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum SecretKeyError {
    /// The file.
    #[error(transparent)]
    File(#[from] crate::authority::AuthorityFileError),
    /// Something else is in it.
    #[error("{} does not have the {} bytes of a key", .0.display(), SECRET_BYTES)]
    Malformed(PathBuf),
    /// No random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

impl SecretKey {
    /// Makes the key, where there is none yet.
    pub fn create(dir: &Path) -> Result<Self, SecretKeyError> {
        let mut key = [0; SECRET_BYTES];
        getrandom::fill(&mut key).map_err(|_| SecretKeyError::Random)?;
        crate::authority::write_new(&dir.join(SECRET_KEY_FILE), &key, 0o600)?;
        Ok(Self::of(&key))
    }

    /// Reads the key. Replicas have the same.
    pub fn open(path: &Path) -> Result<Self, SecretKeyError> {
        crate::authority::check_private(path)?;
        let key = crate::authority::read(path)?;
        if key.len() != SECRET_BYTES {
            return Err(SecretKeyError::Malformed(path.to_owned()));
        }
        Ok(Self::of(&key))
    }

    fn of(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The token that a request of a principal makes: the same, however often it is asked.
    pub fn token(&self, kind: TokenKind, id: &str, principal: &str, key_sha256: &[u8; 32]) -> MadeToken {
        let mut context = hmac::Context::with_key(&self.0);
        // All parts but the last have lengths that do not depend on who asks, or end where no id goes on.
        for part in ["token", kind.prefix(), id, principal] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
        context.update(key_sha256);
        MadeToken::of(kind, id, context.sign().as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01JZZZZZZZZZZZZZZZZZZZZZZZ";

    fn key() -> SecretKey {
        SecretKey::of(&[7; SECRET_BYTES])
    }

    #[test]
    fn a_token_that_was_made_has_its_secret_and_no_other() {
        for kind in [TokenKind::Operator, TokenKind::Enrollment] {
            let made = MadeToken::random(kind, ID).unwrap();
            let claimed = ClaimedToken::parse(kind, &made.text).unwrap();
            assert_eq!(claimed.id, ID);
            assert!(claimed.has_secret(&made.secret_sha256));
            let other = MadeToken::random(kind, ID).unwrap();
            assert!(!claimed.has_secret(&other.secret_sha256));
        }
    }

    #[test]
    fn one_kind_of_token_is_not_the_other() {
        let made = MadeToken::random(TokenKind::Enrollment, ID).unwrap();
        assert!(ClaimedToken::parse(TokenKind::Operator, &made.text).is_none());
    }

    #[test]
    fn the_same_request_makes_the_same_token_and_any_other_another() {
        let token = |kind, id: &str, principal: &str, key_sha256: u8| {
            key().token(kind, id, principal, &[key_sha256; 32]).text
        };
        let first = token(TokenKind::Operator, ID, "a", 1);
        assert_eq!(first, token(TokenKind::Operator, ID, "a", 1));
        let secret = |text: &str| text.rsplit_at(43);
        for other in [
            token(TokenKind::Operator, ID, "b", 1),
            token(TokenKind::Operator, ID, "a", 2),
            token(TokenKind::Enrollment, ID, "a", 1),
            token(TokenKind::Operator, "01JAAAAAAAAAAAAAAAAAAAAAAA", "a", 1),
        ] {
            assert_ne!(secret(&first), secret(&other));
        }
    }

    trait RSplit {
        fn rsplit_at(&self, count: usize) -> String;
    }

    impl RSplit for str {
        fn rsplit_at(&self, count: usize) -> String {
            self.chars().skip(self.len() - count).collect()
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        let made = MadeToken::random(TokenKind::Operator, ID).unwrap().text;
        for text in [
            "",
            "plfm_op_",
            "Bearer",
            &made[..made.len() - 1],
            &format!("{made}A"),
            "plfm_op_é",
        ] {
            assert!(ClaimedToken::parse(TokenKind::Operator, text).is_none(), "{text}");
        }
    }
}
