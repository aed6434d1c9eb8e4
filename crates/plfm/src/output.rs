//! What a command leaves behind: its result on standard output, everything else on standard error, an exit code.
//!
//! Invariant: with `--output json` standard output holds one JSON document and nothing else, whether the command
//! succeeded or not; verbs that follow something write one document per line. Nothing on either can drive a terminal.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

use crate::harmless::{harmless_json, harmless_line, harmless_text};

/// How a command's result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    /// As JSON for programs; else as text for people.
    pub json: bool,
    /// Not at all: the command is a part of another one.
    pub quiet: bool,
}

/// The kind of a failure: an exit code that scripts can rely on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(
    dead_code,
    reason = "the exit codes are one table, whether or not a verb has each of them yet"
)]
pub enum Category {
    /// It was tried and did not work, or a release was refused.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Not allowed, or not logged in.
    Auth = 3,
    /// Something that was named is not there.
    NotFound = 4,
    /// Something is in the way.
    Conflict = 5,
    /// It may work when tried again.
    Transient = 6,
    /// A bug in this program.
    Internal = 7,
}

/// Why a command failed, for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CliError {
    /// The kind, which is the exit code.
    pub category: Category,
    /// The stable code.
    pub code: String,
    /// What failed, on what, why: the whole chain of causes.
    pub message: String,
    /// One thing to do about it.
    pub hint: Option<String>,
    /// Whatever else a program may want to know.
    pub details: Option<Box<Value>>,
    /// The request, as in the log of who answered it.
    pub request_id: Option<String>,
    /// Whether its JSON is the last of many documents, each on a line.
    is_one_line: bool,
}

impl CliError {
    /// An error of one line.
    pub fn new(category: Category, code: &str, message: impl Into<String>) -> Self {
        Self {
            category,
            code: code.to_owned(),
            message: message.into(),
            hint: None,
            details: None,
            request_id: None,
            is_one_line: false,
        }
    }

    /// An error with its causes.
    pub fn from_error(category: Category, code: &str, error: &(dyn Error + 'static)) -> Self {
        Self::new(category, code, render_chain(error))
    }

    /// The same error with something to do about it.
    pub fn with_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }

    /// The same error with what else a program may want to know.
    pub fn with_details(mut self, details: &impl Serialize) -> Self {
        self.details = serde_json::to_value(details).ok().map(Box::new);
        self
    }

    /// The same error, after documents that have a line each.
    pub fn on_one_line(mut self) -> Self {
        self.is_one_line = true;
        self
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        self.category as u8
    }

    /// The document of the JSON output.
    fn document(&self) -> Value {
        json!({
            "error": {
                "category": self.category,
                "code": self.code,
                "message": self.message,
                "hint": self.hint,
                "retryable": self.category == Category::Transient,
                "request_id": self.request_id,
                "details": self.details,
            }
        })
    }
}

/// An error and its causes on one line. A cause that its error repeats is left out.
pub fn render_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl Output {
    /// Writes a command's result: `value` as JSON, or `text` of it.
    ///
    /// # Errors
    /// When standard output can't be written. A reader that has gone away is no error.
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        if self.quiet {
            return Ok(());
        }
        match self.json {
            true => self.document(value),
            false => self.text(&text(value)),
        }
    }

    /// Writes a result for programs; nothing for people.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub fn document<T: Serialize>(&self, value: &T) -> Result<(), CliError> {
        if !self.json {
            return Ok(());
        }
        let document = serde_json::to_string_pretty(value).map_err(|error| unserializable(&error))?;
        write_out(&harmless_json(&document))
            .map(|_| ())
            .map_err(|error| unwritable(&error))
    }

    /// Writes a part of a result for people; nothing for programs.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub fn text(&self, text: &str) -> Result<(), CliError> {
        if self.json {
            return Ok(());
        }
        write_out(&harmless_text(text))
            .map(|_| ())
            .map_err(|error| unwritable(&error))
    }

    /// Writes one of many results that come one after another: `value` as JSON, or `text` of it, on one line.
    /// False when the reader has gone away.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub fn line<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Result<bool, CliError> {
        let line = if self.json {
            let document = serde_json::to_string(value).map_err(|error| unserializable(&error))?;
            harmless_json(&document).into_owned()
        } else {
            harmless_line(&text(value)).into_owned()
        };
        write_out(&line).map_err(|error| unwritable(&error))
    }

    /// A message to whoever watches. Never on standard output.
    pub fn note(&self, text: &str) {
        eprintln!("{}", harmless_text(text));
    }

    /// Reports a failure; what `main` returns.
    pub fn fail(&self, error: &CliError) -> ExitCode {
        if self.json {
            // Standard output is gone: the exit code still says it.
            let document = match error.is_one_line {
                true => error.document().to_string(),
                false => format!("{:#}", error.document()),
            };
            let _ = write_out(&harmless_json(&document));
        } else {
            eprintln!("error: {}", harmless_text(&error.message));
            if let Some(hint) = &error.hint {
                eprintln!("hint: {}", harmless_text(hint));
            }
            if let Some(request) = &error.request_id {
                eprintln!("request: {}", harmless_line(request));
            }
        }
        ExitCode::from(error.exit_code())
    }
}

fn unserializable(error: &serde_json::Error) -> CliError {
    CliError::from_error(Category::Internal, "unserializable", error)
}

fn unwritable(error: &io::Error) -> CliError {
    CliError::from_error(Category::Failure, "output_unwritable", error)
}

/// False when the reader has gone away.
fn write_out(text: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", text.trim_end_matches('\n')).and_then(|()| out.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

/// Lines of `label  value`, the values in one column.
pub fn render_fields(fields: &[(&str, String)]) -> String {
    let width = fields
        .iter()
        .map(|(label, _)| label.len())
        .max()
        .unwrap_or_default();
    fields.iter().fold(String::new(), |mut text, (label, value)| {
        let _ = writeln!(text, "  {label:width$}  {}", harmless_line(value));
        text
    })
}

/// A size for people.
pub fn render_size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read the keyring")]
    struct Outer(#[source] io::Error);

    #[test]
    fn the_message_is_the_whole_chain() {
        let error = CliError::from_error(Category::Failure, "x", &Outer(io::Error::other("no such luck")));
        assert_eq!(error.message, "cannot read the keyring: no such luck");
    }

    #[test]
    fn exit_codes_are_fixed() {
        use Category::*;
        let all = [Failure, Usage, Auth, NotFound, Conflict, Transient, Internal];
        let codes = all.map(|category| CliError::new(category, "x", "x").exit_code());
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn the_json_error_has_every_member() {
        let error =
            CliError::new(Category::NotFound, "no_such_key", "no key").with_hint(Some("list".to_owned()));
        let expected = r#"{"error":{"category":"not_found","code":"no_such_key","details":null,"hint":"list","message":"no key","request_id":null,"retryable":false}}"#;
        assert_eq!(
            error.document().to_string().parse::<Value>().unwrap(),
            expected.parse::<Value>().unwrap()
        );
    }

    #[test]
    fn values_are_in_one_column() {
        let fields = [("a", "1".to_owned()), ("longer", "2".to_owned())];
        assert_eq!(render_fields(&fields), "  a       1\n  longer  2\n");
    }
}
