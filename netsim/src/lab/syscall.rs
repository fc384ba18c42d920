//! What the kernel offers and no crate of ours wraps: the one place of the lab with
//! unsafe code. Nothing here decides anything.

use std::{
    ffi::{CStr, c_int, c_void},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
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

fn checked(done: c_int) -> io::Result<()> {
    if done == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
