//! Packets made here: segments, datagrams, echoes, and the answers of boxes that refuse.

use std::net::{IpAddr, SocketAddr};

use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, IpAddress, IpProtocol, IpRepr,
        TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
    },
};

use super::{Flags, Packet, Transport};

/// A TCP segment to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// Who sends.
    pub source: SocketAddr,
    /// To whom; of the same family.
    pub destination: SocketAddr,
    /// SYN, FIN, RST and ACK.
    pub flags: Flags,
    /// The number of its first byte.
    pub sequence: u32,
    /// What is acknowledged, where ACK is set.
    pub acknowledges: u32,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// What an ICMP error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// A rule forbids it: Linux tells the sender EHOSTUNREACH.
    Prohibited,
    /// Nobody listens on this port: ECONNREFUSED.
    PortUnreachable,
    /// No way leads there: EHOSTUNREACH.
    HostUnreachable,
    /// It is longer than what comes next takes.
    TooBig {
        /// What does fit.
        mtu: u16,
    },
    /// It has passed too many routers.
    TooManyHops,
}

/// Hops that packets made here have left, as Linux has it.
const HOPS: u8 = 64;

/// The longest error about an IPv4 packet (RFC 1812), and about an IPv6 packet (RFC 4443).
const ERROR_MAX_IPV4: usize = 576;
const ERROR_MAX_IPV6: usize = 1280;

impl Packet {
    /// A UDP datagram; both ends are of one family.
    pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Self {
        let repr = UdpRepr {
            src_port: source.port(),
            dst_port: destination.port(),
        };
        let (from, to) = (source.ip().into(), destination.ip().into());
        let length = repr.header_len() + payload.len();
        around(from, to, IpProtocol::Udp, length, |inner| {
            repr.emit(
                &mut UdpPacket::new_unchecked(inner),
                &from,
                &to,
                payload.len(),
                |room| room.copy_from_slice(payload),
                &ChecksumCapabilities::default(),
            );
        })
    }

    /// A TCP segment.
    pub fn tcp(segment: Segment<'_>) -> Self {
        let Segment {
            source,
            destination,
            flags,
            ..
        } = segment;
        let has_ack = flags.has(Flags::ACK);
        let repr = TcpRepr {
            src_port: source.port(),
            dst_port: destination.port(),
            control: match flags {
                flags if flags.has(Flags::RST) => TcpControl::Rst,
                flags if flags.has(Flags::SYN) => TcpControl::Syn,
                flags if flags.has(Flags::FIN) => TcpControl::Fin,
                _ => TcpControl::None,
            },
            seq_number: seq(segment.sequence),
            ack_number: has_ack.then(|| seq(segment.acknowledges)),
            window_len: u16::MAX,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: segment.payload,
        };
        let (from, to) = (source.ip().into(), destination.ip().into());
        around(from, to, IpProtocol::Tcp, repr.buffer_len(), |inner| {
            let mut packet = TcpPacket::new_unchecked(inner);
            repr.emit(&mut packet, &from, &to, &ChecksumCapabilities::default());
        })
    }

    /// An ICMP echo request: `id` tells apart who asks.
    pub fn echo(source: IpAddr, destination: IpAddr, id: u16) -> Self {
        let first: [u8; 4] = match source {
            IpAddr::V4(_) => [8, 0, 0, 0],
            IpAddr::V6(_) => [128, 0, 0, 0],
        };
        let [high, low] = id.to_be_bytes();
        icmp(source, destination, first, [high, low, 0, 0], &[])
    }

    /// The answer to an echo request; nothing to anything else.
    pub fn echo_reply(&self) -> Option<Self> {
        let Transport::Echo { is_request: true } = self.transport else {
            return None;
        };
        let first: [u8; 4] = match self.source {
            IpAddr::V4(_) => [0, 0, 0, 0],
            IpAddr::V6(_) => [129, 0, 0, 0],
        };
        let rest = &self.bytes[self.inner_at..];
        let id = [rest[4], rest[5], rest[6], rest[7]];
        Some(icmp(self.destination, self.source, first, id, &rest[8..]))
    }

    /// What a box at `by` says about this packet; nothing about an error, or about what
    /// is not of the box's family.
    pub fn error(&self, trouble: Trouble, by: IpAddr) -> Option<Self> {
        if matches!(self.transport, Transport::Error { .. })
            || by.is_ipv4() != self.source.is_ipv4()
        {
            return None;
        }
        let mtu = match trouble {
            Trouble::TooBig { mtu } => mtu.to_be_bytes(),
            Trouble::Prohibited
            | Trouble::PortUnreachable
            | Trouble::HostUnreachable
            | Trouble::TooManyHops => [0, 0],
        };
        let (kind, code, most) = match self.source {
            IpAddr::V4(_) => {
                let (kind, code) = match trouble {
                    Trouble::Prohibited => (3, 13),
                    Trouble::PortUnreachable => (3, 3),
                    Trouble::HostUnreachable => (3, 1),
                    Trouble::TooBig { .. } => (3, 4),
                    Trouble::TooManyHops => (11, 0),
                };
                (kind, code, ERROR_MAX_IPV4 - 28)
            }
            IpAddr::V6(_) => {
                let (kind, code) = match trouble {
                    Trouble::Prohibited => (1, 1),
                    Trouble::PortUnreachable => (1, 4),
                    Trouble::HostUnreachable => (1, 3),
                    Trouble::TooBig { .. } => (2, 0),
                    Trouble::TooManyHops => (3, 0),
                };
                (kind, code, ERROR_MAX_IPV6 - 48)
            }
        };
        let quote = &self.bytes[..self.bytes.len().min(most)];
        // Both families have the MTU in the last two bytes of this word.
        let second = [0, 0, mtu[0], mtu[1]];
        Some(icmp(by, self.source, [kind, code, 0, 0], second, quote))
    }

    /// The reset that ends the connection of this segment, as if its receiver had sent
    /// it; nothing to a reset, and to what is not TCP.
    pub fn reset(&self) -> Option<Self> {
        let Transport::Tcp { flags, .. } = self.transport else {
            return None;
        };
        let flow = self.flow()?.reversed();
        if flags.has(Flags::RST) {
            return None;
        }
        let header = TcpPacket::new_unchecked(&self.bytes[self.inner_at..]);
        let number = |number: TcpSeqNumber| u32::from_be_bytes(number.0.to_be_bytes());
        let length = u32::try_from(header.segment_len()).unwrap_or(u32::MAX);
        let after = number(header.seq_number()).wrapping_add(length);
        // RFC 9293, 3.5.2: with the number that the segment acknowledges, where it does.
        let (sequence, flags) = if flags.has(Flags::ACK) {
            (number(header.ack_number()), Flags::RST)
        } else {
            (0, Flags::RST.and(Flags::ACK))
        };
        Some(Self::tcp(Segment {
            source: flow.source,
            destination: flow.destination,
            flags,
            sequence,
            acknowledges: after,
            payload: &[],
        }))
    }
}

const fn seq(number: u32) -> TcpSeqNumber {
    TcpSeqNumber(i32::from_be_bytes(number.to_be_bytes()))
}

pub(super) fn icmp(
    from: IpAddr,
    to: IpAddr,
    first: [u8; 4],
    second: [u8; 4],
    rest: &[u8],
) -> Packet {
    let protocol = match from {
        IpAddr::V4(_) => IpProtocol::Icmp,
        IpAddr::V6(_) => IpProtocol::Icmpv6,
    };
    around(from.into(), to.into(), protocol, 8 + rest.len(), |inner| {
        inner[..4].copy_from_slice(&first);
        inner[4..8].copy_from_slice(&second);
        inner[8..].copy_from_slice(rest);
        match (from, to) {
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut packet = Icmpv6Packet::new_unchecked(inner);
                packet.set_msg_type(Icmpv6Message::from(first[0]));
                packet.fill_checksum(&from, &to);
            }
            (IpAddr::V4(_) | IpAddr::V6(_), _) => {
                let mut packet = Icmpv4Packet::new_unchecked(inner);
                packet.set_msg_type(Icmpv4Message::from(first[0]));
                packet.fill_checksum();
            }
        }
    })
}

/// An IP header around `length` bytes that `fill` writes.
pub(super) fn around(
    from: IpAddress,
    to: IpAddress,
    protocol: IpProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Packet {
    let header = IpRepr::new(from, to, protocol, length, HOPS);
    let mut bytes = vec![0; header.buffer_len()];
    header.emit(&mut bytes[..], &ChecksumCapabilities::default());
    let inner = bytes.len() - length;
    fill(&mut bytes[inner..]);
    Packet::parse(bytes).expect("what is made here reads as a packet")
}
