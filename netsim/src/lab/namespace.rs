//! A network namespace, held by a descriptor: it lives as long as the value, or as a
//! process in it.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    process::{Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::{syscall, tool};

/// See the module.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// A new one, with nothing but a loopback that is down.
    ///
    /// # Errors
    ///
    /// It is not permitted.
    pub fn new() -> io::Result<Self> {
        // In a thread that ends: this one stays where it is.
        apart(|| {
            syscall::unshare(UnshareFlags::NEWNET)?;
            Self::current()
        })
    }

    /// That of the calling thread.
    ///
    /// # Errors
    ///
    /// There is no procfs.
    pub fn current() -> io::Result<Self> {
        Ok(Self(File::open("/proc/thread-self/ns/net")?.into()))
    }

    /// Moves the calling thread into it, or a child before it execs.
    ///
    /// # Errors
    ///
    /// It is not permitted.
    pub fn enter(&self) -> io::Result<()> {
        let network = Some(LinkNameSpaceType::Network);
        Ok(rustix::thread::move_into_link_name_space(
            self.0.as_fd(),
            network,
        )?)
    }

    /// Does something in a thread that is in it; sockets that it opens stay in it.
    ///
    /// # Errors
    ///
    /// It is not permitted, or what is done fails.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        apart(|| {
            self.enter()?;
            act()
        })
    }

    /// Runs commands of `ip`, one a line, in it.
    ///
    /// # Errors
    ///
    /// One of them failed; with what `ip` said.
    pub fn ip(&self, commands: &str) -> io::Result<()> {
        self.within(|| feed("ip", &["-batch", "-"], commands).map(drop))
    }

    /// Sets kernel parameters of it: paths under `/proc/sys/net`, and values.
    ///
    /// # Errors
    ///
    /// There is no such parameter, or it may not be written.
    pub fn set<P: AsRef<str> + Sync>(&self, parameters: &[(P, String)]) -> io::Result<()> {
        self.within(|| {
            for (path, value) in parameters {
                let path = format!("/proc/sys/net/{}", path.as_ref());
                std::fs::write(&path, value).map_err(|error| named(&path, &error))?;
            }
            Ok(())
        })
    }

    /// A path by which `ip` finds it, as long as this process lives.
    pub fn path(&self) -> String {
        let own = rustix::process::getpid().as_raw_nonzero();
        format!("/proc/{own}/fd/{}", self.0.as_raw_fd())
    }

    /// Another handle of it.
    ///
    /// # Errors
    ///
    /// There are too many descriptors.
    pub fn handle(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Runs a program on some input to its end, in the namespaces of the calling thread.
///
/// # Errors
///
/// It is missing, or failed; with what it said.
pub fn feed(program: &str, arguments: &[&str], input: &str) -> io::Result<String> {
    let path = tool(program).ok_or_else(|| io::Error::other(format!("{program} is missing")))?;
    let mut child = Command::new(path)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let written = child
        .stdin
        .take()
        .map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim();
        return Err(io::Error::other(format!("{program}: {said}\n{input}")));
    }
    written?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// In a thread of its own, and until it ends.
fn apart<T: Send>(act: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let done = thread::Builder::new().spawn_scoped(scope, act)?;
        done.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
