//! The compose engine against a real Docker Engine: what a deployment does, how it goes back,
//! and that whatever ends the agent's process leaves the new release or the old one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "parts of tests: what is not as it should be ends them"
)]

mod deploy;
mod site;
