//! The compose engine against a real Docker Engine: what a deployment does, how it goes back,
//! and that whatever ends the agent's process leaves the new release or the old one.

// What these tests stand for listens: registries, and the customer's browser.
#![expect(
    clippy::disallowed_methods,
    reason = "the seams are for the agent; this is the world around it"
)]

mod assistant;
mod deploy;
mod site;
