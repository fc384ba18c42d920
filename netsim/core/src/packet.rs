//! IP packets: read, made, and changed on the way as a NAT does it.
//!
//! A packet is its bytes, and what was read from them once. Bytes that make no sense are
//! refused at the door ([`Packet::parse`]) and never panic. Checksums of what passes are
//! adjusted and not made anew (RFC 1624), so that what was corrupted stays so.
//! Deliberately left out: fragments and IPv6 extension headers, which are
//! [`Transport::Other`] and pass what does not look at ports.

mod build;
mod rewrite;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use smoltcp::wire::{
    Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv4Packet, Ipv6Packet,
    TcpPacket, UdpPacket,
};

pub use self::build::{Segment, Trouble};
use crate::model::Protocol;

/// What two ends are, from the sender's view. An ICMP echo's identifier stands where the
/// port of its asker would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The protocol.
    pub protocol: Protocol,
    /// Who sends.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
}

impl Flow {
    /// The flow of answers.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            destination: self.source,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} > {}",
            self.protocol, self.source, self.destination
        )
    }
}

/// The flags of a TCP segment, as they stand in its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// The sender sends no more.
    pub const FIN: Self = Self(1);
    /// A connection is opened.
    pub const SYN: Self = Self(2);
    /// The connection is gone.
    pub const RST: Self = Self(4);
    /// The acknowledgement counts.
    pub const ACK: Self = Self(16);

    /// Whether one of these is set.
    pub const fn has(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }

    /// Both together.
    #[must_use]
    pub const fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Whether this is the first segment of a connection.
    pub const fn opens(self) -> bool {
        self.has(Self::SYN) && !self.has(Self::ACK)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [
            (Self::SYN, 'S'),
            (Self::ACK, 'A'),
            (Self::FIN, 'F'),
            (Self::RST, 'R'),
        ];
        for (flag, letter) in named {
            if self.has(flag) {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// What an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// Its flags.
        flags: Flags,
        /// Where its bytes begin, in the packet.
        payload_at: usize,
    },
    /// A UDP datagram.
    Udp {
        /// Where its bytes begin, in the packet.
        payload_at: usize,
    },
    /// An ICMP echo.
    Echo {
        /// Whether it asks.
        is_request: bool,
    },
    /// An ICMP error about a packet that its receiver has sent.
    Error {
        /// Whether it says that the packet did not fit.
        is_too_big: bool,
        /// What that packet was, if it can be told.
        about: Option<Flow>,
    },
    /// Something else, or a part of something.
    Other,
}

/// Why bytes are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The IP header makes no sense.
    #[error("the IP header makes no sense")]
    Ip,
    /// The header inside makes no sense.
    #[error("the header after the IP header makes no sense")]
    Transport,
}

/// An IP packet.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    source: IpAddr,
    destination: IpAddr,
    /// Where the header after the IP header begins.
    inner_at: usize,
    transport: Transport,
}

impl Packet {
    /// Reads a packet; bytes after its end are cut off.
    ///
    /// # Errors
    ///
    /// The bytes are no packet.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        match bytes.first().map(|first| first >> 4) {
            Some(4) => Self::parse_ipv4(bytes),
            Some(6) => Self::parse_ipv6(bytes),
            Some(_) | None => Err(Malformed::Ip),
        }
    }

    fn parse_ipv4(mut bytes: Vec<u8>) -> Result<Self, Malformed> {
        let header = Ipv4Packet::new_checked(&bytes[..]).map_err(|_| Malformed::Ip)?;
        let (inner_at, end) = (usize::from(header.header_len()), header.total_len().into());
        // smoltcp accepts a header shorter than the fixed one, and reads it.
        if inner_at < 20 || inner_at > end || end > bytes.len() {
            return Err(Malformed::Ip);
        }
        let (source, destination) = (header.src_addr().into(), header.dst_addr().into());
        let is_whole = !header.more_frags() && header.frag_offset() == 0;
        let protocol = header.next_header();
        bytes.truncate(end);
        let transport = if is_whole {
            transport(&bytes[inner_at..], inner_at, protocol)?
        } else {
            Transport::Other
        };
        Ok(Self {
            bytes,
            source,
            destination,
            inner_at,
            transport,
        })
    }

    fn parse_ipv6(mut bytes: Vec<u8>) -> Result<Self, Malformed> {
        const HEADER: usize = 40;
        let header = Ipv6Packet::new_checked(&bytes[..]).map_err(|_| Malformed::Ip)?;
        let (source, destination) = (header.src_addr().into(), header.dst_addr().into());
        let (protocol, end) = (header.next_header(), header.total_len());
        bytes.truncate(end);
        let transport = transport(&bytes[HEADER..], HEADER, protocol)?;
        Ok(Self {
            bytes,
            source,
            destination,
            inner_at: HEADER,
            transport,
        })
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes, to keep.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How long it is.
    #[expect(clippy::len_without_is_empty, reason = "a packet is never empty")]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Who sent it.
    pub const fn source(&self) -> IpAddr {
        self.source
    }

    /// To whom.
    pub const fn destination(&self) -> IpAddr {
        self.destination
    }

    /// What it carries.
    pub const fn transport(&self) -> Transport {
        self.transport
    }

    /// Which flow it belongs to, where it has ports. An error belongs to none: see
    /// [`Self::about`].
    pub fn flow(&self) -> Option<Flow> {
        let (protocol, ports) = match self.transport {
            Transport::Tcp { .. } => (Protocol::Tcp, (self.word(0), self.word(2))),
            Transport::Udp { .. } => (Protocol::Udp, (self.word(0), self.word(2))),
            Transport::Echo { is_request: true } => (Protocol::Icmp, (self.word(4), 0)),
            Transport::Echo { is_request: false } => (Protocol::Icmp, (0, self.word(4))),
            Transport::Error { .. } | Transport::Other => return None,
        };
        Some(Flow {
            protocol,
            source: SocketAddr::new(self.source, ports.0),
            destination: SocketAddr::new(self.destination, ports.1),
        })
    }

    /// The flow that an error is about, from the view of who sent the packet in it.
    pub const fn about(&self) -> Option<Flow> {
        match self.transport {
            Transport::Error { about, .. } => about,
            Transport::Tcp { .. }
            | Transport::Udp { .. }
            | Transport::Echo { .. }
            | Transport::Other => None,
        }
    }

    /// What it carries for the application.
    pub fn payload(&self) -> &[u8] {
        match self.transport {
            Transport::Tcp { payload_at, .. } | Transport::Udp { payload_at } => {
                &self.bytes[payload_at..]
            }
            Transport::Echo { .. } | Transport::Error { .. } | Transport::Other => &[],
        }
    }

    /// The flags of TCP; none of anything else.
    pub const fn flags(&self) -> Flags {
        match self.transport {
            Transport::Tcp { flags, .. } => flags,
            Transport::Udp { .. }
            | Transport::Echo { .. }
            | Transport::Error { .. }
            | Transport::Other => Flags(0),
        }
    }

    /// The number of a TCP segment's first byte.
    pub fn sequence(&self) -> Option<u32> {
        let is_tcp = matches!(self.transport, Transport::Tcp { .. });
        is_tcp.then(|| u32::from(self.word(4)) << 16 | u32::from(self.word(6)))
    }

    /// What an error says, where it is one that is made here too.
    pub fn trouble(&self) -> Option<Trouble> {
        if !matches!(self.transport, Transport::Error { .. }) {
            return None;
        }
        let kind = (
            self.source.is_ipv4(),
            self.bytes[self.inner_at],
            self.bytes[self.inner_at + 1],
        );
        Some(match kind {
            (true, 3, 4) | (false, 2, _) => Trouble::TooBig { mtu: self.word(6) },
            (true, 3, 3) | (false, 1, 4) => Trouble::PortUnreachable,
            (true, 3, 9 | 10 | 13) | (false, 1, 1) => Trouble::Prohibited,
            (true, 3, _) | (false, 1, _) => Trouble::HostUnreachable,
            (true | false, ..) => Trouble::TooManyHops,
        })
    }

    /// Whether routers must not cut it into fragments. Nobody cuts IPv6.
    pub fn may_not_be_fragmented(&self) -> bool {
        match self.source {
            IpAddr::V4(_) => self.bytes[6] & 0x40 != 0,
            IpAddr::V6(_) => true,
        }
    }

    /// Whether its checksums are right; what was corrupted on the way is thrown away by
    /// the host that it comes to.
    pub fn is_intact(&self) -> bool {
        let (from, to) = (self.source.into(), self.destination.into());
        let inner = &self.bytes[self.inner_at..];
        let is_header_intact = match self.source {
            IpAddr::V4(_) => Ipv4Packet::new_unchecked(&self.bytes[..]).verify_checksum(),
            IpAddr::V6(_) => true,
        };
        is_header_intact
            && match (self.transport, self.source, self.destination) {
                (Transport::Tcp { .. }, ..) => {
                    TcpPacket::new_unchecked(inner).verify_checksum(&from, &to)
                }
                (Transport::Udp { .. }, ..) => {
                    UdpPacket::new_unchecked(inner).verify_checksum(&from, &to)
                }
                (Transport::Other, ..) => true,
                (_, IpAddr::V6(from), IpAddr::V6(to)) => {
                    Icmpv6Packet::new_unchecked(inner).verify_checksum(&from, &to)
                }
                (Transport::Echo { .. } | Transport::Error { .. }, ..) => {
                    Icmpv4Packet::new_unchecked(inner).verify_checksum()
                }
            }
    }

    /// Two bytes of the header after the IP header; it has them, or it was refused.
    fn word(&self, at: usize) -> u16 {
        let at = self.inner_at + at;
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.flow() {
            Some(flow) => write!(f, "{flow} {} {} bytes", self.flags(), self.len()),
            None => write!(
                f,
                "{} > {} {:?} {} bytes",
                self.source,
                self.destination,
                self.transport,
                self.len()
            ),
        }
    }
}

/// Reads the header after the IP header, which begins at `at`.
fn transport(inner: &[u8], at: usize, protocol: IpProtocol) -> Result<Transport, Malformed> {
    match protocol {
        IpProtocol::Tcp => {
            let header = TcpPacket::new_checked(inner).map_err(|_| Malformed::Transport)?;
            let length = usize::from(header.header_len());
            if length < 20 {
                return Err(Malformed::Transport);
            }
            Ok(Transport::Tcp {
                flags: Flags(inner[13]),
                payload_at: at + length,
            })
        }
        IpProtocol::Udp => {
            let header = UdpPacket::new_checked(inner).map_err(|_| Malformed::Transport)?;
            // What is longer or shorter than its packet is not mended here.
            if usize::from(header.len()) != inner.len() {
                return Err(Malformed::Transport);
            }
            Ok(Transport::Udp { payload_at: at + 8 })
        }
        IpProtocol::Icmp => icmp(inner),
        IpProtocol::Icmpv6 => icmpv6(inner),
        _ => Ok(Transport::Other),
    }
}

fn icmp(inner: &[u8]) -> Result<Transport, Malformed> {
    let header = Icmpv4Packet::new_checked(inner).map_err(|_| Malformed::Transport)?;
    if inner.len() < 8 {
        return Err(Malformed::Transport);
    }
    Ok(match header.msg_type() {
        Icmpv4Message::EchoRequest => Transport::Echo { is_request: true },
        Icmpv4Message::EchoReply => Transport::Echo { is_request: false },
        Icmpv4Message::DstUnreachable | Icmpv4Message::TimeExceeded => Transport::Error {
            is_too_big: header.msg_type() == Icmpv4Message::DstUnreachable
                && header.msg_code() == 4,
            about: quoted(&inner[8..]).map(|quote| quote.flow),
        },
        _ => Transport::Other,
    })
}

fn icmpv6(inner: &[u8]) -> Result<Transport, Malformed> {
    if inner.len() < 8 {
        return Err(Malformed::Transport);
    }
    let header = Icmpv6Packet::new_unchecked(inner);
    Ok(match header.msg_type() {
        Icmpv6Message::EchoRequest => Transport::Echo { is_request: true },
        Icmpv6Message::EchoReply => Transport::Echo { is_request: false },
        Icmpv6Message::DstUnreachable | Icmpv6Message::PktTooBig | Icmpv6Message::TimeExceeded => {
            Transport::Error {
                is_too_big: header.msg_type() == Icmpv6Message::PktTooBig,
                about: quoted(&inner[8..]).map(|quote| quote.flow),
            }
        }
        _ => Transport::Other,
    })
}

/// The packet that an ICMP error quotes, of which often only the first eight bytes after
/// the IP header are there.
#[derive(Debug, Clone, Copy)]
struct Quote {
    flow: Flow,
    /// Where the addresses begin, in the quote.
    addresses_at: usize,
    /// Where the header after its IP header begins, in the quote.
    inner_at: usize,
    /// Where the source's port stands, or the identifier of an echo.
    port_at: usize,
}

fn quoted(quote: &[u8]) -> Option<Quote> {
    let version = quote.first()? >> 4;
    let (addresses_at, inner_at, protocol) = match version {
        4 => (12, usize::from(quote[0] & 0x0f) * 4, *quote.get(9)?),
        6 => (8, 40, *quote.get(6)?),
        _ => return None,
    };
    if inner_at < 20 || quote.len() < inner_at + 8 {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        Some(if version == 4 {
            IpAddr::from(<[u8; 4]>::try_from(quote.get(at..at + 4)?).ok()?)
        } else {
            IpAddr::from(<[u8; 16]>::try_from(quote.get(at..at + 16)?).ok()?)
        })
    };
    let inner = &quote[inner_at..];
    let word = |at: usize| u16::from_be_bytes([inner[at], inner[at + 1]]);
    let (protocol, source, destination, port_at) = match (protocol, inner[0]) {
        (6, _) => (Protocol::Tcp, word(0), word(2), 0),
        (17, _) => (Protocol::Udp, word(0), word(2), 0),
        // An echo is answered with an error only where it was a request.
        (1, 8) | (58, 128) => (Protocol::Icmp, word(4), 0, 4),
        _ => return None,
    };
    let width = if version == 4 { 4 } else { 16 };
    Some(Quote {
        flow: Flow {
            protocol,
            source: SocketAddr::new(address(addresses_at)?, source),
            destination: SocketAddr::new(address(addresses_at + width)?, destination),
        },
        addresses_at,
        inner_at,
        port_at,
    })
}

#[cfg(test)]
mod tests;
