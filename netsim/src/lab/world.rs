//! A scenario in the lab, from the first namespace to the last: [`Lab`].

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc::channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use netsim_core::{
    middlebox::Touched,
    model::{Deed, Role, Scenario, Word},
    network::Network,
    random::Seed,
    term::Name,
    time::Instant,
    topology::NodeId,
    trace::{Observation, Trace},
};

use super::{
    Missing,
    at_rest::AtRest,
    caretaker::{Caretaker, Real},
    ends::Asking,
    fabric::{Fabric, Happening, Parts, Service},
    host::Host,
    kernel_edge::KernelEdge,
    names::Resolver,
    namespace::Namespace,
    namespaces::{real, with_others},
    plug::plug,
    preflight,
    programs::{AgentSetup, NoPrograms, Program, Programs, enrolment, relay_answers},
    proxies::Standing,
    ruleset::beyond_the_kernel,
    sandbox,
    scale::{scaled, too_long},
    settings::{Settings, host_of, names},
    stacks::Stacks,
    tools,
    watch::{Listener, Watch, Who},
    wrong_clock,
};
use crate::{capture, proxy::Setting};

/// How a lab is run.
#[derive(Default)]
pub struct Options {
    /// Whether relay and agents are run; without, hosts are there and nothing runs on
    /// them.
    pub is_bare: bool,
    /// Whether hosts of agents are there, and no agent is enrolled nor started on them.
    pub is_without_agents: bool,
    /// What is long is divided by this; 0 and 1 are full length.
    pub scale: u32,
    /// A drawn scenario that takes longer, once scaled, is refused.
    pub budget: Option<Duration>,
    /// Whether the trace keeps every packet: a gigabyte for ten of traffic.
    pub keeps_sightings: bool,
    /// Whether packets are kept as they went into cables, as much as a person can look at.
    pub keeps_packets: bool,
    /// Lines of every relay's configuration file.
    pub relay_config: String,
    /// What agents are told.
    pub agent: AgentSetup,
    /// Hosts that are real although neither relay nor agent runs on them: proxies.
    pub real: Vec<Name>,
    /// What answers on simulated hosts; resolvers answer by themselves.
    pub services: BTreeMap<Name, Box<dyn Service>>,
    /// Who hears of what is seen of agents, as it is seen.
    pub listener: Option<Listener>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("is_bare", &self.is_bare)
            .field("is_without_agents", &self.is_without_agents)
            .field("scale", &self.scale)
            .field("budget", &self.budget)
            .field("real", &self.real)
            .finish_non_exhaustive()
    }
}

/// Why a scenario cannot be run in the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Somebody called [`Lab::start`] as any process.
    #[error("the lab is not in a sandbox: run it by `sandbox::run`")]
    NotInSandbox,
    /// The machine does not offer what it takes.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Missing(Vec<Missing>),
    /// There are no binaries.
    #[error(transparent)]
    NoPrograms(#[from] NoPrograms),
    /// It would take longer than there is time.
    #[error("{0}")]
    TooLong(String),
    /// An edge is to be the kernel's, and the kernel cannot do it.
    #[error("the edge {edge} cannot be the kernel's: {why}; leave out `kernel = true`")]
    BeyondTheKernel {
        /// Which edge.
        edge: String,
        /// What of it.
        why: String,
    },
    /// The kernel, a tool or a program did not do as it was told.
    #[error("{what}: {source}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
}

/// Names what was tried.
fn failed(what: &'static str) -> impl FnOnce(io::Error) -> LabError {
    move |source| LabError::Failed { what, source }
}

/// A scenario that runs. It is gone when dropped.
#[derive(Debug)]
pub struct Lab {
    // Dropped in this order: who looks, who acts, what runs, what it runs on.
    watch: Option<Watch>,
    caretaker: Option<JoinHandle<()>>,
    real: Arc<Real>,
    fabric: Option<Arc<Fabric>>,
    programs: Option<Programs>,
    at_rest: AtRest,
    scenario: Scenario,
}

/// How long programs have, at the end, to let go of what they need no more.
const LETTING_GO: Duration = Duration::from_secs(5);

impl Lab {
    /// Sets a drawn scenario up and starts its programs; its time begins when the relay
    /// answers and agents are started.
    ///
    /// # Errors
    ///
    /// [`LabError`]; nothing is left behind.
    pub fn start(scenario: &Scenario, seed: Seed, options: Options) -> Result<Self, LabError> {
        let scenario = scaled(scenario, options.scale);
        can_be(&scenario, &options)?;
        let programs = if options.is_bare {
            None
        } else {
            Some(Programs::find()?)
        };
        let mut network = Network::new(scenario.clone(), seed);
        if !options.keeps_sightings {
            network.without_sightings();
        }
        if options.keeps_packets {
            network.keep_packets();
        }
        let real = real(&network, &options.real).map_err(failed("hosts cannot be made"))?;
        let externals: Vec<NodeId> = real.edges.iter().map(|edge| edge.node).collect();
        let network = network.with_external(&externals);
        let ports = plug(&network, &real).map_err(failed("cables cannot be laid"))?;
        let real = with_others(real, &network).map_err(failed("a host cannot be set up"))?;
        let real = match &programs {
            Some(programs) => enrolled(real, programs, (&network, &options))?,
            None => real,
        };
        let stacks = stacks(&network, &real, seed, options.services);
        let (deeds, happenings) = channel::<Happening>();
        let parts = Parts {
            network,
            ports,
            stacks,
            deeds,
        };
        let fabric = Arc::new(Fabric::start(parts).map_err(failed("no thread"))?);
        let real = Arc::new(real);
        let mut lab = Self {
            watch: None,
            caretaker: None,
            real: Arc::clone(&real),
            fabric: Some(Arc::clone(&fabric)),
            programs,
            at_rest: AtRest::default(),
            scenario,
        };
        let caretaker = Caretaker::new(Arc::clone(&real), Arc::clone(&fabric));
        let caretaker = thread::Builder::new()
            .name("caretaker".to_owned())
            .spawn(move || caretaker.until_left(&happenings));
        lab.caretaker = Some(caretaker.map_err(failed("no thread"))?);
        for proxy in &real.proxies {
            proxy
                .start(&fabric)
                .map_err(failed("a proxy cannot be started"))?;
        }
        for agent in &real.agents {
            agent
                .start()
                .map_err(failed("an agent cannot be started"))?;
        }
        // Without agents there is no session to ask for.
        let programs = lab.programs.clone().filter(|_| !options.is_without_agents);
        let asking = programs.map(|programs| Asking::start(programs, real.relays.clone()));
        let who = Who {
            agents: real.agents.clone(),
            relays: real.relays.clone(),
            asking: asking.transpose().map_err(failed("no thread"))?,
            at_rest: lab.at_rest.clone(),
        };
        let watch = Watch::start(who, fabric, options.listener);
        lab.watch = Some(watch.map_err(failed("no thread"))?);
        Ok(lab)
    }

    /// The scenario as it is played, scaled.
    pub const fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// What moves the packets.
    pub fn fabric(&self) -> &Fabric {
        self.fabric.as_ref().expect("it is there until the end")
    }

    /// The same, for a task of its own.
    pub fn shared_fabric(&self) -> Arc<Fabric> {
        Arc::clone(self.fabric.as_ref().expect("it is there until the end"))
    }

    /// Real hosts: copies, in the order of the topology.
    pub fn hosts(&self) -> &[Arc<Host>] {
        &self.real.hosts
    }

    /// The real host of this name.
    pub fn host(&self, name: &str) -> Option<&Arc<Host>> {
        let mut hosts = self.real.hosts.iter();
        hosts.find(|host| host.name.as_str() == name)
    }

    /// The namespace of the edge of this name, where that is the kernel's.
    pub fn edge(&self, name: &str) -> Option<&Namespace> {
        let mut edges = self.real.edges.iter();
        let found = edges.find(|edge| edge.name() == name);
        found.map(KernelEdge::namespace)
    }

    /// The CAs, in PEM, of proxies that intercept TLS and are the model.
    pub fn authorities(&self) -> Vec<String> {
        let proxies = self.real.proxies.iter();
        proxies.filter_map(Standing::authority).collect()
    }

    /// Relays that are run.
    pub fn relays(&self) -> &[Arc<Program>] {
        &self.real.relays
    }

    /// Agents that are run.
    pub fn agents(&self) -> &[Arc<Program>] {
        &self.real.agents
    }

    /// Where the binaries are; none in a bare lab.
    pub const fn programs(&self) -> Option<&Programs> {
        self.programs.as_ref()
    }

    /// How long the scenario has been running.
    pub fn now(&self) -> Instant {
        self.fabric().now()
    }

    /// Waits for a moment of the scenario.
    pub fn wait_until(&self, moment: Instant) {
        let never = (Mutex::new(()), Condvar::new());
        let left = moment.since(self.now());
        let guard = never.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody notifies: it is the clock that is waited for.
        drop(never.1.wait_timeout_while(guard, left, |()| true));
    }

    /// Waits until something has been observed, at most until a moment. Whether it was.
    pub fn wait_for(
        &self,
        moment: Instant,
        mut is_meant: impl FnMut(&Observation) -> bool,
    ) -> bool {
        let mut seen = 0;
        loop {
            let new = self
                .fabric()
                .with(move |network, _| network.trace().observations[seen..].to_vec());
            if new.iter().any(&mut is_meant) {
                return true;
            }
            seen += new.len();
            let now = self.now();
            if now >= moment {
                return false;
            }
            self.wait_until(moment.min(now + super::programs::LOOK));
        }
    }

    /// What was observed so far, in order of time.
    pub fn observations(&self) -> Vec<Observation> {
        self.trace().observations
    }

    /// All that was seen so far.
    pub fn trace(&self) -> Trace {
        let mut trace = self.fabric().with(|network, _| network.trace().clone());
        // Agents are looked at from time to time, and packets as they pass.
        trace.observations.sort_by_key(|one| one.at);
        trace
    }

    /// Adds an observation of what the lab cannot see.
    pub fn observe(&self, observation: Observation) {
        self.fabric()
            .with(move |network, _| network.observe(observation));
    }

    /// Notes who holds descriptors, threads or memory that nothing needs any more. To be called
    /// once the workload is over: what goes within a few seconds was no leak.
    pub fn look_for_leaks(&self) {
        let programs = || self.real.relays.iter().chain(&self.real.agents);
        let beyond = || self.at_rest.beyond(programs().map(|program| &**program));
        let end = self.now() + LETTING_GO;
        let mut left = beyond();
        while !left.is_empty() && self.now() < end {
            self.wait_until(self.now() + super::programs::LOOK);
            left = beyond();
        }
        for (host, what) in left {
            self.observe(Observation {
                at: self.now(),
                host: Some(host),
                word: Word::Leaked,
                detail: what,
            });
        }
    }

    /// Faults that have touched no packet so far, as sentences.
    pub fn vacuous(&self) -> Vec<String> {
        self.count_at_edges();
        self.fabric().with(|network, _| network.vacuous())
    }

    /// How many packets were touched so far, by what was done to them.
    pub fn touched(&self) -> Touched {
        self.count_at_edges();
        self.fabric().with(|network, _| network.touched())
    }

    /// What went wrong with real hosts while the scenario ran, and the last words of
    /// programs that ended by themselves: for a report.
    pub fn troubles(&self) -> Vec<String> {
        let troubles = self.real.troubles.lock();
        let mut troubles = troubles.unwrap_or_else(PoisonError::into_inner).clone();
        let lost = self.real.lost_at_ports();
        if lost > 0 {
            troubles.push(format!(
                "{lost} packets found an interface down or too narrow"
            ));
        }
        troubles.extend(self.real.ended());
        troubles
    }

    /// What passed on the cables so far, as pcapng, with an interface a cable; where packets
    /// were kept. Without keys of TLS: release programs write none down.
    pub fn pcapng(&self) -> Vec<u8> {
        let since_1970 = jiff::Timestamp::now().as_millisecond();
        let since_1970 = Duration::from_millis(u64::try_from(since_1970).unwrap_or(0));
        let began = since_1970.saturating_sub(self.now().since_start());
        self.fabric()
            .with(move |network, _| capture::pcapng(network, &Arc::default(), began))
    }

    /// Ends everything, and gives what was seen.
    pub fn stop(self) -> Trace {
        self.count_at_edges();
        self.trace()
    }

    /// What edges of the kernel have counted so far becomes part of the network's count.
    fn count_at_edges(&self) {
        for edge in &self.real.edges {
            let Ok(counted) = edge.counted() else {
                continue;
            };
            let node = edge.node;
            self.fabric().with(move |network, _| {
                for (cause, count) in counted {
                    network.set_touched_at_edge(node, cause, count);
                }
            });
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.watch.take());
        self.real.stop();
        // The caretaker has a share of the fabric: it goes first.
        if let Some(caretaker) = self.caretaker.take() {
            self.real.leave();
            caretaker.join().ok();
        }
        drop(self.fabric.take());
    }
}

/// Whether a scaled scenario can be run here.
fn can_be(scenario: &Scenario, options: &Options) -> Result<(), LabError> {
    if !sandbox::is_inside() {
        preflight().map_err(LabError::Missing)?;
        return Err(LabError::NotInSandbox);
    }
    if let Some(why) = options.budget.and_then(|most| too_long(scenario, most)) {
        return Err(LabError::TooLong(why));
    }
    if let Some(refused) = refused(scenario) {
        return Err(refused);
    }
    let mut missing = tools::missing(scenario);
    missing.extend(wrong_clocks(scenario));
    if missing.is_empty() {
        Ok(())
    } else {
        Err(LabError::Missing(missing))
    }
}

/// What it takes that a clock is wrong, where that is not here.
fn wrong_clocks(scenario: &Scenario) -> Option<Missing> {
    let mut hosts = scenario.hosts.iter();
    let mut events = scenario.events.iter();
    let is_asked = hosts.any(|host| host.skew.get().nanos != 0)
        || events.any(|event| *event.deed == Deed::Skew);
    (is_asked && !wrong_clock::is_offered()).then(|| Missing {
        what: "this kernel does not hand over system calls, so no clock can be wrong".to_owned(),
        advice: "start one with CONFIG_SECCOMP_FILTER (Linux 5.0 or newer), or run the scenario \
                 with --world sim"
            .to_owned(),
    })
}

/// An edge that the kernel cannot be.
fn refused(scenario: &Scenario) -> Option<LabError> {
    let edges = scenario.edges.iter().filter(|edge| edge.kernel);
    let beyond = edges.map(|edge| (edge, beyond_the_kernel(edge, &scenario.proxies)));
    beyond
        .filter(|(_, why)| !why.is_empty())
        .map(|(edge, why)| LabError::BeyondTheKernel {
            edge: edge.name.to_string(),
            why: why.join(", "),
        })
        .next()
}

/// Starts the relay, and makes an agent of each of their hosts; those are not started.
fn enrolled(
    mut real: Real,
    programs: &Programs,
    (network, options): (&Network, &Options),
) -> Result<Real, LabError> {
    let (scenario, topology) = (network.scenario(), network.topology());
    let of = |role: Role| {
        let hosts = real.hosts.iter().filter(move |host| {
            host_of(scenario, topology, host.node).is_some_and(|(model, _)| model.runs == role)
        });
        hosts.cloned().collect::<Vec<_>>()
    };
    let (relays, agents) = (of(Role::Relay), of(Role::Agent));
    for host in relays {
        let public_name = public_name(network, &host);
        let told = (public_name.as_str(), options.relay_config.as_str());
        let relay = Program::relay(programs, host, told).and_then(|relay| {
            relay.start()?;
            relay_answers(programs, &relay)?;
            Ok(Arc::new(relay))
        });
        real.relays
            .push(relay.map_err(failed("the relay cannot be started"))?);
    }
    let setup = &options.agent;
    let enrols = real.relays.first().filter(|_| !options.is_without_agents);
    if let Some(relay) = enrols.cloned() {
        for host in agents {
            let model = host_of(scenario, topology, host.node);
            let proxy = model.and_then(|(model, _)| Setting::of(scenario, model));
            let agent = enrolment(programs, relay.host(), host.name.as_str())
                .and_then(|token| Program::agent(programs, host, &token, (setup, proxy.as_ref())))
                .map_err(failed("an agent cannot be enrolled"))?;
            real.agents.push(Arc::new(agent));
        }
    }
    Ok(real)
}

/// The name that agents know a relay by: its first, or its address.
fn public_name(network: &Network, host: &Host) -> String {
    let (scenario, topology) = (network.scenario(), network.topology());
    let named = host_of(scenario, topology, host.node).and_then(|(model, _)| model.names.first());
    let address = topology.addresses(host.node).first();
    named.map_or_else(
        || {
            address
                .map(|(address, _)| address.to_string())
                .unwrap_or_default()
        },
        |name| name.as_str().to_owned(),
    )
}

/// Every other host is simulated.
fn stacks(
    network: &Network,
    real: &Real,
    seed: Seed,
    mut services: BTreeMap<Name, Box<dyn Service>>,
) -> Stacks {
    let (scenario, topology) = (network.scenario(), network.topology());
    let mut stacks = Stacks::default();
    for id in (0..topology.nodes.len()).map(NodeId) {
        let Some((model, _)) = host_of(scenario, topology, id) else {
            continue;
        };
        if real.hosts.iter().any(|host| host.node == id) {
            continue;
        }
        let service: Option<Box<dyn Service>> = match model.runs {
            Role::Resolver => Some(Box::new(Resolver::new(names(scenario)))),
            Role::Relay | Role::Agent | Role::Peer => {
                let name = network.host_name(id).unwrap_or_default();
                services.remove(&name)
            }
        };
        stacks.add((network, id), seed, service);
    }
    stacks
}

/// How a host should be at the beginning.
pub(super) fn initial(network: &Network, host: &Host) -> Settings {
    Settings::of(network, host.node, None)
}
