//! The lab: a scenario on a real kernel, with release binaries that know nothing of it.
//!
//! Hosts that run relay or agent are network namespaces; every cable, edge and box of the
//! scenario is the simulation's own code, moved by the clock in one thread ([`Fabric`])
//! that reads and writes the far ends of the hosts' cables. So one scenario and one set of
//! boxes are two worlds. All of it lives in a [`sandbox`], and nothing outlives it; it
//! works rootless. What a machine lacks is said before anything starts ([`preflight`]).
//!
//! What differs from the simulation: time is real, so nothing is replayed to the packet.

mod at_rest;
mod caretaker;
mod ends;
mod fabric;
mod host;
mod kernel_edge;
mod names;
mod namespace;
mod namespaces;
mod plug;
mod port;
mod preflight;
pub mod programs;
mod proxies;
mod ruleset;
pub mod sandbox;
pub mod scale;
mod settings;
mod socket_list;
mod stacks;
mod syscall;
mod tools;
mod watch;
mod wireguard;
mod world;
mod wrong_clock;

use std::path::{Path, PathBuf};

pub use self::{
    fabric::{Fabric, Service},
    host::Host,
    namespace::{Namespace, feed},
    preflight::{Missing, preflight},
    socket_list::{Open, OpenKind},
    tools::missing as missing_tools,
    watch::Listener,
    world::{Lab, LabError, Options},
};

/// Where a tool of the system is: in the path, or where administrators have theirs.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let own = std::env::split_paths(&path);
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut folders = own.chain(administrators);
    folders.find_map(|folder| Some(folder.join(name)).filter(|path| is_program(path)))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let found = std::fs::metadata(path);
    found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;
