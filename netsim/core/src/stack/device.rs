//! The card that smoltcp believes to have: two queues.

use std::collections::VecDeque;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};

use crate::packet::Packet;

#[derive(Debug)]
pub(super) struct Device {
    pub(super) mtu: u16,
    pub(super) received: VecDeque<Vec<u8>>,
    pub(super) sent: Vec<Packet>,
}

impl Device {
    pub(super) const fn new(mtu: u16) -> Self {
        Self {
            mtu,
            received: VecDeque::new(),
            sent: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Received(Vec<u8>);

impl phy::RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

#[derive(Debug)]
pub(super) struct ToSend<'a>(&'a mut Vec<Packet>);

impl phy::TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut bytes = vec![0; length];
        let result = f(&mut bytes);
        // What smoltcp sends reads as a packet; what did not would be its mistake.
        self.0.extend(Packet::parse(bytes));
        result
    }
}

impl phy::Device for Device {
    type RxToken<'a> = Received;
    type TxToken<'a> = ToSend<'a>;

    fn receive(
        &mut self,
        _now: smoltcp::time::Instant,
    ) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let received = self.received.pop_front()?;
        Some((Received(received), ToSend(&mut self.sent)))
    }

    fn transmit(&mut self, _now: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        Some(ToSend(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu.into();
        // What is corrupt has been thrown away before it comes here.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}
