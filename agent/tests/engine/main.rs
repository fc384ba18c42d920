//! The compose engine against a real Docker Engine: what a deployment does, how it goes back,
//! and that whatever ends the agent's process leaves the new release or the old one.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test ends where something is not as it should be, and stands for the world around \
              the agent: registries, a customer's browser"
)]

mod assistant;
mod deploy;
mod differential;
#[path = "../../../compose/tests/fixture/mod.rs"]
#[expect(dead_code, reason = "what reads where a fixture is stands beside it")]
mod fixture;
mod site;
