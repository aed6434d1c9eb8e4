//! Files that are replaced whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Gives `name` in `dir` new content, synced: after a crash it has the old or the new one. Blocking.
pub fn replace(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    replace_with(dir, name, content, 0o644)
}

/// The same, for nobody's eyes but the agent's.
pub fn replace_private(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    replace_with(dir, name, content, 0o600)
}

fn replace_with(dir: &Path, name: &str, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.new"));
    // Of an earlier attempt, perhaps with another mode.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, dir.join(name))?;
    File::open(dir)?.sync_all()
}

/// A value as JSON for people and programs.
pub fn replace_json(dir: &Path, name: &str, value: &impl serde::Serialize) -> io::Result<()> {
    let mut content = serde_json::to_vec_pretty(value)?;
    content.push(b'\n');
    replace(dir, name, &content)
}
