//! Verbs about customers' images on this host, through the local agent.

mod gc;
mod list;
mod pull;
mod show;

use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use plfm_api::PullPolicy;
use plfm_rootdisk::ImageName;

use crate::agent::AgentClient;
use crate::output::{Category, CliError, Output};

pub use pull::pull_image;

/// Digits of a digest that tables show.
const DIGITS_SHOWN: usize = 12;

/// Verbs of `plfm image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Bring an image to this host and make a root disk of it
    Pull(pull::PullArgs),
    /// List the images of this host
    List,
    /// Show an image and how its program is meant to run
    Show(show::ShowArgs),
    /// Remove the images that nothing runs from
    Gc,
}

impl ImageCommand {
    pub fn run(self, out: &Output, agent: &AgentClient) -> Result<(), CliError> {
        match self {
            Self::Pull(args) => args.run(out, agent),
            Self::List => list::run(out, agent),
            Self::Show(args) => args.run(out, agent),
            Self::Gc => gc::run(out, agent),
        }
    }
}

/// An image as the command line names it; paths may be relative.
#[derive(Debug, Clone)]
pub struct ImageArg(ImageName);

impl FromStr for ImageArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| format!("{error}"))
    }
}

impl ImageArg {
    /// As the agent takes it: its working directory is another one.
    pub fn for_agent(self) -> Result<String, CliError> {
        let unusable = |why: &str| CliError::new(Category::Usage, "image_name_invalid", why);
        if self.0.path().is_some_and(|path| path.to_str().is_none()) {
            return Err(unusable("the image's path is not UTF-8"));
        }
        let here = std::env::current_dir()
            .map_err(|error| unusable(&format!("cannot tell the working directory: {error}")))?;
        Ok(self.0.below(&here).to_string())
    }
}

/// [`PullPolicy`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PullArg {
    /// If the host does not have what the name meant last
    Missing,
    /// In any case: a tag may have moved
    Always,
    /// Not at all
    Never,
}

impl From<PullArg> for PullPolicy {
    fn from(arg: PullArg) -> Self {
        match arg {
            PullArg::Missing => Self::Missing,
            PullArg::Always => Self::Always,
            PullArg::Never => Self::Never,
        }
    }
}

/// A digest as tables show it.
pub fn short_digest(digest: plfm_api::ImageDigest) -> String {
    digest.0.to_string().chars().take(DIGITS_SHOWN).collect()
}

/// The names that people gave an image; those that only pin a digest, if it has no others.
fn plain_names(names: &[String]) -> Vec<&str> {
    let plain: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| !name.contains('@'))
        .collect();
    match plain.is_empty() {
        true => names.iter().map(String::as_str).collect(),
        false => plain,
    }
}
