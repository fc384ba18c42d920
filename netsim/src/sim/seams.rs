//! The seams of `tunnel::World`, for one simulated host.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use async_trait::async_trait;
use netsim_core::{random::Stream, topology::NodeId};
use tunnel::{
    World,
    world::{
        AsyncUdpSocket, BoxIo, Clock, Entropy, Net, Resolve, SimulatedSocket, TargetEnd,
        TargetSocket,
    },
};

use super::{BEGINNING_UNIX_SECONDS, Sim, names, tcp::SimTcp, udp::SimUdp};

pub(super) fn world(sim: &Sim, host: NodeId) -> World {
    let state = sim.state();
    let name = state.network.host_name(host).unwrap_or_default();
    drop(state);
    let here = Here {
        sim: sim.clone(),
        host,
    };
    World {
        net: Arc::new(here.clone()),
        resolver: Arc::new(here),
        clock: Arc::new(SimClock {
            sim: sim.clone(),
            host,
        }),
        entropy: Arc::new(SimEntropy(Mutex::new(
            sim.0.seed.stream(&format!("host.{name}.entropy")),
        ))),
    }
}

#[derive(Debug, Clone)]
struct Here {
    sim: Sim,
    host: NodeId,
}

#[async_trait]
impl Net for Here {
    async fn connect_tcp(&self, address: SocketAddr) -> io::Result<BoxIo> {
        let tcp = SimTcp::connect(&self.sim, self.host, address).await?;
        Ok(Box::new(tcp))
    }

    fn connect_udp(&self, peer: SocketAddr) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        let bind = self
            .sim
            .with_stack(self.host, |stack, _| stack.bind_udp(Some(peer)))?;
        Ok(Arc::new(SimUdp::new(self.sim.clone(), self.host, bind)))
    }

    async fn connect_target(&self, target: TargetEnd<'_>) -> io::Result<TargetSocket> {
        let TargetEnd::Tcp(address) = target else {
            // A Docker Engine is put onto a host by `docker::beside`.
            return Err(rustix::io::Errno::NOENT.into());
        };
        let tcp = SimTcp::connect(&self.sim, self.host, address).await?;
        // A peer that has gone after it had finished shows at the next write, as over TCP.
        Ok(TargetSocket::Simulated(SimulatedSocket::new(Box::new(tcp))))
    }
}

#[async_trait]
impl Resolve for Here {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        names::resolve(&self.sim, self.host, host).await
    }
}

#[derive(Debug)]
struct SimClock {
    sim: Sim,
    host: NodeId,
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn unix_milliseconds(&self) -> i64 {
        let elapsed = self.sim.now().since_start().as_millis();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let skew = self.sim.state().skews.get(&self.host).copied();
        BEGINNING_UNIX_SECONDS
            .saturating_mul(1_000)
            .saturating_add(elapsed)
            .saturating_add(skew.unwrap_or(0) / 1_000_000)
    }
}

#[derive(Debug)]
struct SimEntropy(Mutex<Stream>);

impl Entropy for SimEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.fill(bytes);
    }
}
