//! Names in the lab: a resolver of the scenario answers on a simulated stack.

use std::{collections::BTreeMap, net::IpAddr};

use netsim_core::{
    dns::{self, Refusal},
    stack::{HostError, Stack, UdpId},
    time::Instant,
};

use super::fabric::Service;

/// The port of DNS.
const PORT: u16 = 53;

/// See the module.
#[derive(Debug)]
pub(super) struct Resolver {
    names: BTreeMap<String, Vec<IpAddr>>,
    socket: Option<UdpId>,
}

impl Resolver {
    /// One that knows these names.
    pub(super) fn new(names: Vec<(String, Vec<IpAddr>)>) -> Self {
        Self {
            names: names.into_iter().collect(),
            socket: None,
        }
    }

    fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let question = dns::question(message)?;
        Some(match self.names.get(&question.name) {
            Some(known) => dns::answer(message, &question, known),
            None => dns::refusal(message, &question, Refusal::NoSuchName),
        })
    }
}

impl Service for Resolver {
    fn serve(&mut self, _now: Instant, stack: &mut Stack) {
        // A host that has crashed has lost its sockets.
        let socket = match self.socket.filter(|id| stack.udp_port(*id).is_some()) {
            Some(socket) => socket,
            None => match stack.bind_udp_to(PORT) {
                Ok(socket) => *self.socket.insert(socket),
                Err(_) => return,
            },
        };
        loop {
            match stack.receive_udp(socket) {
                Ok(datagram) => {
                    if let Some(answer) = self.answer(&datagram.payload) {
                        // What cannot be sent is asked for again.
                        stack.send_udp(socket, datagram.source, &answer).ok();
                    }
                }
                Err(HostError::WouldBlock) => return,
                // About an answer that did not arrive: who asked is gone.
                Err(_) => {}
            }
        }
    }
}
