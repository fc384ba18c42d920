//! Packets changed on the way: by a NAT, by a router.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::IpProtocol;

use super::{
    Packet, Transport,
    build::{around, icmp},
    quoted,
};

impl Packet {
    /// Puts another source in. Of an error, the source of the packet in it is not meant:
    /// see [`Self::set_about_source`].
    pub fn set_source(&mut self, source: SocketAddr) {
        self.set_address(true, source.ip());
        match self.transport {
            Transport::Tcp { .. } | Transport::Udp { .. } => self.set_word(0, source.port()),
            Transport::Echo { is_request: true } => self.set_word(4, source.port()),
            Transport::Echo { is_request: false } | Transport::Error { .. } | Transport::Other => {}
        }
    }

    /// Puts another destination in.
    pub fn set_destination(&mut self, destination: SocketAddr) {
        self.set_address(false, destination.ip());
        match self.transport {
            Transport::Tcp { .. } | Transport::Udp { .. } => self.set_word(2, destination.port()),
            Transport::Echo { is_request: false } => self.set_word(4, destination.port()),
            Transport::Echo { is_request: true } | Transport::Error { .. } | Transport::Other => {}
        }
    }

    /// Takes a hop from a packet that a router passes on; false where none is left.
    pub fn take_hop(&mut self) -> bool {
        let at = match self.source {
            IpAddr::V4(_) => 8,
            IpAddr::V6(_) => 7,
        };
        if self.bytes[at] <= 1 {
            return false;
        }
        let old = [self.bytes[8], self.bytes[9]];
        self.bytes[at] -= 1;
        if self.source.is_ipv4() {
            let new = [self.bytes[8], self.bytes[9]];
            self.adjust(10, &old, &new);
        }
        true
    }

    /// Turns one bit round, counted from the packet's beginning; past its end, from the
    /// beginning again. Where that makes it unreadable, nothing is left of it.
    #[must_use]
    pub fn with_bit_turned(mut self, bit: u64) -> Option<Self> {
        let bits = self.bytes.len() as u64 * 8;
        let at = bit % bits;
        let byte = usize::try_from(at / 8).unwrap_or(0);
        self.bytes[byte] ^= 1 << (at % 8);
        Self::parse(self.bytes).ok()
    }

    /// Puts another source into the packet that an error quotes: a NAT on the way back
    /// makes it the one that was sent.
    pub fn set_about_source(&mut self, source: SocketAddr) {
        self.set_about(source, true);
    }

    /// The same for the destination, on the way out.
    pub fn set_about_destination(&mut self, destination: SocketAddr) {
        self.set_about(destination, false);
    }

    fn set_about(&mut self, end: SocketAddr, is_source: bool) {
        let Transport::Error { is_too_big, .. } = self.transport else {
            return;
        };
        let quote_at = self.inner_at + 8;
        let Some(quote) = quoted(&self.bytes[quote_at..]) else {
            return;
        };
        let address = octets(end.ip());
        if end.is_ipv4() != quote.flow.source.is_ipv4() {
            return;
        }
        // The quote's own checksums are left as they are: hosts do not look at them, and
        // of the inner one most often only a part is there.
        let second = if is_source { 0 } else { address.len() };
        self.overwrite(quote_at + quote.addresses_at + second, &address);
        let port_at = quote_at + quote.inner_at + quote.port_at;
        let is_echo = quote.port_at != 0;
        match (is_source, is_echo) {
            (true, _) => self.overwrite(port_at, &end.port().to_be_bytes()),
            (false, false) => self.overwrite(port_at + 2, &end.port().to_be_bytes()),
            // An echo has one identifier, and it is its asker's.
            (false, true) => {}
        }
        let about = quoted(&self.bytes[quote_at..]).map(|quote| quote.flow);
        self.transport = Transport::Error { is_too_big, about };
    }

    /// The same packet in the other family, between the ends given, as NAT64 makes it.
    /// Errors are not translated here: they quote a packet of their own family.
    pub fn translated(&self, source: SocketAddr, destination: SocketAddr) -> Option<Self> {
        let inner = &self.bytes[self.inner_at..];
        let (from, to) = (source.ip(), destination.ip());
        let mut packet = match self.transport {
            Transport::Tcp { .. } => under(from, to, IpProtocol::Tcp, inner)?,
            Transport::Udp { .. } if inner[6..8] == [0, 0] => {
                // Without a checksum there is none to adjust, and IPv6 demands one.
                return Some(Self::udp(source, destination, self.payload()));
            }
            Transport::Udp { .. } => under(from, to, IpProtocol::Udp, inner)?,
            Transport::Echo { is_request } => {
                let asker = if is_request { source } else { destination };
                return translated_echo(inner, (from, to), asker.port(), is_request);
            }
            Transport::Error { .. } | Transport::Other => return None,
        };
        if let Some(checksum_at) = packet.checksum_at() {
            let old = [octets(self.source), octets(self.destination)].concat();
            let new = [octets(from), octets(to)].concat();
            packet.adjust(checksum_at, &old, &new);
        }
        packet.set_source(source);
        packet.set_destination(destination);
        Some(packet)
    }

    /// Writes bytes of an ICMP message, and adjusts its checksum. The place is even.
    fn overwrite(&mut self, at: usize, new: &[u8]) {
        let old = self.bytes[at..at + new.len()].to_vec();
        self.bytes[at..at + new.len()].copy_from_slice(new);
        self.adjust(self.inner_at + 2, &old, new);
    }

    fn set_address(&mut self, is_source: bool, address: IpAddr) {
        let slot = if is_source {
            &mut self.source
        } else {
            &mut self.destination
        };
        let old = octets(*slot);
        let new = octets(address);
        // Boxes here never change the family by this way: NAT64 makes a new packet.
        if old.len() != new.len() {
            return;
        }
        *slot = address;
        let at = match (address, is_source) {
            (IpAddr::V4(_), true) => 12,
            (IpAddr::V4(_), false) => 16,
            (IpAddr::V6(_), true) => 8,
            (IpAddr::V6(_), false) => 24,
        };
        self.bytes[at..at + new.len()].copy_from_slice(&new);
        if address.is_ipv4() {
            self.adjust(10, &old, &new);
        }
        if let Some(checksum_at) = self.pseudo_header_checksum_at() {
            self.adjust(checksum_at, &old, &new);
        }
    }

    fn set_word(&mut self, at: usize, word: u16) {
        let old = self.word(at).to_be_bytes();
        let new = word.to_be_bytes();
        let at = self.inner_at + at;
        self.bytes[at..at + 2].copy_from_slice(&new);
        if let Some(checksum_at) = self.checksum_at() {
            self.adjust(checksum_at, &old, &new);
        }
    }

    /// Where the checksum of the inner header stands, if it has one.
    fn checksum_at(&self) -> Option<usize> {
        let at = match self.transport {
            Transport::Tcp { .. } => self.inner_at + 16,
            Transport::Udp { .. } => self.inner_at + 6,
            Transport::Echo { .. } | Transport::Error { .. } => self.inner_at + 2,
            Transport::Other => return None,
        };
        let is_absent =
            matches!(self.transport, Transport::Udp { .. }) && self.bytes[at..at + 2] == [0, 0];
        (!is_absent).then_some(at)
    }

    /// The same, where it covers the addresses too: not in ICMP of IPv4.
    fn pseudo_header_checksum_at(&self) -> Option<usize> {
        let is_icmp = matches!(
            self.transport,
            Transport::Echo { .. } | Transport::Error { .. }
        );
        self.checksum_at()
            .filter(|_| !(is_icmp && self.source.is_ipv4()))
    }

    /// RFC 1624: the checksum after some bytes have changed.
    fn adjust(&mut self, checksum_at: usize, old: &[u8], new: &[u8]) {
        let word = |pair: &[u8]| {
            u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]))
        };
        let mut sum = 0xffff ^ word(&self.bytes[checksum_at..checksum_at + 2]);
        sum += old.chunks(2).map(|pair| 0xffff ^ word(pair)).sum::<u32>();
        sum += new.chunks(2).map(word).sum::<u32>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [_, _, high, low] = (0xffff ^ sum).to_be_bytes();
        let is_udp = matches!(self.transport, Transport::Udp { .. });
        // Nothing means "no checksum" in UDP; its other writing is meant.
        let written = if is_udp && checksum_at != 10 && [high, low] == [0, 0] {
            [0xff, 0xff]
        } else {
            [high, low]
        };
        self.bytes[checksum_at..checksum_at + 2].copy_from_slice(&written);
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An echo in the other family; its checksum is made anew, because it covers the type.
fn translated_echo(
    inner: &[u8],
    (from, to): (IpAddr, IpAddr),
    id: u16,
    is_request: bool,
) -> Option<Packet> {
    if from.is_ipv4() != to.is_ipv4() {
        return None;
    }
    let kind = match (from, is_request) {
        (IpAddr::V4(_), true) => 8,
        (IpAddr::V4(_), false) => 0,
        (IpAddr::V6(_), true) => 128,
        (IpAddr::V6(_), false) => 129,
    };
    let [high, low] = id.to_be_bytes();
    let second = [high, low, inner[6], inner[7]];
    Some(icmp(from, to, [kind, 0, 0, 0], second, &inner[8..]))
}

/// Bytes that are right but for the addresses, under a header of the other family.
fn under(from: IpAddr, to: IpAddr, protocol: IpProtocol, inner: &[u8]) -> Option<Packet> {
    if from.is_ipv4() != to.is_ipv4() {
        return None;
    }
    let fill = |room: &mut [u8]| room.copy_from_slice(inner);
    Some(around(from.into(), to.into(), protocol, inner.len(), fill))
}
