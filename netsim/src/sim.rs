//! A world in virtual time: simulated hosts behind the seams of `tunnel::World`, on one
//! paused runtime that jumps from event to event.
//!
//! The runtime is built without I/O, so that a real socket panics. The network is driven
//! by one task ([`Sim::drive`]); sockets wake it when they have something to say, and it
//! wakes those of the hosts to which something happened. Time has tokio's resolution of a
//! millisecond: what is due in between happens at the next one, in order. What chance
//! decides outside the world's dice (keys, `select!`) may change bytes, and is why two
//! runs are compared by their shape.

mod names;
mod proxies;
mod seams;
mod tcp;
mod timers;
mod udp;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use ipnet::IpNet;
use netsim_core::{
    model::{Deed, Role, Scenario, Word},
    network::{Change, HostDeed, Network},
    random::Seed,
    stack::{HostError, Stack},
    term::Name,
    time::Instant,
    topology::{Node, NodeId, nth_address},
    trace::{Observation, Trace},
};
use tokio::sync::Notify;

use self::timers::Timers;

/// How much may happen at one moment before that is called a livelock: what ten thousand
/// agents do that all connect at once, ten times over.
const STEPS_MAX: u64 = 50_000_000;

/// A run that takes longer waits for what will never happen.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// What time it is when a run begins: 2030-01-01, inside the validity of any certificate
/// that is made in a run.
pub(crate) const BEGINNING_UNIX_SECONDS: i64 = 1_893_456_000;

/// The MTU of hosts; cables may be narrower.
const MTU: u16 = 1500;

/// A world; cheap to clone.
#[derive(Debug, Clone)]
pub struct Sim(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A socket has something to say.
    kick: Notify,
    /// Something has happened to a host.
    happened: Notify,
    started: tokio::time::Instant,
    seed: Seed,
}

#[derive(Debug)]
struct State {
    network: Network,
    stacks: BTreeMap<NodeId, Stack>,
    /// Hosts at whose stack something has happened.
    dirty: BTreeSet<NodeId>,
    timers: Timers,
    /// Tasks that wait at a host. Those of TCP wait in the stack, each for its socket.
    wakers: BTreeMap<(NodeId, Awaited), Vec<Waker>>,
    asleep: BTreeSet<NodeId>,
    waking: BTreeSet<NodeId>,
    /// By how much wall clocks are wrong, in nanoseconds.
    skews: BTreeMap<NodeId, i64>,
    deeds: VecDeque<HostDeed>,
    /// Certificates (DER) of those who intercept TLS, by the proxy's name.
    authorities: BTreeMap<Name, Vec<u8>>,
    /// The present moment, and how much has happened in it.
    steps: (Instant, u64),
}

/// What a task waits for at a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Awaited {
    /// A datagram, or an error about one.
    Datagram,
    /// A connection that comes in.
    Connection,
    /// That the host wakes up.
    Morning,
}

impl Awaited {
    const ALL: [Self; 3] = [Self::Datagram, Self::Connection, Self::Morning];

    /// Whether it is there.
    fn is_there(self, stack: &Stack) -> bool {
        match self {
            Self::Datagram => stack.has_datagrams(),
            Self::Connection => stack.has_newcomers(),
            Self::Morning => true,
        }
    }
}

/// Runs `main` in a world of a drawn scenario, and tells what was seen.
///
/// # Panics
///
/// The runtime cannot be built, `main` does not end within a month, or hosts answer each
/// other for ever at one moment.
pub fn run<T, F: Future<Output = T>>(
    scenario: Scenario,
    seed: Seed,
    main: impl FnOnce(Sim) -> F,
) -> (T, Trace) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O asks nothing of the system");
    runtime.block_on(async {
        let sim = Sim::new(scenario, seed);
        let mut driver = tokio::spawn(sim.clone().drive());
        let resolvers = names::serve_all(&sim);
        let proxies = proxies::serve_all(&sim);
        let main = tokio::time::timeout(LONGEST, main(sim.clone()));
        let result = tokio::select! {
            biased;
            broken = &mut driver => panic!("the world stands still: {broken:?}"),
            result = main => result.expect("a run ends by itself: what does it wait for?"),
        };
        driver.abort();
        drop((resolvers, proxies));
        let trace = sim.state().network.take_trace();
        (result, trace)
    })
}

impl Sim {
    fn new(scenario: Scenario, seed: Seed) -> Self {
        let network = Network::new(scenario, seed);
        let hosts = (0..network.topology().nodes.len()).map(NodeId);
        let stacks = hosts
            .filter_map(|id| {
                let own = stack(&network, id, seed);
                Some((id, own.or_else(|| proxies::stack(&network, id, seed))?))
            })
            .collect();
        Self(Arc::new(Shared {
            state: Mutex::new(State {
                skews: skews(&network),
                network,
                stacks,
                dirty: BTreeSet::new(),
                timers: Timers::default(),
                wakers: BTreeMap::new(),
                asleep: BTreeSet::new(),
                waking: BTreeSet::new(),
                deeds: VecDeque::new(),
                authorities: BTreeMap::new(),
                steps: (Instant::START, 0),
            }),
            kick: Notify::new(),
            happened: Notify::new(),
            started: tokio::time::Instant::now(),
            seed,
        }))
    }

    /// Moves packets until the world ends; to be spawned once.
    async fn drive(self) {
        // A world in which nothing will happen by itself waits for a socket.
        let timer = tokio::time::sleep(LONGEST);
        tokio::pin!(timer);
        loop {
            let (next, woken) = self.state().settle(self.now());
            if !self.state().deeds.is_empty() {
                self.0.happened.notify_one();
            }
            // Outside the lock: whoever is woken may be dropped by it, with its sockets.
            woken.into_iter().for_each(Waker::wake);
            let next = next.map_or(LONGEST, Instant::since_start);
            let next = self.0.started + next;
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            tokio::select! {
                biased;
                () = self.0.kick.notified() => {}
                () = &mut timer => {}
            }
        }
    }

    /// How long the world has been running.
    pub fn now(&self) -> Instant {
        Instant::at(self.0.started.elapsed())
    }

    /// The copies of a host, by its name in the scenario.
    pub fn hosts(&self, name: &str) -> Vec<NodeId> {
        let state = self.state();
        let network = &state.network;
        network
            .topology()
            .copies(network.scenario(), &Name::of(name))
    }

    /// The seams of a host.
    pub fn world(&self, host: NodeId) -> tunnel::World {
        seams::world(self, host)
    }

    /// Listens on a TCP port of a host.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn listen(&self, host: NodeId, port: u16) -> std::io::Result<tcp::SimListener> {
        self.with_stack(host, |stack, _| stack.listen(port))?;
        Ok(tcp::SimListener::new(self.clone(), host, port))
    }

    /// A UDP socket on a port of a host, for a relay's endpoint.
    ///
    /// # Errors
    ///
    /// The port is taken.
    pub fn bind_udp(
        &self,
        host: NodeId,
        port: u16,
    ) -> std::io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        let id = self.with_stack(host, |stack, _| stack.bind_udp_to(port))?;
        Ok(Arc::new(udp::SimUdp::new(self.clone(), host, id)))
    }

    /// The process that holds a UDP port of a host has ended: the port is free.
    pub fn free_udp_port(&self, host: NodeId, port: u16) {
        let freed = self.with_stack(host, |stack, _| {
            stack.free_udp_port(port);
            Ok(())
        });
        debug_assert!(freed.is_ok(), "this never fails");
    }

    /// The next thing that happens to a host, after it has: its sockets and its clock are
    /// as they are then, and what runs there is the caller's. For one caller.
    pub async fn next_deed(&self) -> HostDeed {
        loop {
            if let Some(deed) = self.state().deeds.pop_front() {
                return deed;
            }
            self.0.happened.notified().await;
        }
    }

    /// Notes what was seen of what runs on a host, or on all together.
    pub fn observe(&self, host: Option<&Name>, word: Word, detail: &str) {
        let at = self.now();
        self.state().network.observe(Observation {
            at,
            host: host.cloned(),
            word,
            detail: detail.to_owned(),
        });
    }

    /// The certificate (DER) of whoever intercepts TLS at a proxy.
    pub fn authority(&self, proxy: &Name) -> Option<Vec<u8>> {
        self.state().authorities.get(proxy).cloned()
    }

    /// Looks at the network.
    pub fn with_network<T>(&self, look: impl FnOnce(&mut Network) -> T) -> T {
        look(&mut self.state().network)
    }

    /// How many sockets are held on a host.
    pub fn sockets_held(&self, host: NodeId) -> usize {
        self.state().stacks.get(&host).map_or(0, Stack::held)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with a host's stack, and has what it sends carried away.
    fn with_stack<T>(
        &self,
        host: NodeId,
        act: impl FnOnce(&mut Stack, Instant) -> Result<T, HostError>,
    ) -> std::io::Result<T> {
        let now = self.now();
        let mut state = self.state();
        state.step(now);
        state.dirty.insert(host);
        let stack = state.stacks.get_mut(&host).expect("sockets are on hosts");
        let result = act(stack, now);
        drop(state);
        self.0.kick.notify_one();
        result.map_err(errno)
    }

    /// Takes what has come to a host, for a task that waits for it where there is nothing yet.
    fn poll_stack<T>(
        &self,
        (host, awaited): (NodeId, Awaited),
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Stack) -> Result<T, HostError>,
    ) -> Poll<std::io::Result<T>> {
        let now = self.now();
        let mut state = self.state();
        state.step(now);
        if state.asleep.contains(&host) {
            state.wake_at((host, Awaited::Morning), cx);
            return Poll::Pending;
        }
        // To take what is there changes nothing for anybody else: the world is not driven.
        let stack = state.stacks.get_mut(&host).expect("sockets are on hosts");
        match act(stack) {
            Err(HostError::WouldBlock) => {
                state.wake_at((host, awaited), cx);
                Poll::Pending
            }
            result => Poll::Ready(result.map_err(errno)),
        }
    }

    /// As [`Self::with_stack`], for a task that waits by `wait` for one socket.
    fn poll_socket<T>(
        &self,
        host: NodeId,
        cx: &mut Context<'_>,
        wait: impl FnOnce(&mut Stack, &Context<'_>),
        act: impl FnOnce(&mut Stack, Instant) -> Result<T, HostError>,
    ) -> Poll<std::io::Result<T>> {
        let now = self.now();
        let mut state = self.state();
        state.step(now);
        if state.asleep.contains(&host) {
            state.wake_at((host, Awaited::Morning), cx);
            return Poll::Pending;
        }
        let stack = state.stacks.get_mut(&host).expect("sockets are on hosts");
        match act(stack, now) {
            Err(HostError::WouldBlock) => {
                wait(stack, cx);
                Poll::Pending
            }
            result => {
                state.dirty.insert(host);
                drop(state);
                self.0.kick.notify_one();
                Poll::Ready(result.map_err(errno))
            }
        }
    }

    /// The address of the host that this one asks for names.
    fn resolver_of(&self, host: NodeId) -> Option<SocketAddr> {
        let state = self.state();
        let (scenario, own) = (state.network.scenario(), host_of(&state.network, host)?);
        let resolver = scenario.host(own.resolver.as_deref()?)?;
        let families: Vec<bool> = own
            .addresses
            .iter()
            .map(|net| net.addr().is_ipv4())
            .collect();
        let mut addresses = resolver.addresses.iter().map(|net| net.addr());
        let address = addresses.find(|address| families.contains(&address.is_ipv4()))?;
        Some(SocketAddr::new(address, names::PORT))
    }

    /// Every address that a name stands for in the scenario.
    fn addresses_of(&self, name: &str) -> Vec<IpAddr> {
        let state = self.state();
        let hosts = state.network.scenario().hosts.iter();
        let named = hosts.filter(|host| host.names.iter().any(|own| own.as_str() == name));
        let all = named.flat_map(|host| {
            (0..*host.count).flat_map(move |copy| {
                let nets = host.addresses.iter();
                nets.map(move |net| nth_address(net, copy))
                    .collect::<Vec<_>>()
            })
        });
        all.collect()
    }

    /// Hosts that run a resolver.
    fn resolvers(&self) -> Vec<NodeId> {
        let state = self.state();
        let ids = (0..state.network.topology().nodes.len()).map(NodeId);
        ids.filter(|id| {
            host_of(&state.network, *id).is_some_and(|host| host.runs == Role::Resolver)
        })
        .collect()
    }
}

impl State {
    /// Everything that can happen now happens. Gives the time at which something will
    /// happen by itself, and whom to wake.
    fn settle(&mut self, now: Instant) -> (Option<Instant>, Vec<Waker>) {
        self.dirty.extend(self.timers.due(now));
        let mut touched = Vec::new();
        loop {
            self.step(now);
            while let Some(host) = self.dirty.pop_first() {
                self.poll(now, host);
                touched.push(host);
            }
            self.network.advance(now);
            for deed in self.network.take_host_deeds() {
                self.happen(now, deed);
                self.deeds.push_back(deed);
            }
            for (host, packet) in self.network.take_delivered() {
                if let Some(stack) = self.stacks.get_mut(&host) {
                    stack.receive(now, packet);
                    self.dirty.insert(host);
                }
            }
            if self.dirty.is_empty() {
                break;
            }
        }
        let mut woken = Vec::new();
        for host in touched {
            let Some(stack) = self.stacks.get(&host) else {
                continue;
            };
            for awaited in Awaited::ALL {
                if awaited.is_there(stack)
                    && let Some(waiting) = self.wakers.get_mut(&(host, awaited))
                {
                    woken.append(waiting);
                }
            }
        }
        let next = [self.timers.first(), self.network.poll_at()]
            .into_iter()
            .flatten()
            .min();
        (next, woken)
    }

    /// What an event does to a host's stack. What runs on the host is its caller's.
    fn happen(&mut self, now: Instant, deed: HostDeed) {
        let event = &self.network.scenario().events[deed.event];
        let (what, address) = (*event.deed, event.address.as_deref().copied());
        let Some(stack) = self.stacks.get_mut(&deed.host) else {
            return;
        };
        match what {
            Deed::Crash if deed.change == Change::Begins => stack.close_all(now),
            Deed::VpnUp | Deed::VpnDown | Deed::Readdress => {
                let new = address.filter(|_| deed.change == Change::Begins);
                let (addresses, mtu) = configured(&self.network, deed.host, new);
                stack.reconfigure(addresses, mtu);
            }
            Deed::Suspend if deed.change == Change::Begins => {
                self.asleep.insert(deed.host);
            }
            Deed::Suspend | Deed::Resume => {
                self.waking.extend(self.asleep.take(&deed.host));
            }
            Deed::Skew => {
                let by = event.by.as_ref().map_or(0, |by| by.get().nanos);
                let skew = self.skews.entry(deed.host).or_insert(0);
                *skew = skew.saturating_add(match deed.change {
                    Change::Begins => by,
                    Change::Ends => by.saturating_neg(),
                });
            }
            Deed::Crash
            | Deed::Cut
            | Deed::Mend
            | Deed::Line
            | Deed::Forget
            | Deed::Rebind
            | Deed::Stop
            | Deed::Start
            | Deed::Release => {}
        }
        self.dirty.insert(deed.host);
    }

    /// Counts that something happens, so that a world in which time stands still for ever
    /// is told from one in which much happens at once.
    fn step(&mut self, now: Instant) {
        let (at, steps) = self.steps;
        self.steps = if at == now { (at, steps + 1) } else { (now, 0) };
        assert!(
            steps < STEPS_MAX,
            "a livelock at {now}: hosts answer each other, or a task asks, for ever"
        );
    }

    /// Wakes a task once something is there at a host.
    fn wake_at(&mut self, what: (NodeId, Awaited), cx: &Context<'_>) {
        let wakers = self.wakers.entry(what).or_default();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
    }

    fn poll(&mut self, now: Instant, host: NodeId) {
        let Some(stack) = self.stacks.get_mut(&host) else {
            return;
        };
        if self.asleep.contains(&host) {
            self.timers.set(host, None);
            return;
        }
        stack.poll(now);
        // Timers of a host that slept went on here: what they had it send is not sent.
        let is_sent = !self.waking.remove(&host);
        for packet in stack.take_sent().into_iter().filter(|_| is_sent) {
            self.network.send(now, host, packet);
        }
        // A timer of now would run for ever without time passing.
        let at = stack
            .poll_at(now)
            .map(|at| at.max(now + Duration::from_millis(1)));
        self.timers.set(host, at);
    }
}

fn host_of(network: &Network, id: NodeId) -> Option<&netsim_core::model::Host> {
    match network.topology().nodes[id.0] {
        Node::Host { host, .. } => network.scenario().hosts.get(host),
        Node::Edge { .. } => None,
    }
}

/// How wrong clocks are from the start.
fn skews(network: &Network) -> BTreeMap<NodeId, i64> {
    let hosts = (0..network.topology().nodes.len()).map(NodeId);
    hosts
        .filter_map(|id| Some((id, host_of(network, id)?.skew.get().nanos)))
        .collect()
}

fn stack(network: &Network, id: NodeId, seed: Seed) -> Option<Stack> {
    let name = network.host_name(id)?;
    let (addresses, mtu) = configured(network, id, None);
    let stream = seed.stream(&format!("host.{name}.stack"));
    Some(Stack::new(addresses, mtu, stream))
}

/// The addresses of a host, those of a VPN that is up first, and the MTU that goes with
/// them; `new` stands in the place of its own of that family.
fn configured(network: &Network, id: NodeId, new: Option<IpNet>) -> (Vec<IpNet>, u16) {
    let scenario = network.scenario();
    let up = network.vpn_of(id);
    let Node::Host { copy, .. } = network.topology().nodes[id.0] else {
        return (Vec::new(), MTU);
    };
    let own = host_of(network, id).map_or(&[][..], |host| host.addresses.as_slice());
    let nth = |net: &IpNet| IpNet::new(nth_address(net, copy), net.prefix_len()).unwrap_or(*net);
    let tunnel = up.map(|number| &scenario.vpns[number]);
    let mtu = tunnel.and_then(|vpn| u16::try_from(vpn.mtu.get()).ok());
    let addresses = tunnel.map(|vpn| nth(&vpn.address)).into_iter();
    let own = own.iter().map(|net| {
        let is_replaced = |new: &IpNet| new.addr().is_ipv4() == net.addr().is_ipv4();
        new.filter(is_replaced).unwrap_or_else(|| nth(net))
    });
    (addresses.chain(own).collect(), mtu.unwrap_or(MTU))
}

/// The error that Linux gives.
fn errno(error: HostError) -> std::io::Error {
    use rustix::io::Errno;
    std::io::Error::from(match error {
        HostError::ConnectionRefused => Errno::CONNREFUSED,
        HostError::ConnectionReset => Errno::CONNRESET,
        HostError::HostUnreachable => Errno::HOSTUNREACH,
        HostError::NetworkUnreachable => Errno::NETUNREACH,
        HostError::TimedOut => Errno::TIMEDOUT,
        HostError::MessageTooLong => Errno::MSGSIZE,
        HostError::AddressInUse => Errno::ADDRINUSE,
        HostError::BrokenPipe => Errno::PIPE,
        HostError::WouldBlock => Errno::AGAIN,
    })
}

#[cfg(test)]
mod tests;
