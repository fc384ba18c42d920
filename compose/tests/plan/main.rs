//! Plans, carried out on a model of an Engine.

#![expect(
    clippy::unwrap_used,
    reason = "what a test has put there itself is there"
)]

mod adopt;
mod anything;
mod away;
mod changes;
mod hands;
mod images;
mod orders;
mod requests;
mod world;
