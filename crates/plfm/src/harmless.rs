//! Text of others, made harmless for the terminal that it is shown on.
//!
//! Names, reasons and details come from hosts and from other operators. What could move a cursor, recolour, retitle or
//! reorder is shown as what it is: `\x1b`.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a terminal might act on it instead of showing it: control characters, and those that reorder text.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Several lines: breaks and tabs stay.
pub fn harmless_text(text: &str) -> Cow<'_, str> {
    escape(
        text,
        |c| is_harmful(c) && !matches!(c, '\n' | '\t'),
        |out, c| {
            let _ = write!(out, "{}", c.escape_default());
        },
    )
}

/// One line, such as a cell of a table: breaks are shown as what they are too.
pub fn harmless_line(text: &str) -> Cow<'_, str> {
    escape(text, is_harmful, |out, c| {
        let _ = write!(out, "{}", c.escape_default());
    })
}

/// A JSON document: the same document, in other words. Only within strings may there be such characters, but for breaks.
pub fn harmless_json(document: &str) -> Cow<'_, str> {
    escape(
        document,
        |c| is_harmful(c) && c != '\n',
        |out, c| {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        },
    )
}

fn escape(text: &str, harms: impl Fn(char) -> bool, put: impl Fn(&mut String, char)) -> Cow<'_, str> {
    if !text.contains(&harms) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if harms(c) {
            put(&mut out, c);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "a\u{1b}[2Jb\u{9b}1mc\u{202e}d\r\ne\tf";

    #[test]
    fn what_could_drive_a_terminal_is_shown_as_what_it_is() {
        assert_eq!(harmless_text(EVIL), "a\\u{1b}[2Jb\\u{9b}1mc\\u{202e}d\\r\ne\tf");
        assert_eq!(harmless_line(EVIL), "a\\u{1b}[2Jb\\u{9b}1mc\\u{202e}d\\r\\ne\\tf");
    }

    #[test]
    fn json_stays_the_same_document() {
        let document = serde_json::to_string_pretty(&[EVIL]).unwrap();
        let harmless = harmless_json(&document);
        assert!(!harmless.contains(['\u{9b}', '\u{202e}']));
        assert_eq!(serde_json::from_str::<[String; 1]>(&harmless).unwrap(), [EVIL]);
    }

    #[test]
    fn other_text_is_left_as_it_is() {
        assert!(matches!(harmless_line("Grüße → 99 %"), Cow::Borrowed(_)));
    }
}
