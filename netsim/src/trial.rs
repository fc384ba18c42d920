//! A scenario tried on a real kernel, with the release programs: what the lab has seen of it,
//! judged as a run in virtual time is.
//!
//! The vendor works as one does: an operator's command on the relay's host leads to each
//! agent's Docker Engine, of which a model listens on the agent's host.

use std::{
    io,
    path::PathBuf,
    process::Child,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use netsim_core::{
    model::{Deed, Scenario, Word, World},
    random::Seed,
    term::Name,
    time::Instant,
    trace::{Observation, Trace},
};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tunnel::world::BoxIo;
use wire::id::RequestId;

use crate::{
    docker::Engine,
    lab::{
        Fabric, Host, Lab, LabError, Options,
        programs::{self, Program},
    },
    outcome::Run,
    play::{self, Keeps, Played},
    workload::{Desk, Measured, Vendor, Workload},
};

/// By how much the quick lab makes long times shorter.
pub const SCALE: u32 = 10;

/// How long one run may take in the quick lab.
pub const BUDGET: Duration = Duration::from_secs(40);

/// How a scenario is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// What is long is divided by this.
    pub scale: u32,
    /// What takes longer is refused.
    pub budget: Option<Duration>,
}

impl Pace {
    /// Within minutes.
    pub const QUICK: Self = Self {
        scale: SCALE,
        budget: Some(BUDGET),
    };
    /// Every time as the scenario has it.
    pub const FULL: Self = Self {
        scale: 1,
        budget: None,
    };
}

/// By how much a scenario is made shorter where an agent goes through a proxy: it tries to do
/// without half a minute after it is online, and only that touches what keeps it from it.
const SCALE_BEHIND_A_PROXY: u32 = 3;

/// By how much a scenario is made shorter: not at all where a VPN comes up, since an agent needs
/// its time to notice, and its timers are not divided. Behind a proxy that cuts, no session is
/// ever old enough to do without.
pub fn scale_of(drawn: &Scenario, pace: Pace) -> u32 {
    let mut events = drawn.events.iter();
    let has_vpn = events.any(|event| matches!(*event.deed, Deed::VpnUp | Deed::VpnDown));
    let is_behind = drawn.hosts.iter().any(|host| host.proxy.is_some());
    let is_cut = drawn.proxies.iter().any(|proxy| proxy.cut_after.is_some());
    match (has_vpn, is_behind && !is_cut) {
        (true, _) => 1,
        (false, true) => pace.scale.min(SCALE_BEHIND_A_PROXY),
        (false, false) => pace.scale,
    }
}

/// Why a drawn scenario cannot be tried here, though its file says that it can; none where it
/// can.
pub fn refusal(drawn: &Scenario, pace: Pace) -> Option<String> {
    let missing = crate::lab::missing_tools(drawn);
    if let Some(missing) = missing.first() {
        return Some(missing.to_string());
    }
    let scaled = crate::lab::scale::scaled(drawn, scale_of(drawn, pace));
    crate::lab::scale::too_long(&scaled, pace.budget?)
}

/// Tries a drawn scenario. To be called in a sandbox.
///
/// # Errors
///
/// What it takes is not there.
pub fn run(drawn: &Scenario, seed: Seed, pace: Pace) -> Result<Run, LabError> {
    Ok(play(drawn, seed, pace, Keeps::Nothing)?.run)
}

/// The same, and what passed on the cables where packets are kept. A trace of their shapes is
/// for virtual time.
///
/// # Errors
///
/// What it takes is not there.
pub fn play(drawn: &Scenario, seed: Seed, pace: Pace, keeps: Keeps) -> Result<Played, LabError> {
    let begun = std::time::Instant::now();
    let options = Options {
        scale: scale_of(drawn, pace),
        budget: pace.budget,
        keeps_packets: keeps == Keeps::Packets,
        ..Options::default()
    };
    let lab = Lab::start(drawn, seed, options)?;
    let scenario = lab.scenario().clone();
    let measured = Measured::default();
    let end = Instant::at(scenario.duration.get());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed("no runtime"))?;
    let vendor = Arc::new(Operator::beside(&lab));
    let agents = lab.agents().iter();
    let streams = Desks {
        workload: Workload::of(&scenario),
        engines: agents
            .map(|agent| (Arc::clone(agent), Engine::default()))
            .collect(),
        seed,
        measured: measured.clone(),
    };
    runtime.block_on(async {
        let left = end.since(lab.now());
        let work = streams.work(&vendor);
        // The run is as long as it is: what is under way then is left alone.
        drop(tokio::time::timeout(left, work).await);
    });
    let mut notes = lab.troubles();
    notes.extend(vendor.troubles());
    let (touched, vacuous) = (lab.touched(), lab.vacuous());
    let pcapng = (keeps == Keeps::Packets).then(|| lab.pcapng());
    for (agent, engine) in &streams.engines {
        for number in engine.repeated() {
            vendor.observe(&agent.host().name, Word::DeployedTwice, &number);
        }
    }
    drop(vendor);
    // Nobody asks for anything any more.
    lab.look_for_leaks();
    let over = lab.now();
    let trace = lab.stop();
    let checks = play::checks(&scenario, &trace.observations, over.max(end));
    let run = Run {
        scenario: (*scenario.name).clone(),
        world: World::Lab,
        seed,
        lasted: end.since_start(),
        took: begun.elapsed(),
        checks,
        observations: trace.observations,
        samples: measured.take(),
        touched,
        vacuous,
        notes,
        repro: None,
    };
    Ok(Played {
        run,
        trace: Trace::default(),
        pcapng,
    })
}

fn failed(what: &'static str) -> impl FnOnce(io::Error) -> LabError {
    move |source| LabError::Failed { what, source }
}

/// What is asked of all agents.
struct Desks {
    workload: Workload,
    /// Beside which agent is which.
    engines: Vec<(Arc<Program>, Engine)>,
    seed: Seed,
    measured: Measured,
}

impl Desks {
    /// Engines answer, and streams come and go. To be cut off when the run is over: Docker does
    /// not end with the last stream.
    async fn work(&self, vendor: &Arc<Operator>) {
        let (mut engines, mut streams) = (JoinSet::new(), JoinSet::new());
        for (agent, engine) in &self.engines {
            let (host, engine) = (agent.host(), engine.clone());
            match UnixListener::bind(programs::docker_socket(host)) {
                Ok(listener) => {
                    engines.spawn(async move { engine.serve_unix(&listener).await });
                }
                Err(error) => vendor.note(format!("no Docker Engine on {}: {error}", host.name)),
            }
            let desk = Desk {
                vendor: vendor.clone(),
                host: host.name.clone(),
                seed: self.seed,
                measured: self.measured.clone(),
            };
            streams.spawn(self.workload.clone().run(desk));
        }
        while streams.join_next().await.is_some() {}
        std::future::pending::<()>().await;
    }
}

/// An operator's commands on the relay's host, one an agent.
struct Operator {
    fabric: Arc<Fabric>,
    sockets: PathBuf,
    commands: Mutex<Vec<Child>>,
    troubles: Mutex<Vec<String>>,
}

impl Operator {
    fn beside(lab: &Lab) -> Self {
        let relay = lab.relays().first().map(|relay| relay.host());
        let sockets = relay.map(|relay| relay.folder().to_owned());
        let operator = Self {
            fabric: lab.shared_fabric(),
            sockets: sockets.unwrap_or_default(),
            commands: Mutex::default(),
            troubles: Mutex::default(),
        };
        if let (Some(relay), Some(programs)) = (relay, lab.programs()) {
            for agent in lab.agents() {
                operator.listen(programs, (relay, &agent.host().name));
            }
        }
        operator
    }

    fn listen(&self, programs: &programs::Programs, (relay, agent): (&Host, &Name)) {
        let socket = self.socket(agent);
        match programs::docker_at(programs, relay, (agent.as_str(), &socket)) {
            Ok(command) => self
                .commands
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(command),
            Err(error) => self.note(format!("no operator for {agent}: {error}")),
        }
    }

    fn note(&self, trouble: String) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.push(trouble);
    }

    /// What could not be set up.
    fn troubles(&self) -> Vec<String> {
        let troubles = self.troubles.lock();
        troubles.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn socket(&self, agent: &Name) -> PathBuf {
        self.sockets.join(format!("vendor-{agent}.sock"))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        for command in commands.iter_mut() {
            // One that has ended by itself is not there to be killed.
            command.kill().ok();
            command.wait().ok();
        }
    }
}

#[async_trait]
impl Vendor for Operator {
    async fn open(&self, host: &Name, _id: RequestId) -> io::Result<BoxIo> {
        let stream = UnixStream::connect(self.socket(host)).await?;
        Ok(Box::new(stream))
    }

    fn observe(&self, host: &Name, word: Word, detail: &str) {
        let observation = Observation {
            at: self.fabric.now(),
            host: Some(host.clone()),
            word,
            detail: detail.to_owned(),
        };
        self.fabric
            .with(move |network, _| network.observe(observation));
    }

    fn came_online_since(&self, host: &Name, since: Instant) -> bool {
        let host = host.clone();
        self.fabric
            .with(move |network, _| network.has_seen_since(&host, Word::Online, since))
    }

    /// An operator's command ends its Unix socket in the same way, whatever ended the stream.
    fn tells_breaks(&self) -> bool {
        false
    }

    fn now(&self) -> Instant {
        self.fabric.now()
    }
}
