//! The compose engine against a real Docker Engine: what a deployment does, how it goes back,
//! and that whatever ends the agent's process leaves the new release or the old one.

mod deploy;
mod site;
