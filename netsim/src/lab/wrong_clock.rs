//! A wall clock that is wrong for one host's programs, which know nothing of it.
//!
//! The kernel has one wall clock, and its time namespaces do not shift it; what is preloaded
//! does not work in static programs. So the program's own questions for the time are answered
//! here: a filter of system calls hands them over (seccomp's user notification), and the page
//! of the kernel by which programs read clocks without asking (the vDSO) is hidden before the
//! first instruction of the program runs. Clocks that no dates are read from are left alone,
//! and so are the times of files.

use std::{
    ffi::c_int,
    fs::{self, File},
    io,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::FileExt, unix::net::UnixStream},
    process::{Child, Command},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};

use super::syscall::{self, Question};

/// What this kernel's seccomp can do, in words.
const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// `linux/auxvec.h`: where the kernel's page is, and what is to be passed over.
const SYSINFO: u64 = 33;
const IGNORE: u64 = 1;

/// The most that is read of what a program is started with: as much as the kernel lets it be.
const STARTED_WITH_MAX: usize = 2 * 1024 * 1024;

/// By how much clocks are wrong; clones are the same clock.
#[derive(Debug, Clone, Default)]
pub(super) struct WrongClock(Arc<AtomicI64>);

/// Who answers a process that asks for the time. It ends with the process.
#[derive(Debug)]
pub(super) struct Answering(Option<JoinHandle<()>>);

impl Drop for Answering {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            thread.join().ok();
        }
    }
}

/// Whether this kernel hands system calls over.
pub(super) fn is_offered() -> bool {
    let actions = fs::read_to_string(ACTIONS).unwrap_or_default();
    actions.split_whitespace().any(|one| one == "user_notif")
}

impl WrongClock {
    /// One that is wrong by so many nanoseconds.
    pub(super) fn by(nanos: i64) -> Self {
        Self(Arc::new(AtomicI64::new(nanos)))
    }

    /// Becomes wrong by so many nanoseconds more.
    pub(super) fn skew(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Starts a command that reads this clock. What else is to happen in the child has been
    /// said before.
    ///
    /// # Errors
    ///
    /// It cannot be started, or the kernel does not hand over its questions.
    pub(super) fn start(
        &self,
        command: &mut Command,
        spawn: impl FnOnce(&mut Command) -> io::Result<Child>,
    ) -> io::Result<(Child, Answering)> {
        let (near, far) = UnixStream::pair()?;
        syscall::before_exec(command, move || {
            let questions = syscall::hand_clocks_over()?;
            send(&far, &questions)?;
            syscall::be_traced()
        });
        let mut child = spawn(command)?;
        let begun = self.begin(&near, child.id());
        if begun.is_err() {
            // It stands still at its first instruction.
            child.kill().ok();
            child.wait().ok();
        }
        Ok((child, begun?))
    }

    /// The program is there and has not begun: it reads no clock by itself, and does begin.
    fn begin(&self, near: &UnixStream, pid: u32) -> io::Result<Answering> {
        syscall::wait_for_stop(pid)?;
        let questions = receive(near)?;
        let memory = File::options()
            .read(true)
            .write(true)
            .open(format!("/proc/{pid}/mem"))?;
        hide_vdso(&memory, stack_of(pid)?)?;
        syscall::let_go(pid)?;
        let clock = self.clone();
        let thread = thread::Builder::new()
            .name("clock".to_owned())
            .spawn(move || clock.answer(&questions, &memory))?;
        Ok(Answering(Some(thread)))
    }

    /// Answers until nobody is left who could ask.
    fn answer(&self, questions: &OwnedFd, memory: &File) {
        loop {
            let mut waiting = [PollFd::new(questions, PollFlags::IN)];
            match poll(&mut waiting, None) {
                Ok(_) if waiting[0].revents().contains(PollFlags::IN) => {}
                Ok(_) => return,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return,
            }
            // One that was killed meanwhile has no question any more.
            let Ok(question) = syscall::question(questions) else {
                continue;
            };
            let answer = self.told(&question, memory);
            syscall::answer(questions, question.id, answer).ok();
        }
    }

    /// Writes the time to where a process wants it.
    fn told(&self, question: &Question, memory: &File) -> Result<i64, c_int> {
        let now = self.now();
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let put = |at: u64, rest: u32| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&seconds.to_ne_bytes());
            bytes[8..].copy_from_slice(&i64::from(rest).to_ne_bytes());
            memory.write_all_at(&bytes, at).map_err(|_| libc::EFAULT)
        };
        match question.call {
            libc::SYS_clock_gettime => put(question.arguments[1], now.subsec_nanos()).map(|()| 0),
            libc::SYS_gettimeofday if question.arguments[0] == 0 => Ok(0),
            libc::SYS_gettimeofday => put(question.arguments[0], now.subsec_micros()).map(|()| 0),
            // `time`: the answer is the result as well.
            _ if question.arguments[0] == 0 => Ok(seconds),
            _ => {
                let written = memory.write_all_at(&seconds.to_ne_bytes(), question.arguments[0]);
                written.map(|()| seconds).map_err(|_| libc::EFAULT)
            }
        }
    }

    /// What time it is by this clock, since 1970; not earlier.
    fn now(&self) -> Duration {
        let right = SystemTime::now().duration_since(UNIX_EPOCH);
        let right = right.unwrap_or_default();
        let wrong = self.0.load(Ordering::Relaxed);
        let by = Duration::from_nanos(wrong.unsigned_abs());
        if wrong < 0 {
            right.saturating_sub(by)
        } else {
            right.saturating_add(by)
        }
    }
}

fn send(to: &UnixStream, descriptor: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsFd;
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut room);
    let descriptors = [descriptor.as_fd()];
    with.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(to, &[io::IoSlice::new(b"x")], &mut with, SendFlags::empty())?;
    Ok(())
}

fn receive(from: &UnixStream) -> io::Result<OwnedFd> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = RecvAncillaryBuffer::new(&mut room);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(
        from,
        &mut [io::IoSliceMut::new(&mut byte)],
        &mut with,
        flags,
    )?;
    let mut descriptors = with.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let first = descriptors.next().and_then(|mut some| some.next());
    first.ok_or_else(|| io::Error::other("a program's clock was not handed over"))
}

/// Where a process that has not begun has what it was started with.
fn stack_of(pid: u32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // `proc(5)`: the 28th field, of which the third follows the program's name.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_whitespace().nth(25);
    let at = field
        .and_then(|field| field.parse().ok())
        .filter(|at| *at != 0);
    at.ok_or_else(|| io::Error::other("the kernel does not say where a program's stack is"))
}

/// Takes the kernel's page out of what a program is told at its start: the number of
/// arguments, these, a zero, the environment, a zero, then pairs of a kind and a value.
fn hide_vdso(memory: &File, stack: u64) -> io::Result<()> {
    let mut zeros = 0;
    let mut at = stack + 8;
    let end = stack + STARTED_WITH_MAX as u64;
    let word = |at: u64| -> io::Result<u64> {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_ne_bytes(bytes))
    };
    while zeros < 2 && at < end {
        zeros += u8::from(word(at)? == 0);
        at += 8;
    }
    while at < end {
        match word(at)? {
            0 => break,
            SYSINFO => return memory.write_all_at(&IGNORE.to_ne_bytes(), at),
            _ => at += 16,
        }
    }
    // A kernel without such a page is asked for every clock.
    Ok(())
}
