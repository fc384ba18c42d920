//! A scenario played in virtual time: the real relay and the real agent on its hosts, a
//! vendor who uses them, and what was seen of it all.

mod agents;
mod ends;
mod panics;
mod relays;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use netsim_core::{
    expect::{self, Outcome},
    middlebox::Touched,
    model::{Deed, Role, Scenario, Word, World},
    network::{Change, HostDeed},
    random::Seed,
    term::Name,
    time::Instant,
    topology::{Node, NodeId},
    trace::{Observation, Trace},
};
use tokio::task::JoinSet;

#[cfg(target_os = "linux")]
pub(crate) use self::agents::is_refusal;
use self::{agents::AgentHost, ends::Ends, panics::Listening, relays::Relays};
use crate::{
    capture::{self, Keys},
    outcome::{Check, Run},
    sim::{self, Sim},
    workload::{Desk, Measured, Workload},
};

/// A fleet that is larger starts spread over a while, as machines do.
const AT_ONCE_MAX: usize = 10;

/// Over how long.
const SPREAD: Duration = Duration::from_secs(10);

/// How long sockets may say their goodbyes once everything was told to end: that of TCP's
/// TIME-WAIT, and the last heartbeat's deadline.
const FAREWELL: Duration = Duration::from_secs(90);

/// A run, and what was seen of it on the cables.
#[derive(Debug)]
pub struct Played {
    /// What came of it.
    pub run: Run,
    /// Observations, and the shape of packets where it was asked for.
    pub trace: Trace,
    /// What passed on the cables, as pcapng, where it was asked for.
    pub pcapng: Option<Vec<u8>>,
}

/// What is kept of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// Nothing: how many were touched, and by what, is counted anyway.
    Nothing,
    /// Their shape, by which two runs are compared.
    Shapes,
    /// Everything, to be looked at.
    Packets,
}

/// Plays a drawn scenario.
pub fn play(scenario: &Scenario, seed: Seed, keeps: Keeps) -> Played {
    let begun = std::time::Instant::now();
    tunnel::install_crypto_provider();
    let listening = Listening::begin();
    let samples = Measured::default();
    let measured = samples.clone();
    let played = catch_unwind(AssertUnwindSafe(|| {
        sim::run(scenario.clone(), seed, |sim| async move {
            sim.with_network(|network| match keeps {
                Keeps::Nothing => network.without_sightings(),
                Keeps::Shapes => {}
                Keeps::Packets => network.keep_packets(),
            });
            let keys = (keeps == Keeps::Packets).then(Arc::<Keys>::default);
            let stage = Stage::set(&sim, (seed, keys.clone()), measured).await;
            stage.perform().await;
            End::of(&sim, keys.as_ref())
        })
    }));
    // What panicked outside of every task is heard as well: the driver of the world.
    let (mut end, mut trace) = played.unwrap_or_default();
    let lasted = Instant::at(scenario.duration.get());
    for words in listening.take() {
        trace.observations.push(Observation {
            at: end.at,
            host: None,
            word: Word::Panicked,
            detail: words,
        });
    }
    // What is due between two milliseconds is noted at the second, after what it follows.
    trace.observations.sort_by_key(|one| one.at);
    let run = Run {
        scenario: (*scenario.name).clone(),
        world: World::Sim,
        seed,
        lasted: lasted.since_start(),
        took: begun.elapsed(),
        checks: checks(scenario, &trace.observations, end.at),
        observations: trace.observations.clone(),
        samples: samples.take(),
        touched: end.touched,
        vacuous: end.vacuous,
        notes: Vec::new(),
        repro: None,
    };
    Played {
        run,
        trace,
        pcapng: end.pcapng.take(),
    }
}

/// Every expectation of a scenario, judged over its duration, and those of every run, judged
/// over what was seen until `end`, when everything had been taken down.
pub fn checks(scenario: &Scenario, observations: &[Observation], end: Instant) -> Vec<Check> {
    let over = Instant::at(scenario.duration.get());
    // At that very moment everything is taken down.
    let before = observations.partition_point(|one| one.at < over);
    let own = expect::judge(scenario, &observations[..before], over);
    let own = scenario.expectations.iter().zip(own);
    let own = own.map(|(expectation, outcome)| Check {
        says: expectation.to_string(),
        is_built_in: false,
        is_marked: expectation.known_failing.is_some(),
        outcome: match outcome {
            // With this seed: whether it has started to hold, all of them say together.
            Outcome::HeldUnexpectedly => Outcome::Held,
            outcome => outcome,
        },
    });
    let built_in = expect::built_in(scenario, observations, end).into_iter();
    let built_in = built_in.map(|(says, outcome)| Check {
        says,
        is_built_in: true,
        is_marked: false,
        outcome,
    });
    own.chain(built_in).collect()
}

/// How a run ended.
#[derive(Debug, Default)]
struct End {
    /// When everything had been taken down.
    at: Instant,
    touched: Touched,
    vacuous: Vec<String>,
    pcapng: Option<Vec<u8>>,
}

impl End {
    fn of(sim: &Sim, keys: Option<&Arc<Keys>>) -> Self {
        let at = sim.now();
        let began = u64::try_from(sim::BEGINNING_UNIX_SECONDS).unwrap_or(0);
        let began = Duration::from_secs(began);
        sim.with_network(|network| Self {
            pcapng: keys.map(|keys| capture::pcapng(network, keys, began)),
            at,
            touched: network.touched(),
            vacuous: network.vacuous(),
        })
    }
}

/// Everything that runs on the hosts of a scenario.
struct Stage {
    sim: Sim,
    ends: Arc<Ends>,
    relays: Arc<Relays>,
    agents: Vec<AgentHost>,
    /// What the vendor does; ends by itself.
    vendor: JoinSet<()>,
    seed: Seed,
    measured: Measured,
    /// Tasks of the world itself, which are there before and after.
    tasks_before: usize,
}

impl Stage {
    /// Relays that serve, and agents that have not started.
    async fn set(sim: &Sim, (seed, keys): (Seed, Option<Arc<Keys>>), measured: Measured) -> Self {
        let tasks_before = alive_tasks();
        let ends = Arc::new(Ends::new(sim.clone()));
        let relays = Arc::new(Relays::set_up(sim, &ends, keys).await);
        let mut agents = Vec::new();
        for (node, name) in hosts(sim, Role::Agent) {
            let token = relays.enrol(&name).await;
            agents.push(AgentHost::new(sim, (node, name), token));
        }
        Self {
            sim: sim.clone(),
            ends,
            relays,
            agents,
            vendor: JoinSet::new(),
            seed,
            measured,
            tasks_before,
        }
    }

    /// Runs the scenario to its end, and takes everything down.
    async fn perform(mut self) {
        let scenario = self.sim.with_network(|network| network.scenario().clone());
        let end = tokio::time::sleep(scenario.duration.get());
        tokio::pin!(end);
        self.begin_workload(&Workload::of(&scenario));
        let mut starting = self.starts();
        loop {
            let next = starting.last().map(|(at, _)| *at);
            tokio::select! {
                biased;
                deed = self.sim.next_deed() => self.happen(&scenario, deed).await,
                () = until(next), if next.is_some() => {
                    if let Some((_, number)) = starting.pop() {
                        self.agents[number].start(&self.sim, &self.ends);
                    }
                }
                () = &mut end => break,
            }
        }
        self.take_down().await;
    }

    /// When which agent starts, the last first.
    fn starts(&self) -> Vec<(tokio::time::Instant, usize)> {
        let now = tokio::time::Instant::now();
        let mut dice = self.seed.stream("agents.start");
        let spread = match self.agents.len() {
            0..=AT_ONCE_MAX => Duration::ZERO,
            _ => SPREAD,
        };
        let each = (0..self.agents.len()).map(|number| (now + dice.span(spread), number));
        let mut starts: Vec<_> = each.collect();
        starts.sort();
        starts.reverse();
        starts
    }

    fn begin_workload(&mut self, workload: &Workload) {
        for agent in &self.agents {
            let desk = Desk {
                vendor: self.relays.clone(),
                host: agent.name.clone(),
                seed: self.seed,
                measured: self.measured.clone(),
            };
            self.vendor.spawn(workload.clone().run(desk));
        }
    }

    /// Something has happened to a host: what runs there follows.
    async fn happen(&mut self, scenario: &Scenario, deed: HostDeed) {
        let begins = deed.change == Change::Begins;
        let what = *scenario.events[deed.event].deed;
        let agent = self.agents.iter_mut().find(|agent| agent.node == deed.host);
        match (what, begins) {
            (Deed::Crash, true) => match agent {
                Some(agent) => agent.crash(&self.ends),
                None => self.relays.crash(deed.host),
            },
            (Deed::Stop, true) => match agent {
                Some(agent) => agent.stop().await,
                None => self.relays.stop(deed.host),
            },
            (Deed::Crash | Deed::Stop, false) | (Deed::Start, true) => match agent {
                Some(agent) => agent.start(&self.sim, &self.ends),
                None => self.relays.start(deed.host).await,
            },
            // The world has done it.
            (Deed::VpnUp | Deed::VpnDown | Deed::Readdress, _)
            | (Deed::Suspend, false)
            | (Deed::Resume, true) => {
                if let Some(agent) = agent {
                    agent.tell_of_change();
                }
            }
            _ => {}
        }
    }

    /// Ends everything in order, and notes what is left.
    async fn take_down(mut self) {
        self.vendor.shutdown().await;
        for agent in &self.agents {
            agent.look_at_ledger(&self.sim);
        }
        let mut ending = JoinSet::new();
        for mut agent in self.agents {
            ending.spawn(async move {
                agent.stop().await;
                (agent.name, agent.node)
            });
        }
        let agents = ending.join_all().await;
        self.relays.stop_all().await;
        let relays = hosts(&self.sim, Role::Relay);
        let hosts: Vec<(Name, NodeId)> = relays
            .into_iter()
            .map(|(node, name)| (name, node))
            .chain(agents)
            .collect();
        drop((self.relays, self.ends));
        tokio::time::sleep(FAREWELL).await;
        for (name, node) in hosts {
            let held = self.sim.sockets_held(node);
            if held > 0 {
                let left = format!("{held} sockets");
                self.sim.observe(Some(&name), Word::Leaked, &left);
            }
        }
        let tasks = alive_tasks().saturating_sub(self.tasks_before);
        if tasks > 0 {
            let left = format!("{tasks} tasks of relays and agents");
            self.sim.observe(None, Word::Leaked, &left);
        }
    }
}

/// Hosts that something runs on, copy by copy.
fn hosts(sim: &Sim, role: Role) -> Vec<(NodeId, Name)> {
    sim.with_network(|network| {
        let nodes = network.topology().nodes.iter().enumerate();
        let of_role = nodes.filter_map(|(id, node)| match node {
            Node::Host { host, name, .. } => {
                let runs = network.scenario().hosts[*host].runs;
                (runs == role).then(|| (NodeId(id), name.clone()))
            }
            Node::Edge { .. } => None,
        });
        of_role.collect()
    })
}

/// How many tasks the runtime has.
fn alive_tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

/// At a moment that never comes, where there is none.
async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
