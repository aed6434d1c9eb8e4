//! Plots.

use std::path::Path;

use anyhow::Result;

/// Draws.
pub fn draw(_json: &Path, _out: &Path) -> Result<()> {
    Ok(())
}
