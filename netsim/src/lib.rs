//! The network simulator's program: what people and scripts ask of it.
//!
//! What it decides with is in `netsim_core`; here are files, terminals and exit codes, and
//! `sim`, the world in virtual time that code of relay and agent runs in.

pub mod shipped;
#[path = "../../packaging/version.rs"]
pub mod version;

pub mod capture;
pub mod docker;
pub mod outcome;
pub mod proxy;
pub mod report;

pub mod sim;
pub mod workload;

#[cfg(target_os = "linux")]
pub mod lab;
pub mod play;
#[cfg(target_os = "linux")]
pub mod trial;

#[cfg(target_os = "linux")]
pub mod far;
pub mod matrix;

pub mod goals;
pub mod run;

pub mod check;
pub mod list;

pub mod cli;
