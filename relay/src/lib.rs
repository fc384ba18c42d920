//! The vendor's service: takes agents' sessions, serves the API, and is its own client.
//!
//! Modules stand on floors and import downwards only. In floor order:

pub mod admission;
pub mod id;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod tasks;
#[path = "../../packaging/version.rs"]
pub mod version;

pub mod credential;
pub mod data_dir;
pub mod farewell;
pub mod seal;
pub mod store;
pub mod tls;

pub mod config;
pub mod control;

pub mod gate;
pub mod probe;

pub mod registry;

pub mod expose;
pub mod stack;

pub mod session;

pub mod listener;
pub mod probe_path;
pub mod tunnel_path;
pub mod upgrade;

pub mod http;

pub mod node;

pub mod cli;

pub mod args;
#[path = "../../packaging/manual.rs"]
pub mod manual;

pub mod server;
