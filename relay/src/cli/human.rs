//! Quantities and foreign text as people read them.

use std::{fmt::Write as _, time::Duration};

use jiff::Timestamp;

/// A span in its two largest units: `850 ms`, `12 s`, `3 min 5 s`, `2 h 4 min`, `9 d 3 h`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        small => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3_600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => pair(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => pair(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// How long ago something was: `just now` within a second.
pub fn ago(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        "just now".to_owned()
    } else {
        format!("{} ago", span(duration))
    }
}

/// A round trip with the digits that matter: `0.34 ms`, `4.2 ms`, `83 ms`.
pub fn round_trip(rtt_ms: f64) -> String {
    match rtt_ms {
        ms if ms < 1.0 => format!("{ms:.2} ms"),
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

/// A number of bytes in binary units: `812 B`, `1.5 KiB`, `2.0 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// A moment of the relay's, in UTC to the second; unreadable text as it came.
pub fn moment(text: &str) -> String {
    match text.parse::<Timestamp>() {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => printable(text),
    }
}

/// How long ago a moment of the relay's was; `None` where the text is no moment.
pub fn since(text: &str, now: Timestamp) -> Option<Duration> {
    let moment = text.parse::<Timestamp>().ok()?;
    Some(
        now.duration_since(moment)
            .try_into()
            .unwrap_or(Duration::ZERO),
    )
}

/// Text of somebody else's machine, made safe to print: a control character could
/// move the cursor, hide a line or rename the terminal's window.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            write!(safe, "\\u{{{:x}}}", u32::from(character))
                .expect("writing to a string does not fail");
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Marks that reorder or hide what stands around them.
const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_their_two_largest_units() {
        let cases = [
            (850, "850 ms"),
            (12_999, "12 s"),
            (185_000, "3 min 5 s"),
            (180_000, "3 min"),
            (7_440_000, "2 h 4 min"),
            (788_400_000, "9 d 3 h"),
        ];

        for (ms, want) in cases {
            assert_eq!(span(Duration::from_millis(ms)), want);
        }
    }

    #[test]
    fn bytes_change_their_unit_before_they_show_a_fourth_digit() {
        let cases = [
            (812, "812 B"),
            (1536, "1.5 KiB"),
            (1_048_570, "1.0 MiB"),
            (1 << 31, "2.0 GiB"),
        ];

        for (count, want) in cases {
            assert_eq!(bytes(count), want);
        }
    }

    #[test]
    fn round_trips_have_two_digits_that_matter() {
        assert_eq!(
            [0.336, 4.24, 83.4].map(round_trip),
            ["0.34 ms", "4.2 ms", "83 ms"]
        );
    }

    #[test]
    fn control_characters_of_a_peer_never_reach_the_terminal() {
        assert_eq!(printable("web\x1b[2J\u{202e}1"), "web\\u{1b}[2J\\u{202e}1");
    }

    #[test]
    fn a_moment_is_shown_in_utc_and_anything_else_as_it_came() {
        assert_eq!(
            moment("2026-11-23T14:05:06.789Z"),
            "2026-11-23 14:05:06 UTC"
        );
        assert_eq!(moment("soon"), "soon");
    }

    #[test]
    fn a_moment_in_the_future_was_no_time_ago() {
        let now = Timestamp::UNIX_EPOCH;

        assert_eq!(since("2026-11-23T14:05:06Z", now), Some(Duration::ZERO));
    }
}
