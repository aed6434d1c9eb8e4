#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn tally(failures: u32, boots: u32) -> Tally {
    Tally {
        boots: f64::from(boots),
        failures: f64::from(failures),
        ..Tally::default()
    }
}

/// The chances of 0 to `of` at a rate.
fn binomial(of: u32, rate: f64) -> Vec<f64> {
    let choose = |k: u32| (0..k).fold(1.0, |c, i| c * f64::from(of - i) / f64::from(i + 1));
    (0..=of)
        .map(|k| choose(k) * rate.powi(k as i32) * (1.0 - rate).powi((of - k) as i32))
        .collect()
}

/// What each bet's factor is on average, exactly, by going through everything that can happen in a minute.
fn expected_factors(of: (u32, u32), rates: (f64, f64), margin: f64, known: f64) -> Bets {
    let mut expected = Bets::default();
    for (have, chance) in binomial(of.0, rates.0).into_iter().enumerate() {
        for (base_have, base_chance) in binomial(of.1, rates.1).into_iter().enumerate() {
            let pair = Pair {
                candidate: tally(have as u32, of.0),
                baseline: tally(base_have as u32, of.1),
            };
            for (sum, log) in expected
                .iter_mut()
                .zip(pair_factors(&pair, Measure::Failures, margin, known))
            {
                *sum += chance * base_chance * log.exp();
            }
        }
    }
    expected
}

proptest! {
    /// The heart of it: no minute's factor is more than one on average while the claim holds, whatever the baseline does
    /// in this minute and whatever was thought of it before.
    #[test]
    fn a_minute_in_which_the_claim_holds_gives_no_evidence_on_average(
        of in 1_u32..12,
        base_of in 1_u32..30,
        base_rate in 0.0..1.0_f64,
        below in 0.0..1.0_f64,
        margin in prop::sample::select(vec![0.0, 0.01, 0.05, 0.2]),
        known in 0.000_5..0.5_f64,
    ) {
        let rate = (base_rate + margin).min(1.0) * below;
        for worst in [rate, (base_rate + margin).min(1.0)] {
            for expected in expected_factors((of, base_of), (worst, base_rate), margin, known) {
                prop_assert!(expected <= 1.0 + 1e-9, "{expected}");
            }
        }
    }

    #[test]
    fn a_boot_of_a_release_below_the_threshold_gives_no_evidence_on_average(
        threshold in 0.001..0.5_f64,
        below in 0.0..1.0_f64,
    ) {
        let rate = threshold * below;
        for gap in GAPS {
            let alternative = (threshold + gap).min(RATE_MAX);
            let expected = rate * log_ratio(1.0, 1.0, alternative, threshold).exp()
                + (1.0 - rate) * log_ratio(0.0, 1.0, alternative, threshold).exp();
            prop_assert!(expected <= 1.0 + 1e-12);
        }
    }

    /// Fractions of boots are what votes leave: they must not give more evidence than whole ones do on average.
    #[test]
    fn scaled_boots_give_no_more_evidence(of in 2_u32..12, rate in 0.0..0.05_f64, base_of in 1_u32..30) {
        let mut expected = Bets::default();
        for (have, chance) in binomial(of, rate).into_iter().enumerate() {
            for (base_have, base_chance) in binomial(base_of, rate).into_iter().enumerate() {
                let pair = Pair {
                    candidate: Tally { boots: 1.0, failures: have as f64 / f64::from(of), ..Tally::default() },
                    baseline: tally(base_have as u32, base_of),
                };
                for (sum, log) in expected.iter_mut().zip(pair_factors(&pair, Measure::Failures, 0.0, 0.01)) {
                    *sum += chance * base_chance * log.exp();
                }
            }
        }
        prop_assert!(expected.iter().all(|expected| *expected <= 1.0 + 1e-9), "{expected:?}");
    }
}

fn block(round: i64, candidate: (u32, u32), baseline: (u32, u32)) -> Block {
    Block {
        round: Minute(round),
        pair: Pair {
            candidate: tally(candidate.0, candidate.1),
            baseline: tally(baseline.0, baseline.1),
        },
    }
}

#[test]
fn six_failures_in_a_row_are_over_any_threshold_of_ten_percent() {
    let limit = 10_000_f64.ln();
    assert!(against_threshold(&[block(0, (5, 5), (0, 0))], 0.1) < limit);
    assert!(against_threshold(&[block(0, (6, 6), (0, 0))], 0.1) > limit);
}

#[test]
fn an_outage_of_both_is_no_evidence() {
    let minutes: Vec<Block> = (0..30).map(|_| block(0, (50, 100), (5_000, 10_000))).collect();
    assert!(against_baseline(&mut Factors::default(), &[], &minutes, Measure::Failures, 0.0) < 0.0);
}

#[test]
fn nothing_to_compare_with_is_no_evidence() {
    assert!(
        against_baseline(
            &mut Factors::default(),
            &[],
            &[block(0, (100, 100), (0, 0))],
            Measure::Failures,
            0.0
        ) <= 0.0
    );
    assert!(against_baseline(&mut Factors::default(), &[], &[], Measure::Failures, 0.0) <= 0.0);
}

#[test]
fn a_fault_that_begins_late_is_found_as_if_the_good_boots_before_had_not_been() {
    let good = |round| block(round, (1, 100), (100, 10_000));
    let mut minutes: Vec<Block> = (0..60).map(|minute| good(minute / 30 * 30)).collect();
    minutes.push(block(60, (20, 100), (100, 10_000)));
    minutes.push(block(60, (20, 100), (100, 10_000)));
    assert!(
        against_baseline(&mut Factors::default(), &[], &minutes, Measure::Failures, 0.05) > 10_000_f64.ln()
    );
}

#[test]
fn sums_of_logarithms_are_logarithms_of_sums() {
    let mut sum = LogSum::default();
    [2.0_f64, 0.5, 3.0].into_iter().for_each(|x| sum.add(x.ln()));
    assert!((sum.value() - 5.5_f64.ln()).abs() < 1e-12);
}
