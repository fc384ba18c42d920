//! A relay without its process: the use cases, the live sessions and the doors, over
//! whatever world, store and sockets are handed in.
//!
//! Here is neither a file nor a signal, nor a socket that is bound, but for ports that an
//! operator exposes. The program's `server` puts them around it; a simulation brings its
//! own, and has the same relay:
//!
//! ```text
//! Node::build ──serve(doors)──► Running ──drain──► ended in order
//!                                  └──── drop ───► cut off, where that was asked for
//! ```

mod running;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tunnel::{KeyPair, World};
use wire::token::RelayAddress;

pub use self::running::{Doors, DrainOptions, FAREWELL, Running};
use crate::{
    control::{Control, Parts, RelayFacts},
    expose::Exposures,
    farewell::Farewells,
    gate::{Gate, HandshakeRate},
    metrics::{Metrics, ProbeSums, Reading},
    probe::{Introduction, Probe, ProbeParts},
    registry::Registry,
    seal::Sealer,
    session::{SessionParts, Sessions},
    stack::Stacks,
    store::Store,
};

/// The release of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that this program was built from.
pub const COMMIT: &str = env!("STERNLINE_COMMIT");

/// What a node is made of.
#[derive(Debug)]
pub struct NodeParts {
    /// The seams.
    pub world: World,
    /// What survives a restart.
    pub store: Arc<dyn Store>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The relay's own key, which agents pin.
    pub identity: KeyPair,
    /// Seals what is secret in the store.
    pub sealer: Sealer,
    /// How often the relay has started, as [`control::boot`](crate::control::boot) says.
    pub generation: u64,
    /// Whom to tell when this process was killed.
    pub farewells: Arc<Farewells>,
    /// Name of this node, for logs and handshakes.
    pub name: String,
    /// Where agents and operators reach the relay.
    pub address: RelayAddress,
    /// The image in the `docker run` line.
    pub agent_image: String,
    /// How long a token enrols.
    pub token_validity: Duration,
    /// What the probe is served with; `None`: it is not served.
    pub probe: Option<ProbeParts>,
    /// Whether agents are asked for their figures.
    pub asks_figures: bool,
    /// How long a session may be without a connection, at most; zero: it ends with its
    /// connection.
    pub resume_window: Duration,
    /// How many handshakes a second are taken.
    pub handshake_rate: HandshakeRate,
    /// Whether what serves peers is cut off when [`Running`] is dropped, as if the process
    /// had been killed. A process that ends needs none of it, and it has a price
    /// ([`tasks`](crate::tasks)).
    pub is_severable: bool,
}

/// See the module. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Node {
    control: Arc<Control>,
    exposures: Arc<Exposures>,
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    registry: Arc<Registry>,
    sessions: Arc<Sessions>,
    stacks: Arc<Stacks>,
}

impl Node {
    /// Puts the parts together. Nothing runs yet.
    pub fn build(parts: NodeParts) -> Self {
        let NodeParts { world, metrics, .. } = parts;
        let gate = Gate::new(world.clone(), metrics.clone(), parts.handshake_rate);
        let registry = Registry::new(world.clone(), metrics.clone(), gate.clone());
        let exposures = Exposures::new(world.clone(), registry.clone(), metrics.clone());
        let stacks = Stacks::new(world.clone(), registry.clone(), metrics.clone());
        let facts = RelayFacts {
            version: VERSION,
            commit: COMMIT,
            node: parts.name.clone(),
            identity: parts.identity.public(),
            address: parts.address,
            agent_image: parts.agent_image,
            token_validity: parts.token_validity,
        };
        let (identity, around) = (
            parts.identity.public(),
            (world.clock.clone(), metrics.clone()),
        );
        let probe = parts.probe.map(|probe| {
            let introduction = Introduction {
                relay: format!("sternline-relay {VERSION}"),
                identity: identity.to_string(),
            };
            Probe::new(probe, introduction, around)
        });
        let below = Parts {
            store: parts.store,
            presence: registry.clone(),
            exposer: exposures.clone(),
            sources: Arc::new(world.clone()),
            converger: stacks.clone(),
            sealer: parts.sealer,
        };
        let control = Arc::new(Control::new(below, facts));
        let sessions = Sessions::new(SessionParts {
            world,
            control: control.clone(),
            registry: registry.clone(),
            stacks: stacks.clone(),
            gate: gate.clone(),
            metrics: metrics.clone(),
            identity: parts.identity,
            generation: parts.generation,
            farewells: parts.farewells,
            node: parts.name,
            probe,
            asks_figures: parts.asks_figures,
            resume_window: parts.resume_window,
            is_severable: parts.is_severable,
        });
        let node = Self {
            control,
            exposures,
            gate,
            metrics,
            registry,
            sessions,
            stacks,
        };
        node.watch();
        node
    }

    /// Has the parts asked at each scrape. The metrics own none of them.
    fn watch(&self) {
        let registry = Arc::downgrade(&self.registry);
        let exposures = Arc::downgrade(&self.exposures);
        let control = Arc::downgrade(&self.control);
        let gate = Arc::downgrade(&self.gate);
        let stacks = Arc::downgrade(&self.stacks);
        let probe = self.sessions.probe().map(Arc::downgrade);
        self.metrics.at_scrape(move || {
            let mut reading = Reading::default();
            if let Some(probe) = probe.as_ref().and_then(Weak::upgrade) {
                let (arrivals, sockets) = probe.reading();
                reading.probe = ProbeSums { arrivals, sockets };
            }
            if let Some(registry) = registry.upgrade() {
                registry.fill_reading(&mut reading);
                if let Some(gate) = gate.upgrade() {
                    reading.admissions = gate.reading(registry.agents_expected());
                }
            }
            let listening = exposures.upgrade().map(|open| open.listening());
            let waiting = control.upgrade().map(|control| control.waiting_exposures());
            reading.stacks = stacks
                .upgrade()
                .map(|stacks| stacks.sums())
                .unwrap_or_default();
            reading.exposures_listening = listening.unwrap_or_default() as u64;
            reading.exposures_waiting = waiting.unwrap_or_default() as u64;
            reading
        });
    }

    /// The use cases: environments, tokens, exposures.
    pub const fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// What a handshake costs this machine, in processor time; `None` where that is not
    /// learnt.
    pub fn handshake_cost(&self) -> Option<Duration> {
        self.gate.cost()
    }

    /// Who is live.
    pub const fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// What agents run of stacks.
    pub const fn stacks(&self) -> &Arc<Stacks> {
        &self.stacks
    }

    /// What is done with sessions, such as opening a stream to an environment.
    pub const fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }
}
