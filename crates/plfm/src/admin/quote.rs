//! Words of a command line that is shown to be run.

/// A word as a shell takes it.
pub fn quote(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._+-:/@%,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn a_word_is_one_word_to_a_shell() {
        assert_eq!(quote("web-1.a+b"), "web-1.a+b");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's; $(x)"), r"'it'\''s; $(x)'");
        assert_eq!(quote(""), "''");
    }
}
