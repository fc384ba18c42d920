//! Streams of operators: each is joined to one on the environment's session.

use tunnel::{IncomingStream, OpenRequest, Session, Stream, StreamReset};
use wire::{close::ResetCode, limits::OPEN_BYTES_MAX, target::Target};

use super::Sessions;
use crate::{
    control::Principal,
    metrics::{Direction, Origin, StreamGuard},
};

impl Sessions {
    /// Joins an operator's stream to one of the environment that it names.
    pub(super) async fn forward(&self, principal: &Principal, mut incoming: IncomingStream) {
        let metrics = &self.parts.metrics;
        let request = OpenRequest {
            environment: std::mem::take(&mut incoming.open.environment),
            target: incoming.open.target.clone(),
            principal: String::new(),
            request_id: incoming.open.request_id,
            first_bytes: incoming.take_first_bytes(OPEN_BYTES_MAX),
        };
        let (far, _open) = match self.open(principal, request).await {
            Ok(reached) => reached,
            Err(reset) => return incoming.reject(reset.code, &reset.reason),
        };
        let near = incoming.accept();
        let count = |bytes, is_forth| {
            let direction = if is_forth {
                Direction::Sent
            } else {
                Direction::Received
            };
            metrics.bytes(direction, bytes);
        };
        if let Err(reset) = tunnel::splice::join(near, far, count).await {
            metrics.reset(reset.code);
        }
    }

    /// Opens a stream to a target at an agent, and waits until the agent has reached it:
    /// what every open of an operator comes to. The request's environment is looked up for
    /// the principal, and the agent is told who that is.
    ///
    /// The stream is counted as open for as long as the guard is kept.
    ///
    /// # Errors
    ///
    /// What the opener of the stream is told: there is no such environment, it is offline, or
    /// the agent's own reason.
    pub async fn open(
        &self,
        principal: &Principal,
        request: OpenRequest,
    ) -> Result<(Stream, StreamGuard), StreamReset> {
        let metrics = &self.parts.metrics;
        let failed = |code, reason: String| {
            metrics.reset(code);
            StreamReset { code, reason }
        };
        if request.target == Target::Stacks {
            let reason =
                "`stacks` is the relay's own way to the agent: use `sternline-relay stack`";
            return Err(failed(ResetCode::BadRequest, reason.to_owned()));
        }
        let reached = self.reach(principal, &request.environment).await;
        let session = reached.map_err(|(code, reason)| failed(code, reason))?;
        let (kind, started) = (request.target.kind(), self.parts.world.clock.now());
        let open = metrics.stream_opened(Origin::Operator, kind);
        let request = OpenRequest {
            environment: String::new(),
            principal: principal.name().to_owned(),
            ..request
        };
        metrics.bytes(Direction::Sent, request.first_bytes.len() as u64);
        let opened = session.open(request).await;
        let mut stream =
            opened.map_err(|error| failed(ResetCode::EnvironmentOffline, error.to_string()))?;
        let answer = stream.accepted().await;
        let now = self.parts.world.clock.now();
        let after = now.saturating_duration_since(started);
        metrics.stream_answered(kind, answer.is_ok(), after);
        answer.map_err(|reset| failed(reset.code, reset.reason))?;
        Ok((stream, open))
    }

    /// The session of an environment that the principal may reach.
    async fn reach(
        &self,
        principal: &Principal,
        environment: &str,
    ) -> Result<Session, (ResetCode, String)> {
        let resolved = self
            .parts
            .control
            .resolve_environment(principal, environment)
            .await;
        let id = resolved.map_err(|error| (error.reset(), error.to_string()))?;
        let session = self.parts.registry.session_soon(id).await;
        session.ok_or_else(|| {
            let reason = format!("the environment `{environment}` is offline");
            (ResetCode::EnvironmentOffline, reason)
        })
    }
}
