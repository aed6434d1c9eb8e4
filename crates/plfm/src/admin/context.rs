//! `plfm admin context`: which control planes there are.

mod token_input;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::config::{Config, Context, Token};
use super::connection::{Environment, load_ca, no_such_context, parse_url};
use crate::output::{Category, CliError, Output, render_fields};
use crate::table::render_table;

/// Longest name of a context.
const NAME_MAX: usize = 64;

/// Verbs of `plfm admin context`.
#[derive(Debug, Subcommand)]
pub enum ContextCommand {
    /// List the contexts
    List,
    /// Add a control plane; the first one becomes the current one
    Add(AddArgs),
    /// Make a context the current one
    Use(NameArgs),
    /// Forget a context, and its token with it
    Remove(NameArgs),
}

/// A context's name.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The context
    name: String,
}

/// Arguments of `plfm admin context add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// What to call it
    #[arg(value_parser = parse_name)]
    name: String,
    /// Where the control plane is
    #[arg(long)]
    url: String,
    /// File with the CA's certificate, PEM; no other is taken. It is copied
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// File with the operator's token; without it the token is read from standard input
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Replace a context of that name
    #[arg(long)]
    replace: bool,
}

/// A line of `plfm admin context list`, and what the other verbs print.
#[derive(Debug, Serialize)]
struct ContextReport {
    name: String,
    url: String,
    current: bool,
}

#[derive(Debug, Serialize)]
struct ContextList {
    items: Vec<ContextReport>,
}

impl ContextCommand {
    pub fn run(self, out: &Output) -> Result<(), CliError> {
        let path = Environment::read().config_path()?;
        let mut config = Config::load(&path)?;
        match self {
            Self::List => {
                let items = config.contexts.keys().filter_map(|name| report(&config, name));
                let list = ContextList {
                    items: items.collect(),
                };
                out.result(&list, render_list)
            }
            Self::Add(args) => {
                let name = args.add(&mut config)?;
                config.store(&path)?;
                finish(out, &config, &name, "added")
            }
            Self::Use(NameArgs { name }) => {
                if !config.contexts.contains_key(&name) {
                    return Err(no_such_context(&name));
                }
                config.current = Some(name.clone());
                config.store(&path)?;
                finish(out, &config, &name, "is the current one")
            }
            Self::Remove(NameArgs { name }) => remove(out, config, &path, &name),
        }
    }
}

impl AddArgs {
    fn add(self, config: &mut Config) -> Result<String, CliError> {
        let name = self.name;
        if config.contexts.contains_key(&name) && !self.replace {
            let message = format!("there is a context {name:?} already");
            let error = CliError::new(Category::Conflict, "context_exists", message);
            return Err(error.with_hint(Some("--replace puts this one in its place".to_owned())));
        }
        let url = parse_url(&self.url)?;
        let ca = load_ca(&self.ca)?;
        let token = match &self.token_file {
            Some(path) => token_input::load(path)?,
            None => token_input::read()?,
        };
        let context = Context {
            url: url.to_string(),
            ca,
            token: Token::parse(&token).map_err(|error| {
                error.with_hint(Some(
                    "give it on standard input, or in a file: --token-file".to_owned(),
                ))
            })?,
        };
        config.contexts.insert(name.clone(), context);
        config.current.get_or_insert_with(|| name.clone());
        Ok(name)
    }
}

fn remove(out: &Output, mut config: Config, path: &std::path::Path, name: &str) -> Result<(), CliError> {
    let mut report = report(&config, name).ok_or_else(|| no_such_context(name))?;
    config.contexts.remove(name);
    if report.current {
        config.current = None;
    }
    config.store(path)?;
    report.current = false;
    out.result(&report, |report| {
        let next = "the token still works; take it back with `plfm admin tokens revoke` where that is meant";
        let fields = [("url", report.url.clone()), ("note", next.to_owned())];
        format!("context {} is forgotten\n{}", report.name, render_fields(&fields))
    })
}

fn report(config: &Config, name: &str) -> Option<ContextReport> {
    let context = config.contexts.get(name)?;
    Some(ContextReport {
        name: name.to_owned(),
        url: context.url.clone(),
        current: config.current.as_deref() == Some(name),
    })
}

fn finish(out: &Output, config: &Config, name: &str, verb: &str) -> Result<(), CliError> {
    let report = report(config, name).ok_or_else(|| no_such_context(name))?;
    out.result(&report, |report| {
        let next = match report.current {
            true => "plfm admin whoami".to_owned(),
            false => format!("plfm admin context use {}", report.name),
        };
        let fields = [
            ("url", report.url.clone()),
            ("current", if report.current { "yes" } else { "no" }.to_owned()),
            ("next", next),
        ];
        format!("context {} {verb}\n{}", report.name, render_fields(&fields))
    })
}

fn render_list(list: &ContextList) -> String {
    if list.items.is_empty() {
        return "no contexts; `plfm admin context add` makes one\n".to_owned();
    }
    let rows = list.items.iter().map(|report| {
        let current = if report.current { "yes" } else { "no" };
        [report.name.clone(), current.to_owned(), report.url.clone()]
    });
    render_table(["CONTEXT", "CURRENT", "URL"], rows)
}

fn parse_name(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_name = (1..=NAME_MAX).contains(&text.len())
        && text.bytes().all(is_plain)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric());
    match is_name {
        true => Ok(text.to_owned()),
        false => Err("a context's name is 1 to 64 letters, digits, dots, dashes and underscores".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_name;

    #[test]
    fn names_are_plain() {
        assert!(
            ["prod", "eu-1.staging_2", "A"]
                .into_iter()
                .all(|name| parse_name(name).is_ok())
        );
        for name in ["", "-x", ".x", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(parse_name(name).is_err(), "{name:?}");
        }
    }
}
