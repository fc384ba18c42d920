//! The real agent on simulated hosts: its life from start to stop, through crashes.

use std::{path::PathBuf, sync::Arc};

use agent::{
    audit,
    dialling::Dialling,
    gateways::Gateways,
    host::{Host, Vitals},
    node::{self, Node, Parts},
    nudge::{Nudge, Nudges},
    policy::Policy,
    policy_file::PolicyInForce,
    state_dir::StateDir,
    status::{State, Status},
};
use netsim_core::{
    model::Word,
    term::Name,
    topology::{self, NodeId},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tunnel::{Notifier, World, process::ProcessFigures, tls::RootCertStore};
use wire::token::EnrolToken;

use super::ends::Ends;
use crate::{docker, proxy::Setting, sim::Sim};

/// Where a Docker Engine listens; on a simulated host there is a model of one.
const DOCKER_SOCKET: &str = "/var/run/docker.sock";

/// Lines of an audit log that are kept: a test reads some, and nobody reads more.
const AUDIT_LINES_MAX: usize = 64;

/// What the agent says when it refuses whom it has found, instead of a relay that does.
const REFUSES: [&str; 2] = ["intercepted", "wrong_identity"];

/// One host that an agent runs on.
#[derive(Debug)]
pub(super) struct AgentHost {
    pub(super) name: Name,
    pub(super) node: NodeId,
    world: World,
    /// What it is to reach: as real as the model is.
    engine: docker::Engine,
    /// Survives crashes, as a disk does.
    state: StateDir,
    token: Option<EnrolToken>,
    dialling: Dialling,
    running: Option<Process>,
}

#[derive(Debug)]
struct Process {
    nudges: Nudges,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl AgentHost {
    /// A host on which nothing runs yet. The token is what its first start enrols with.
    pub(super) fn new(sim: &Sim, (node, name): (NodeId, Name), token: EnrolToken) -> Self {
        let engine = docker::Engine::default();
        Self {
            world: engine.on_host(sim.world(node), DOCKER_SOCKET),
            engine,
            name,
            node,
            state: StateDir::in_memory(),
            token: Some(token),
            dialling: dialling(sim, node),
            running: None,
        }
    }

    /// Starts the agent; nothing where it runs already.
    pub(super) fn start(&mut self, sim: &Sim, ends: &Arc<Ends>) {
        if self.running.is_some() {
            return;
        }
        let token = Ok(self.token.clone());
        let start = node::begin(&self.world, &self.state, token)
            .expect("memory takes an identity, and the token is the vendor's own");
        let nudges = Nudges::default();
        let (audit, _kept) = audit::keep(AUDIT_LINES_MAX);
        let node = Node::new(Parts {
            world: self.world.clone(),
            state: self.state.clone(),
            start,
            dialling: self.dialling.clone(),
            docker_socket: DOCKER_SOCKET.into(),
            policy: PolicyInForce::for_ever(Policy::default()),
            policy_path: PathBuf::from("/etc/sternline-agent/policy.toml"),
            audit,
            gateways: Gateways::Fixed(Vec::new()),
            host: Host {
                hostname: self.name.to_string(),
                os: "simulated".to_owned(),
                arch: std::env::consts::ARCH.to_owned(),
                kernel: "simulated".to_owned(),
            },
            vitals: Vitals::Fixed(ProcessFigures::default()),
            sandbox: "simulated".into(),
            notifier: Notifier::silent(),
            nudges: nudges.clone(),
        });
        let (sim, ends, name) = (sim.clone(), ends.clone(), self.name.clone());
        let told = std::sync::Mutex::new(None);
        node.board().on_change(Box::new(move |status| {
            let refused = refusal(status);
            let mut told = told
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            if *told != refused {
                if let Some((_, code)) = &refused {
                    sim.observe(Some(&name), Word::Refused, code);
                }
                *told = refused;
            }
            drop(told);
            ends.agent_has(&name, session(status));
        }));
        let stop = node.stop();
        let task = tokio::spawn(async move {
            if let Err(refused) = node.run().await {
                tracing::error!(%refused, "the agent has ended");
            }
        });
        self.running = Some(Process { nudges, stop, task });
    }

    /// The host is gone: whatever ran on it, runs no more, and says nothing.
    pub(super) fn crash(&mut self, ends: &Ends) {
        if let Some(process) = self.running.take() {
            process.task.abort();
            ends.agent_has(&self.name, None);
        }
    }

    /// The host's network has changed, or the host has slept: the agent hears of it, as
    /// from a kernel.
    pub(super) fn tell_of_change(&self) {
        if let Some(process) = &self.running {
            process.nudges.call(Nudge::Network);
        }
    }

    /// Notes every deployment that was sent once and arrived several times.
    pub(super) fn look_at_ledger(&self, sim: &Sim) {
        for number in self.engine.repeated() {
            sim.observe(Some(&self.name), Word::DeployedTwice, &number);
        }
    }

    /// Asks the agent to end, and waits until it has.
    pub(super) async fn stop(&mut self) {
        if let Some(process) = self.running.take() {
            process.stop.cancel();
            // A panic has been noted by its hook.
            process.task.await.ok();
        }
    }
}

/// Whether an error is that the agent refuses whom it has found.
pub(crate) fn is_refusal(code: &str) -> bool {
    REFUSES.contains(&code)
}

/// How the agent of a host is configured to reach its relay.
fn dialling(sim: &Sim, node: NodeId) -> Dialling {
    let (setting, trusts) = sim.with_network(|network| {
        let scenario = network.scenario();
        match network.topology().nodes[node.0] {
            topology::Node::Host { host, .. } => {
                let host = &scenario.hosts[host];
                (Setting::of(scenario, host), host.trusts.clone())
            }
            topology::Node::Edge { .. } => (None, None),
        }
    });
    let interceptor = trusts.and_then(|proxy| sim.authority(&proxy));
    Dialling {
        proxy: setting.and_then(|setting| setting.in_use()),
        interceptors: interceptor.map(|certificate| {
            let mut roots = RootCertStore::empty();
            let added = roots.add(certificate.into());
            added.expect("what signs is a certificate of a CA");
            Arc::new(roots)
        }),
        ..Dialling::default()
    }
}

/// When and why the agent was last refused, or has refused.
fn refusal(status: &Status) -> Option<(String, String)> {
    let error = status.last_error.as_ref()?;
    let is_refusal = status.state == State::Refused || is_refusal(&error.code);
    is_refusal.then(|| (error.at.to_string(), error.code.clone()))
}

/// The session that the agent has, and its transport.
fn session(status: &Status) -> Option<(String, String)> {
    let transport = status.transport.clone().unwrap_or_default();
    let is_online = status.state == State::Online;
    let session = status.session_id.clone().filter(|_| is_online)?;
    Some((session, transport))
}
