//! Fixtures of the end-to-end tests: the real binaries as child processes, a line
//! between them that can be cut, and a Docker Engine.
//!
//! Nothing here sleeps but [`eventually`], no port is fixed, and everything that a
//! fixture starts or writes is gone when it is dropped.

mod agent;
mod cable;
mod engine;
mod eventually;
mod machine;
mod process;
mod prometheus;
mod relay;
mod service;

pub use agent::{Agent, AgentSetup};
pub use cable::Cable;
pub use engine::Engine;
pub use eventually::{SOON, eventually};
pub use machine::{Tmpfs, document, is_ci, listening_port, root, skip, sockets_of, tmpfs};
pub use process::{Finished, Process, binary};
pub use prometheus::{Prometheus, promtool};
pub use relay::{Relay, RelaySetup};
pub use service::{Service, exchange};
