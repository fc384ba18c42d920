//! Variable-length integers of RFC 9000 §16: the two highest bits of the first
//! byte give the length (1, 2, 4 or 8 bytes), the rest is big-endian.

use bytes::{Buf, BufMut};

/// The largest value: 2^62 - 1.
pub const VARINT_MAX: u64 = (1 << 62) - 1;

/// How many bytes `value` takes.
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Writes `value` in its shortest form.
///
/// # Panics
///
/// If `value` is above [`VARINT_MAX`], which only a bug can cause: every number
/// that a peer names has been read as a varint.
pub fn put(out: &mut impl BufMut, value: u64) {
    assert!(value <= VARINT_MAX, "{value} does not fit a varint");
    match len(value) {
        1 => out.put_u8(value.to_be_bytes()[7]),
        2 => out.put_slice(&(value | 0x4000).to_be_bytes()[6..]),
        4 => out.put_slice(&(value | 0x8000_0000).to_be_bytes()[4..]),
        _ => out.put_u64(value | (0b11 << 62)),
    }
}

/// Reads a value; `None` where bytes are missing, and then nothing is consumed.
pub fn get(input: &mut impl Buf) -> Option<u64> {
    let first = *input.chunk().first()?;
    let length = 1_usize << (first >> 6);
    if input.remaining() < length {
        return None;
    }
    Some(match length {
        1 => u64::from(input.get_u8()),
        2 => u64::from(input.get_u16() & 0x3fff),
        4 => u64::from(input.get_u32() & 0x3fff_ffff),
        _ => input.get_u64() & VARINT_MAX,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_are_read() {
        for (bytes, value) in [
            (
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..],
                151_288_809_941_952_652,
            ),
            (&[0x9d, 0x7f, 0x3e, 0x7d][..], 494_878_333),
            (&[0x7b, 0xbd][..], 15_293),
            (&[0x25][..], 37),
            (&[0x40, 0x25][..], 37),
        ] {
            assert_eq!(get(&mut &bytes[..]), Some(value));
        }
    }

    proptest! {
        #[test]
        fn a_value_reads_back_and_takes_the_length_it_says(value in 0..=VARINT_MAX) {
            let mut out = Vec::new();
            put(&mut out, value);

            prop_assert_eq!(out.len(), len(value));
            prop_assert_eq!(get(&mut &out[..]), Some(value));
        }
    }
}
