//! How figures are written for people: counts, spans of time, sizes, rates.

use std::time::Duration;

/// A count, with a comma between thousands.
pub fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut written = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            written.push(',');
        }
        written.push(digit);
    }
    written
}

/// A count and its noun, in the right number.
pub fn counted(number: usize, one: &str, many: &str) -> String {
    let noun = if number == 1 { one } else { many };
    format!("{} {noun}", count(number))
}

/// A span, in three digits or so: what differs beyond them differs by chance.
pub fn span(span: Duration) -> String {
    let micros = span.as_micros();
    let seconds = span.as_secs_f64();
    let rounded = (span + Duration::from_millis(500)).as_secs();
    match micros {
        0 => "0 s".to_owned(),
        1..=999 => format!("{micros} µs"),
        1_000..=9_949 => format!("{:.1} ms", seconds * 1e3),
        9_950..=999_499 => format!("{:.0} ms", seconds * 1e3),
        999_500..=9_994_999 => format!("{seconds:.2} s"),
        9_995_000..=99_949_999 => format!("{seconds:.1} s"),
        _ if rounded < 3600 => format!("{} min {:02} s", rounded / 60, rounded % 60),
        _ => {
            let minutes = (rounded + 30) / 60;
            format!("{} h {:02} min", minutes / 60, minutes % 60)
        }
    }
}

/// A moment on an axis: as few words as tell it.
pub fn moment(at: Duration) -> String {
    let (seconds, millis) = (at.as_secs(), at.subsec_millis());
    match (seconds, millis) {
        (0, 0) => "0".to_owned(),
        (0, millis) => format!("{millis} ms"),
        (1..60, 0) => format!("{seconds} s"),
        (1..60, _) => format!("{:.1} s", at.as_secs_f64()),
        (60..3600, _) => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
    }
}

/// A size in bytes.
pub fn size(bytes: u64) -> String {
    scaled(bytes, ["B", "kB", "MB", "GB"])
}

/// A rate in bits a second; none where nothing was measured.
pub fn rate(bytes: u64, took: Duration) -> Option<u64> {
    let bits = u128::from(bytes) * 8 * 1_000_000_000;
    let rate = bits.checked_div(took.as_nanos())?;
    Some(u64::try_from(rate).unwrap_or(u64::MAX))
}

/// A rate for people.
pub fn bits_per_second(rate: u64) -> String {
    scaled(rate, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s"])
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn scaled(number: u64, units: [&str; 4]) -> String {
    let mut scaled = number as f64;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < units.len() {
        scaled /= 1e3;
        unit += 1;
    }
    let unit_name = units[unit];
    if unit == 0 || scaled >= 9.95 {
        format!("{scaled:.0} {unit_name}")
    } else {
        format!("{scaled:.1} {unit_name}")
    }
}

/// The value that so many of a hundred do not exceed, by nearest rank; none of nothing.
/// `sorted` is in ascending order.
pub fn percentile<T: Copy>(sorted: &[T], hundredths: usize) -> Option<T> {
    let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_have_the_digits_that_matter() {
        let written = |nanos| span(Duration::from_nanos(nanos));

        assert_eq!(written(0), "0 s");
        assert_eq!(written(830_000), "830 µs");
        assert_eq!(written(9_949_999), "9.9 ms");
        assert_eq!(written(41_600_000), "42 ms");
        assert_eq!(written(999_499_999), "999 ms");
        assert_eq!(written(999_999_999), "1.00 s");
        assert_eq!(written(9_995_000_000), "10.0 s");
        assert_eq!(written(125_000_000_000), "2 min 05 s");
        assert_eq!(written(3_599_900_000_000), "1 h 00 min");
    }

    #[test]
    fn counts_sizes_and_rates_are_read_at_a_glance() {
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "run", "runs"), "1 run");
        assert_eq!(counted(2000, "run", "runs"), "2,000 runs");
        assert_eq!(size(1_500), "1.5 kB");
        assert_eq!(size(12), "12 B");
        assert_eq!(
            rate(1_000_000, Duration::from_secs(2)).map(bits_per_second),
            Some("4.0 Mbit/s".to_owned())
        );
        assert_eq!(rate(5, Duration::ZERO), None);
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<u32> = (1..=100).collect();

        assert_eq!(percentile(&values, 50), Some(50));
        assert_eq!(percentile(&values, 99), Some(99));
        assert_eq!(percentile(&values[..1], 99), Some(1));
        assert_eq!(percentile::<u32>(&[], 50), None);
    }

    proptest! {
        #[test]
        fn no_span_is_wider_than_a_column(nanos in any::<u64>()) {
            let width = span(Duration::from_nanos(nanos)).chars().count();
            prop_assert!(width <= 18, "{width}");
        }

        #[test]
        fn a_percentile_lies_within(values in prop::collection::vec(any::<u8>(), 1..50),
            hundredths in 0_usize..=100) {
            let mut values = values;
            values.sort_unstable();
            let found = percentile(&values, hundredths).expect("there are some");
            prop_assert!(values.contains(&found));
        }
    }
}
