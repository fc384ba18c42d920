//! The structured messages: Protocol Buffers generated from `proto/sternline/v1.proto`.
//!
//! Raw and unchecked; the modules above turn them into checked types.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::use_self,
    reason = "generated; the schema carries the documentation"
)]

include!(concat!(env!("OUT_DIR"), "/sternline.v1.rs"));

macro_rules! opaque_debug {
    ($($name:ty),+) => {$(
        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(concat!(stringify!($name), "(****)"))
            }
        }
    )+};
}

opaque_debug!(Token, Enrol, Operator);
