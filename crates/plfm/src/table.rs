//! Tables for people: columns apart by two spaces, nothing else.

use comfy_table::{Table, presets};

use crate::harmless::harmless_line;

/// A table. An empty cell is shown as a dash, so that columns can be told apart by programs like `awk` too.
pub fn render_table<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row.map(|cell| match cell.is_empty() {
            true => "-".to_owned(),
            false => harmless_line(&cell).into_owned(),
        }));
    }
    table.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// The beginning of a text that is too long for a table.
pub fn shorten(text: &str, chars_max: usize) -> String {
    match text.chars().count() > chars_max {
        true => text
            .chars()
            .take(chars_max.saturating_sub(1))
            .chain(['…'])
            .collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{render_table, shorten};

    #[test]
    fn a_text_that_fits_stays() {
        assert_eq!(
            (shorten("abc", 3), shorten("abcd", 3)),
            ("abc".into(), "ab…".into())
        );
    }

    #[test]
    fn columns_line_up_and_empty_cells_are_dashes() {
        let rows = [
            ["a".to_owned(), String::new()],
            ["long".to_owned(), "x".to_owned()],
        ];
        assert_eq!(
            render_table(["K", "VALUE"], rows),
            "K     VALUE\na     -\nlong  x\n"
        );
    }
}
