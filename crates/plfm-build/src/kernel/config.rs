//! Kernel configuration: the fragment that is asked for, and whether it survived.
//!
//! `make olddefconfig` drops an option whose dependencies are not met, and says nothing. A kernel without the option
//! still builds, and fails much later, in a customer's VM.

use std::collections::BTreeMap;
use std::fmt;

const OPTION_PREFIX: &str = "CONFIG_";
const NOT_SET: &str = " is not set";

/// The options that a fragment asks for; what is said last of an option counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment(BTreeMap<String, String>);

/// A line of a fragment that is neither an option nor a comment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// The fragment is not text.
    #[error("the kernel configuration fragment is not UTF-8")]
    NotText,
    /// A line is neither an option nor a comment.
    #[error("line {line} of the kernel configuration fragment is not CONFIG_NAME=value: {text:?}")]
    BadLine {
        /// The line's number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
}

/// An option that came out otherwise than it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedOption {
    /// The option, `CONFIG_EXT4_FS`.
    pub option: String,
    /// The value asked for; `n` for an option that must not be there.
    pub wanted: String,
    /// The value it has; `n` for an option that is not there.
    pub found: String,
}

impl fmt::Display for DroppedOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={} (is {})", self.option, self.wanted, self.found)
    }
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// When a line is neither empty, a comment, nor an option.
    pub fn parse(bytes: &[u8]) -> Result<Self, FragmentError> {
        let text = std::str::from_utf8(bytes).map_err(|_| FragmentError::NotText)?;
        let mut options = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            match parse_line(line) {
                Line::Option(name, value) => {
                    options.insert(name.to_owned(), value.to_owned());
                }
                Line::Comment => {}
                Line::Bad => {
                    let text = line.chars().take(120).collect();
                    return Err(FragmentError::BadLine {
                        line: index + 1,
                        text,
                    });
                }
            }
        }
        Ok(Self(options))
    }

    /// The options, one a line, sorted, without comments: all of the fragment that can change a kernel.
    pub fn render(&self) -> String {
        self.0
            .iter()
            .map(|(option, value)| format!("{option}={value}\n"))
            .collect()
    }

    /// The options and the values asked for, sorted by option; `n` for an option that must not be there.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(option, value)| (option.as_str(), value.as_str()))
    }

    /// The same fragment with other values for some options.
    ///
    /// `changes` are pairs of option, `CONFIG_EXT4_FS`, and value; `n` asks for the option not to be there.
    pub fn with(&self, changes: &[(&str, &str)]) -> Self {
        let mut options = self.0.clone();
        options.extend(
            changes
                .iter()
                .map(|(option, value)| ((*option).to_owned(), (*value).to_owned())),
        );
        Self(options)
    }

    /// Whether the fragment asks for `option` to be `value`.
    pub fn asks_for(&self, option: &str, value: &str) -> bool {
        self.0.get(option).is_some_and(|wanted| wanted == value)
    }

    /// The options that are not in `config`, a whole `.config`, as they were asked for.
    pub fn check_survived(&self, config: &str) -> Vec<DroppedOption> {
        let found = Configured::parse(config);
        self.0
            .iter()
            .filter(|(option, wanted)| found.value(option) != wanted.as_str())
            .map(|(option, wanted)| DroppedOption {
                option: option.clone(),
                wanted: wanted.clone(),
                found: found.value(option).to_owned(),
            })
            .collect()
    }
}

/// What a whole `.config` says.
pub(super) struct Configured<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Configured<'a> {
    pub fn parse(config: &'a str) -> Self {
        let options = config.lines().filter_map(|line| match parse_line(line) {
            Line::Option(name, value) => Some((name, value)),
            Line::Comment | Line::Bad => None,
        });
        Self(options.collect())
    }

    /// The option's value; `n` for one that is not there.
    pub fn value(&self, option: &str) -> &'a str {
        self.0.get(option).copied().unwrap_or("n")
    }
}

enum Line<'a> {
    Option(&'a str, &'a str),
    Comment,
    Bad,
}

fn parse_line(line: &str) -> Line<'_> {
    let line = line.trim();
    if let Some(comment) = line.strip_prefix('#') {
        let name = comment.trim_start().strip_suffix(NOT_SET);
        return match name.filter(|name| is_option(name)) {
            Some(name) => Line::Option(name, "n"),
            None => Line::Comment,
        };
    }
    if line.is_empty() {
        return Line::Comment;
    }
    match line.split_once('=') {
        Some((name, value)) if is_option(name) && !value.is_empty() => Line::Option(name, value),
        _ => Line::Bad,
    }
}

fn is_option(name: &str) -> bool {
    name.strip_prefix(OPTION_PREFIX)
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fragment(text: &str) -> Fragment {
        Fragment::parse(text.as_bytes()).unwrap()
    }

    fn dropped(fragment_text: &str, config: &str) -> Vec<String> {
        fragment(fragment_text)
            .check_survived(config)
            .iter()
            .map(DroppedOption::to_string)
            .collect()
    }

    #[test]
    fn a_dropped_a_changed_and_an_intruding_option_are_all_named() {
        let wanted = "CONFIG_A=y\nCONFIG_B=64\nCONFIG_C=n\n# CONFIG_D is not set\nCONFIG_E=\"x=y\"\n";
        let config = "CONFIG_B=8\nCONFIG_C=y\nCONFIG_D=m\nCONFIG_E=\"x=y\"\n";
        let expected = [
            "CONFIG_A=y (is n)",
            "CONFIG_B=64 (is 8)",
            "CONFIG_C=n (is y)",
            "CONFIG_D=n (is m)",
        ];
        assert_eq!(dropped(wanted, config), expected);
    }

    #[test]
    fn an_unset_option_survives_by_absence_and_by_comment() {
        assert_eq!(
            dropped("CONFIG_A=n\nCONFIG_B=n\n", "# CONFIG_A is not set\n"),
            [""; 0]
        );
    }

    #[test]
    fn what_is_said_last_counts() {
        assert_eq!(
            dropped("CONFIG_A=y\nCONFIG_A=n\n", "CONFIG_A=y\n"),
            ["CONFIG_A=n (is y)"]
        );
    }

    #[test]
    fn changed_options_take_the_place_of_the_old_ones() {
        let changed = fragment("CONFIG_A=y\nCONFIG_B=y\n").with(&[("CONFIG_B", "n"), ("CONFIG_C", "8")]);
        let options: Vec<_> = changed.options().collect();
        assert_eq!(options, [("CONFIG_A", "y"), ("CONFIG_B", "n"), ("CONFIG_C", "8")]);
    }

    #[test]
    fn a_line_that_is_not_an_option_is_refused_with_its_number() {
        for bad in ["CONFIG_A", "A=y", "CONFIG_=y", "CONFIG_A B=y", "CONFIG_A="] {
            let error = Fragment::parse(format!("# fine\n\n{bad}\n").as_bytes()).unwrap_err();
            assert_eq!(
                error,
                FragmentError::BadLine {
                    line: 3,
                    text: bad.to_owned()
                }
            );
        }
    }

    #[test]
    fn the_default_fragment_is_one() {
        let fragment = fragment(include_str!("../../../../kernel/x86_64.config"));
        assert!(fragment.asks_for("CONFIG_PVH", "y") && fragment.asks_for("CONFIG_MODULES", "n"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_fragment_or_an_error(bytes: Vec<u8>) {
            let _ = Fragment::parse(&bytes);
        }

        #[test]
        fn a_fragment_survives_in_itself(text in "((CONFIG_[A-Z0-9]{1,3}=[ymn0-9]|# CONFIG_[A-C] is not set|# text|)\n){0,12}") {
            prop_assert_eq!(fragment(&text).check_survived(&text), vec![]);
        }

        #[test]
        fn a_fragment_round_trips(text in "((CONFIG_[A-Z0-9]{1,3}=[ymn0-9]|# CONFIG_[A-C] is not set|# text|)\n){0,12}") {
            let fragment = fragment(&text);
            prop_assert_eq!(Fragment::parse(fragment.render().as_bytes()).unwrap(), fragment);
        }
    }
}
