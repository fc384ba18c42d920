//! So many bytes a second, as people write it.

use std::{fmt, num::NonZeroU64};

/// From here on; below it not even a request and its answer would come through in a second.
const BYTES_MIN: u64 = 1024;
/// Up to here. What is more is no limit of anything.
const BYTES_MAX: u64 = 1 << 40;

const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("", 1),
];

/// Bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// Reads a whole number, by itself or with a unit: `1048576`, `500KiB`, `10 MiB`.
    ///
    /// # Errors
    ///
    /// What is expected instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        let problem = || {
            format!(
                "`{text}` is no number of bytes a second: expected a whole number with KiB, MiB or \
                 GiB, such as \"10MiB\", from 1KiB to 1024GiB"
            )
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[digits.len()..];
        let digits = digits.trim_end_matches(' ');
        let unit = UNITS.iter().find(|(name, _)| *name == unit);
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        unit.filter(|_| is_number)
            .and_then(|(_, size)| digits.parse::<u64>().ok()?.checked_mul(*size))
            .filter(|bytes| (BYTES_MIN..=BYTES_MAX).contains(bytes))
            .and_then(NonZeroU64::new)
            .map(Self)
            .ok_or_else(problem)
    }

    /// In bytes a second.
    pub const fn get(self) -> NonZeroU64 {
        self.0
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.get();
        let whole = UNITS.iter().find(|(_, size)| bytes.is_multiple_of(*size));
        let (name, size) = whole.unwrap_or(&("", 1));
        write!(f, "{}{name}", bytes / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_reads_back_from_its_words() {
        for (text, bytes, words) in [
            ("1024", 1024, "1KiB"),
            ("1025", 1025, "1025"),
            ("1536KiB", 1_572_864, "1536KiB"),
            ("10 MiB", 10_485_760, "10MiB"),
            ("1024GiB", 1 << 40, "1024GiB"),
        ] {
            let rate = Rate::parse(text).unwrap();

            assert_eq!(
                (rate.get().get(), rate.to_string().as_str()),
                (bytes, words)
            );
            assert_eq!(Rate::parse(words).unwrap(), rate);
        }
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            "MiB",
            "-1MiB",
            "1.5MiB",
            "1MB",
            "1mib",
            "1023",
            "0",
            "2048GiB",
            "1 M iB",
            "99999999999999999999",
            "18446744073709551615GiB",
        ] {
            assert!(Rate::parse(text).is_err(), "{text} was taken");
        }
    }
}
