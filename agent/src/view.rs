//! What of the parts goes to the status: identity, sandbox, Docker, policy.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use compose::exchange::{Phase, ServiceState, StackReport, Update};
use tokio::sync::watch;

use crate::{
    docker::Health,
    enrol::address_text,
    identity::{Identity, Stage},
    policy_file::PolicyInForce,
    sandbox::Told,
    stacks,
    status::{Board, PolicyStatus, StackStatus, State, Status, Written},
    watched,
};

/// Keeps what is known of Docker and the policy in the status; to be stopped by its owner.
pub async fn keep_shown(
    board: Arc<Board>,
    mut docker: watch::Receiver<Health>,
    mut policy: watch::Receiver<PolicyInForce>,
    policy_path: PathBuf,
) {
    loop {
        let docker_status = docker.borrow_and_update().to_status();
        let policy_status = policy_status(&policy.borrow_and_update(), &policy_path);
        board.update(|status| {
            status.docker = docker_status;
            status.policy = policy_status;
        });
        tokio::select! {
            biased;
            () = watched::changed(&mut policy) => {}
            () = watched::changed(&mut docker) => {}
        }
    }
}

/// Keeps the vendor's stacks in the status; to be stopped by its owner.
pub async fn keep_stacks_shown(board: Arc<Board>, stacks: stacks::board::Board) {
    let mut follower = stacks.follow();
    while let Some(update) = follower.next().await {
        if matches!(update, Update::Progress(_) | Update::Alive) {
            continue;
        }
        let reports = stacks
            .names()
            .into_iter()
            .filter_map(|name| stacks.report(&name));
        let ours = reports.filter(|report| report.phase != Phase::Foreign);
        let shown: Vec<StackStatus> = ours.map(stack_status).collect();
        board.update(|status| status.stacks = shown);
    }
}

fn stack_status(report: StackReport) -> StackStatus {
    let well = report
        .services
        .values()
        .filter(|service| service.state == ServiceState::Ok);
    let phase = serde_json::to_value(report.phase).unwrap_or_default();
    StackStatus {
        name: report.stack,
        phase: phase.as_str().unwrap_or_default().to_owned(),
        release: report.release,
        committed: report.committed,
        services: (well.count(), report.services.len()),
        cause: report.cause.map(|cause| cause.line),
    }
}

fn policy_status(in_force: &PolicyInForce, path: &Path) -> PolicyStatus {
    PolicyStatus {
        file: in_force.from_file.then(|| path.to_owned()),
        ok: in_force.error.is_none(),
        error: in_force.error.clone(),
        allowed: in_force.policy.words(),
        rules: in_force.policy.rules(),
    }
}

/// The status before the first dial.
pub fn first(identity: &Identity, sandbox: &Told, policy: &PolicyInForce, path: &Path) -> Status {
    let (state, agent_id) = match identity.stage {
        Stage::Enrolling => (State::Enrolling, None),
        Stage::Enrolled(agent_id) => (State::Connecting, Some(agent_id.to_string())),
    };
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state,
        environment: identity.environment.clone(),
        agent_id,
        relay_address: address_text(&identity.addresses),
        session_id: None,
        transport: None,
        proxy: None,
        intercepted_by: None,
        rtt_ms: None,
        connected_since: None,
        last_heard: None,
        last_error: None,
        next_attempt_at: None,
        attempt: 0,
        docker: Health::Unknown.to_status(),
        policy: policy_status(policy, path),
        sandbox: sandbox.words.clone(),
        fences: sandbox.fences.clone(),
        stacks: Vec::new(),
        streams_open: 0,
        written: Written::never(),
    }
}
