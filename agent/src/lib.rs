//! agent.
pub mod config;
pub mod docker;
pub mod file;
pub mod identity;
pub mod policy;
pub mod policy_file;
pub mod sandbox;
pub mod state_dir;
pub mod status;
pub mod strict_toml;
