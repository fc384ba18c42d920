//! One agent, from its parts to its end: what `run` puts on a host, and a simulator on
//! each of many.
//!
//! A node asks the operating system for nothing but through its [`World`], writes no
//! file but through its [`StateDir`], and owns every task that it starts. So a node with
//! simulated parts runs without I/O, and a crash is that its future is dropped.

use std::{path::PathBuf, sync::Arc};

use thiserror::Error;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tunnel::{Notifier, World};
use wire::{id::InstanceId, key::Secret, token::EnrolToken};

use crate::{
    audit::Audit,
    dialling::Dialling,
    docker::Watcher,
    enrol::{self, Start, StartError},
    figures::Figures,
    gateways::Gateways,
    host::{Host, Vitals},
    identity::{self, IdentityError},
    known_networks::KnownNetworks,
    nudge::Nudges,
    policy_file::PolicyInForce,
    report::Passed,
    sandbox::Told,
    stacks::{self, Runner},
    state_dir::StateDir,
    status::Board,
    supervisor::{Facts, Quiet, Supervisor, TokenRefused, Upgrade},
    token::TokenError,
    view,
    work::{UseMade, Work},
};

/// Why a node cannot begin.
#[derive(Debug, Error)]
pub enum BeginError {
    /// The identity cannot be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is nothing to start with.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Decides who this agent is, counts the start, and keeps that before anything is dialled.
///
/// # Errors
///
/// See [`BeginError`]; nothing was changed.
pub fn begin(
    world: &World,
    state: &StateDir,
    token: Result<Option<EnrolToken>, TokenError>,
) -> Result<Start, BeginError> {
    let existing = identity::load(state)?;
    let seed = Secret::from_bytes(world.random());
    let start = enrol::decide(existing, token, seed, tunnel::sha256)?;
    identity::save(state, &start.identity)?;
    if let Some(notice) = &start.notice {
        tracing::info!("{notice}");
    }
    Ok(start)
}

/// What a node is made of.
#[derive(Debug)]
pub struct Parts {
    /// The seams to the world.
    pub world: World,
    /// Where the identity is kept.
    pub state: StateDir,
    /// Who this agent is; see [`begin`].
    pub start: Start,
    /// How the relay is dialled.
    pub dialling: Dialling,
    /// The Docker Engine's socket.
    pub docker_socket: PathBuf,
    /// What the vendor may reach.
    pub policy: watch::Receiver<PolicyInForce>,
    /// Where the policy comes from, for people.
    pub policy_path: PathBuf,
    /// The customer's record.
    pub audit: Audit,
    /// This host's addresses towards its containers.
    pub gateways: Gateways,
    /// What is told of the host.
    pub host: Host,
    /// What is told of the process.
    pub vitals: Vitals,
    /// What the kernel enforces.
    pub sandbox: Told,
    /// Whoever supervises the process.
    pub notifier: Notifier,
    /// Who calls for a try at once.
    pub nudges: Nudges,
}

/// One agent that has not yet begun to run.
#[derive(Debug)]
pub struct Node {
    supervisor: Supervisor,
    watcher: Watcher,
    policy_path: PathBuf,
    stacks: Option<Runner>,
}

impl Node {
    /// Puts the parts together. To be called within a runtime; nothing runs yet.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            world,
            state,
            start,
            dialling,
            docker_socket,
            policy,
            policy_path,
            audit,
            gateways,
            host,
            vitals,
            sandbox,
            notifier,
            nudges,
        } = parts;
        let first = view::first(&start.identity, &sandbox, &policy.borrow(), &policy_path);
        let figures = Figures::new(world.clock.now());
        let (watcher, docker) = Watcher::new(&world, &docker_socket, &policy);
        let mut work = Work {
            world: world.clone(),
            stacks: None,
            docker_socket,
            policy: policy.clone(),
            policy_path: policy_path.clone(),
            audit,
            figures: figures.clone(),
            gateways,
            use_made: UseMade::default(),
        };
        let stacks = add_stacks(&mut work, &state);
        let facts = Facts {
            host,
            vitals,
            sandbox,
            way: Passed::default(),
            docker,
            ask_docker: watcher.ask.clone(),
            policy,
        };
        let supervisor = Supervisor {
            pulse: notifier.pulse(),
            notifier,
            instance: InstanceId::from_bytes(world.random()),
            known: KnownNetworks::load(&state),
            world,
            state,
            identity: start.identity,
            secret: start.secret,
            spare: start.spare,
            dialling,
            kept: None,
            upgrade: Upgrade::default(),
            quiet: Quiet::default(),
            board: Board::new(first),
            work,
            serving: JoinSet::new(),
            figures,
            facts,
            is_unsaved: false,
            stop: CancellationToken::new(),
            nudges,
            slot: None,
        };
        Self {
            supervisor,
            watcher,
            policy_path,
            stacks,
        }
    }

    /// What a person can see.
    pub fn board(&self) -> Arc<Board> {
        self.supervisor.board.clone()
    }

    /// Cancelled, it has the node end in order.
    pub fn stop(&self) -> CancellationToken {
        self.supervisor.stop.clone()
    }

    /// Runs until it is told to stop. Where this future is dropped instead, everything
    /// that the node has started ends, and nobody is told.
    ///
    /// # Errors
    ///
    /// [`TokenRefused`], during enrolment only.
    pub async fn run(self) -> Result<(), TokenRefused> {
        let Self {
            supervisor,
            watcher,
            policy_path,
            stacks,
        } = self;
        let mut beside = JoinSet::new();
        beside.spawn(view::keep_shown(
            supervisor.board.clone(),
            supervisor.facts.docker.clone(),
            supervisor.facts.policy.clone(),
            policy_path,
        ));
        beside.spawn(watcher.run(supervisor.stop.clone()));
        if let Some(stacks) = stacks {
            let told = stacks.board().clone();
            beside.spawn(view::keep_stacks_shown(supervisor.board.clone(), told));
            beside.spawn(stacks.run());
        }
        let ended = supervisor.run().await;
        // Nobody asks any more for what these look at.
        beside.shutdown().await;
        ended
    }
}

/// Without a disk there would be nothing to go back to, and so there are no stacks.
fn add_stacks(work: &mut Work, state: &StateDir) -> Option<Runner> {
    if !state.is_on_disk() {
        return None;
    }
    let opened = stacks::open(stacks::Parts {
        world: work.world.clone(),
        state: state.clone(),
        docker_socket: work.docker_socket.clone(),
        policy: work.policy.clone(),
        policy_path: work.policy_path.clone(),
        audit: work.audit.clone(),
    });
    match opened {
        Ok((stacks, runner)) => {
            work.stacks = Some(stacks);
            Some(runner)
        }
        Err(error) => {
            tracing::error!(%error, "no stacks: their folder in the state directory is of no use");
            None
        }
    }
}
