//! Moments as they are stored: microseconds since 1970, which both databases compare and keep alike.

use jiff::Timestamp;

use super::StoreError;

pub(super) trait Micros {
    /// The moment, as it is stored.
    fn micros(&self) -> i64;
}

impl Micros for Timestamp {
    fn micros(&self) -> i64 {
        self.as_microsecond()
    }
}

pub(super) fn moment(micros: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros).map_err(|_| StoreError::corrupt(format!("{micros} is not a moment")))
}
