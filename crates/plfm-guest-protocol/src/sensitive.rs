//! Text that no log, error or debug output may show.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A secret or an environment value. It serializes (the guest must get it) and never prints.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// Marks `text` as sensitive.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_text() {
        assert_eq!(
            format!("{:?}", Some(Sensitive::new("hunter2"))),
            "Some([redacted])"
        );
    }
}
