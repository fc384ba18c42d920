//! Outbound only, enforced by the kernel: applied before any thread starts, and
//! never undone.
//!
//! Three fences, each of which holds when the others do not: no new privileges;
//! [`landlock`] (TCP bind denied, files limited); [`seccomp`] (`listen` and
//! `accept` denied, with everything that could do the same by another name). What a
//! kernel cannot enforce is said, in the log, in `status` and to the vendor; and
//! what is said about `listen` was tried.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketType},
};
use thiserror::Error;

use crate::config::{SandboxDemand, Settings};

pub mod landlock;
pub mod seccomp;

/// What the agent still needs of the file system once it is fenced in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// Read and written: the state directory.
    pub state_dir: PathBuf,
    /// Read: folders of files that may be replaced while the agent runs.
    pub read: Vec<PathBuf>,
    /// Connected to: the Docker Engine's socket.
    pub docker_socket: PathBuf,
}

/// What the kernel enforces on this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    landlock: landlock::Enforced,
    seccomp: Result<(), String>,
    listen: ListenTrial,
}

/// What happened when the agent tried to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListenTrial {
    Denied,
    /// It worked, or failed for another reason: nothing is proven.
    NotDenied,
}

/// The kernel enforces less than the configuration requires.
#[derive(Debug, Error)]
#[error(
    "the sandbox is required and not all of it is enforced here: {0}; use a kernel with Landlock ABI 4 (Linux 6.7) and seccomp, or set sandbox = \"best-effort\""
)]
pub struct NotEnforced(String);

impl Needs {
    /// What an agent with these settings needs.
    pub fn of(settings: &Settings) -> Self {
        let policy = settings.policy.path();
        let target = policy.canonicalize().unwrap_or_else(|_| policy.to_owned());
        Self {
            state_dir: settings.state_dir.clone(),
            read: vec![folder(policy), folder(&target)],
            docker_socket: settings.docker_socket.clone(),
        }
    }
}

/// The folder of a file that may be replaced: editors do so by renaming another. One
/// that lies in the root is taken alone; its folder would be everything.
fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) if folder.parent().is_some() => folder.to_owned(),
        Some(_) | None => path.to_owned(),
    }
}

/// Fences the calling thread and all threads that it starts.
///
/// # Errors
///
/// [`NotEnforced`] where all of it is demanded and the kernel enforces less.
pub fn apply(needs: &Needs, demand: SandboxDemand) -> Result<Sandbox, NotEnforced> {
    let sandbox = Sandbox {
        landlock: landlock::apply(needs),
        seccomp: seccomp::apply(),
        listen: try_to_listen(),
    };
    match demand {
        SandboxDemand::Required if !sandbox.is_whole() => Err(NotEnforced(sandbox.to_string())),
        SandboxDemand::Required | SandboxDemand::BestEffort => Ok(sandbox),
    }
}

impl Sandbox {
    /// Whether nobody can make this process listen, by TCP bind or by `listen`.
    pub fn is_whole(&self) -> bool {
        self.landlock.tcp_bind_denied()
            && self.seccomp.is_ok()
            && self.listen == ListenTrial::Denied
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; seccomp: ", self.landlock)?;
        match (&self.seccomp, self.listen) {
            (Ok(()), ListenTrial::Denied) => f.write_str(
                "listen and accept denied (tried), raw sockets, MPTCP, io_uring and exec denied",
            ),
            (Ok(()), ListenTrial::NotDenied) => {
                f.write_str("installed, but listen was not denied when tried")
            }
            (Err(problem), _) => write!(f, "not enforced ({problem})"),
        }
    }
}

/// Tries to listen on a fresh socket. `listen` binds by itself, so no `bind` stands
/// in front of what is tried. Should it work, the socket is closed at once.
fn try_to_listen() -> ListenTrial {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)
        .or_else(|_| rustix::net::socket(AddressFamily::INET6, SocketType::STREAM, None))
        .or_else(|_| rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None));
    match socket.and_then(|socket| rustix::net::listen(&socket, 1)) {
        Err(Errno::PERM) => ListenTrial::Denied,
        Err(_) | Ok(()) => ListenTrial::NotDenied,
    }
}
