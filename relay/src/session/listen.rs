//! What a relay hears from an agent.

use tracing::debug;
use tunnel::Session;
use wire::{
    close::ResetCode,
    message::{FiguresRequest, control::Message},
};

use crate::{limits::AGENT_FIGURES_INTERVAL, registry::Registration};

/// Has an agent tell of its process from now on.
pub(super) fn figures_request() -> Message {
    let interval = AGENT_FIGURES_INTERVAL.as_millis();
    Message::FiguresRequest(FiguresRequest {
        interval_ms: u32::try_from(interval).unwrap_or(u32::MAX),
    })
}

/// Listens to an agent until its session is over.
pub(super) async fn serve_agent(session: &Session, registration: &Registration) -> tunnel::Closed {
    let listen = async {
        while let Some(message) = session.recv_control().await {
            match message {
                Message::AgentReport(report) => registration.report(report),
                Message::AgentFigures(figures) => registration.figures(figures),
                Message::PolicyRefusals(refusals) => registration.policy_refused(&refusals),
                Message::ReconnectWindow(_)
                | Message::FiguresRequest(_)
                | Message::BulkLaneRequest(_) => {
                    debug!("an agent sent what a relay sends");
                }
            }
        }
    };
    let refuse = async {
        while let Some(incoming) = session.accept().await {
            incoming.reject(ResetCode::BadRequest, "an agent opens no streams");
        }
    };
    tokio::join!(listen, refuse);
    session.closed().await
}
