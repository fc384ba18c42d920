//! What an agent tells of its host, and what of it changes.

use std::sync::Arc;

use tokio::sync::{Notify, watch};

use crate::{
    docker::Health,
    host::{Host, Vitals},
    policy_file::PolicyInForce,
    report::Passed,
    sandbox::Told,
    watched,
};

/// What goes into a report.
#[derive(Debug)]
pub struct Facts {
    /// The host.
    pub host: Host,
    /// The process.
    pub vitals: Vitals,
    /// What the kernel enforces.
    pub sandbox: Told,
    /// What the session passes.
    pub way: Passed,
    /// The Docker Engine, as it changes.
    pub docker: watch::Receiver<Health>,
    /// Has the Engine asked at once.
    pub ask_docker: Arc<Notify>,
    /// The policy, as it changes.
    pub policy: watch::Receiver<PolicyInForce>,
}

impl Facts {
    /// Waits until something of the report has changed.
    ///
    /// Cancel safe: a change stays marked until the next report.
    pub(super) async fn changed(&mut self) {
        tokio::select! {
            biased;
            () = watched::changed(&mut self.docker) => {}
            () = watched::changed(&mut self.policy) => {}
        }
    }
}
