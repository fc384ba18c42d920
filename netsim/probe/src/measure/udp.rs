//! A datagram that every QUIC server answers, and the ICMP errors that come in its place.
//!
//! The kernel keeps them for the socket (`IP_RECVERR`), with type, code and sender, and gives
//! them to an ordinary user.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsRawFd,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};

use super::{Run, tcp};
use crate::observe::{FaultKind, Icmp, Router, UdpTest};

/// The smallest datagram that a QUIC server answers (RFC 9000 §14.1).
const DATAGRAM_BYTES: usize = 1_200;

/// A version of QUIC that nobody has (RFC 9000 §15): it is answered with those that there are.
const NOBODYS_VERSION: u32 = 0x1a2a_3a4a;

/// When a datagram is sent, from the start.
const SENT_AT: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(400),
    Duration::from_millis(1_000),
    Duration::from_millis(1_800),
];

/// How long an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_millis(3_000);

/// How long a device on the way may take to say that a datagram's hops are used up.
const HOP_WITHIN: Duration = Duration::from_millis(1_000);

/// ICMP errors that are kept.
const ICMP_MAX: usize = 4;

/// Asks a QUIC server which versions it speaks.
pub(super) async fn ask(run: &Run, to: SocketAddr) -> UdpTest {
    let mut test = UdpTest {
        to,
        start: run.now(),
        from: None,
        sent: 0,
        answered_after: None,
        icmp: Vec::new(),
        fault: None,
    };
    let socket = match open(to, None) {
        Ok(socket) => socket,
        Err(error) => {
            test.fault = Some(local(&error));
            return test;
        }
    };
    test.from = socket.local_addr().ok();
    let started = Instant::now();
    for (number, at) in SENT_AT.into_iter().enumerate() {
        let next = SENT_AT.get(number + 1).copied().unwrap_or(ANSWER_WITHIN);
        if wait_until(&socket, started + at, started, &mut test).await {
            break;
        }
        match socket.send(&question_to(to.port())).await {
            Ok(_) => test.sent += 1,
            // An ICMP error about the one before may be told here.
            Err(error) if is_told(&error) => note_icmp(&socket, &mut test),
            Err(error) => test.fault = Some(local(&error)),
        }
        if wait_until(&socket, started + next, started, &mut test).await {
            break;
        }
    }
    test
}

/// Takes what comes until a moment; true where nothing more needs to be waited for.
async fn wait_until(
    socket: &UdpSocket,
    until: Instant,
    started: Instant,
    test: &mut UdpTest,
) -> bool {
    let mut answer = [0; 2_048];
    loop {
        match timeout_at(until, socket.recv(&mut answer)).await {
            Ok(Ok(_)) => {
                let after = started.elapsed().as_micros();
                test.answered_after = Some(u64::try_from(after).unwrap_or(u64::MAX));
                return true;
            }
            Ok(Err(_)) => {
                note_icmp(socket, test);
                if test.icmp.len() >= 2 {
                    return true;
                }
            }
            Err(_) => {
                note_icmp(socket, test);
                return test.icmp.len() >= 2;
            }
        }
    }
}

fn is_told(error: &io::Error) -> bool {
    let codes = [
        libc::ECONNREFUSED,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
        libc::EACCES,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

fn local(error: &io::Error) -> crate::observe::Fault {
    let mut fault = tcp::of_io(error);
    fault.is_local = true;
    if fault.kind == FaultKind::Other {
        fault.says = format!("the datagram was not sent: {}", fault.says);
    }
    fault
}

fn note_icmp(socket: &UdpSocket, test: &mut UdpTest) {
    while let Some(icmp) = told(socket) {
        if test.icmp.len() < ICMP_MAX {
            test.icmp.push(icmp);
        }
    }
}

/// The devices on the way that say that a datagram's hops are used up.
pub(super) async fn routers(to: SocketAddr, hops_max: u8) -> Vec<Router> {
    let tries = (1..=hops_max).map(|hop| router(to, hop));
    let found = futures_util::future::join_all(tries).await;
    found.into_iter().flatten().collect()
}

async fn router(to: SocketAddr, hop: u8) -> Option<Router> {
    let socket = open(to, Some(hop)).ok()?;
    let until = Instant::now() + HOP_WITHIN;
    socket.send(&question()).await.ok()?;
    let mut answer = [0; 2_048];
    // An answer of the relay itself is none of a device on the way.
    let came = timeout_at(until, socket.recv(&mut answer)).await;
    if matches!(came, Ok(Ok(_))) {
        return None;
    }
    let icmp = told(&socket)?;
    let is_used_up = matches!(
        (icmp.kind, icmp.code, to.is_ipv4()),
        (11, 0, true) | (3, 0, false)
    );
    let address = icmp.offender?;
    is_used_up.then_some(Router { hop, address })
}

/// A socket that is connected, and told of ICMP errors.
fn open(to: SocketAddr, hops: Option<u8>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let (level, name) = match to {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_RECVERR),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    };
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the kernel reads `length` bytes of `on`, which lives through the call.
    #[expect(unsafe_code, reason = "the option is in no crate that is used here")]
    let done = unsafe {
        let on = std::ptr::from_ref(&on).cast();
        libc::setsockopt(socket.as_raw_fd(), level, name, on, length)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    match (hops, to) {
        (Some(hops), SocketAddr::V4(_)) => socket.set_ttl_v4(hops.into())?,
        (Some(hops), SocketAddr::V6(_)) => socket.set_unicast_hops_v6(hops.into())?,
        (None, _) => {}
    }
    socket.connect(&to.into())?;
    UdpSocket::from_std(socket.into())
}

/// One error from the socket's queue.
fn told(socket: &UdpSocket) -> Option<Icmp> {
    let mut payload = [0_u8; 64];
    // Aligned as the kernel's control messages are.
    let mut control = [0_u64; 64];
    let mut slice = libc::iovec {
        iov_base: payload.as_mut_ptr().cast(),
        iov_len: payload.len(),
    };
    // SAFETY: a message header of zeros is one that points nowhere.
    #[expect(unsafe_code, reason = "libc's structure has no constructor")]
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut slice;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: all that the header points to lives through the call, and is as long as it says.
    #[expect(unsafe_code, reason = "the queue of errors is in no crate here")]
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE) };
    if got < 0 {
        return None;
    }
    let length = header.msg_controllen;
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    read_control(bytes.get(..length)?)
}

/// Reads `cmsghdr`, `sock_extended_err` and the `sockaddr` behind it, as the kernel lays them.
fn read_control(bytes: &[u8]) -> Option<Icmp> {
    const HEAD_BYTES: usize = size_of::<libc::cmsghdr>();
    const ERROR_BYTES: usize = size_of::<libc::sock_extended_err>();
    let error = bytes.get(HEAD_BYTES..HEAD_BYTES + ERROR_BYTES)?;
    let errno = i32::from_ne_bytes(error.get(..4)?.try_into().ok()?);
    let (origin, kind, code) = (*error.get(4)?, *error.get(5)?, *error.get(6)?);
    let address = bytes.get(HEAD_BYTES + ERROR_BYTES..)?;
    let family = u16::from_ne_bytes(address.get(..2)?.try_into().ok()?);
    let offender: Option<IpAddr> = match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = address.get(4..8)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets).into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = address.get(8..24)?.try_into().ok()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    };
    Some(Icmp {
        kind,
        code,
        offender,
        is_local: origin == libc::SO_EE_ORIGIN_LOCAL,
        errno: errno.abs(),
    })
}

/// What the server of a port answers: names on 53, QUIC elsewhere.
fn question_to(port: u16) -> Vec<u8> {
    const NAMES: u16 = 53;
    if port != NAMES {
        return question();
    }
    // A query for the root's name servers (RFC 1035 §4.1), with recursion.
    let mut query = tunnel::random_bytes::<2>().to_vec();
    query.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]);
    query
}

/// A long header of a version that nobody has, padded as a first packet is.
fn question() -> Vec<u8> {
    let mut datagram = vec![0xc0];
    datagram.extend_from_slice(&NOBODYS_VERSION.to_be_bytes());
    for _ in 0..2 {
        datagram.push(8);
        datagram.extend_from_slice(&tunnel::random_bytes::<8>());
    }
    datagram.resize(DATAGRAM_BYTES, 0);
    datagram
}
