//! The fabric's end of a cable that leads into a namespace: a packet socket on a veth.
//!
//! Packets come in through a ring that is shared with the kernel, because a socket's
//! ordinary buffer has a bound that only the machine's root may raise, and what does not
//! fit is a loss that no scenario has asked for. They go out many at a time. The far end
//! asks for no neighbours (its interface is `arp off`), so that nothing but IP is seen.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use netsim_core::packet::Packet;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice::name_to_index, socket_with};

use super::syscall::{self, Shared};

/// How much memory a port's packets may wait in: 5,000 of 1,500 bytes, which is 40 ms at
/// a gigabit a second.
const RING_BYTES: usize = 8 << 20;

/// What the kernel allocates at once.
const BLOCK_BYTES: usize = 1 << 16;

/// What stands before a packet in its frame, at most.
const HEAD_BYTES: usize = 128;

/// How many packets go out in one call.
const BATCH: usize = 64;

/// As in `linux/if_ether.h`.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_ALL: u16 = 0x0003;

/// Bits of a frame's status, as in `linux/if_packet.h`: whose it is.
const STATUS_KERNEL: u32 = 0;
const STATUS_USER: u32 = 1;

/// `struct tpacket2_hdr`: where its fields stand.
const SNAP_LENGTH_AT: usize = 8;
const NET_AT: usize = 14;

/// `struct tpacket_req`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Request {
    block_size: u32,
    block_count: u32,
    frame_size: u32,
    frame_count: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Port {
    /// Before the socket: it is unmapped first.
    ring: Shared,
    socket: OwnedFd,
    frame_bytes: usize,
    frames: usize,
    next: usize,
    /// The far end, for either protocol.
    to: [libc::sockaddr_ll; 2],
    waiting: Vec<Packet>,
    lost: Arc<AtomicU64>,
}

impl Port {
    /// A port on an interface of the calling thread's namespace, whose far end has this
    /// address of the link.
    pub(super) fn open(interface: &str, far: [u8; 6], mtu: u32) -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::PACKET,
            SocketType::DGRAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            // Deaf until it is bound.
            None,
        )?;
        let index = name_to_index(&socket, interface)?;
        let frame_bytes = (mtu as usize + HEAD_BYTES).next_power_of_two().max(2048);
        let frames = RING_BYTES / frame_bytes;
        let block_bytes = BLOCK_BYTES.max(frame_bytes);
        let word = |size: usize| u32::try_from(size).expect("a ring is smaller than 4 GiB");
        let request = Request {
            block_size: word(block_bytes),
            block_count: word(RING_BYTES / block_bytes),
            frame_size: word(frame_bytes),
            frame_count: word(frames),
        };
        let set = |option, value: i32| syscall::set_packet_option(socket.as_fd(), option, &value);
        set(libc::PACKET_VERSION, 1)?;
        set(libc::PACKET_IGNORE_OUTGOING, 1)?;
        set(libc::PACKET_QDISC_BYPASS, 1)?;
        syscall::set_packet_option(socket.as_fd(), libc::PACKET_RX_RING, &request)?;
        let ring = Shared::map(&socket, RING_BYTES)?;
        let everything = syscall::link_address(ETH_P_ALL, index, [0; 6]);
        syscall::bind_packet(socket.as_fd(), &everything)?;
        Ok(Self {
            ring,
            socket,
            frame_bytes,
            frames,
            next: 0,
            to: [ETH_P_IP, ETH_P_IPV6].map(|kind| syscall::link_address(kind, index, far)),
            waiting: Vec::new(),
            lost: Arc::default(),
        })
    }

    /// The next packet that has come in. What is no packet, or for a neighbourhood only,
    /// is passed over.
    pub(super) fn receive(&mut self) -> Option<Packet> {
        loop {
            let frame = self.next * self.frame_bytes;
            let status = self.ring.word(frame);
            if status.load(Ordering::Acquire) & STATUS_USER == 0 {
                return None;
            }
            let head = self.ring.bytes(frame, HEAD_BYTES);
            let word: [u8; 4] = std::array::from_fn(|at| head[SNAP_LENGTH_AT + at]);
            let length = u32::from_ne_bytes(word) as usize;
            let at = usize::from(u16::from_ne_bytes([head[NET_AT], head[NET_AT + 1]]));
            let fits = at + length <= self.frame_bytes;
            let bytes = fits.then(|| self.ring.bytes(frame + at, length).to_vec());
            self.ring
                .word(frame)
                .store(STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.frames;
            let packet = bytes.and_then(|bytes| Packet::parse(bytes).ok());
            if let Some(packet) = packet.filter(is_for_one) {
                return Some(packet);
            }
        }
    }

    /// A packet is to go out with the next [`Self::flush`].
    pub(super) fn send(&mut self, packet: Packet) {
        self.waiting.push(packet);
    }

    /// Sends what waits. What an interface does not take, because it is down or too
    /// narrow, is lost and counted.
    pub(super) fn flush(&mut self) {
        let mut rest = &self.waiting[..];
        while !rest.is_empty() {
            let batch = rest.iter().take(BATCH).map(|packet| {
                let to = &self.to[usize::from(packet.source().is_ipv6())];
                (to, packet.bytes())
            });
            let mut messages = [(&self.to[0], &[][..]); BATCH];
            let mut count = 0;
            for (message, one) in messages.iter_mut().zip(batch) {
                *message = one;
                count += 1;
            }
            match syscall::send_packets::<BATCH>(self.socket.as_fd(), &messages[..count]) {
                Ok(sent) if sent > 0 => rest = &rest[sent..],
                Ok(_) | Err(_) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    rest = &rest[1..];
                }
            }
        }
        self.waiting.clear();
    }

    /// Where it counts packets that its interface did not take.
    pub(super) fn counts_to(&mut self, lost: Arc<AtomicU64>) {
        self.lost = lost;
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Whether a packet is for one host far away, and not talk among neighbours.
fn is_for_one(packet: &Packet) -> bool {
    use std::net::IpAddr;
    match packet.destination() {
        IpAddr::V4(to) => !to.is_multicast() && !to.is_broadcast(),
        IpAddr::V6(to) => !to.is_multicast() && !to.is_unicast_link_local(),
    }
}
