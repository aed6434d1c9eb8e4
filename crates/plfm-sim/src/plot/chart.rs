//! A chart of points in groups, one colour a series, with a line for what is not certain.

use std::fmt::Write as _;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 40.0;
/// Told apart by people who do not see red and green, too (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#e69f00", "#666666"];

/// How values become heights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Axis {
    /// From nothing.
    Linear { max: f64 },
    /// In powers of ten.
    Logarithmic { min: f64, max: f64 },
}

/// A value of a series in a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) series: usize,
    pub(super) group: usize,
    pub(super) low: f64,
    pub(super) at: f64,
    pub(super) high: f64,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) groups: Vec<&'static str>,
    pub(super) series: Vec<&'static str>,
    pub(super) axis: Axis,
    pub(super) points: Vec<Point>,
}

impl Axis {
    /// How high a value is, from 0 to 1.
    fn height(self, value: f64) -> f64 {
        let height = match self {
            Self::Linear { max } => value / max,
            Self::Logarithmic { min, max } => (value.max(min) / min).ln() / (max / min).ln(),
        };
        height.clamp(0.0, 1.0)
    }

    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Linear { max } => (0..=5).map(|n| max * f64::from(n) / 5.0).collect(),
            Self::Logarithmic { min, max } => {
                let steps = (max / min).log10().round() as i32;
                (0..=steps).map(|n| min * 10_f64.powi(n)).collect()
            }
        }
    }
}

impl Chart {
    /// As SVG.
    pub(super) fn render(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>{}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{}</text>\n\
             <text x=\"{LEFT}\" y=\"36\" fill=\"#444444\">{}</text>\n",
            self.title, self.title, self.unit
        );
        self.render_legend(&mut svg);
        self.render_axes(&mut svg);
        for point in &self.points {
            self.render_point(&mut svg, point);
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * self.axis.height(value)
    }

    fn x(&self, group: usize, part: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (group as f64 + part) / self.groups.len().max(1) as f64
    }

    fn colour(series: usize) -> &'static str {
        COLOURS.get(series).copied().unwrap_or("#000000")
    }

    fn render_legend(&self, svg: &mut String) {
        for (series, name) in self.series.iter().enumerate() {
            let (x, colour) = (LEFT + 4.0 + 130.0 * series as f64, Self::colour(series));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"50\" r=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"54\">{name}</text>",
                x + 8.0
            );
        }
    }

    fn render_axes(&self, svg: &mut String) {
        for tick in self.axis.ticks() {
            let y = self.y(tick);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                number(tick)
            );
        }
        for group in 1..self.groups.len() {
            let x = self.x(group, 0.0);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{:.1}\" stroke=\"#eeeeee\"/>",
                HEIGHT - BOTTOM + 6.0
            );
        }
        for (group, name) in self.groups.iter().enumerate() {
            let (x, y) = (self.x(group, 0.5), HEIGHT - BOTTOM + 20.0);
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{name}</text>"
            );
        }
    }

    fn render_point(&self, svg: &mut String, point: &Point) {
        let part = (point.series as f64 + 1.0) / (self.series.len() as f64 + 1.0);
        let (x, colour) = (self.x(point.group, part), Self::colour(point.series));
        let [low, at, high] = [point.low, point.at, point.high].map(|value| self.y(value));
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{low:.1}\" y2=\"{high:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <circle cx=\"{x:.1}\" cy=\"{at:.1}\" r=\"4\" fill=\"{colour}\"/>"
        );
        // Only the first series' values: what the chart is about, and what there is room for.
        if point.series == 0 {
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{colour}\" stroke=\"#ffffff\" \
                 stroke-width=\"3\" paint-order=\"stroke\">{}</text>",
                high.min(at - 4.0) - 5.0,
                number(point.at)
            );
        }
    }
}

/// As people write it: thousands apart, and no more digits than mean something.
fn number(value: f64) -> String {
    if value != 0.0 && value < 10.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Axis, number};

    #[test]
    fn numbers_are_as_people_write_them() {
        let written = [0.0, 0.1, 3.75, 10.0, 38.3, 999.0, 1_000.0, 1e6].map(number);
        assert_eq!(
            written,
            ["0", "0.1", "3.8", "10", "38", "999", "1,000", "1,000,000"]
        );
    }

    #[test]
    fn heights_are_what_the_axes_say() {
        assert_eq!(Axis::Linear { max: 100.0 }.height(25.0), 0.25);
        let axis = Axis::Logarithmic { min: 1.0, max: 1e4 };
        assert!((axis.height(100.0) - 0.5).abs() < 1e-12);
        assert_eq!((axis.height(0.0), axis.height(1e9)), (0.0, 1.0));
        assert_eq!(axis.ticks().len(), 5);
    }
}
