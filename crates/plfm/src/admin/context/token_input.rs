//! A token from a file or from standard input, never from the command line: other users can read that.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::output::{Category, CliError};

/// Most bytes read: far more than a token has.
const BYTES_MAX: u64 = 4_096;

/// The file's content.
pub fn load(path: &Path) -> Result<Zeroizing<String>, CliError> {
    let file = File::open(path).map_err(|error| unreadable(&path.display().to_string(), &error))?;
    read_from(&path.display().to_string(), file)
}

/// All of standard input; on a terminal one line, which is not shown.
pub fn read() -> Result<Zeroizing<String>, CliError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return read_from("standard input", stdin.lock());
    }
    // First: whoever types as soon as they are asked is not shown either.
    let silence = Silence::begin();
    eprint!("token: ");
    let mut line = Zeroizing::new(String::new());
    let read = stdin.read_line(&mut line);
    drop(silence);
    eprintln!();
    read.map(|_| line)
        .map_err(|error| unreadable("standard input", &error))
}

fn read_from(what: &str, from: impl Read) -> Result<Zeroizing<String>, CliError> {
    let mut text = Zeroizing::new(String::new());
    from.take(BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(what, &error))?;
    Ok(text)
}

fn unreadable(what: &str, error: &io::Error) -> CliError {
    let message = format!("cannot read the token from {what}: {error}");
    CliError::new(Category::Failure, "token_unreadable", message)
}

/// A terminal that does not show what is typed, until it is dropped.
struct Silence(Termios);

impl Silence {
    fn begin() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent).ok()?;
        Some(Self(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
