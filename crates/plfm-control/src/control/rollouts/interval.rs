//! How sure one can be of a rate that was counted: Clopper and Pearson's interval.

/// Half of what the interval leaves out.
const TAIL: f64 = 0.025;
/// Halvings until an end is known to more digits than are shown.
const HALVINGS: u32 = 50;
/// Terms of the continued fraction, at most: it converges in about the square root of the boots.
const TERMS_MAX: u32 = 20_000;

/// The interval that holds the true rate in at least 95 of 100 cases, where `have` of `of` failed. Parts of boots are what
/// weighing leaves; the interval is for samples of their size.
pub(super) fn clopper_pearson(have: f64, of: f64) -> [f64; 2] {
    let low = if have <= 0.0 {
        0.0
    } else {
        quantile(have, of - have + 1.0, TAIL)
    };
    let high = if have >= of {
        1.0
    } else {
        quantile(have + 1.0, of - have, 1.0 - TAIL)
    };
    [low, high]
}

/// Where the beta distribution's share below reaches `share`.
fn quantile(a: f64, b: f64, share: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        if beta_below(a, b, middle) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The regularized incomplete beta function.
fn beta_below(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges quickly below the mean; above it the other tail is taken.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta_below(b, a, 1.0 - x);
    }
    let front = a * x.ln() + b * (1.0 - x).ln() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b);
    front.exp() * fraction(a, b, x) / a
}

/// Lentz's method on the continued fraction (Abramowitz and Stegun, 26.5.8).
fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut product = d;
    for term in 1..=TERMS_MAX {
        let m = f64::from(term);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        product *= c * d;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        let step = c * d;
        product *= step;
        if (step - 1.0).abs() < 1e-14 {
            break;
        }
    }
    product
}

/// Stirling's series, after the argument was raised to where it is exact.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shift = 0.0;
    while x < 12.0 {
        shift -= x.ln();
        x += 1.0;
    }
    let square = x * x;
    let series = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / 1680.0 / square) / square) / square) / x;
    shift + (x - 0.5) * x.ln() - x + (2.0 * std::f64::consts::PI).ln() / 2.0 + series
}

#[cfg(test)]
#[allow(clippy::panic, clippy::indexing_slicing)]
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
    }

    #[test]
    fn many_boots_make_it_narrow() {
        let [low, high] = clopper_pearson(10_000.0, 1_000_000.0);
        assert!(low > 0.009_8 && high < 0.010_2, "{low} {high}");
    }
}
