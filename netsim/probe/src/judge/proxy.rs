//! Through a proxy that is configured: does it let us through?

use super::{finding::Finding, scene::Scene};
use crate::{
    observe::{Attempt, Fault, FaultKind, Flow},
    verdict::{Cause, Code, Confidence},
};

/// Judges an attempt that ended at the proxy.
pub(super) fn judge(scene: Scene<'_>, attempt: &Attempt, fault: &Fault) -> Finding {
    let proxy = scene.seen.proxy.as_deref().unwrap_or("the proxy");
    let port = scene.seen.target.port(attempt.flow);
    let host = &scene.seen.target.host;
    let says = match fault.kind {
        FaultKind::ProxyLogin => format!(
            "the proxy {proxy} wants a login before it connects to {host}:{port}: {}",
            fault.says
        ),
        FaultKind::ProxyDenied if is_open_elsewhere(scene, attempt.flow) => format!(
            "the proxy {proxy} lets other ports through, and refuses {host}:{port}: {}",
            fault.says
        ),
        FaultKind::ProxyDenied => {
            format!("the proxy {proxy} refuses {host}:{port}: {}", fault.says)
        }
        FaultKind::ProxyUnreached => format!("the proxy {proxy} is not reached: {}", fault.says),
        _ => format!(
            "the proxy {proxy} does not connect to {host}:{port}: {}",
            fault.says
        ),
    };
    let mut cause = Cause::new(Code::Proxy, says);
    cause.status = fault.status;
    let confidence = match (fault.kind, fault.status) {
        // What is behind the proxy may have failed it.
        (_, Some(500..)) => Confidence::Medium,
        (FaultKind::ProxyLogin | FaultKind::ProxyDenied, _) => Confidence::High,
        (FaultKind::ProxyUnreached, _) => Confidence::High,
        _ => Confidence::Medium,
    };
    Finding::blocked(confidence, cause)
}

fn is_open_elsewhere(scene: Scene<'_>, flow: Flow) -> bool {
    let others = [Flow::Https, Flow::Websocket].into_iter();
    others
        .filter(|one| *one != flow)
        .any(|one| scene.is_open(one))
}
