//! Names in a simulated world: hosts ask their resolver over UDP, so that whatever
//! stands between can lie.

use std::{future::poll_fn, io, net::IpAddr, time::Duration};

use netsim_core::{
    dns::{self, Kind, Refusal},
    stack::{HostError, UdpId},
    topology::NodeId,
};
use tokio::task::JoinSet;

use super::{Awaited, Sim};

/// The port of DNS.
pub(super) const PORT: u16 = 53;

/// As in glibc: two tries of 5 s each.
const TRIES: usize = 2;
const PATIENCE: Duration = Duration::from_secs(5);

/// Has every resolver of the scenario answer; until what is returned is dropped.
pub(super) fn serve_all(sim: &Sim) -> JoinSet<()> {
    let mut serving = JoinSet::new();
    for host in sim.resolvers() {
        serving.spawn(serve(sim.clone(), host));
    }
    serving
}

async fn serve(sim: Sim, host: NodeId) {
    let Ok(id) = sim.with_stack(host, |stack, _| stack.bind_udp_to(PORT)) else {
        return;
    };
    loop {
        let what = (host, Awaited::Datagram);
        let next = poll_fn(|cx| sim.poll_stack(what, cx, |stack| stack.receive_udp(id))).await;
        // An error is about an answer that did not arrive: who asked is gone.
        let Ok(datagram) = next else {
            continue;
        };
        let Some(question) = dns::question(&datagram.payload) else {
            continue;
        };
        let known = sim.addresses_of(&question.name);
        let answer = if known.is_empty() {
            dns::refusal(&datagram.payload, &question, Refusal::NoSuchName)
        } else {
            dns::answer(&datagram.payload, &question, &known)
        };
        // What cannot be sent is asked for again.
        sim.with_stack(host, |stack, _| {
            stack.send_udp(id, datagram.source, &answer)
        })
        .ok();
    }
}

/// A name's addresses, of the families that the host has.
pub(super) async fn resolve(sim: &Sim, host: NodeId, name: &str) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let Some(resolver) = sim.resolver_of(host) else {
        // As with a hosts file.
        return found(sim.addresses_of(name));
    };
    let socket = sim.with_stack(host, |stack, _| stack.bind_udp(Some(resolver)))?;
    let socket = Socket {
        sim,
        host,
        id: socket,
    };
    let kinds = sim.with_stack(host, |stack, _| {
        // IPv6 goes first (RFC 6724), and the answers are in the order of the questions.
        let has = |is_ipv4| {
            let mut nets = stack.addresses().iter();
            nets.any(|net| net.addr().is_ipv4() == is_ipv4)
        };
        let kinds = [(Kind::Ipv6, has(false)), (Kind::Ipv4, has(true))];
        let kinds = kinds.into_iter().filter(|(_, is_there)| *is_there);
        Ok(kinds.map(|(kind, _)| kind).collect::<Vec<_>>())
    })?;
    let mut addresses = Vec::new();
    let mut failure = None;
    for (id, kind) in (1..).zip(kinds) {
        let message = dns::ask(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
        match socket.ask(id, resolver, &message).await {
            Ok(mut more) => addresses.append(&mut more),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if addresses.is_empty() => Err(error),
        Some(_) | None => found(addresses),
    }
}

fn found(addresses: Vec<IpAddr>) -> io::Result<Vec<IpAddr>> {
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such name"));
    }
    Ok(addresses)
}

struct Socket<'a> {
    sim: &'a Sim,
    host: NodeId,
    id: UdpId,
}

impl Socket<'_> {
    async fn ask(
        &self,
        id: u16,
        resolver: std::net::SocketAddr,
        message: &[u8],
    ) -> io::Result<Vec<IpAddr>> {
        for _ in 0..TRIES {
            self.sim.with_stack(self.host, |stack, _| {
                stack.send_udp(self.id, resolver, message)
            })?;
            if let Ok(answer) = tokio::time::timeout(PATIENCE, self.answer(id)).await {
                return answer;
            }
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer from the resolver",
        ))
    }

    async fn answer(&self, id: u16) -> io::Result<Vec<IpAddr>> {
        loop {
            let receive = |stack: &mut netsim_core::stack::Stack| stack.receive_udp(self.id);
            let what = (self.host, Awaited::Datagram);
            let next = poll_fn(|cx| self.sim.poll_stack(what, cx, receive)).await?;
            match dns::addresses(id, &next.payload) {
                Some(Ok(addresses)) => return Ok(addresses),
                Some(Err(refusal)) => {
                    let problem = match refusal {
                        Refusal::NoSuchName => "no such name",
                        Refusal::ServerFailure => "the resolver has failed",
                        Refusal::Refused => "the resolver refuses",
                    };
                    return Err(io::Error::new(io::ErrorKind::NotFound, problem));
                }
                // Late, and of another question.
                None => {}
            }
        }
    }
}

impl Drop for Socket<'_> {
    fn drop(&mut self) {
        let closed = self.sim.with_stack(self.host, |stack, _| {
            stack.close_udp(self.id);
            Ok::<(), HostError>(())
        });
        debug_assert!(closed.is_ok(), "a close never fails");
    }
}
