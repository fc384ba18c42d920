//! Everything that the lab makes lives in a sandbox, and is gone with it.
//!
//! A sandbox is the program itself once more, with network, processes, mounts and host
//! name of its own; where the caller is not root, it is root in a user namespace. It is
//! the first process of its PID namespace: when it ends, however it ends, the kernel kills
//! all that it has started, and with the last process go namespaces and interfaces. It is
//! killed itself with the thread that started it ([`enclose`]), also by `kill -9`.

use std::{
    ffi::{CString, OsStr},
    io,
    os::fd::OwnedFd,
    process::{Command, ExitStatus},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    mount::{MountFlags, MountPropagationFlags},
    process::{PidfdFlags, Signal},
    thread::UnshareFlags,
};

use super::syscall;

/// Says to a process that it is in a sandbox.
const VARIABLE: &str = "STERNLINE_NETSIM_SANDBOX";

/// A folder in memory that only the sandbox sees: what it writes there is gone with it.
pub const FOLDER: &str = "/dev/shm";

/// Whether this process is a sandbox.
pub fn is_inside() -> bool {
    std::env::var_os(VARIABLE).is_some() && rustix::process::getpid().is_init()
}

/// Runs this program once more, in a sandbox, and waits for its end.
///
/// # Errors
///
/// What [`super::preflight`] tells about in sentences.
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> io::Result<ExitStatus> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    enclose(&mut command)?;
    command.status()
}

/// Has a command run in a sandbox. It is killed when the thread that spawns it ends.
///
/// # Errors
///
/// The kernel knows no descriptors of processes (before Linux 5.3).
pub fn enclose(command: &mut Command) -> io::Result<()> {
    command.env(VARIABLE, "1");
    let user = rustix::process::geteuid();
    let plan = Plan {
        parent: pidfd_of_this_process()?,
        is_root: user.is_root(),
        users: line(format_args!("0 {} 1", user.as_raw())),
        groups: line(format_args!("0 {} 1", rustix::process::getegid().as_raw())),
    };
    syscall::before_exec(command, move || plan.follow());
    Ok(())
}

fn line(text: std::fmt::Arguments<'_>) -> CString {
    CString::new(text.to_string()).expect("numbers have no zero byte")
}

fn pidfd_of_this_process() -> io::Result<OwnedFd> {
    let own = rustix::process::getpid();
    Ok(rustix::process::pidfd_open(own, PidfdFlags::empty())?)
}

/// What a child does before it execs; prepared beforehand, because it may not allocate.
#[derive(Debug)]
struct Plan {
    parent: OwnedFd,
    is_root: bool,
    users: CString,
    groups: CString,
}

impl Plan {
    fn follow(&self) -> io::Result<()> {
        die_with(&self.parent)?;
        let own = pidfd_of_this_process()?;
        self.leave()?;
        // Who asks for a new PID namespace stays outside, and waits for its first process.
        if let Some(child) = syscall::fork()? {
            syscall::end_as(child);
        }
        die_with(&own)?;
        furnish()
    }

    /// New namespaces. Root in a container may lack the right to them, and have it in a
    /// user namespace.
    fn leave(&self) -> io::Result<()> {
        let wanted = UnshareFlags::NEWNET
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWNS
            | UnshareFlags::NEWUTS;
        if self.is_root && syscall::unshare(wanted).is_ok() {
            return Ok(());
        }
        syscall::unshare(wanted | UnshareFlags::NEWUSER)?;
        write(c"/proc/self/setgroups", c"deny")?;
        write(c"/proc/self/uid_map", &self.users)?;
        write(c"/proc/self/gid_map", &self.groups)
    }
}

/// Has a command be run by a user who is not root, in a user namespace of its own: some
/// programs want it so. For one that is in a sandbox.
pub(crate) fn leave_root(command: &mut Command) {
    syscall::before_exec(command, || {
        syscall::unshare(UnshareFlags::NEWUSER)?;
        write(c"/proc/self/setgroups", c"deny")?;
        write(c"/proc/self/uid_map", c"1000 0 1")?;
        write(c"/proc/self/gid_map", c"1000 0 1")
    });
}

/// Has a command see an empty `/run` in memory, which goes with it. For one that has moved to a
/// host, whose mounts are its own.
pub(crate) fn hide_run(command: &mut Command) {
    syscall::before_exec(command, || {
        let safe = MountFlags::NOSUID | MountFlags::NODEV;
        Ok(rustix::mount::mount(
            c"tmpfs", c"/run", c"tmpfs", safe, None,
        )?)
    });
}

/// Ends with another process. That one may have ended before this was asked for.
fn die_with(other: &OwnedFd) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut ended = [PollFd::new(other, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    if poll(&mut ended, Some(&now))? > 0 {
        syscall::exit_now(1);
    }
    Ok(())
}

fn write(path: &std::ffi::CStr, text: &std::ffi::CStr) -> io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.to_bytes())?;
    Ok(())
}

/// Its own view of processes, and a folder that goes with it.
fn furnish() -> io::Result<()> {
    let apart = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(c"/", apart)?;
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount(c"proc", c"/proc", c"proc", safe | MountFlags::NOEXEC, None)?;
    rustix::mount::mount(c"tmpfs", c"/dev/shm", c"tmpfs", safe, None)?;
    Ok(())
}
