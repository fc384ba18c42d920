//! Packets as they went into cables, kept for who wants to look at them.

use super::Network;
use crate::{model::Side, packet::Packet, term::Name, time::Instant, topology::LinkId};

/// So many bytes are kept: what a person can look at, and less than a machine's memory.
const BYTES_MAX: usize = 256 << 20;

/// A packet that went into a cable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// When.
    pub at: Instant,
    /// Into which cable, by its place in the topology.
    pub link: LinkId,
    /// Towards which of its ends.
    pub toward: Side,
    /// Its bytes, from the IP header on.
    pub bytes: Vec<u8>,
}

/// What is kept of a run.
#[derive(Debug, Default)]
pub(super) struct Capture {
    packets: Vec<Caught>,
    bytes: usize,
}

impl Network {
    /// Keeps packets from now on, as long as there is room.
    pub fn keep_packets(&mut self) {
        self.capture = Some(Capture::default());
    }

    /// The packets that were kept, in order of time.
    pub fn take_packets(&mut self) -> Vec<Caught> {
        let capture = self.capture.as_mut().map(std::mem::take);
        capture.unwrap_or_default().packets
    }

    /// What a cable's copy is called.
    pub fn link_name(&self, link: LinkId) -> &Name {
        &self.topology.links[link.0].name
    }

    pub(super) fn catch(&mut self, at: Instant, (link, toward): (LinkId, Side), packet: &Packet) {
        let Some(capture) = &mut self.capture else {
            return;
        };
        if capture.bytes + packet.len() <= BYTES_MAX {
            capture.bytes += packet.len();
            let bytes = packet.bytes().to_vec();
            capture.packets.push(Caught {
                at,
                link,
                toward,
                bytes,
            });
        }
    }
}
