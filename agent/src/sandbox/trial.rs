//! Each fence, tried: what it denies is attempted, by the process itself, before it does
//! anything else. What should work after all is undone at once.
//!
//! One is read back and not tried: that no privileges can be gained. That takes the start of
//! a program that has some, and no program can be started.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZero,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{self, UnixDatagram},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::{
    io::Errno,
    net::{AddressFamily, Protocol, SocketType},
    process::{Pid, WaitOptions, WaitStatus},
    thread::{self, CapabilitySet, CapabilitySets},
};
use serde::{Deserialize, Serialize};

use super::{Needs, landlock, privileges, seccomp};

/// MPTCP has a bind and a listen of its own, which Landlock does not see.
const IPPROTO_MPTCP: u32 = 262;
/// Netlink's own words for devices that come and go; the agent needs routes alone.
const NETLINK_KOBJECT_UEVENT: u32 = 15;

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
const NEEDED: [&str; 11] = [
    "no-new-privileges",
    "tcp-bind",
    "listen",
    "accept",
    "mptcp",
    "raw-sockets",
    "packet-sockets",
    "other-sockets",
    "io-uring",
    "exec",
    "system-calls",
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

    /// Of one that Landlock denies from some ABI on.
    fn by_abi((name, least): (&str, i32), abi: i32, attempt: Option<Result<(), Errno>>) -> Self {
        let Some(attempt) = attempt else {
            let detail = format!("Landlock ABI {abi} of {least}, nothing here to try it on");
            return Self::new(name, abi >= least, detail);
        };
        let mut fence = Self::tried(name, attempt);
        if !fence.in_force && abi < least {
            fence.detail += &format!("; needs Landlock ABI {least}, this is {abi}");
        }
        fence
    }

    /// Whether the process is outbound only by this fence among others.
    pub fn is_needed(&self) -> bool {
        NEEDED.contains(&self.name.as_str())
    }
}

/// What lies outside of the fences because it was made before them, for attempts to reach it.
/// What cannot be made is not there to be reached.
#[derive(Debug)]
pub struct Outside {
    /// This very program, which says its version and ends. Until it is waited for it can be
    /// signalled.
    process: Option<Child>,
    named: Option<(UnixDatagram, net::SocketAddr)>,
    /// In the state directory, where files may be removed again.
    with_path: Option<(UnixDatagram, PathBuf)>,
}

impl Outside {
    /// Makes what can be made.
    pub fn of(needs: &Needs) -> Self {
        let name = format!("sternline-agent.{}.trial", std::process::id());
        let address = net::SocketAddr::from_abstract_name(&name).ok();
        let named = address.and_then(|address| {
            let socket = UnixDatagram::bind_addr(&address).ok()?;
            Some((socket, address))
        });
        let path = needs.state_dir.join(&name);
        let with_path = UnixDatagram::bind(&path).ok().map(|socket| (socket, path));
        Self {
            process: own_program().and_then(|mut command| command.spawn()).ok(),
            named,
            with_path,
        }
    }

    /// With no signal at all, which asks for the same permission.
    fn signal(&mut self) -> Option<Result<(), Errno>> {
        let process = self.process.as_mut()?;
        let id = Pid::from_raw(i32::try_from(process.id()).ok()?)?;
        let asked = rustix::process::test_kill_process(id);
        // Its status is of no interest.
        let _ended = process.wait();
        Some(asked)
    }

    fn reach_named(&self) -> Option<Result<(), Errno>> {
        let (_, address) = self.named.as_ref()?;
        let reached = UnixDatagram::unbound().and_then(|socket| socket.connect_addr(address));
        Some(reached.map_err(|error| errno(&error)))
    }

    fn reach_by_path(&self) -> Option<Result<(), Errno>> {
        let (_, path) = self.with_path.as_ref()?;
        let reached = UnixDatagram::unbound().and_then(|socket| socket.connect(path));
        Some(reached.map_err(|error| errno(&error)))
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.with_path {
            // An empty name in the state directory is no harm.
            let _removed = fs::remove_file(path);
        }
    }
}

/// Tries everything.
pub fn all(
    landlock: &landlock::Enforced,
    privileges: &privileges::Enforced,
    mut outside: Outside,
) -> Vec<Fence> {
    let abi = match landlock {
        landlock::Enforced::Abi(abi) => *abi,
        landlock::Enforced::Nothing(_) => 0,
    };
    let read_back = "read back from the kernel";
    vec![
        Fence::new("no-new-privileges", privileges.none_to_gain, read_back),
        capabilities(privileges),
        Fence::tried("tcp-bind", bind()),
        Fence::tried("listen", listen()),
        Fence::tried("accept", accept()),
        Fence::tried(
            "mptcp",
            sockets(&[(AddressFamily::INET, SocketType::STREAM, IPPROTO_MPTCP)]),
        ),
        Fence::tried(
            "raw-sockets",
            sockets(&[
                (AddressFamily::INET, SocketType::RAW, 1),
                (AddressFamily::INET6, SocketType::RAW, 58),
            ]),
        ),
        Fence::tried(
            "packet-sockets",
            sockets(&[(AddressFamily::PACKET, SocketType::DGRAM, 0)]),
        ),
        Fence::tried(
            "other-sockets",
            sockets(&[
                (AddressFamily::VSOCK, SocketType::STREAM, 0),
                (
                    AddressFamily::NETLINK,
                    SocketType::RAW,
                    NETLINK_KOBJECT_UEVENT,
                ),
            ]),
        ),
        Fence::tried("io-uring", io_uring()),
        Fence::tried("exec", exec()),
        system_calls(),
        Fence::tried("files", files()),
        Fence::by_abi(("signals", 6), abi, outside.signal()),
        Fence::by_abi(("abstract-sockets", 6), abi, outside.reach_named()),
        Fence::by_abi(("unix-socket-connect", 9), abi, outside.reach_by_path()),
    ]
}

/// What was given up does not come back.
fn capabilities(privileges: &privileges::Enforced) -> Fence {
    let name = "capabilities";
    let Ok(sets) = thread::capabilities(None) else {
        return Fence::new(name, privileges.is_dropped(), privileges.to_string());
    };
    let more = CapabilitySets {
        permitted: sets.permitted | CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN,
        ..sets
    };
    let regained = Fence::tried(name, thread::set_capabilities(None, more));
    if !regained.in_force {
        let _undone = thread::set_capabilities(None, sets);
    }
    let in_force = privileges.is_dropped() && regained.in_force;
    Fence::new(name, in_force, format!("{privileges}; {}", regained.detail))
}

/// By either family that there is here.
fn bind() -> Result<(), Errno> {
    for address in [
        SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
    ] {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        if let Ok(socket) = rustix::net::socket(family, SocketType::STREAM, None) {
            match rustix::net::bind(&socket, &address) {
                Err(Errno::ACCESS | Errno::PERM | Errno::ADDRNOTAVAIL) => {}
                other => return other,
            }
        }
    }
    Err(Errno::PERM)
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

/// Denied where each is.
fn sockets(kinds: &[(AddressFamily, SocketType, u32)]) -> Result<(), Errno> {
    for (family, kind, protocol) in kinds {
        let protocol = NonZero::new(*protocol).map(Protocol::from_raw);
        match rustix::net::socket(*family, *kind, protocol) {
            Err(Errno::PERM) => {}
            other => return other.map(drop),
        }
    }
    Err(Errno::PERM)
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

/// This very program, which says its version and ends.
fn own_program() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--version").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

fn exec() -> Result<(), Errno> {
    let ended = own_program().and_then(|mut command| command.status());
    ended.map(drop).map_err(|error| errno(&error))
}

/// Whoever it belongs to, a process may read the root and write its own name.
fn files() -> Result<(), Errno> {
    match fs::read_dir("/").map(drop).map_err(|error| errno(&error)) {
        Err(Errno::ACCESS) => {}
        other => return other,
    }
    let opened = fs::File::options().write(true).open("/proc/self/comm");
    opened.map(drop).map_err(|error| errno(&error))
}

/// Every call that is denied whatever its arguments, with such as the kernel refuses should it
/// come to look at them. In a process of its own: where a sandbox around this one ends whoever
/// makes such a call, it is that process, and the call is denied all the same.
fn system_calls() -> Fence {
    let name = "system-calls";
    let calls = seccomp::denied();
    #[expect(unsafe_code, reason = "there is no fork in any crate that is safe")]
    // SAFETY: the child makes system calls and nothing else, so that it needs nothing that
    // another thread could hold, and ends without unwinding.
    let child = match unsafe { libc::fork() } {
        -1 => Err(Errno::from_io_error(&io::Error::last_os_error())),
        0 => try_and_exit(&calls),
        child => Ok(Pid::from_raw(child)),
    };
    let status = match child {
        Ok(child) => rustix::process::waitpid(child, WaitOptions::empty()),
        Err(error) => Err(error.unwrap_or(Errno::IO)),
    };
    let status = match status {
        Ok(Some((_, status))) => status,
        Ok(None) => return Fence::new(name, false, "not tried: the attempt is lost"),
        Err(error) => return Fence::new(name, false, format!("not tried: {error}")),
    };
    let count = calls.len();
    match status.exit_status() {
        Some(0) => Fence::new(name, true, format!("tried: all {count} denied")),
        Some(failed) => {
            let failed = usize::try_from(failed)
                .ok()
                .and_then(|at| calls.get(at - 1));
            let call = failed.map_or("a call", |(call, _)| call.trim_start_matches("SYS_"));
            Fence::new(name, false, format!("tried: {call} was not denied"))
        }
        None => ended_by_signal(name, status),
    }
}

fn ended_by_signal(name: &str, status: WaitStatus) -> Fence {
    match status.terminating_signal() {
        Some(libc::SIGSYS) => Fence::new(name, true, "tried: whoever does so is ended"),
        signal => Fence::new(
            name,
            false,
            format!("not tried: ended by signal {signal:?}"),
        ),
    }
}

/// Ends the process with 0 where all are denied, and otherwise with the number of the first
/// that is not, from 1.
fn try_and_exit(calls: &[(&str, i64)]) -> ! {
    let mut not_denied = 0;
    for (number, (_, call)) in (1..).zip(calls) {
        #[expect(unsafe_code, reason = "any system call, by its number")]
        // SAFETY: no argument is an address that can be read or written, a descriptor that is
        // open, a length that is allowed or a flag that is known.
        let made = unsafe { libc::syscall(*call, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64, -1_i64) };
        let is_denied =
            made == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::EPERM);
        if !is_denied {
            not_denied = number;
            break;
        }
    }
    #[expect(unsafe_code, reason = "no destructors are run in a forked process")]
    // SAFETY: it ends the process, and takes a number.
    unsafe {
        libc::_exit(not_denied)
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
