//! What relay and agent share around the pure protocol: transports, dialling, and
//! the driver that runs a [`wire::session::Session`] over a connection.
//!
//! The modules stand on floors, and imports run down only:
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`crypto`], [`names`], [`notify`], [`process`], [`socket`] |
//! | 1 | [`world`] |
//! | 2 | [`tls`], `busy` |
//! | 3 | [`websocket`], [`quic`] |
//! | 4 | [`session`] (handles of the application, and the drivers under them) |
//! | 5 | [`handshake`], [`splice`] |
//! | 6 | [`dial`] |
//!
//! Sockets, name resolution, clock and entropy enter through [`World`](world::World),
//! so that the same code runs over a simulated network.

mod busy;
pub mod crypto;
pub mod dial;
pub mod handshake;
pub mod memory;
pub mod names;
pub mod notify;
pub mod process;
pub mod quic;
pub mod session;
pub mod socket;
pub mod splice;
pub mod tls;
pub mod websocket;
pub mod world;

pub use crypto::{KeyPair, install_crypto_provider, random_bytes, sha256};
pub use dial::{
    Credential, DialError, DialOptions, DialTally, Dialled, Preference, TransportChoice, Trust,
    dial, dial_bulk, dial_counting,
};
pub use memory::keep_what_bulk_needs;
pub use names::look_up_without_libraries;
pub use notify::{Notifier, Pulse};
pub use session::{
    Closed, IncomingStream, Occupancy, OpenError, OpenRequest, RecvStream, SendStream, Session,
    SessionStats, Stream, StreamReset,
};
pub use splice::{SpliceError, SpliceIo, Spliced, splice};
pub use world::World;
