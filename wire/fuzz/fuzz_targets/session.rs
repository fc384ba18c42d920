//! Any operations leave a session in order. The body is shared with `tests/corpus.rs`.

#![no_main]

#[path = "../body.rs"]
#[expect(dead_code, reason = "each target runs one of the bodies")]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::session(data));
