//! The customer's process: dials out to the relay, never listens, and serves streams
//! to the Docker Engine and to those services that the customer's policy names.
//!
//! The modules stand on floors, and imports run down only:
//!
//! | floor | modules |
//! |---|---|
//! | 0 | [`file`], [`strict_toml`], [`host`], [`gateways`], [`version`] |
//! | 0 | [`clock`], [`watched`], [`nudge`] |
//! | 1 | [`state_dir`], [`policy`], [`token`], [`audit`], [`netlink`], [`sleep`] |
//! | 2 | [`figures`], [`judge`], [`config`], [`identity`], [`cli`] |
//! | 3 | [`enrol`], [`policy_file`], [`sandbox`], [`status`], [`log`] |
//! | 4 | [`docker`] |
//! | 5 | [`report`], [`view`], [`work`] |
//! | 6 | [`supervisor`] |
//! | 7 | [`node`] |
//! | 8 | [`check`], [`run`], [`manual`] |

pub mod audit;
pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialling;
pub mod docker;
pub mod enrol;
pub mod figures;
pub mod file;
pub mod gateways;
pub mod host;
pub mod identity;
pub mod judge;
pub mod known_networks;
pub mod log;
#[path = "../../packaging/manual.rs"]
pub mod manual;
pub mod netlink;
pub mod node;
pub mod nudge;
pub mod policy;
pub mod policy_file;
pub mod report;
pub mod run;
pub mod sandbox;
pub mod sleep;
pub mod stacks;
pub mod state_dir;
pub mod status;
pub mod strict_toml;
pub mod supervisor;
pub mod token;
#[path = "../../packaging/version.rs"]
pub mod version;
pub mod view;
pub mod watched;
pub mod work;
