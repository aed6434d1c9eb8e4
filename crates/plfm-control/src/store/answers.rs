//! What was answered to a request that may be sent again.

use jiff::Timestamp;

use super::backend::{Arg, Change, Sql};
use super::moment::{Micros, moment};
use super::{AppendError, Store, StoreError};

/// The answer to one request of one principal. Has no `Debug`: the body may be for the principal's eyes only.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    /// SHA-256 of the idempotency key.
    pub key_sha256: [u8; 32],
    /// Who asked: a token's or a host's id.
    pub principal: String,
    /// SHA-256 of what was asked: method, path and body. Another one under the same key is not the same request.
    pub body_sha256: [u8; 32],
    /// The status.
    pub status: u16,
    /// The body, without secrets.
    pub body: Vec<u8>,
    /// When it was answered. Kept to the microsecond.
    pub at: Timestamp,
}

const INSERT: Sql = Sql::shared(
    "INSERT INTO answers (principal, key_sha256, body_sha256, status, body, at) VALUES ($1, $2, $3, $4, $5, $6)
     ON CONFLICT (principal, key_sha256) DO NOTHING",
);

const SELECT: Sql =
    Sql::shared("SELECT body_sha256, status, body, at FROM answers WHERE principal = $1 AND key_sha256 = $2");

impl Store {
    /// What was answered to a principal's request with that key.
    pub async fn answer(&self, principal: &str, key_sha256: &[u8; 32]) -> Result<Option<Answer>, StoreError> {
        let key = hex::encode(key_sha256);
        let rows = self
            .backend
            .rows(SELECT, &[Arg::Text(principal), Arg::Text(&key)])
            .await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let mut body_sha256 = [0; 32];
        hex::decode_to_slice(row.text(0)?, &mut body_sha256)
            .map_err(|_| StoreError::corrupt("an answer's body_sha256"))?;
        Ok(Some(Answer {
            key_sha256: *key_sha256,
            principal: principal.to_owned(),
            body_sha256,
            status: u16::try_from(row.int(1)?).map_err(|_| StoreError::corrupt("an answer's status"))?,
            body: row.bytes(2)?,
            at: moment(row.int(3)?)?,
        }))
    }

    /// Keeps the answer to a request that changed nothing.
    pub async fn keep_answer(&self, answer: &Answer) -> Result<(), AppendError> {
        let mut change = self.backend.begin().await?;
        insert_answer(&mut change, answer).await?;
        change.commit().await?;
        Ok(())
    }

    /// Forgets answers from before a moment. How many there were.
    pub async fn forget_answers(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.backend
            .execute(
                Sql::shared("DELETE FROM answers WHERE at < $1"),
                &[Arg::Int(before.micros())],
            )
            .await
    }
}

/// In PostgreSQL it waits for another try of the same request that is under way.
pub(super) async fn insert_answer(change: &mut Change, answer: &Answer) -> Result<(), AppendError> {
    let key = hex::encode(answer.key_sha256);
    let body_sha256 = hex::encode(answer.body_sha256);
    let args = [
        Arg::Text(&answer.principal),
        Arg::Text(&key),
        Arg::Text(&body_sha256),
        Arg::Int(answer.status.into()),
        Arg::Bytes(&answer.body),
        Arg::Int(answer.at.micros()),
    ];
    match change.execute(INSERT, &args).await? {
        0 => Err(AppendError::Answered),
        _ => Ok(()),
    }
}
