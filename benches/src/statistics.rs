//! Medians, ranges and percentiles. Nothing is averaged: one bad round would colour all.

use serde::{Deserialize, Serialize};

/// One figure of several rounds: its median, and how far the rounds lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The middle one; of an even number of rounds, half-way between the middle two.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Spread {
    /// The spread of some values; `None` where there are none. Values that are no
    /// number are left out.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().filter(|one| one.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self {
            median,
            least,
            most,
        })
    }
}

/// The smallest value that `percent` of all values do not exceed (nearest rank), in the
/// unit of the values; `None` where there are none. Sorts the values.
///
/// # Panics
/// Where `percent` is not within 0 to 100.
pub fn percentile(values: &mut [u64], percent: f64) -> Option<u64> {
    assert!(
        (0.0..=100.0).contains(&percent),
        "{percent} is no percentage"
    );
    values.sort_unstable();
    let rank = (percent / 100.0 * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
        Spread::of(values.iter().copied()).map(|all| (all.median, all.least, all.most))
    }

    #[test]
    fn the_median_of_an_odd_number_is_the_middle_one_whatever_the_order() {
        assert_eq!(spread(&[9.0, 1.0, 3.0]), Some((3.0, 1.0, 9.0)));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(spread(&[4.0, 1.0, 2.0, 100.0]), Some((3.0, 1.0, 100.0)));
    }

    #[test]
    fn one_wild_round_does_not_move_the_median() {
        let calm = spread(&[10.0, 11.0, 12.0]).map(|(median, ..)| median);
        let wild = spread(&[10.0, 11.0, 90_000.0]).map(|(median, ..)| median);

        assert_eq!(calm, wild);
    }

    #[test]
    fn what_is_no_number_does_not_count() {
        assert_eq!(
            spread(&[f64::NAN, 2.0, f64::INFINITY]),
            Some((2.0, 2.0, 2.0))
        );
        assert_eq!(spread(&[f64::NAN]), None);
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let mut hundred: Vec<u64> = (1..=100).rev().collect();

        assert_eq!(percentile(&mut hundred, 50.0), Some(50));
        assert_eq!(percentile(&mut hundred, 99.0), Some(99));
        assert_eq!(percentile(&mut hundred, 100.0), Some(100));
        assert_eq!(percentile(&mut hundred, 0.0), Some(1));
    }

    #[test]
    fn the_percentiles_of_few_values_stay_within_them() {
        assert_eq!(percentile(&mut [7], 99.0), Some(7));
        assert_eq!(percentile(&mut [7, 3], 99.0), Some(7));
        assert_eq!(percentile(&mut [7, 3], 50.0), Some(3));
        assert_eq!(percentile(&mut [], 50.0), None);
    }
}
