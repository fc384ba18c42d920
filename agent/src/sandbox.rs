//! Outbound only, enforced by the kernel: applied before any thread starts, and
//! never undone.
//!
//! Three kinds of fences, each of which holds when the others do not: [`privileges`] (none
//! to be gained, and none held); [`landlock`] (TCP bind denied, files limited);
//! [`seccomp`] (`listen` and `accept` denied, with everything that could do the same by
//! another name). Then each is [tried](trial) by an attempt to break it. What a kernel
//! cannot enforce is said, in the log, in `status` and to the vendor.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::config::{SandboxDemand, Settings};

pub mod landlock;
pub mod privileges;
pub mod seccomp;
pub mod show;
pub mod trial;

pub use trial::{Fence, Outside};

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
    privileges: privileges::Enforced,
    fences: Vec<Fence>,
}

/// What is told of it, to the person on this host and to the vendor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told {
    /// In words.
    pub words: String,
    /// One by one; none where nothing was put up.
    pub fences: Vec<Fence>,
}

impl From<&str> for Told {
    /// Of a process that was not fenced in, such as a simulated one.
    fn from(words: &str) -> Self {
        Self {
            words: words.to_owned(),
            fences: Vec::new(),
        }
    }
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
    let outside = Outside::of(needs);
    let landlock = landlock::apply(needs);
    let seccomp = seccomp::apply();
    let privileges = privileges::apply(needs);
    let sandbox = Sandbox {
        fences: trial::all(&landlock, &privileges, outside),
        landlock,
        seccomp,
        privileges,
    };
    match demand {
        SandboxDemand::Required if !sandbox.is_whole() => Err(NotEnforced(sandbox.to_string())),
        SandboxDemand::Required | SandboxDemand::BestEffort => Ok(sandbox),
    }
}

impl Sandbox {
    /// Whether nobody can make this process listen, or become another one.
    pub fn is_whole(&self) -> bool {
        self.seccomp.is_ok() && self.broken().next().is_none()
    }

    /// Every fence, tried.
    pub fn fences(&self) -> &[Fence] {
        &self.fences
    }

    /// Fences that are needed and do not hold.
    fn broken(&self) -> impl Iterator<Item = &Fence> {
        let needed = self.fences.iter().filter(|fence| fence.is_needed());
        needed.filter(|fence| !fence.in_force)
    }

    /// What is told of it.
    pub fn told(&self) -> Told {
        Told {
            words: self.to_string(),
            fences: self.fences.clone(),
        }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; seccomp: ", self.landlock)?;
        match &self.seccomp {
            Ok(()) => f.write_str(
                "listen and accept denied (tried), raw sockets, MPTCP, io_uring and exec denied",
            )?,
            Err(problem) => write!(f, "not enforced ({problem})")?,
        }
        write!(f, "; capabilities: {}", self.privileges)?;
        for fence in self.broken() {
            write!(f, "; {} NOT in force ({})", fence.name, fence.detail)?;
        }
        Ok(())
    }
}
