//! Sizes, durations and shell words, as people write them.

/// Bytes: a number with or without a part, and `b`, `k`, `kb`, `kib`, … of 1024.
#[must_use]
pub(super) fn bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = unsigned.split_at(end.unwrap_or(unsigned.len()));
    let power = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let factor = 1024_i64.checked_pow(power)?;
    let size = match number.parse::<i64>() {
        Ok(whole) => whole.checked_mul(factor)?,
        Err(_) => scaled(number, factor)?,
    };
    if text.starts_with('-') {
        // Only "no limit" is below nothing.
        return (size == 1 && power == 0).then_some(-1);
    }
    Some(size)
}

/// Nanoseconds: numbers with units, one after another; `0` alone is none.
#[must_use]
pub(super) fn nanos(text: &str) -> Option<i64> {
    let mut rest = text.trim();
    if rest == "0" {
        return Some(0);
    }
    let mut sum = 0_i64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(unit_end.unwrap_or(after.len()));
        let factor = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "h" => 3_600 * 1_000_000_000,
            "d" => 86_400 * 1_000_000_000,
            "w" => 7 * 86_400 * 1_000_000_000,
            _ => return None,
        };
        sum = sum.checked_add(scaled(number, factor)?)?;
        rest = after;
    }
    Some(sum)
}

/// Billionths of a core.
#[must_use]
pub(super) fn nano_cpus(text: &str) -> Option<i64> {
    scaled(text.trim(), 1_000_000_000)
}

/// A decimal number times a factor, exactly; digits below one are cut off.
fn scaled(number: &str, factor: i64) -> Option<i64> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let are_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && part.is_empty() || !are_digits(whole) || !are_digits(part) {
        return None;
    }
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<i64>().ok()?
    };
    let mut sum = i128::from(whole) * i128::from(factor);
    let mut place = i128::from(factor);
    let mut rest = 0_i128;
    let mut scale = 1_i128;
    for digit in part.bytes().take(18) {
        rest = rest * 10 + i128::from(digit - b'0');
        scale *= 10;
    }
    place = place.checked_mul(rest)? / scale;
    sum += place;
    i64::try_from(sum).ok()
}

/// Words of a command line, as a shell splits them: quotes, backslashes, and nothing else.
///
/// # Errors
///
/// A quote that is not closed.
pub(super) fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' => {
                let word = word.get_or_insert_default();
                quoted(&mut chars, '\'', word)?;
            }
            '"' => {
                let word = word.get_or_insert_default();
                quoted(&mut chars, '"', word)?;
            }
            '\\' => match chars.next() {
                // A line that goes on.
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("ends with a backslash"),
            },
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(
    chars: &mut std::str::Chars<'_>,
    quote: char,
    word: &mut String,
) -> Result<(), &'static str> {
    while let Some(c) = chars.next() {
        if c == quote {
            return Ok(());
        }
        if c != '\\' || quote == '\'' {
            word.push(c);
            continue;
        }
        match chars.next() {
            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
            Some('\n') => {}
            Some(c) => {
                word.push('\\');
                word.push(c);
            }
            None => break,
        }
    }
    Err("has a quote that is not closed")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_of_1024() {
        let sizes = [
            ("64", Some(64)),
            ("2b", Some(2)),
            ("1kb", Some(1024)),
            ("1.5g", Some(1_610_612_736)),
            ("10 MiB", Some(10 << 20)),
            ("-1", Some(-1)),
            ("-2", None),
            ("", None),
            ("1x", None),
            ("9999999p", None),
        ];
        for (text, size) in sizes {
            assert_eq!(bytes(text), size, "{text}");
        }
    }

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        let durations = [
            ("10s", Some(10_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1h5m30s20ms", Some(3_930_020_000_000)),
            ("2.5s", Some(2_500_000_000)),
            ("40us", Some(40_000)),
            ("0", Some(0)),
            ("10", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("99999999999h", None),
        ];
        for (text, duration) in durations {
            assert_eq!(nanos(text), duration, "{text}");
        }
    }

    #[test]
    fn a_command_line_is_split_as_by_a_shell() {
        let lines: [(&str, &[&str]); 6] = [
            ("a  b", &["a", "b"]),
            ("sh -c 'echo \"x y\"'", &["sh", "-c", "echo \"x y\""]),
            ("a\"b c\"d", &["ab cd"]),
            ("a\\ b '' \"\"", &["a b", "", ""]),
            ("\"a\\\"b\\n\"", &["a\"b\\n"]),
            ("", &[]),
        ];
        for (line, split) in lines {
            assert_eq!(words(line).unwrap(), split, "{line}");
        }
        assert!(words("a 'b").is_err() && words("a\\").is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), number in "[0-9.]{0,40}[a-z]{0,3}") {
            for text in [&text, &number] {
                drop((bytes(text), nanos(text), nano_cpus(text), words(text)));
            }
        }
    }
}
