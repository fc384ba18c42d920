//! The ground of the network simulator; it decides, and never does.
//!
//! No clock, no sockets, no tokio, no randomness of its own: time, packets and random
//! streams are arguments. It knows nothing of relay or agent: they are what runs on a
//! host. The modules stand on floors, and imports run down only:
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`dns`], [`limits`], [`random`], [`time`] |
//! | 1 | [`term`] |
//! | 2 | [`model`] |
//! | 3 | [`packet`], [`pcapng`], [`topology`] |
//! | 4 | [`check`], [`middlebox`], [`trace`] |
//! | 5 | [`expect`], [`network`], [`repro`], [`shrink`], [`stack`] |

pub mod check;
pub mod dns;
pub mod expect;
pub mod limits;
pub mod middlebox;
pub mod model;
pub mod network;
pub mod packet;
pub mod pcapng;
pub mod random;
pub mod repro;
pub mod shrink;
pub mod stack;
pub mod term;
pub mod time;
pub mod topology;
pub mod trace;
