//! What the kernel offers and no crate of ours wraps: the one place of the lab with
//! unsafe code. Nothing here decides anything.

use std::{
    ffi::{CStr, c_int, c_long, c_void},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    ptr::NonNull,
};

use rustix::thread::UnshareFlags;

/// Has `act` done by the child, between fork and exec.
///
/// The parent has threads, so the child must not touch what one of them may have locked:
/// `act` makes system calls on what was prepared before, and allocates nothing.
pub(super) fn before_exec(
    command: &mut Command,
    act: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    #[expect(
        unsafe_code,
        reason = "std's own way into the child is an unsafe function"
    )]
    // SAFETY: every caller keeps to what is said above; all of them are in `lab`.
    unsafe {
        command.pre_exec(act);
    }
}

/// New namespaces for the calling thread, or for a child before it execs.
pub(super) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    assert!(
        !flags.contains(UnshareFlags::FILES),
        "a table of files of its own is what makes the call unsafe"
    );
    // SAFETY: the table of files stays shared.
    #[expect(unsafe_code, reason = "unsafe only for a flag that is refused above")]
    let unshared = unsafe { rustix::thread::unshare_unsafe(flags) };
    Ok(unshared?)
}

/// Forks a child that is about to exec anyhow: the first of a new PID namespace has to be
/// a process of its own. `None` is the child.
pub(super) fn fork() -> io::Result<Option<c_int>> {
    // SAFETY: called between fork and exec only, where the process has one thread.
    #[expect(unsafe_code, reason = "fork is in no crate that is used here")]
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// Waits for a child, and ends as it did; holds nothing open meanwhile.
pub(super) fn end_as(child: c_int) -> ! {
    let mut status = 0;
    #[expect(unsafe_code, reason = "neither call is in a crate that is used here")]
    // SAFETY: system calls on numbers, and `status` outlives them. What the process has
    // open above the standard streams is nobody else's: it neither returns nor execs.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
        while libc::waitpid(child, &raw mut status, 0) == -1 {
            if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
                libc::_exit(1);
            }
        }
        libc::_exit(if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        })
    }
}

/// Ends a forked child at once.
pub(super) fn exit_now(code: c_int) -> ! {
    #[expect(
        unsafe_code,
        reason = "std::process::exit would run the parent's handlers"
    )]
    // SAFETY: it does not return, and runs nothing of the process.
    unsafe {
        libc::_exit(code)
    }
}

/// Sets an option of a packet socket.
pub(super) fn set_packet_option<T: Copy>(
    socket: BorrowedFd<'_>,
    option: c_int,
    value: &T,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: the kernel reads `length` bytes of `value`, which is borrowed for the call.
    #[expect(unsafe_code, reason = "rustix knows no options of packet sockets")]
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    checked(done)
}

/// Where a packet socket is bound, and where it sends to.
pub(super) fn link_address(protocol: u16, index: u32, address: [u8; 6]) -> libc::sockaddr_ll {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(&address);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: bytes,
    }
}

/// Binds a packet socket to an interface.
pub(super) fn bind_packet(socket: BorrowedFd<'_>, to: &libc::sockaddr_ll) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    // SAFETY: the kernel reads `length` bytes of `to`, which is borrowed for the call.
    #[expect(unsafe_code, reason = "rustix knows no addresses of packet sockets")]
    let done = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(to).cast(), length) };
    checked(done)
}

/// Sends packets to addresses of the link, in one call. Gives how many went.
pub(super) fn send_packets<const N: usize>(
    socket: BorrowedFd<'_>,
    packets: &[(&libc::sockaddr_ll, &[u8])],
) -> io::Result<usize> {
    let count = packets.len().min(N);
    let name_length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
    let mut slices = [libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    }; N];
    // SAFETY: a message header of zeros is one that points nowhere.
    #[expect(unsafe_code, reason = "libc's structure has no constructor")]
    let mut headers: [libc::mmsghdr; N] = unsafe { std::mem::zeroed() };
    for (number, (to, bytes)) in packets.iter().take(count).enumerate() {
        slices[number].iov_base = bytes.as_ptr().cast_mut().cast();
        slices[number].iov_len = bytes.len();
        headers[number].msg_hdr.msg_name = std::ptr::from_ref(*to).cast_mut().cast();
        headers[number].msg_hdr.msg_namelen = name_length;
        headers[number].msg_hdr.msg_iov = &raw mut slices[number];
        headers[number].msg_hdr.msg_iovlen = 1;
    }
    let wanted = u32::try_from(count).unwrap_or(0);
    // SAFETY: `headers` has `count` that point to `slices`, and those to bytes that are
    // borrowed for the call; the kernel only reads what they point to.
    #[expect(unsafe_code, reason = "sendmmsg is in no crate that is used here")]
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            wanted,
            libc::MSG_DONTWAIT as _,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Memory that the kernel writes packets to.
#[derive(Debug)]
pub(super) struct Shared {
    at: NonNull<c_void>,
    length: usize,
}

#[expect(
    unsafe_code,
    reason = "a pointer to memory that is owned may change threads"
)]
// SAFETY: the memory is this value's alone, wherever it goes.
unsafe impl Send for Shared {}

impl Shared {
    /// Maps what belongs to a socket.
    pub(super) fn map(socket: &OwnedFd, length: usize) -> io::Result<Self> {
        // SAFETY: a new mapping where the kernel likes overlaps nothing.
        #[expect(unsafe_code, reason = "a mapping is made of a raw pointer")]
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { at, length })
    }

    /// The word at `offset`, which the kernel may change at any time.
    pub(super) fn word(&self, offset: usize) -> &std::sync::atomic::AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.length);
        #[expect(unsafe_code, reason = "shared memory is reached by pointers")]
        // SAFETY: inside the mapping and aligned; it lives as long as `self`, and both
        // sides access this word atomically.
        unsafe {
            &*self.at.as_ptr().byte_add(offset).cast()
        }
    }

    /// Bytes that the kernel has handed over, and does not touch until it gets them back:
    /// the caller has seen the word that says so.
    pub(super) fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset <= self.length && length <= self.length - offset);
        #[expect(unsafe_code, reason = "shared memory is reached by pointers")]
        // SAFETY: inside the mapping, which lives as long as `self`.
        unsafe {
            std::slice::from_raw_parts(self.at.as_ptr().byte_add(offset).cast(), length)
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: it was mapped by `map`, and nothing borrows from it any more.
        #[expect(unsafe_code, reason = "a mapping is undone by its raw pointer")]
        let _undone = unsafe { libc::munmap(self.at.as_ptr(), self.length) };
    }
}

/// Switches a feature of an interface off, in the namespace that `socket` is of. What a
/// kernel does not know is off.
pub(super) fn switch_off(socket: BorrowedFd<'_>, interface: &CStr, command: u32) -> io::Result<()> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        value: u32,
    }
    let mut value = Value { command, value: 0 };
    // SAFETY: a request of zeros is one that points nowhere.
    #[expect(unsafe_code, reason = "libc's structure has no constructor")]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = interface.to_bytes().iter().take(libc::IFNAMSIZ - 1);
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = from.cast_signed() as _;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads the request, and the value that it points to; both outlive
    // the call.
    #[expect(unsafe_code, reason = "an ioctl takes a raw pointer")]
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    match checked(done) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        result => result,
    }
}

/// Calls by which a program asks for the wall clock, and that only where their first argument
/// is one of these; none is any.
const CLOCKS: &[(c_long, &[u32])] = &[
    (
        libc::SYS_clock_gettime,
        &[
            libc::CLOCK_REALTIME.cast_unsigned(),
            libc::CLOCK_REALTIME_COARSE.cast_unsigned(),
        ],
    ),
    (libc::SYS_gettimeofday, &[]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_time, &[]),
];

/// A question for the time that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) id: u64,
    pub(super) call: c_long,
    pub(super) arguments: [u64; 6],
}

/// An instruction of a filter; `linux/bpf_common.h`.
const fn instruction(code: u16, jump: (u8, u8), value: u32) -> libc::sock_filter {
    libc::sock_filter {
        code,
        jt: jump.0,
        jf: jump.1,
        k: value,
    }
}

/// Has [`CLOCKS`] of the calling process, and of what it execs, be answered by who holds what
/// is returned. The other word size of the machine is not looked at: what the lab runs is of
/// this one.
pub(super) fn hand_clocks_over() -> io::Result<OwnedFd> {
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const CALL: u32 = 0;
    const FIRST_ARGUMENT: u32 = 16;
    const MOST: usize = 16;
    let allow = instruction(RETURN, (0, 0), libc::SECCOMP_RET_ALLOW);
    let hand_over = instruction(RETURN, (0, 0), libc::SECCOMP_RET_USER_NOTIF);
    let mut program = [allow; MOST];
    let mut length = 0;
    let mut say = |one: libc::sock_filter| {
        program[length] = one;
        length += 1;
    };
    say(instruction(LOAD, (0, 0), CALL));
    for (call, arguments) in CLOCKS {
        let call = u32::try_from(*call).unwrap_or(u32::MAX);
        let count = u8::try_from(arguments.len()).unwrap_or(0);
        // What is not this call goes on behind what is said of it.
        let behind = if count == 0 { 1 } else { count + 3 };
        say(instruction(IF_EQUAL, (0, behind), call));
        if count > 0 {
            say(instruction(LOAD, (0, 0), FIRST_ARGUMENT));
            for (place, argument) in (0..count).zip(*arguments) {
                say(instruction(IF_EQUAL, (count - place, 0), *argument));
            }
            say(allow);
        }
        say(hand_over);
    }
    say(allow);
    let filter = libc::sock_fprog {
        len: u16::try_from(length).unwrap_or(0),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the filter, which outlives the call; the descriptor is new.
    #[expect(unsafe_code, reason = "seccomp is in no crate that is used here")]
    unsafe {
        let listener = libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const filter,
        );
        let listener = c_int::try_from(listener).unwrap_or(-1);
        checked(listener.min(0))?;
        Ok(OwnedFd::from_raw_fd(listener))
    }
}

/// The next question; who polls knows that there is one.
pub(super) fn question(listener: &OwnedFd) -> io::Result<Question> {
    // SAFETY: all zeros is what the kernel wants to find; it writes into what outlives the call.
    #[expect(unsafe_code, reason = "an ioctl takes a raw pointer")]
    let asked = unsafe {
        let mut asked: libc::seccomp_notif = std::mem::zeroed();
        checked(libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV,
            &raw mut asked,
        ))?;
        asked
    };
    Ok(Question {
        id: asked.id,
        call: asked.data.nr.into(),
        arguments: asked.data.args,
    })
}

/// Answers a question with the result of the call, or an error's number.
pub(super) fn answer(listener: &OwnedFd, id: u64, answer: Result<i64, c_int>) -> io::Result<()> {
    let mut response = libc::seccomp_notif_resp {
        id,
        val: answer.unwrap_or(0),
        error: answer.map_or_else(|number| -number, |_| 0),
        flags: 0,
    };
    // SAFETY: the kernel reads what outlives the call.
    #[expect(unsafe_code, reason = "an ioctl takes a raw pointer")]
    let done = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND,
            &raw mut response,
        )
    };
    checked(done)
}

/// Has the calling process stop at the first instruction of what it execs, for the thread that
/// started it.
pub(super) fn be_traced() -> io::Result<()> {
    let nothing = std::ptr::null_mut::<c_void>();
    // SAFETY: this request takes no pointers.
    #[expect(unsafe_code, reason = "ptrace is in no crate that is used here")]
    let done = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, nothing, nothing) };
    checked(if done == -1 { -1 } else { 0 })
}

/// Waits until a child that is traced has stopped; for the thread that started it.
pub(super) fn wait_for_stop(pid: u32) -> io::Result<()> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    #[expect(unsafe_code, reason = "rustix does not know of stops of the traced")]
    let done = unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, 0) };
    checked(done.min(0))?;
    if libc::WIFSTOPPED(status) {
        Ok(())
    } else {
        Err(io::Error::other("a program ended before it began"))
    }
}

/// Lets a stopped child run; for the thread that started it.
pub(super) fn let_go(pid: u32) -> io::Result<()> {
    let nothing = std::ptr::null_mut::<c_void>();
    // SAFETY: this request takes no pointers.
    #[expect(unsafe_code, reason = "ptrace is in no crate that is used here")]
    let done = unsafe { libc::ptrace(libc::PTRACE_DETACH, pid.cast_signed(), nothing, nothing) };
    checked(if done == -1 { -1 } else { 0 })
}

fn checked(done: c_int) -> io::Result<()> {
    if done == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
