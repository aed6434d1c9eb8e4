//! Running the programs that a build needs, with what they print.
//!
//! A program gets a cleared environment from whoever makes its `Command`, no input, and both outputs are read to the
//! end, so that it can't block on a full pipe.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;

/// How many of the last lines of the error output an error carries: a compiler's message with its context.
const TAIL_LINES_MAX: usize = 40;
/// Longest line that an error carries, in characters: a linker's command line has thousands, its end says little.
const TAIL_LINE_CHARS_MAX: usize = 1000;

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It failed.
    #[error("{program} failed ({status}){}", render_tail(.tail))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its error output.
        tail: Vec<String>,
    },
    /// Its output could not be read.
    #[error("cannot read what {program} prints")]
    Read {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its output could not be kept.
    #[error("cannot write the log {}", path.display())]
    Log {
        /// The log.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn render_tail(tail: &[String]) -> String {
    if tail.is_empty() {
        String::new()
    } else {
        format!("; it said last:\n  {}", tail.join("\n  "))
    }
}

/// Runs `command`; each line of its standard output goes to `on_line`, everything it prints to `log`.
pub(crate) fn run(command: &mut Command, log: &Path, on_line: &mut dyn FnMut(&str)) -> Result<(), RunError> {
    let log_error = |source| RunError::Log {
        path: log.to_owned(),
        source,
    };
    let file = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(log_error)?;
    run_logged(command, Some(file), on_line)
}

/// Runs `command` and returns its standard output without the line break at its end.
pub(crate) fn output(command: &mut Command) -> Result<String, RunError> {
    let mut text = String::new();
    run_logged(command, None, &mut |line| {
        text.push_str(line);
        text.push('\n');
    })?;
    text.truncate(text.trim_end_matches('\n').len());
    Ok(text)
}

fn run_logged(
    command: &mut Command,
    log: Option<File>,
    on_line: &mut dyn FnMut(&str),
) -> Result<(), RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let read_error = |source| RunError::Read {
        program: program.clone(),
        source,
    };
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| RunError::Start {
        program: program.clone(),
        source,
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let log = Mutex::new(log);
    // A log that can't be written must not stop a build that goes well.
    let keep = |line: &str| {
        if let Ok(mut guard) = log.lock()
            && let Some(file) = guard.as_mut()
        {
            let _ = writeln!(file, "{line}");
        }
    };
    let (out, tail) = std::thread::scope(|scope| {
        let errors = scope.spawn(|| {
            let mut tail = VecDeque::new();
            let read = each_line(stderr, &mut |line| {
                keep(line);
                tail.push_back(line.chars().take(TAIL_LINE_CHARS_MAX).collect());
                if tail.len() > TAIL_LINES_MAX {
                    tail.pop_front();
                }
            });
            read.map(|()| tail)
        });
        let out = each_line(stdout, &mut |line| {
            keep(line);
            on_line(line);
        });
        let tail = errors
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reader of its errors died")));
        (out, tail)
    });
    let status = child.wait().map_err(read_error)?;
    out.map_err(read_error)?;
    let tail: Vec<String> = tail.map_err(read_error)?.into();
    if status.success() {
        Ok(())
    } else {
        Err(RunError::Failed {
            program,
            status,
            tail,
        })
    }
}

fn each_line(pipe: Option<impl Read>, on_line: &mut dyn FnMut(&str)) -> io::Result<()> {
    let Some(pipe) = pipe else { return Ok(()) };
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        on_line(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn an_error_carries_the_last_lines_and_the_status() {
        let error = output(&mut shell("seq 1 100 >&2; exit 3")).unwrap_err();
        let RunError::Failed { status, tail, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(status.code(), Some(3));
        assert_eq!(
            (tail.len(), tail.last().unwrap().as_str()),
            (TAIL_LINES_MAX, "100")
        );
        assert!(error.to_string().contains("it said last:\n  61\n"), "{error}");
    }

    #[test]
    fn output_is_taken_while_errors_fill_their_pipe() {
        let text = output(&mut shell(
            "head -c 300000 /dev/zero | tr '\\0' 'x' >&2; echo a; echo; echo b",
        ))
        .unwrap();
        assert_eq!(text, "a\n\nb");
    }

    #[test]
    fn a_long_line_of_output_is_whole() {
        assert_eq!(
            output(&mut shell("head -c 100000 /dev/zero | tr '\\0' 'x'"))
                .unwrap()
                .len(),
            100_000
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = output(&mut Command::new("plfm-no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "cannot run plfm-no-such-program");
    }

    #[test]
    fn both_outputs_are_in_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        run(&mut shell("echo out; echo err >&2"), &log, &mut |_| ()).unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(text.contains("out\n") && text.contains("err\n"), "{text}");
    }
}
