//! The network of the simulation in real time: one thread between the ports of real
//! hosts, with every cable, edge and box of the scenario in it.
//!
//! It is the same `Network`, moved by the clock instead of from event to event. What is
//! due happens as of the time at which it was due, so that a thread that wakes late adds
//! nothing up. Hosts without a namespace are simulated stacks here. Nobody else touches
//! the network: others ask the thread ([`Fabric::with`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    num::NonZeroU64,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use netsim_core::{
    model::Deed,
    network::{Change, EdgeDeed, HostDeed, Network},
    packet::Packet,
    stack::Stack,
    time::Instant,
    topology::{LinkId, NodeId},
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::{port::Port, stacks::Stacks};

/// Commands that wait for the thread: who asks waits for an answer, so one a thread.
const COMMANDS_MAX: usize = 64;

/// Packets taken from one port before the others have their turn: what 500 Mbit/s bring
/// in 2 ms.
const TURN: usize = 96;

/// The longest that the thread sleeps: somebody may have set the clock of events.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// What a thread asks of the network, and what is done with it.
type Command = Box<dyn FnOnce(&mut Network, Instant) + Send>;

/// Something that answers on a simulated host.
pub trait Service: Send {
    /// Something may have come in.
    fn serve(&mut self, now: Instant, stack: &mut Stack);
}

/// Something that happens to a real host or edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Happening {
    Host(HostDeed),
    Edge(EdgeDeed),
}

/// What a port leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    /// A host's own cable.
    Host(NodeId),
    /// A VPN's, with its address.
    Tunnel(NodeId, IpAddr),
    /// A link of an edge that is the kernel's.
    Edge(NodeId, LinkId),
}

/// What a fabric is made of.
pub(super) struct Parts {
    pub(super) network: Network,
    pub(super) ports: Vec<(Beyond, Port)>,
    pub(super) stacks: Stacks,
    /// Where to tell what happens to what is real; bounded by the scenario's timeline.
    pub(super) deeds: Sender<Happening>,
}

/// See the module. It ends when dropped.
#[derive(Debug)]
pub struct Fabric {
    commands: SyncSender<Command>,
    wake: Arc<OwnedFd>,
    started: std::time::Instant,
    thread: Option<JoinHandle<()>>,
    late: Arc<Mutex<Duration>>,
}

impl Fabric {
    /// Begins: now is the beginning of the network's time.
    pub(super) fn start(parts: Parts) -> io::Result<Self> {
        let (commands, asked) = sync_channel(COMMANDS_MAX);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags)?);
        let started = std::time::Instant::now();
        let late = Arc::new(Mutex::new(Duration::ZERO));
        let run = Run {
            started,
            wake: Arc::clone(&wake),
            late: Arc::clone(&late),
            ports_of: PortsOf::new(&parts),
            parts,
        };
        let thread = thread::Builder::new()
            .name("fabric".to_owned())
            .spawn(move || run.until_left(&asked))?;
        Ok(Self {
            commands,
            wake,
            started,
            thread: Some(thread),
            late,
        })
    }

    /// How long the network has been running.
    pub fn now(&self) -> Instant {
        Instant::at(self.started.elapsed())
    }

    /// Asks something of the network, between two packets.
    ///
    /// # Panics
    ///
    /// The fabric's thread has panicked.
    pub fn with<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Network, Instant) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = sync_channel(1);
        let command: Command = Box::new(move |network, now| {
            // Who asked may have gone.
            answer.try_send(act(network, now)).ok();
        });
        let mut command = Some(command);
        while let Some(one) = command.take() {
            match self.commands.try_send(one) {
                Ok(()) => {}
                Err(TrySendError::Full(one)) => {
                    command = Some(one);
                    thread::yield_now();
                }
                Err(TrySendError::Disconnected(_)) => break,
            }
        }
        self.wake();
        answered
            .recv()
            .expect("the fabric's thread runs as long as somebody can ask it")
    }

    /// By how much the thread has been late at most, for something that was due.
    pub fn latest(&self) -> Duration {
        *self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A counter that is full wakes as well.
        rustix::io::write(&*self.wake, &1_u64.to_ne_bytes()).ok();
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        // Without anybody to ask it, the thread ends.
        let (closed, _) = sync_channel(0);
        drop(std::mem::replace(&mut self.commands, closed));
        self.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Which port leads where.
struct PortsOf {
    hosts: Vec<Option<usize>>,
    tunnels: BTreeMap<(NodeId, IpAddr), usize>,
    edges: BTreeMap<(NodeId, LinkId), usize>,
}

impl PortsOf {
    fn new(parts: &Parts) -> Self {
        let mut of = Self {
            hosts: vec![None; parts.network.topology().nodes.len()],
            tunnels: BTreeMap::new(),
            edges: BTreeMap::new(),
        };
        for (number, (beyond, _)) in parts.ports.iter().enumerate() {
            match beyond {
                Beyond::Host(node) => of.hosts[node.0] = Some(number),
                Beyond::Tunnel(node, address) => {
                    of.tunnels.insert((*node, *address), number);
                }
                Beyond::Edge(node, link) => {
                    of.edges.insert((*node, *link), number);
                }
            }
        }
        of
    }

    fn of_host(&self, node: NodeId, packet: &Packet) -> Option<usize> {
        let own = self.hosts[node.0]?;
        if self.tunnels.is_empty() {
            return Some(own);
        }
        let tunnel = self.tunnels.get(&(node, packet.destination()));
        Some(tunnel.copied().unwrap_or(own))
    }
}

struct Run {
    started: std::time::Instant,
    wake: Arc<OwnedFd>,
    late: Arc<Mutex<Duration>>,
    ports_of: PortsOf,
    parts: Parts,
}

impl Run {
    fn until_left(mut self, asked: &Receiver<Command>) {
        // The kernel may gather wakeups 50 µs apart; cables are shorter than that.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).ok();
        let mut is_left = false;
        while !is_left {
            let now = self.now();
            let is_more = self.take_in(now);
            is_left = self.obey(asked, now);
            self.note_lateness(now);
            self.settle(now);
            for (_, port) in &mut self.parts.ports {
                port.flush();
            }
            if !is_more && !is_left {
                self.sleep();
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::at(self.started.elapsed())
    }

    /// Packets that have come in at the ports go into the network. Whether some may be
    /// left.
    fn take_in(&mut self, now: Instant) -> bool {
        let Parts { network, ports, .. } = &mut self.parts;
        let mut is_more = false;
        for (beyond, port) in ports {
            let mut taken = 0;
            while taken < TURN
                && let Some(packet) = port.receive()
            {
                match *beyond {
                    Beyond::Host(node) | Beyond::Tunnel(node, _) => {
                        network.send(now, node, packet);
                    }
                    Beyond::Edge(node, link) => {
                        network.send_from_edge(now, (node, link), packet);
                    }
                }
                taken += 1;
            }
            is_more |= taken == TURN;
        }
        is_more
    }

    /// Does what others ask. Whether nobody is left who could.
    fn obey(&mut self, asked: &Receiver<Command>, now: Instant) -> bool {
        loop {
            match asked.try_recv() {
                Ok(command) => command(&mut self.parts.network, now),
                Err(std::sync::mpsc::TryRecvError::Empty) => return false,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return true,
            }
        }
    }

    fn note_lateness(&self, now: Instant) {
        let due = self.parts.network.poll_at();
        let late = due.map_or(Duration::ZERO, |at| now.since(at));
        let mut latest = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = latest.max(late);
    }

    /// Everything that is due happens, and what it leads to at once.
    fn settle(&mut self, now: Instant) {
        let Parts {
            network,
            ports,
            stacks,
            deeds,
        } = &mut self.parts;
        let mut dirty: BTreeSet<NodeId> = stacks.due(now);
        loop {
            while let Some(host) = dirty.pop_first() {
                stacks.poll(now, host, network);
            }
            network.advance(now);
            for deed in network.take_host_deeds() {
                if stacks.happen(now, deed, network) {
                    dirty.insert(deed.host);
                } else {
                    tell(deeds, Happening::Host(deed));
                }
            }
            for deed in network.take_edge_deeds() {
                tell(deeds, Happening::Edge(deed));
            }
            for (host, packet) in network.take_delivered() {
                match self.ports_of.of_host(host, &packet) {
                    Some(port) => ports[port].1.send(packet),
                    None => {
                        if stacks.receive(now, host, packet) {
                            dirty.insert(host);
                        }
                    }
                }
            }
            for (node, link, packet) in network.take_at_edges() {
                if let Some(port) = self.ports_of.edges.get(&(node, link)) {
                    ports[*port].1.send(packet);
                }
            }
            if dirty.is_empty() {
                return;
            }
        }
    }

    /// Until something is due, comes in, or is asked.
    fn sleep(&self) {
        let next = [self.parts.network.poll_at(), self.parts.stacks.poll_at()];
        let next = next.into_iter().flatten().min();
        let until = next.map_or(LONGEST_SLEEP, |at| at.since(self.now()));
        let until = until.min(LONGEST_SLEEP);
        let timeout = Timespec {
            tv_sec: until.as_secs().cast_signed(),
            tv_nsec: until.subsec_nanos().into(),
        };
        let ports = self.parts.ports.iter().map(|(_, port)| port.as_fd());
        let mut waiting: Vec<PollFd<'_>> = ports
            .chain([self.wake.as_fd()])
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        // Interrupted, it looks again.
        poll(&mut waiting, Some(&timeout)).ok();
        let was_asked = waiting.last().is_some_and(|one| !one.revents().is_empty());
        if was_asked {
            rustix::io::read(&*self.wake, &mut [0; 8]).ok();
        }
    }
}

/// Without a caretaker nobody minds what happens to what is real.
fn tell(caretaker: &Sender<Happening>, happening: Happening) {
    caretaker.send(happening).ok();
}

/// Whether a deed is undone at the end of its event, and so leaves what it had changed.
pub(super) const fn begins(deed: &HostDeed) -> bool {
    matches!(deed.change, Change::Begins)
}

/// Whether a deed changes a host's addresses, routes or MTU.
pub(super) const fn changes_settings(deed: Deed) -> bool {
    matches!(deed, Deed::VpnUp | Deed::VpnDown | Deed::Readdress)
}
