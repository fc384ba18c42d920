//! From values to places on a picture, and where its axes have their marks.

use std::time::Duration;

/// How wide a picture is, names at its left included.
pub(super) const WIDTH: f64 = 1080.0;

/// Where time begins: to the left are names.
pub(super) const LEFT: f64 = 132.0;

/// Where it ends.
pub(super) const RIGHT: f64 = WIDTH - 14.0;

/// The most marks on an axis of time.
const TICKS_MAX: u128 = 10;

/// Time, from left to right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    lasted: Duration,
}

impl Time {
    /// Of a run that lasted so long.
    pub(super) const fn of(lasted: Duration) -> Self {
        // What took no time is a point; it is drawn as a second.
        let lasted = if lasted.is_zero() {
            Duration::from_secs(1)
        } else {
            lasted
        };
        Self { lasted }
    }

    /// The place of a moment; what is after the end is at the end.
    pub(super) fn x(&self, at: Duration) -> f64 {
        let share = at.as_secs_f64() / self.lasted.as_secs_f64();
        LEFT + share.min(1.0) * (RIGHT - LEFT)
    }

    /// The end.
    pub(super) const fn end(&self) -> Duration {
        self.lasted
    }

    /// Round moments, at most [`TICKS_MAX`] after the beginning.
    pub(super) fn ticks(&self) -> Vec<Duration> {
        const MILLIS: [u64; 22] = [
            1, 5, 10, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000,
            120_000, 300_000, 600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 86_400_000,
        ];
        let fits = |step: &Duration| self.lasted.as_nanos() / step.as_nanos() <= TICKS_MAX;
        let mut steps = MILLIS.into_iter().map(Duration::from_millis);
        let step = steps.find(fits).unwrap_or(self.lasted);
        let moments = (0..=10_u32).map(|number| step * number);
        moments.take_while(|at| *at <= self.lasted).collect()
    }
}

/// Spans by decades, from bottom to top: what matters is ten times or a tenth.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decades {
    low: i32,
    high: i32,
}

impl Decades {
    /// What holds all these; between them is at least one decade.
    pub(super) fn holding(spans: impl IntoIterator<Item = Duration>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for span in spans {
            let seconds = span.as_secs_f64().max(1e-6);
            least = least.min(seconds);
            most = most.max(seconds);
        }
        if most == 0.0 {
            return Self { low: -3, high: 0 };
        }
        let low = decade(least.log10().floor());
        let high = decade(most.log10().ceil()).max(low + 1);
        Self { low, high }
    }

    /// The share of the height.
    pub(super) fn share(&self, span: Duration) -> f64 {
        let decades = span.as_secs_f64().max(1e-6).log10() - f64::from(self.low);
        (decades / f64::from(self.high - self.low)).clamp(0.0, 1.0)
    }

    /// The bottom, the top, and what is between them.
    pub(super) fn ticks(&self) -> Vec<Duration> {
        let decades = self.low..=self.high;
        let spans = decades.map(|decade| Duration::from_secs_f64(10_f64.powi(decade)));
        spans.collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the logarithm of a Duration has two digits"
)]
const fn decade(logarithm: f64) -> i32 {
    logarithm as i32
}

/// The next 1, 2 or 5 with zeros: where an axis from nothing ends.
pub(super) fn round_up(number: u64) -> u64 {
    let mut power = 1_u64;
    loop {
        for digit in [1, 2, 5] {
            match power.checked_mul(digit) {
                Some(round) if round >= number => return round,
                Some(_) => {}
                None => return u64::MAX,
            }
        }
        let Some(next) = power.checked_mul(10) else {
            return u64::MAX;
        };
        power = next;
    }
}

/// The small pictures of the overview.
pub(super) struct Strip;

impl Strip {
    /// The pixel of a share of the width.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of two hundred pixels"
    )]
    pub(super) fn pixel(share: f64) -> u32 {
        (share.clamp(0.0, 1.0) * 236.0).round() as u32 + 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_of_time_are_few_and_inside(nanos in 0..u64::MAX) {
            let time = Time::of(Duration::from_nanos(nanos));

            let ticks = time.ticks();

            prop_assert!((1..=11).contains(&ticks.len()), "{ticks:?}");
            prop_assert!(ticks.iter().all(|at| (LEFT..=RIGHT).contains(&time.x(*at))));
        }

        #[test]
        fn every_span_is_on_its_axis(nanos in prop::collection::vec(any::<u64>(), 0..9)) {
            let spans = nanos.into_iter().map(Duration::from_nanos);

            let decades = Decades::holding(spans.clone());

            prop_assert!(decades.ticks().len() >= 2);
            for span in spans {
                prop_assert!((0.0..=1.0).contains(&decades.share(span)));
            }
        }

        #[test]
        fn an_axis_ends_at_or_after_its_highest_value(number in any::<u64>()) {
            prop_assert!(round_up(number) >= number);
        }
    }

    #[test]
    fn an_axis_ends_at_a_round_number() {
        assert_eq!(
            [0, 1, 3, 17, 400, 600].map(round_up),
            [1, 1, 5, 20, 500, 1000]
        );
    }
}
