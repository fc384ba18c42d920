//! Where the body of an HTTP/1.1 message ends. Bytes are counted, never changed.

use super::head::{Framing, Malformed};

/// Digits of a chunk's size: 2^60 bytes.
const SIZE_DIGITS_MAX: u8 = 15;
/// Bytes of the fields behind the last chunk.
const TRAILER_BYTES_MAX: u16 = 8 * 1024;

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Nothing.
    Done,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
    /// Whatever comes until the connection ends.
    UntilClose,
}

/// Where within chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunked {
    /// Within a size: what it is so far, and how many digits it has.
    Size(u64, u8),
    /// Behind the CR of a size.
    SizeEnd(u64),
    /// Within a chunk's bytes.
    Data(u64),
    /// Behind a chunk's bytes.
    DataCr,
    /// Behind the CR behind a chunk's bytes.
    DataLf,
    /// Within a trailer's line: bytes of all trailers, and whether this line has any.
    Trailer(u16, bool),
    /// Behind the CR of a trailer's line; of the last and empty one, or not.
    TrailerLf(u16, bool),
}

impl Body {
    /// The whole of a body.
    pub const fn of(framing: Framing) -> Self {
        match framing {
            Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Chunked::Size(0, 0)),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Whether it has ended.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Done)
    }

    /// Goes over bytes, and says how many of them belong to the body: all, or those up to
    /// its end.
    ///
    /// # Errors
    ///
    /// The chunks are not as they should be.
    pub fn walk(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        match self {
            Self::Done => Ok(0),
            Self::UntilClose => Ok(bytes.len()),
            Self::Length(left) => {
                let taken = *left.min(&mut (bytes.len() as u64));
                *left -= taken;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(usize::try_from(taken).unwrap_or(bytes.len()))
            }
            Self::Chunked(chunked) => {
                let (mut at, mut state) = (0, Some(*chunked));
                while let (Some(now), Some(byte)) = (state, bytes.get(at)) {
                    match now {
                        // A step for all of it, and none for each byte.
                        Chunked::Data(left) => {
                            let here = (bytes.len() - at) as u64;
                            let taken = left.min(here);
                            at += usize::try_from(taken).unwrap_or_default();
                            state = Some(match left - taken {
                                0 => Chunked::DataCr,
                                left => Chunked::Data(left),
                            });
                        }
                        other => {
                            state = other.step(*byte)?;
                            at += 1;
                        }
                    }
                }
                *self = state.map_or(Self::Done, Self::Chunked);
                Ok(at)
            }
        }
    }
}

impl Chunked {
    /// One byte further; `None`: that was the last one.
    fn step(self, byte: u8) -> Result<Option<Self>, Malformed> {
        let next = match (self, byte) {
            (Self::Size(_, digits), byte)
                if byte.is_ascii_hexdigit() && digits >= SIZE_DIGITS_MAX =>
            {
                return Err(Malformed::Other("a chunk's size has too many digits"));
            }
            (Self::Size(size, digits), byte) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Self::Size(size * 16 + u64::from(digit), digits + 1)
            }
            // No extensions: nobody uses them, and readers differ about them.
            (Self::Size(size, 1..), b'\r') => Self::SizeEnd(size),
            (Self::Size(..), _) => return Err(Malformed::Other("a chunk has no proper size")),
            (Self::SizeEnd(0), b'\n') => Self::Trailer(0, false),
            (Self::SizeEnd(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::Size(0, 0),
            (Self::Trailer(bytes, has_any), b'\r') => Self::TrailerLf(bytes, !has_any),
            (Self::Trailer(TRAILER_BYTES_MAX.., _), _) => {
                return Err(Malformed::Other(
                    "what is behind the last chunk is too long",
                ));
            }
            (Self::Trailer(bytes, _), byte) if byte != b'\n' && byte != 0 => {
                Self::Trailer(bytes + 1, true)
            }
            (Self::TrailerLf(_, true), b'\n') => return Ok(None),
            (Self::TrailerLf(bytes, false), b'\n') => Self::Trailer(bytes, false),
            (Self::Data(left), _) => Self::Data(left),
            _ => return Err(Malformed::Other("a chunk has no proper end")),
        };
        Ok(Some(next))
    }
}

/// The bytes that a chunked body carries, without their frames; the body is whole and was
/// walked over.
pub fn content_of_chunks(mut bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::with_capacity(bytes.len());
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
        let size = usize::from_str_radix(size, 16).unwrap_or_default();
        let Some(chunk) = bytes.get(end + 2..end + 2 + size) else {
            break;
        };
        if size == 0 {
            break;
        }
        content.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + size..).unwrap_or_default();
    }
    content
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk_all(framing: Framing, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut body = Body::of(framing);
        let taken = body.walk(bytes)?;
        Ok((taken, body.is_done()))
    }

    #[test]
    fn a_body_ends_where_its_frames_say() {
        let chunks = b"3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET";

        assert_eq!(walk_all(Framing::Length(2), b"abc").unwrap(), (2, true));
        assert_eq!(walk_all(Framing::Length(4), b"abc").unwrap(), (3, false));
        assert_eq!(
            walk_all(Framing::Chunked, chunks).unwrap(),
            (chunks.len() - 3, true)
        );
        assert_eq!(
            content_of_chunks(&chunks[..chunks.len() - 3]),
            b"abc0123456789"
        );
        let trailer = b"0\r\nA: b\r\n\r\n";
        assert_eq!(
            walk_all(Framing::Chunked, trailer).unwrap(),
            (trailer.len(), true)
        );
    }

    #[test]
    fn chunks_that_readers_could_differ_about_are_refused() {
        for bytes in [
            &b"3;x=y\r\nabc\r\n"[..],
            b"3 \r\nabc\r\n",
            b" 3\r\nabc\r\n",
            b"0x3\r\nabc\r\n",
            b"-1\r\n",
            b"\r\n",
            b"3\nabc\r\n",
            b"3\r\nabcd\r\n",
            b"3\r\nabc\n",
            b"1000000000000000\r\n",
            b"0\r\nA: b\n\r\n",
        ] {
            assert!(
                walk_all(Framing::Chunked, bytes).is_err(),
                "{bytes:?} was taken"
            );
        }
    }

    proptest! {
        #[test]
        fn however_the_bytes_are_cut_the_end_is_the_same(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            tail in prop::collection::vec(any::<u8>(), 0..10),
            cuts in prop::collection::vec(1_usize..30, 0..40),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend(format!("{:x}\r\n", chunk.len()).bytes());
                bytes.extend(chunk);
                bytes.extend(b"\r\n");
            }
            bytes.extend(b"0\r\n\r\n");
            let end = bytes.len();
            bytes.extend(&tail);

            let (mut body, mut at) = (Body::of(Framing::Chunked), 0_usize);
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let next = at.saturating_add(cut).min(bytes.len());
                at += body.walk(&bytes[at..next]).unwrap();
                if body.is_done() {
                    break;
                }
            }

            prop_assert_eq!((at, body.is_done()), (end, true));
            prop_assert_eq!(content_of_chunks(&bytes[..end]), chunks.concat());
        }

        #[test]
        fn any_bytes_are_walked_over_or_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut body = Body::of(Framing::Chunked);
            if let Ok(taken) = body.walk(&bytes) {
                prop_assert!(taken <= bytes.len());
            }
        }
    }
}
