//! How sure one can be of a rate that was counted.

use statrs::distribution::{Beta, ContinuousCDF};

/// Half of what the interval leaves out.
const TAIL: f64 = 0.025;

/// The interval that holds the true rate in at least 95 of 100 cases, where `have` of `of` were counted; 0 to 1 where nothing
/// was. Parts of boots are what weighing leaves: the interval is then for samples of their size.
///
/// Source: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", 1934.
pub fn clopper_pearson(have: f64, of: f64) -> [f64; 2] {
    let end = |a: f64, b: f64, at: f64, otherwise: f64| {
        Beta::new(a, b).map_or(otherwise, |law| law.inverse_cdf(at))
    };
    let low = if have <= 0.0 {
        0.0
    } else {
        end(have, of - have + 1.0, TAIL, 0.0)
    };
    let high = if have >= of {
        1.0
    } else {
        end(have + 1.0, of - have, 1.0 - TAIL, 1.0)
    };
    [low, high]
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn near(found: [f64; 2], low: f64, high: f64) {
        assert!(
            (found[0] - low).abs() < 1e-4 && (found[1] - high).abs() < 1e-4,
            "{found:?}"
        );
    }

    #[test]
    fn the_interval_is_the_known_one() {
        near(clopper_pearson(0.0, 2_000.0), 0.0, 0.001_843);
        near(clopper_pearson(2_000.0, 2_000.0), 0.998_157, 1.0);
        near(clopper_pearson(10.0, 100.0), 0.049_0, 0.176_2);
        near(clopper_pearson(1.0, 1.0), 0.025, 1.0);
        near(clopper_pearson(0.0, 0.0), 0.0, 1.0);
    }

    #[test]
    fn many_boots_make_it_narrow() {
        let [low, high] = clopper_pearson(10_000.0, 1_000_000.0);
        assert!(low > 0.009_8 && high < 0.010_2, "{low} {high}");
    }
}
