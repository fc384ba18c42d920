//! The language that relay and agent speak; it decides, and never does.
//!
//! No clock, no sockets, no tokio, no randomness of its own: time, bytes and random
//! numbers are arguments, as in quinn-proto and h2. `PROTOCOL.md` describes every
//! byte. The modules stand on floors, and imports run down only:
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`id`], [`limits`], [`prelude`], [`version`] |
//! | 1 | [`close`], [`key`], [`message`], [`rule`], [`transport`] |
//! | 2 | [`backoff`], [`target`], [`token`] |
//! | 3 | [`frame`] |
//! | 4 | [`handshake`], [`session`] |

// Test code that `tests/` includes too names the crate as others do.
#[cfg(test)]
extern crate self as wire;

pub mod backoff;
pub mod close;
pub mod frame;
pub mod handshake;
pub mod id;
pub mod key;
pub mod limits;
pub mod message;
pub mod prelude;
pub mod rule;
pub mod session;
pub mod target;
pub mod token;
pub mod transport;
pub mod version;
