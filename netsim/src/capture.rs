//! What passed on the cables of a run, as a file for Wireshark: an interface a cable, and
//! the keys with which it looks into TLS.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use netsim_core::{
    network::Network,
    pcapng::{Interface, Writer},
    topology::LinkId,
};

use crate::version;

/// Secrets of connections as their servers tell them, in the format of `SSLKEYLOGFILE`. Of a
/// simulated relay alone: no program writes its secrets down.
#[derive(Debug, Default)]
pub struct Keys(Mutex<String>);

impl Keys {
    /// What was told so far.
    pub fn text(&self) -> String {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl rustls::KeyLog for Keys {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| {
            bytes.iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("a String takes everything");
                text
            })
        };
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_str(&line);
    }
}

/// Writes down what a network has kept. `began` is when the run did, since 1970.
pub fn pcapng(network: &mut Network, keys: &Arc<Keys>, began: Duration) -> Vec<u8> {
    let mut writer = Writer::new(&format!("sternline-netsim {}", version::SHORT), began);
    writer.secrets(&keys.text());
    let packets = network.take_packets();
    let mut interfaces: BTreeMap<LinkId, Interface> = BTreeMap::new();
    for packet in packets {
        let interface = *interfaces
            .entry(packet.link)
            .or_insert_with(|| writer.interface(network.link_name(packet.link).as_str()));
        writer.packet(packet.at, (interface, packet.toward), &packet.bytes);
    }
    writer.take()
}
