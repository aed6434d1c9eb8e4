//! Frames from the agent, to standard output and standard error.

use std::io::{self, Write};

use plfm_guest_protocol::{ExecExit, FrameDecoder, FrameType};

use crate::output::{Category, CliError};

/// Writes a program's output where it belongs.
pub struct OutputSplitter {
    decoder: FrameDecoder,
    /// Whether the program's standard output goes to standard error: ours holds one JSON document then.
    all_to_stderr: bool,
}

impl OutputSplitter {
    pub fn new(all_to_stderr: bool) -> Self {
        Self {
            decoder: FrameDecoder::default(),
            all_to_stderr,
        }
    }

    /// Takes bytes from the agent; gives the program's end, if it is among them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<ExecExit>, CliError> {
        self.decoder.push(bytes);
        let broken = |error: &(dyn std::error::Error + 'static)| {
            CliError::from_error(Category::Internal, "output_broken", error)
        };
        while let Some(frame) = self.decoder.next_frame().map_err(|error| broken(&error))? {
            match frame.kind {
                FrameType::Stdout if !self.all_to_stderr => write(io::stdout(), &frame.payload)?,
                FrameType::Stdout | FrameType::Stderr => write(io::stderr(), &frame.payload)?,
                FrameType::Exit => {
                    return serde_json::from_slice(&frame.payload)
                        .map(Some)
                        .map_err(|error| broken(&error));
                }
                FrameType::Stdin | FrameType::Control => {}
            }
        }
        Ok(None)
    }
}

fn write(mut to: impl Write, bytes: &[u8]) -> Result<(), CliError> {
    to.write_all(bytes).and_then(|()| to.flush()).map_err(|error| {
        CliError::new(
            Category::Failure,
            "output_unwritable",
            format!("cannot write the program's output: {error}"),
        )
    })
}
