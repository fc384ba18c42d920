//! The network simulator's program: what people and scripts ask of it.
//!
//! What it decides with is in `netsim_core`; here are files, terminals and exit codes.

pub mod shipped;
#[path = "../../packaging/version.rs"]
pub mod version;

pub mod check;
pub mod list;

pub mod cli;
