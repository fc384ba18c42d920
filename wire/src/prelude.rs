//! The word of a relay that takes nobody at this moment, on TCP port 8000 alone: six clear
//! bytes instead of TLS, so that turning somebody away costs no cryptography.
//!
//! ```text
//! b5 01 · u32 milliseconds, big endian
//! ```
//!
//! Nobody vouches for it: whoever is on the way could have written it. So it may say when to
//! come back and nothing else, and [`backoff`](crate::backoff) does not believe it for long.
//! One that gets lost does no harm: the dialler then draws its next try by itself.

use std::time::Duration;

/// Bytes of a prelude.
pub const PRELUDE_BYTES: usize = 6;

/// Begins a prelude. No TLS record does (they begin with 0x14 to 0x18), and no text: a byte
/// of 0x80 to 0xbf does not begin a character of UTF-8.
pub const PRELUDE_MAGIC: u8 = 0xb5;

/// The version of a prelude. What a later one says, this one does not know.
const VERSION: u8 = 1;

/// When to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prelude {
    /// How long from now on, in whole milliseconds.
    pub come_back_in: Duration,
}

impl Prelude {
    /// The bytes to send before the connection is closed. 49 days and more are told as 49.
    pub fn encode(&self) -> [u8; PRELUDE_BYTES] {
        let ms = u32::try_from(self.come_back_in.as_millis()).unwrap_or(u32::MAX);
        let [a, b, c, d] = ms.to_be_bytes();
        [PRELUDE_MAGIC, VERSION, a, b, c, d]
    }

    /// Reads what a connection began with. `None`: not a prelude, or one of a later version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [PRELUDE_MAGIC, VERSION, a, b, c, d] = *bytes else {
            return None;
        };
        let ms = u32::from_be_bytes([a, b, c, d]);
        Some(Self {
            come_back_in: Duration::from_millis(ms.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_time_reads_back(ms in any::<u32>()) {
            let prelude = Prelude { come_back_in: Duration::from_millis(ms.into()) };

            prop_assert_eq!(Prelude::decode(&prelude.encode()), Some(prelude));
        }

        #[test]
        fn six_bytes_of_anything_never_panic_and_read_back(bytes in any::<[u8; 6]>()) {
            if let Some(prelude) = Prelude::decode(&bytes) {
                prop_assert_eq!(prelude.encode(), bytes);
            }
        }
    }

    #[test]
    fn tls_a_later_version_and_what_is_cut_short_are_none() {
        for bytes in [
            &[0x16, 3, 1, 2, 0, 1][..],
            &[PRELUDE_MAGIC, 2, 0, 0, 0, 1],
            &[PRELUDE_MAGIC, VERSION, 0, 0, 0],
            &[],
        ] {
            assert_eq!(Prelude::decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_time_too_long_for_the_wire_is_told_as_the_longest() {
        let prelude = Prelude {
            come_back_in: Duration::from_secs(u64::MAX),
        };

        assert_eq!(prelude.encode()[2..], [0xff; 4]);
    }
}
