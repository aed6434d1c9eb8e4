//! How metrics are written: Prometheus' classic text format, which every scraper and `promtool` read.

use std::fmt::Write as _;

/// The content type of [`prometheus_text`].
pub const PROMETHEUS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// OpenMetrics text (1.0) as Prometheus text (0.0.4).
///
/// The two differ in what describes a metric: a counter is announced without its `_total`, an info is a type of its own,
/// and units and the end are lines of their own. Samples are the same.
pub fn prometheus_text(openmetrics: &str) -> String {
    let mut text = String::with_capacity(openmetrics.len());
    // The help comes before the type, and both have the name that the type decides.
    let mut help = None;
    for line in openmetrics.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some("HELP"), Some(name), rest) => help = Some((name, rest.unwrap_or_default())),
            (Some("#"), Some("TYPE"), Some(name), Some(kind)) => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    other => ("", other),
                };
                if let Some((of, words)) = help.take()
                    && of == name
                {
                    let _ = writeln!(text, "# HELP {name}{suffix} {words}");
                }
                let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
            }
            (Some("#"), _, _, _) => {}
            _ => {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_are_announced_by_the_names_of_their_samples() {
        let openmetrics = "# HELP plfm_boots Boots that hosts reported.\n# TYPE plfm_boots counter\n\
                           plfm_boots_total{release=\"a\"} 3\n# HELP plfm_build What runs here.\n# TYPE plfm_build info\n\
                           plfm_build_info{version=\"1\"} 1\n# HELP plfm_verify_seconds Time.\n\
                           # TYPE plfm_verify_seconds histogram\n# UNIT plfm_verify_seconds seconds\n\
                           plfm_verify_seconds_sum 0.1\n# EOF\n";
        let expected = "# HELP plfm_boots_total Boots that hosts reported.\n# TYPE plfm_boots_total counter\n\
                        plfm_boots_total{release=\"a\"} 3\n# HELP plfm_build_info What runs here.\n\
                        # TYPE plfm_build_info gauge\nplfm_build_info{version=\"1\"} 1\n\
                        # HELP plfm_verify_seconds Time.\n# TYPE plfm_verify_seconds histogram\n\
                        plfm_verify_seconds_sum 0.1\n";
        assert_eq!(prometheus_text(openmetrics), expected);
    }
}
