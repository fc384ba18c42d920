//! Packets of a run as a file that Wireshark opens: pcapng, as the IETF's
//! draft-ietf-opsawg-pcapng has it.
//!
//! A section has one interface per cable, whose packets are bare IP, stamped in
//! nanoseconds. What TLS keys were logged goes into the file too, so that it can be read
//! without another. Everything is little-endian, and nothing is ever changed once it is
//! written: the caller takes the bytes away as often as it likes, and so bounds them.

use std::time::Duration;

use crate::{model::Side, time::Instant};

/// Packets begin with their IP header.
const LINKTYPE_RAW: u16 = 101;

/// `TLSK`: the format of `SSLKEYLOGFILE`.
const SECRETS_TLS_KEY_LOG: u32 = 0x544c_534b;

/// The longest text in an option, whose length has 16 bits.
const OPTION_BYTES_MAX: usize = 65_535;

mod block {
    pub(super) const SECTION: u32 = 0x0a0d_0d0a;
    pub(super) const INTERFACE: u32 = 1;
    pub(super) const PACKET: u32 = 6;
    pub(super) const SECRETS: u32 = 10;
}

mod option {
    pub(super) const END: u16 = 0;
    pub(super) const PACKET_FLAGS: u16 = 2;
    pub(super) const INTERFACE_NAME: u16 = 2;
    pub(super) const APPLICATION: u16 = 4;
    pub(super) const TIME_RESOLUTION: u16 = 9;
}

/// A cable in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interface(u32);

/// Writes a file, block by block.
#[derive(Debug, Clone)]
pub struct Writer {
    written: Vec<u8>,
    interfaces: u32,
    /// What the run's beginning is, since 1970.
    began: Duration,
}

impl Writer {
    /// Begins a file. `application` is the program that writes it; `began` is when the run
    /// did, since 1970.
    pub fn new(application: &str, began: Duration) -> Self {
        let mut writer = Self {
            written: Vec::new(),
            interfaces: 0,
            began,
        };
        let mut body = Vec::new();
        put_u32(&mut body, 0x1a2b_3c4d);
        put_u16(&mut body, 1);
        put_u16(&mut body, 0);
        // The section's length is not known beforehand.
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        put_text(&mut body, option::APPLICATION, application);
        put_option(&mut body, option::END, &[]);
        writer.put_block(block::SECTION, &body);
        writer
    }

    /// Adds a cable, on which packets may be seen from now on.
    pub fn interface(&mut self, name: &str) -> Interface {
        let mut body = Vec::new();
        put_u16(&mut body, LINKTYPE_RAW);
        put_u16(&mut body, 0);
        // Packets are never cut.
        put_u32(&mut body, 0);
        put_text(&mut body, option::INTERFACE_NAME, name);
        put_option(&mut body, option::TIME_RESOLUTION, &[9]);
        put_option(&mut body, option::END, &[]);
        self.put_block(block::INTERFACE, &body);
        self.interfaces += 1;
        Interface(self.interfaces - 1)
    }

    /// Adds lines of a TLS key log. Readers decrypt what comes after them, so they come
    /// before the packets that they are for.
    pub fn secrets(&mut self, key_log: &str) {
        let mut body = Vec::new();
        put_u32(&mut body, SECRETS_TLS_KEY_LOG);
        put_u32(&mut body, length(key_log.as_bytes()));
        put_padded(&mut body, key_log.as_bytes());
        self.put_block(block::SECRETS, &body);
    }

    /// Adds a packet that was on its way towards an end of a cable.
    pub fn packet(&mut self, at: Instant, (on, toward): (Interface, Side), packet: &[u8]) {
        let nanos = self.began.saturating_add(at.since_start()).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        let mut body = Vec::with_capacity(packet.len() + 44);
        put_u32(&mut body, on.0);
        let [low, high] = halves(nanos);
        put_u32(&mut body, high);
        put_u32(&mut body, low);
        put_u32(&mut body, length(packet));
        put_u32(&mut body, length(packet));
        put_padded(&mut body, packet);
        // What comes from the world is inbound, what leaves for it is outbound.
        let direction: u32 = match toward {
            Side::Inside => 1,
            Side::Outside => 2,
        };
        put_option(&mut body, option::PACKET_FLAGS, &direction.to_le_bytes());
        put_option(&mut body, option::END, &[]);
        self.put_block(block::PACKET, &body);
    }

    /// How many bytes wait to be taken.
    pub const fn len(&self) -> usize {
        self.written.len()
    }

    /// Whether none do.
    pub const fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Takes what was written since the last time; the pieces together are the file.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.written)
    }

    fn put_block(&mut self, kind: u32, body: &[u8]) {
        // Kind and length before, length again after, for those who read backwards.
        let length = length(body).saturating_add(12);
        put_u32(&mut self.written, kind);
        put_u32(&mut self.written, length);
        self.written.extend_from_slice(body);
        put_u32(&mut self.written, length);
    }
}

fn put_u16(into: &mut Vec<u8>, number: u16) {
    into.extend_from_slice(&number.to_le_bytes());
}

fn put_u32(into: &mut Vec<u8>, number: u32) {
    into.extend_from_slice(&number.to_le_bytes());
}

/// Every field begins at a multiple of four.
fn put_padded(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(bytes);
    into.resize(into.len().next_multiple_of(4), 0);
}

fn put_option(into: &mut Vec<u8>, code: u16, value: &[u8]) {
    put_u16(into, code);
    put_u16(into, u16::try_from(value.len()).unwrap_or(u16::MAX));
    put_padded(into, value);
}

/// A text, cut where an option has no room for it.
fn put_text(into: &mut Vec<u8>, code: u16, text: &str) {
    let most = text.floor_char_boundary(OPTION_BYTES_MAX);
    put_option(into, code, &text.as_bytes()[..most]);
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// The lower and the upper half.
fn halves(number: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = number.to_le_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests;
