//! A page on a terminal, drawn again in its own place.

use std::io::{self, Write as _};

use rustix::termios::tcgetwinsize;

use crate::harmless::harmless_text;

/// Rows and columns of a terminal that does not know them.
const SIZE_DEFAULT: (usize, usize) = (24, 80);

/// Where the page is: so many rows above the cursor.
#[derive(Debug, Default)]
pub struct Screen {
    rows_drawn: usize,
}

impl Screen {
    /// Draws the page in place of the one before, cut to the terminal. False when nobody looks any more.
    pub fn draw(&mut self, page: &str) -> io::Result<bool> {
        let (rows, columns) = size();
        let page = harmless_text(page);
        let (visible, is_cut) = cut(&page, rows.saturating_sub(1), columns);
        let mut frame = self.clear();
        for line in &visible {
            frame += line;
            frame.push('\n');
        }
        if is_cut {
            frame += "…";
            frame.push('\r');
        }
        self.rows_drawn = visible.len();
        write(&frame)
    }

    /// Draws the page whole, for good.
    pub fn finish(&mut self, page: &str) -> io::Result<bool> {
        let frame = self.clear() + &harmless_text(page);
        self.rows_drawn = 0;
        write(&frame)
    }

    /// What takes the page away: up, and everything below.
    fn clear(&self) -> String {
        match self.rows_drawn {
            0 => String::new(),
            rows => format!("\x1b[{rows}A\x1b[J"),
        }
    }
}

/// The lines that fit, each as far as it fits: a line that the terminal wraps would take two rows.
fn cut(page: &str, rows: usize, columns: usize) -> (Vec<String>, bool) {
    let count = page.lines().count();
    let lines = page
        .lines()
        .take(rows)
        .map(|line| line.chars().take(columns).collect());
    (lines.collect(), count > rows)
}

fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 1 && size.ws_col > 1 => {
            (usize::from(size.ws_row), usize::from(size.ws_col))
        }
        _ => SIZE_DEFAULT,
    }
}

fn write(frame: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(frame.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        other => other.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_to_the_terminal() {
        let (lines, is_cut) = cut("one\ntwo, longer\nthree\n", 2, 5);
        assert_eq!(
            (lines, is_cut),
            (vec!["one".to_owned(), "two, ".to_owned()], true)
        );
        assert!(!cut("one\ntwo\n", 2, 5).1);
    }
}
