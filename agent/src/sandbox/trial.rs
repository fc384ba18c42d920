//! Each fence, tried: what it denies is attempted, by the process itself, before it does
//! anything else. What should work after all is undone at once.

use std::{
    fs, io,
    net::{Ipv4Addr, TcpListener},
    num::NonZero,
    process::{Command, Stdio},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, Protocol, SocketType},
};
use serde::{Deserialize, Serialize};

use super::{landlock, privileges};

/// MPTCP has a bind and a listen of its own, which Landlock does not see.
const IPPROTO_MPTCP: u32 = 262;

/// One fence, and whether it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// Stable, for scripts: such as `listen`.
    pub name: String,
    /// Whether it holds.
    pub in_force: bool,
    /// How that is known, or why it does not.
    pub detail: String,
}

/// Fences without which the process could be made to listen, or to become another one.
/// The others depend on the kernel's age, or on whose files are needed.
const NEEDED: [&str; 9] = [
    "no-new-privileges",
    "tcp-bind",
    "listen",
    "accept",
    "mptcp",
    "raw-sockets",
    "packet-sockets",
    "io-uring",
    "exec",
];

impl Fence {
    fn new(name: &str, in_force: bool, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            in_force,
            detail: detail.into(),
        }
    }

    /// Of an attempt that is to be denied.
    fn tried(name: &str, attempt: Result<(), Errno>) -> Self {
        match attempt {
            Err(Errno::PERM | Errno::ACCESS) => Self::new(name, true, "tried: denied"),
            Err(error) => Self::new(name, false, format!("tried: not denied ({error})")),
            Ok(()) => Self::new(name, false, "tried: it worked"),
        }
    }

    /// Whether the process is outbound only by this fence among others.
    pub fn is_needed(&self) -> bool {
        NEEDED.contains(&self.name.as_str())
    }
}

/// Tries everything.
pub fn all(landlock: &landlock::Enforced, privileges: &privileges::Enforced) -> Vec<Fence> {
    let abi = match landlock {
        landlock::Enforced::Abi(abi) => *abi,
        landlock::Enforced::Nothing(_) => 0,
    };
    let by_abi = |name, least: i32| match abi >= least {
        true => Fence::new(name, true, format!("Landlock ABI {abi}, not tried")),
        false => Fence::new(
            name,
            false,
            format!("needs Landlock ABI {least}, this is {abi}"),
        ),
    };
    vec![
        Fence::new(
            "no-new-privileges",
            privileges.none_to_gain,
            "read back from the kernel",
        ),
        Fence::new(
            "capabilities",
            privileges.is_dropped(),
            privileges.to_string(),
        ),
        Fence::tried("tcp-bind", bind()),
        Fence::tried("listen", listen()),
        Fence::tried("accept", accept()),
        Fence::tried(
            "mptcp",
            socket(AddressFamily::INET, SocketType::STREAM, IPPROTO_MPTCP),
        ),
        Fence::tried(
            "raw-sockets",
            socket(AddressFamily::INET, SocketType::RAW, 1),
        ),
        Fence::tried(
            "packet-sockets",
            socket(AddressFamily::PACKET, SocketType::DGRAM, 0),
        ),
        Fence::tried("io-uring", io_uring()),
        Fence::tried("exec", exec()),
        Fence::tried(
            "files",
            fs::read_dir("/").map(drop).map_err(|error| errno(&error)),
        ),
        by_abi("signals", 6),
        by_abi("abstract-sockets", 6),
        by_abi("unix-socket-connect", 9),
    ]
}

#[expect(
    clippy::disallowed_methods,
    reason = "tried because it is to be denied"
)]
fn bind() -> Result<(), Errno> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // `bind` comes first; what says that it was denied may also be `listen`, so Landlock's
    // own word for it is looked for.
    match bound {
        Err(error) if errno(&error) == Errno::PERM => {
            let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
            let address = std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
            rustix::net::bind(&socket, &address)
        }
        Err(error) => Err(errno(&error)),
        Ok(_listening) => Ok(()),
    }
}

/// `listen` binds by itself, so no `bind` stands in front of what is tried. By every family
/// that there is here.
fn listen() -> Result<(), Errno> {
    let families = [
        AddressFamily::INET,
        AddressFamily::INET6,
        AddressFamily::UNIX,
    ];
    for family in families {
        if let Ok(socket) = rustix::net::socket(family, SocketType::STREAM, None) {
            match rustix::net::listen(&socket, 1) {
                Err(Errno::PERM) => {}
                other => return other,
            }
        }
    }
    Err(Errno::PERM)
}

fn accept() -> Result<(), Errno> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::net::accept(&socket).map(drop)
}

fn socket(family: AddressFamily, kind: SocketType, protocol: u32) -> Result<(), Errno> {
    let protocol = NonZero::new(protocol).map(Protocol::from_raw);
    rustix::net::socket(family, kind, protocol).map(drop)
}

/// With arguments that the kernel refuses should it come to look at them.
fn io_uring() -> Result<(), Errno> {
    #[expect(unsafe_code, reason = "a system call without memory, in no crate")]
    // SAFETY: no entries and no parameters: the kernel reads nothing and makes nothing.
    let made = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0, 0) };
    match made {
        -1 => Err(errno(&io::Error::last_os_error())),
        _ => Ok(()),
    }
}

/// This very program, which then says its version and ends.
fn exec() -> Result<(), Errno> {
    let program = std::env::current_exe().map_err(|error| errno(&error))?;
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().map(drop).map_err(|error| errno(&error))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
