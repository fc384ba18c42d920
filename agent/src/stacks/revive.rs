//! After the Engine was away: what ran before runs again.
//!
//! An Engine that was killed finds its containers running when it is back, stops them, and
//! does not start them again, whatever their restart policy says. Containers that somebody
//! stopped before stay as they are.

use std::collections::BTreeSet;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, RestartPolicyNameEnum as Policy,
};
use compose::plan::Seen;

use super::{engine::Wanted, fault::Fault, site::Site};

/// Starts the containers of a stack that were last told of as running, that the Engine has
/// stopped, and that it should start by itself.
///
/// # Errors
///
/// The Engine's, of the first that it does not start.
pub async fn revive(site: &Site, stack: &str) -> Result<(), Fault> {
    let Some(before) = site.board.report(stack) else {
        return Ok(());
    };
    let told = before
        .services
        .values()
        .flat_map(|service| &service.containers);
    let ran: BTreeSet<&str> = told
        .filter(|container| container.state == "running")
        .map(|container| container.id.as_str())
        .collect();
    let engine = site.engine()?;
    let found = engine.look(stack, &Wanted::default()).await?;
    for container in &found.containers {
        let seen = Seen(container);
        let has_run = ran.iter().any(|id| seen.id().starts_with(id));
        let is_stopped = seen.status() == ContainerStateStatusEnum::EXITED;
        if has_run && is_stopped && comes_back(container) {
            tracing::info!(stack, container = seen.name(), "started again");
            engine.start(seen.id()).await?;
        }
    }
    Ok(())
}

fn comes_back(container: &ContainerInspectResponse) -> bool {
    let host = container.host_config.as_ref();
    let policy = host.and_then(|host| host.restart_policy.as_ref()?.name);
    matches!(policy, Some(Policy::ALWAYS | Policy::UNLESS_STOPPED))
}
