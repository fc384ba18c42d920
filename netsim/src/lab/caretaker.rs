//! What the network alone cannot do to real hosts and edges: their addresses, their
//! programs, their flows.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use netsim_core::{
    model::Deed,
    network::{EdgeDeed, HostDeed},
};
use rustix::process::Signal;

use super::{
    fabric::{Fabric, Happening, begins, changes_settings},
    host::Host,
    kernel_edge::KernelEdge,
    programs::Program,
    proxies::Standing,
    settings::Settings,
    watch::last_lines,
    wireguard::Tunnel,
};

/// How often the caretaker looks whether it may leave.
const LOOK: Duration = Duration::from_millis(50);

/// What of a lab is real.
#[derive(Debug, Default)]
pub(super) struct Real {
    pub(super) relays: Vec<Arc<Program>>,
    pub(super) agents: Vec<Arc<Program>>,
    /// Programs of other people, but for proxies.
    pub(super) resolvers: Vec<Arc<Program>>,
    pub(super) proxies: Vec<Standing>,
    pub(super) hosts: Vec<Arc<Host>>,
    pub(super) edges: Vec<KernelEdge>,
    pub(super) tunnels: Vec<Tunnel>,
    /// What went wrong while the scenario ran, as sentences.
    pub(super) troubles: Mutex<Vec<String>>,
    is_over: AtomicBool,
    lost: Arc<AtomicU64>,
}

impl Real {
    pub(super) fn new(hosts: Vec<Arc<Host>>, edges: Vec<KernelEdge>) -> Self {
        Self {
            hosts,
            edges,
            ..Self::default()
        }
    }

    /// Ends every program.
    pub(super) fn stop(&self) {
        self.leave();
        for program in self.programs() {
            program.kill();
        }
        for proxy in &self.proxies {
            proxy.stop();
        }
        for tunnel in &self.tunnels {
            tunnel.stop();
        }
    }

    /// Every program that is run, but for proxies.
    fn programs(&self) -> impl Iterator<Item = &Arc<Program>> {
        let own = self.relays.iter().chain(&self.agents);
        own.chain(&self.resolvers)
    }

    /// Programs that ended by themselves, with their last words.
    pub(super) fn ended(&self) -> Vec<String> {
        let proxies = self.proxies.iter().filter_map(Standing::program);
        let tunnels = self.tunnels.iter().flat_map(Tunnel::programs);
        let all = self.programs().map(|program| &**program).chain(proxies);
        let all = all.chain(tunnels);
        let ended = all.filter(|program| program.pid().is_some() && !program.is_running());
        ended
            .map(|program| {
                let (host, said) = (&program.host().name, last_lines(program.log(), 5));
                format!("{} on {host} has ended:\n{said}", program.name())
            })
            .collect()
    }

    /// Nothing is to happen any more.
    pub(super) fn leave(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Where ports count packets that their interfaces did not take.
    pub(super) fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    pub(super) fn lost_at_ports(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn programs_on(&self, host: &Host) -> Vec<&Program> {
        let proxies = self.proxies.iter().filter_map(Standing::program);
        let all = self.programs().map(|program| &**program).chain(proxies);
        all.filter(|program| program.host().node == host.node)
            .collect()
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Caretaker {
    real: Arc<Real>,
    fabric: Arc<Fabric>,
}

impl Caretaker {
    pub(super) const fn new(real: Arc<Real>, fabric: Arc<Fabric>) -> Self {
        Self { real, fabric }
    }

    /// Does what happens, until the lab is over.
    pub(super) fn until_left(self, happenings: &Receiver<Happening>) {
        loop {
            let done = match happenings.recv_timeout(LOOK) {
                Ok(Happening::Host(deed)) => self.to_host(deed),
                Ok(Happening::Edge(deed)) => self.to_edge(deed),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.real.is_over.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = done {
                let mut troubles = self
                    .real
                    .troubles
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                troubles.push(error.to_string());
            }
        }
    }

    fn to_host(&self, deed: HostDeed) -> io::Result<()> {
        let mut hosts = self.real.hosts.iter();
        let Some(host) = hosts.find(|host| host.node == deed.host) else {
            return Ok(());
        };
        let node = host.node;
        let (what, by, settings) = self.fabric.with(move |network, _| {
            let event = &network.scenario().events[deed.event];
            let new = event.address.as_deref().copied().filter(|_| begins(&deed));
            let by = event.by.as_ref().map_or(0, |by| by.get().nanos);
            (*event.deed, by, Settings::of(network, node, new))
        });
        if let (Deed::Skew, Some(clock)) = (what, host.clock()) {
            clock.skew(if begins(&deed) {
                by
            } else {
                by.saturating_neg()
            });
        }
        if changes_settings(what) {
            return host.configure(settings);
        }
        for program in self.real.programs_on(host) {
            run_or_end(program, what, begins(&deed))?;
        }
        let proxies = self.real.proxies.iter();
        let models = proxies.filter(|one| one.program().is_none() && one.host().node == node);
        for model in models {
            match (what, begins(&deed)) {
                (Deed::Crash | Deed::Stop, true) => model.stop(),
                (Deed::Crash | Deed::Stop, false) | (Deed::Start, _) => {
                    model.start(&self.fabric)?;
                }
                // What sleeps is cut off by the network.
                _ => {}
            }
        }
        Ok(())
    }

    fn to_edge(&self, deed: EdgeDeed) -> io::Result<()> {
        let what = self
            .fabric
            .with(move |network, _| *network.scenario().events[deed.event].deed);
        let mut edges = self.real.edges.iter();
        let edge = edges.find(|edge| edge.node == deed.edge);
        edge.map_or(Ok(()), |edge| edge.happen(what))
    }
}

/// What a deed, or its end, is to a program.
fn run_or_end(program: &Program, deed: Deed, begins: bool) -> io::Result<()> {
    match (deed, begins) {
        (Deed::Crash, true) => program.kill(),
        (Deed::Stop, true) => program.signal(Signal::TERM),
        (Deed::Crash | Deed::Stop, false) | (Deed::Start, _) => return again(program),
        (Deed::Suspend, true) => program.signal(Signal::STOP),
        (Deed::Suspend, false) | (Deed::Resume, _) => program.signal(Signal::CONT),
        // The clock of its host is told, and the rest is not done to programs.
        (
            Deed::Skew
            | Deed::Cut
            | Deed::Mend
            | Deed::Line
            | Deed::Forget
            | Deed::Rebind
            | Deed::Readdress
            | Deed::VpnUp
            | Deed::VpnDown
            | Deed::Release,
            _,
        ) => {}
    }
    Ok(())
}

/// Starts a program that was asked to end: one that takes its time is killed, as a
/// service manager does.
fn again(program: &Program) -> io::Result<()> {
    program.kill();
    program.start()
}
